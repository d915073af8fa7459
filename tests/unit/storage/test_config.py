"""The owner's configuration and the presets: every mistake is named with its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.core.errors import BadInput, NotFound
from webui.core.parse import parse_request
from webui.core.text import Text
from webui.storage import Presets, load_config

NAMED_BY_GUIDES = {
    "precision", "vae_precision", "offload", "text_encoder", "gradient_checkpointing",
    "tile", "tile_overlap", "tile_recheck", "tile_reserve_gib", "gpus",
}  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "studio.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, **environment: str):
    return load_config(folder, model_names=["demo", "wan2.1-t2v-1.3b"], environment=environment)


def test_without_a_file_everything_is_by_default(tmp_path):
    config = load(tmp_path)
    assert config.models == {} and config.limits.max_queued == 20 and config.language is None


def test_a_full_file_is_read(tmp_path):
    write(
        tmp_path,
        "models: {wan2.1-t2v-1.3b: weights/wan}\nhub_cache: ~/hub\nlanguage: zh\n"
        "limits: {max_queued: 5}\nmetrics: true\n"
        "memory: {warn_threshold: 1, auto_optimize: false}\n",
    )
    config = load(tmp_path)
    assert config.models["wan2.1-t2v-1.3b"] == tmp_path / "weights/wan"
    assert config.hub_cache == Path.home() / "hub"
    assert (config.language, config.limits.max_queued) == ("zh", 5)
    assert config.limits.max_queued_per_user == 3
    assert config.metrics and not config.memory.auto_optimize
    assert (config.memory.warn_threshold, config.memory.force_fp16_threshold) == (1, 0)


def test_the_command_line_wins(tmp_path):
    write(tmp_path, "models: {wan2.1-t2v-1.3b: /a, demo: /b}\n")
    config = load(tmp_path).with_models({"wan2.1-t2v-1.3b": Path("/c")})
    assert config.models == {"wan2.1-t2v-1.3b": Path("/c"), "demo": Path("/b")}


@pytest.mark.parametrize(
    ("text", "field", "hint"),
    [
        ("modles: {}", "modles", "models"),
        ("models: {wan2.1-t2v-1.3: /a}", "wan2.1-t2v-1.3", "wan2.1-t2v-1.3b"),
        ("models: {demo: 5}", "models.demo", ""),
        ("models: [a]", "", "demo"),
        ("limits: {max_qeued: 1}", "max_qeued", "max_queued"),
        ("limits: {max_queued: 0}", "limits.max_queued", ""),
        ("limits: {max_queued: true}", "limits.max_queued", ""),
        ("language: fr", "language", ""),
        ("metrics: 1", "metrics", ""),
        ("memory: {warn_treshold: 0.5}", "warn_treshold", "warn_threshold"),
        ("memory: {warn_threshold: 1.5}", "memory.warn_threshold", ""),
        ("memory: {warn_threshold: .nan}", "memory.warn_threshold", ""),
        ("memory: {auto_optimize: 1}", "memory.auto_optimize", ""),
        ("memory: {retries_after_out_of_memory: 1.5}", "memory.retries_after_out_of_memory", ""),
        ("- a list", "", "models"),
        ("models: {a: [", "", ""),
    ],
)
def test_mistakes_are_named(tmp_path, text, field, hint):
    write(tmp_path, text)
    with pytest.raises(BadInput) as caught:
        load(tmp_path)
    assert caught.value.field == field
    assert "studio.yaml" in caught.value.message.en and hint in caught.value.hint.en


def test_another_file_can_be_named(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("language: en")
    assert load(tmp_path, STUDIO_CONFIG=str(path)).language == "en"
    with pytest.raises(BadInput, match="is not there"):
        load(tmp_path, STUDIO_CONFIG=str(tmp_path / "none.yaml"))


def test_presets_are_saved_listed_and_deleted(tmp_path):
    presets = Presets(tmp_path / "presets")
    assert presets.names() == []
    request = {
        "model": "demo",
        "prompt": "一个圆: yes",
        "seed": None,
        "settings": {"offload": "none"},
    }
    saved = presets.save("my-preset.2", request, Text("Mine | yes", "我的"))
    assert saved.about == Text("Mine / yes", "我的")
    assert saved.request == {key: value for key, value in request.items() if value is not None}
    assert presets.names() == ["my-preset.2"]
    presets.delete("my-preset.2")
    with pytest.raises(NotFound):
        presets.load("my-preset.2")
    with pytest.raises(NotFound):
        presets.delete("my-preset.2")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "A", "a..b", "x" * 80, "a\n"])
def test_preset_names_are_never_paths(tmp_path, name):
    presets = Presets(tmp_path)
    for call in (presets.load, presets.delete, lambda name: presets.save(name, {})):
        with pytest.raises(BadInput):
            call(name)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_preset_names_its_file_and_key(tmp_path):
    (tmp_path / "a.yaml").write_text("model: demo\n")
    (tmp_path / "b.yaml").write_text("modle: demo\n")
    (tmp_path / "c.yaml").write_text("- 1\n")
    (tmp_path / "d.yaml").write_text("a: [\n")
    presets = Presets(tmp_path)
    assert presets.load("a").request == {"model": "demo"}
    for name, field in (("b", "modle"), ("c", ""), ("d", "")):
        with pytest.raises(BadInput, match=rf"{name}\.yaml") as error:
            presets.load(name)
        assert error.value.field == field


def test_the_shipped_presets_are_requests():
    from webui.catalogue import find_model
    from webui.hardware import find_card

    presets = Presets(Path("presets"))
    assert len(presets.names()) >= 22
    for preset in map(presets.load, presets.names()):
        request = parse_request(preset.request, find_model)
        assert request.card == "detected" or find_card(request.card)
        assert set(request.settings) <= NAMED_BY_GUIDES, "the rest the optimizer chooses"
        assert preset.about.en != preset.name and preset.about.zh != preset.about.en
