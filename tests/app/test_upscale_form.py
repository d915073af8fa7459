"""The upscaling form: a request and back, what is typed, and what a browser remembers."""

from __future__ import annotations

from typing import Any

import pytest

from webui.catalogue import find_model, load_models
from webui.core.errors import BadInput
from webui.core.parse import parse_request
from webui.core.plan import Alternative
from webui.core.text import Text
from webui.core.upscale import UpscaleCard
from webui.ui import upscale_form
from webui.ui.form import AUTO, SETTING
from webui.ui.upscale import for_this_input
from webui.ui.upscale_view import rate_text, render_facts

MODELS = [model for model in load_models().values() if isinstance(model, UpscaleCard)]
OTHER: dict[str, Any] = {
    "frames": 7, "height": 240, "width": 320, "segment_frames": 64, "colour": "wavelet",
    "quality": "small", "card": "rtx-4090", "vram_gib": 6,
}  # fmt: skip
TYPED: dict[str, int] = {"tile": 160, "tile_overlap": 20, "tile_batch": 3, "gpus": 3}
"""Values that the lists do not have."""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_control_reaches_the_request_and_comes_back(model: UpscaleCard) -> None:
    form = upscale_form.defaults_of(model) | OTHER | {"scale": model.scales[-1]}
    form |= {"overlap": 9} if model.temporal else {}
    form |= {SETTING + name: str(value) for name, value in TYPED.items()}
    request = parse_request(upscale_form.request_data(form, model), find_model)
    made = request.to_json()
    assert {key: made[key] for key in OTHER} == OTHER
    assert made["settings"] == TYPED and made["scale"] == model.scales[-1]
    assert made["overlap"] == (9 if model.temporal else 0)
    assert upscale_form.form_of(made, model) == form


def test_an_inputs_own_sizes_count_and_not_those_of_the_form() -> None:
    model = MODELS[0]
    facts = {"frames": 50, "height": 48, "width": 96}
    data = upscale_form.request_data(upscale_form.defaults_of(model), model, facts)
    assert {key: data[key] for key in facts} == facts and "input" not in data


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"frames": 0}, "frames"),
        ({"frames": None, "height": 9000}, "height"),
        ({SETTING + "tile": "64", SETTING + "tile_overlap": "48"}, "settings.tile_overlap"),
        ({SETTING + "tile": "wide"}, "settings.tile"),
        ({SETTING + "tile": "100"}, "settings.tile"),
        ({"width": 8000, "scale": 4}, "width"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str) -> None:
    model = load_models()["swin2sr-demo"]
    assert isinstance(model, UpscaleCard)
    form = upscale_form.defaults_of(model) | changes
    with pytest.raises(BadInput) as caught:
        parse_request(upscale_form.request_data(form, model), find_model)
    assert caught.value.field == field and caught.value.hint.zh


def test_nothing_in_a_browsers_memory_is_taken_on_trust() -> None:
    models = {model.name: model for model in MODELS}
    model = models["swin2sr-demo"]
    good = upscale_form.defaults_of(model) | OTHER | {SETTING + "tile": "160"}
    assert upscale_form.restored(good, models, {"rtx-4090"}) == good
    bad = {
        "model": model.name, "scale": 3, "frames": "nan", "height": -5, "width": 10**9,
        "card": "no-card", "colour": ["adain"], "quality": {"a": 1}, "vram_gib": "x",
        SETTING + "tile": "161", SETTING + "precision": "fp8", SETTING + "decoder": "full",
    }  # fmt: skip
    form = upscale_form.restored(bad, models, {"rtx-4090"})
    assert form is not None
    assert form | {"height": 0, "width": 0} == upscale_form.defaults_of(model) | {
        "height": 0, "width": 0,
    }  # fmt: skip
    parse_request(upscale_form.request_data(form, model), find_model)
    assert upscale_form.restored({"model": "demo"}, models, set()) is None


def test_offers_apply_and_unknown_ones_do_not() -> None:
    form = upscale_form.defaults_of(MODELS[0]) | {SETTING + "tile": "64", "vram_gib": 6}
    changes = {"card": "rtx-4090", "vram_gib": None, "settings": {"tile": None, "gpus": 2}}
    changed = upscale_form.with_changes(form, changes)
    assert (changed["card"], changed["vram_gib"]) == ("rtx-4090", 0)
    assert (changed[SETTING + "tile"], changed[SETTING + "gpus"]) == (AUTO, "2")
    for wrong in ({"prompt": "a"}, {"settings": {"speed": 1}}, {"scale": [2]}):
        with pytest.raises(BadInput):
            upscale_form.with_changes(form, wrong)


def test_another_size_is_only_told_where_there_is_an_input() -> None:
    smaller = Alternative(text=Text("320x180 fits.", "320x180 可以。"), changes={"height": 180})
    assert for_this_input(smaller).changes == {}
    assert "320x180 fits." in for_this_input(smaller).text.en
    tiles = Alternative(text=Text("Tiles fit.", "分块可以。"), changes={"settings": {"tile": 64}})
    assert for_this_input(tiles) is tiles


def test_facts_are_told_in_the_visitors_language() -> None:
    facts = {
        "frames": 48, "height": 90, "width": 160, "rate": "30000/1001", "variable": False,
        "audio": 1, "bits": 10, "duration_s": 1.6,
        "warning": {"en": "Cut <b>off</b>.", "zh": "被截断。"},
    }  # fmt: skip
    told = render_facts(facts, "en")
    assert "48 frames of 160 x 90 px" in told and "29.97 frames a second" in told
    assert "with sound" in told and "10 bits" in told and "Cut &lt;b&gt;off&lt;/b&gt;." in told
    assert "48 帧" in render_facts(facts, "zh") and "被截断" in render_facts(facts, "zh")
    one = render_facts(facts | {"frames": 1, "audio": 0, "warning": None}, "en")
    assert "a picture of 160 x 90 px" in one and "sound" not in one and "second" not in one
    assert rate_text("24") == "24" and rate_text("25/0") == "?"
