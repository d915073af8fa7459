"""A model of the owner's own: a card and a configuration, no code, with its templates made here."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.unit.pipelines.text_cards import tiny_qwen25
from webui.catalogue import find_model, load_models, use_models
from webui.catalogue.loader import FOLDER
from webui.core.errors import NotFound
from webui.core.pages import PageCard
from webui.estimator import templates
from webui.estimator.answers import use_templates
from webui.service import Access, Studio
from webui.service.retrace import Retracer
from webui.storage import StudioConfig

NAME = "our-reader"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder with the card of a model of a known class."""
    monkeypatch.setenv("STUDIO_MODELS", "")  # given back after the test
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    folder = tmp_path / "models"
    folder.mkdir()
    card = yaml.safe_load((FOLDER / "models" / "qwen2.5-vl-3b.yaml").read_text(encoding="utf-8"))
    card |= {"name": NAME, "title": "Our reader", "configs": {"model": "our-reader.json"}}
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    config = tiny_qwen25().configs["model"]
    (folder / "our-reader.json").write_text(json.dumps(config), encoding="utf-8")
    use_models(folder)
    yield tmp_path
    use_templates(templates.FOLDER)
    use_models(tmp_path / "none")


def studio_of(home: Path, **keys: bool) -> Studio:
    return Studio(home, access=Access(), config=StudioConfig(), **keys)


def test_the_card_is_one_of_the_catalogues(home: Path) -> None:
    card = find_model(NAME)
    assert isinstance(card, PageCard) and card.configs["model"]["hidden_size"] == 64
    assert NAME in load_models() and "qwen2.5-vl-3b" in load_models()


def test_it_is_recorded_where_the_studio_stays_and_a_command_says_how(home: Path) -> None:
    retracer = Retracer(
        home / "kept", command=(sys.executable, "-c", "import time; time.sleep(60)")
    )
    with pytest.raises(NotFound, match="is being recorded") as told:
        retracer.check(find_model(NAME))
    assert "Ask again" in told.value.hint.en and told.value.message.zh
    retracer.close()
    failing = Retracer(
        home / "kept", command=(sys.executable, "-c", "raise ValueError('no such layer')")
    )
    with pytest.raises(NotFound):
        failing.check(find_model(NAME))
    wait_for(failing)
    with pytest.raises(NotFound, match="could not be recorded") as failed:
        failing.check(find_model(NAME))
    hint = failed.value.hint.en
    assert str(home) not in hint and "no such layer" not in hint  # visitors read it
    assert f"webui.tracing {NAME} --own HOME/models --output HOME/outputs/templates/" in hint
    assert f"{NAME}.log" in hint
    assert "no such layer" in (home / "kept" / f"{NAME}.log").read_text()
    studio = studio_of(home, resume=False)
    try:
        request = studio.parse({"model": NAME, "card": "h200"})
        for ask in (studio.plan, studio.estimate, studio.questions.ask):
            with pytest.raises(NotFound, match="never recorded") as missing:
                ask(request)
            assert f"webui.tracing {NAME} --own {home / 'models'}" in missing.value.hint.en
    finally:
        studio.close()


def test_once_it_is_recorded_it_is_estimated(home: Path) -> None:
    """The tracer, a process of its own, knows the card too; this one only copies."""
    retracer = Retracer(home / "outputs" / "templates", command=quick_tracer(home))
    with pytest.raises(NotFound, match="is being recorded"):
        retracer.check(find_model(NAME))
    wait_for(retracer)
    assert retracer.check(find_model(NAME)) is None
    assert not list((home / "outputs" / "templates").glob("*.log"))
    studio = studio_of(home, resume=False)
    try:
        settings = {"offload": "none", "page_batch": 1}
        keys = {"card": "h200", "max_pixels": 50_176, "new_tokens": 8, "settings": settings}
        estimate = studio.estimate(studio.parse({"model": NAME, **keys})).estimate
        assert 2**32 < estimate.peak_allocated_bytes < 2**34
        assert [phase.name for phase in estimate.phases] == ["vision", "prefill", "generate"]
    finally:
        studio.close()


def wait_for(retracer: Retracer) -> None:
    deadline = time.monotonic() + 200
    while retracer._running:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def quick_tracer(home: Path) -> tuple[str, ...]:
    """Gives the card the templates of the model that its configuration is of, which ship."""
    script = home / "tracer.py"
    script.write_text(
        """
import shutil, sys
from pathlib import Path
from webui.catalogue import find_model
from webui.estimator.templates import FOLDER, WIDTHS, template_name
to = Path(sys.argv[sys.argv.index("--output") + 1])
to.mkdir(parents=True)
own, ships = find_model(sys.argv[1]), find_model("qwen2.5-vl-3b")
for width in WIDTHS:
    shutil.copy(
        FOLDER / template_name(ships, "model", width), to / template_name(own, "model", width)
    )
"""
    )
    return (sys.executable, str(script))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "demo"}, "ships with"),
        ({"colour": 1}, "colour"),
        ({"configs": {}}, "model"),
        ({"family": ["a"]}, "TypeError"),
        ({"settings": [["a"]]}, "TypeError"),
        ({"setting_values": {"precision": [[1]]}}, "TypeError"),
    ],
)
def test_a_card_that_is_wrong_is_left_out_and_said(home: Path, caplog, change, words) -> None:
    path = home / "models" / f"{NAME}.yaml"
    card = yaml.safe_load(path.read_text(encoding="utf-8")) | change
    path.unlink()
    wrong = home / "models" / f"{card['name']}.yaml"
    wrong.write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    use_models(home / "models")
    assert NAME not in load_models() and "demo" in load_models()
    assert words in caplog.text and f"{card['name']}.yaml" in caplog.text


def test_a_card_in_another_encoding_is_left_out_too(home: Path, caplog) -> None:
    path = home / "models" / f"{NAME}.yaml"
    path.write_bytes(path.read_text(encoding="utf-8").encode("gb18030"))
    use_models(home / "models")
    assert NAME not in load_models() and "demo" in load_models()
    assert f"{path.name} cannot be read" in caplog.text
