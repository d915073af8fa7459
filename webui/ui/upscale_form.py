"""Between the controls of the upscaling tab and a request: values by name, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.core.errors import BadInput
from webui.core.request import DETECTED
from webui.core.settings import SETTINGS
from webui.core.upscale import (
    COLOURS,
    MAX_FRAMES,
    MAX_OVERLAP_FRAMES,
    MAX_SEGMENT_FRAMES,
    MAX_SIDE_PX,
    MIN_SEGMENT_FRAMES,
    MIN_SIDE_PX,
    QUALITIES,
    SEGMENT_FRAMES,
    UpscaleCard,
)
from webui.ui.form import (
    AUTO,
    MAX_VRAM_GIB,
    SETTING,
    decode_setting,
    encode_setting,
    number,
    offered_settings,
    plain_values,
    plan_data,
    settings_in,
)
from webui.ui.words import common as words

SIZE_KEYS = ("frames", "height", "width")
"""What an input has, and nobody else decides where there is one."""

Form = dict[str, Any]


def defaults_of(model: UpscaleCard) -> Form:
    """The controls' values for a model that was just picked: the authors', and all auto."""
    own = model.defaults
    return {
        "model": model.name,
        "scale": own.scale,
        "frames": own.frames,
        "height": own.height,
        "width": own.width,
        "overlap": own.overlap if model.temporal else 0,
        "segment_frames": SEGMENT_FRAMES,
        "colour": COLOURS[0],
        "quality": QUALITIES[0],
        "card": DETECTED,
        "vram_gib": 0,
        **{SETTING + name: AUTO for name in SETTINGS},
    }


def request_data(
    form: Mapping[str, Any], model: UpscaleCard, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `Studio.parse` takes, from the controls' values, without the input itself.

    Args:
        form: the controls' values.
        model: upscales.
        facts: what the input is (`Studio.videos.facts`), where there is one.
    """
    data: dict[str, Any] = {
        "task": model.task,
        "model": model.name,
        **{key: form.get(key) for key in ("scale", "segment_frames", "colour", "quality")},
        **{key: (facts or form).get(key) for key in SIZE_KEYS},
        **plan_data(form, model),
    }
    if model.temporal:
        data["overlap"] = form.get("overlap")
    return data


def form_of(request: Mapping[str, Any], model: UpscaleCard) -> Form:
    """The controls' values for a request of the past, or of a preset."""
    form = defaults_of(model)
    for key in (*_BOUNDS, "scale", "colour", "quality", "card"):
        if request.get(key) is not None:
            form[key] = request[key]
    return form | settings_in(request)


def with_changes(form: Mapping[str, Any], changes: Mapping[str, Any]) -> Form:
    """The form after an offered alternative: workload keys replaced, settings merged.

    Raises:
        BadInput: the changes name something that is no control.
    """
    changed = dict(form)
    for key, value in changes.items():
        if key == "settings" and isinstance(value, Mapping):
            changed |= offered_settings(value)
        elif key in changed and not isinstance(value, Mapping | list):
            changed[key] = 0 if key == "vram_gib" and value is None else value
        else:
            raise BadInput(str(key), words.STALE_OFFER)
    return changed


def restored(saved: Any, models: Mapping[str, UpscaleCard], cards: set[str]) -> Form | None:
    """The form that this browser remembers, or None; nothing in it is taken on trust."""
    saved = plain_values(saved)
    if saved.get("model") not in models:
        return None
    model = models[saved["model"]]
    form = defaults_of(model)
    allowed = {"scale": model.scales, "colour": COLOURS, "quality": QUALITIES, "card": cards}
    for key, values in allowed.items():
        if saved.get(key) in values:
            form[key] = saved[key]
    for key, (low, high) in _BOUNDS.items():
        given = min(high, max(low, number(saved.get(key), form[key])))
        form[key] = given if key == "vram_gib" else int(given)
    for name in model.settings:
        choice = saved.get(SETTING + name)
        if not isinstance(choice, str) or choice == AUTO:
            continue
        try:
            value = SETTINGS[name].check(
                decode_setting(SETTINGS[name], choice), model.setting_values.get(name)
            )
        except BadInput:
            continue
        form[SETTING + name] = encode_setting(value)
    return form


_BOUNDS: dict[str, tuple[float, float]] = {
    "frames": (1, MAX_FRAMES),
    "height": (MIN_SIDE_PX, MAX_SIDE_PX),
    "width": (MIN_SIDE_PX, MAX_SIDE_PX),
    "overlap": (0, MAX_OVERLAP_FRAMES),
    "segment_frames": (MIN_SEGMENT_FRAMES, MAX_SEGMENT_FRAMES),
    "vram_gib": (0, MAX_VRAM_GIB),
}
"""Numbers of the form, from the least to the most."""
