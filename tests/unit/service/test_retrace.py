"""Templates of other library versions are made again, in a process of its own."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from webui.catalogue import find_model
from webui.estimator import templates
from webui.estimator.answers import use_templates
from webui.service import Access, Studio
from webui.service.retrace import Retracer, installed_versions
from webui.storage import StudioConfig

OTHER = {"diffusers": "0.0.1", "transformers": "0.0.1"}


@pytest.fixture(autouse=True)
def _own_templates() -> Iterator[None]:
    yield
    use_templates(templates.FOLDER)


def wait_for(retracer: Retracer) -> None:
    deadline = time.monotonic() + 200
    while retracer._running:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fake_tracer(folder: Path, versions: dict[str, str]) -> tuple[str, ...]:
    """Copies the templates that ship, as if made with other versions: fast, and really read."""
    script = folder / "tracer.py"
    model = find_model("demo")
    names = [
        templates.template_name(model, part, width)
        for part in ("text", "transformer", "vae")
        for width in templates.WIDTHS
    ]
    script.write_text(
        f"""
import json, sys
from pathlib import Path
import numpy as np
source, versions = Path({str(templates.FOLDER)!r}), {versions!r}
folder = Path(sys.argv[sys.argv.index("--output") + 1])
folder.mkdir(parents=True, exist_ok=True)
for name in {names!r}:
    with np.load(source / name) as file:
        arrays = dict(file)
    about = json.loads(str(arrays["about"]))
    about["versions"] |= versions
    arrays["about"] = np.array(json.dumps(about))
    np.savez(folder / name, **arrays)
"""
    )
    return (sys.executable, str(script))


def test_installed_versions_need_no_import() -> None:
    assert set(installed_versions()) == {"diffusers", "transformers"}


def test_nothing_happens_for_the_traced_versions(tmp_path: Path) -> None:
    model = find_model("demo")
    (traced,) = {tuple(sorted(found.items())) for found in templates.model_versions(model)}
    same = {name: value for name, value in traced if name in OTHER}
    retracer = Retracer(tmp_path, versions=same, command=("false",))
    assert retracer.check(model) is None
    assert not retracer._running


def test_other_versions_are_traced_once_and_then_used(tmp_path: Path) -> None:
    model = find_model("demo")
    retracer = Retracer(tmp_path / "kept", versions=OTHER, command=fake_tracer(tmp_path, OTHER))
    note = retracer.check(model)
    assert note is not None and "being renewed" in note.en and "0.0.1" in note.zh
    wait_for(retracer)
    deadline = time.monotonic() + 10
    while retracer.check(model) is not None:
        assert time.monotonic() < deadline
    assert all(found["diffusers"] == "0.0.1" for found in templates.model_versions(model))
    # The next start finds them.
    use_templates(tmp_path / "empty")
    again = Retracer(tmp_path / "kept", versions=OTHER, command=("false",))
    assert again.check(model) is None


def test_a_tracer_that_fails_is_said_and_not_tried_again(tmp_path: Path) -> None:
    failing = (sys.executable, "-c", "raise SystemExit(3)")
    retracer = Retracer(tmp_path, versions=OTHER, command=failing)
    assert retracer.check(find_model("demo")) is not None
    wait_for(retracer)
    note = retracer.check(find_model("demo"))
    assert note is not None and "for other versions" in note.en
    assert not retracer._running


def test_a_short_command_traces_nothing(tmp_path: Path) -> None:
    retracer = Retracer(tmp_path, traces=False, versions=OTHER, command=("false",))
    assert retracer.check(find_model("demo")) is not None
    assert not retracer._running


def test_every_way_to_ask_for_a_plan_has_the_same_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_DEVICE", "cpu")
    monkeypatch.setattr("webui.service.retrace.installed_versions", lambda: OTHER)
    studio = Studio(tmp_path, access=Access(), config=StudioConfig(), resume=False)
    try:
        request = studio.parse({"model": "demo", "card": "h200", "prompt": "a red circle"})
        planned = studio.plan(request).estimate.notes
        assert any("0.0.1" in note.en for note in planned)
        ask = studio.questions.ask
        assert ask(request).plan.estimate.notes == planned
        assert ask(request, smallest="card").plan.estimate.notes[-1] == planned[-1]
        estimated = studio.estimate(request).estimate.notes
        assert estimated[-1] == planned[-1]
        assert ask(request, search=False).plan.estimate.notes == estimated
    finally:
        studio.close()


def test_closing_ends_the_tracer(tmp_path: Path) -> None:
    sleeping = (sys.executable, "-c", "import time; time.sleep(60)")
    retracer = Retracer(tmp_path, versions=OTHER, command=sleeping)
    retracer.check(find_model("demo"))
    process = next(iter(retracer._running.values()))
    retracer.close()
    assert process.wait(10) != 0
