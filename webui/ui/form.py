"""Between the controls of the page and a request: values by name, in both directions."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any

from webui.core.clip import MAX_CLIPS, OPTIONAL_KEYS, SOLVERS, ClipCard
from webui.core.errors import BadInput
from webui.core.model import ModelCard
from webui.core.request import DETECTED, MAX_SEED
from webui.core.setting import spelt
from webui.core.settings import SETTINGS, SettingSpec, SettingValue
from webui.ui.words import common as words

AUTO = "auto"
CUSTOM_SIZE = "custom"
MAX_VRAM_GIB = 4096
PICTURE = "picture"
"""Stands for a picture's file in a plan."""
SETTING = "set_"
"""Prefix of the controls of memory settings."""
HIDDEN_CHOICES = {"text_encoder": ("absent",)}
"""Values that make sense in estimates only: a run needs its prompt encoded."""
OFFERED: dict[str, tuple[int, ...]] = {
    "tile": (0, 64, 96, 128, 192, 256, 320, 384, 512, 768),
    "tile_overlap": (0, 8, 16, 24, 32, 48, 64),
    "tile_batch": (1, 2, 4, 8, 16, 32, 64, 128),
    "tile_recheck": (0, 1, 5, 10, 20),
    "tile_reserve_gib": (0, 1, 2, 4, 8),
    "gpus": (1, 2, 4, 8),
}
"""Of settings with hundreds of values, those that are listed; others can be typed."""


def encode_setting(value: SettingValue) -> str:
    """A setting's value as a choice of a dropdown (booleans and numbers become words)."""
    return spelt(value)


def decode_setting(spec: SettingSpec, choice: Any) -> SettingValue:
    """The value behind a dropdown's choice; what is none stays as it is and is refused later."""
    for value in setting_values(spec):
        if encode_setting(value) == choice:
            return value
    typed = str(choice).strip()
    return int(typed) if not spec.choices and typed.isdecimal() and len(typed) < 10 else typed


def setting_values(spec: SettingSpec, model: ModelCard | None = None) -> list[SettingValue]:
    """The values that the page offers for a setting: those that a model knows, or all."""
    if spec.name in OFFERED:
        return list(OFFERED[spec.name])
    if not spec.choices:
        step = spec.multiple
        return list(range(math.ceil(spec.low / step) * step, spec.high + 1, step))
    known = model.setting_values.get(spec.name, spec.choices) if model else spec.choices
    hidden = HIDDEN_CHOICES.get(spec.name, ())
    return [choice for choice in known if choice not in hidden]


def size_name(width: int, height: int) -> str:
    return f"{width}x{height}"


def defaults_of(model: ClipCard) -> dict[str, Any]:
    """The controls' values for a model that was just picked: the authors' settings, all auto."""
    defaults = model.defaults
    size = (defaults.width, defaults.height)
    return {
        "model": model.name,
        "prompt": "",
        "negative_prompt": defaults.negative_prompt,
        "size": size_name(*size) if size in model.sizes else CUSTOM_SIZE,
        "width": defaults.width,
        "height": defaults.height,
        "frames": defaults.frames,
        "steps": defaults.steps,
        "guidance": defaults.guidance,
        "flow_shift": defaults.flow_shift,
        "solver": defaults.solver,
        "fps": defaults.fps,
        "seed": -1,
        "batch": 1,
        "card": DETECTED,
        "vram_gib": 0,
        **{SETTING + name: AUTO for name in SETTINGS},
    }


def size_of(form: Mapping[str, Any], model: ClipCard) -> tuple[int, int]:
    """Width and height as the model takes them; free entry is snapped."""
    for width, height in model.sizes:
        if form.get("size") == size_name(width, height):
            return width, height
    defaults = model.defaults
    return (
        model.snap_side(number(form.get("width"), defaults.width)),
        model.snap_side(number(form.get("height"), defaults.height)),
    )


def request_data(
    form: Mapping[str, Any], model: ClipCard, pictures: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `Studio.parse` takes, from the controls' values.

    Of pictures a plan needs to know only that they are there.

    Settings that the model does not have are left out: their controls are hidden, and what they
    were for another model must not stand in the way.
    """
    width, height = size_of(form, model)
    data: dict[str, Any] = {
        "task": model.task,
        "model": model.name,
        "prompt": form.get("prompt") or "",
        "negative_prompt": form.get("negative_prompt") or "",
        "frames": model.snap_frames(number(form.get("frames"), model.defaults.frames)),
        "height": height,
        "width": width,
        "steps": form.get("steps"),
        "guidance": form.get("guidance"),
        "flow_shift": form.get("flow_shift"),
        "solver": form.get("solver"),
        "fps": form.get("fps"),
        "seed": form.get("seed"),
        "batch": form.get("batch"),
        **plan_data(form, model),
    }
    data |= {key: PICTURE for key, value in (pictures or {}).items() if value}
    # Controls of what another model takes are hidden, and keep what they were.
    unused = set(OPTIONAL_KEYS) - set(model.workload)
    return {key: value for key, value in data.items() if key not in unused}


def plan_data(form: Mapping[str, Any], model: ModelCard) -> dict[str, Any]:
    """Of a request of any task: the card, how much of it, and the settings that are named."""
    limit = number(form.get("vram_gib"), 0.0)
    settings = {
        name: decode_setting(SETTINGS[name], form[SETTING + name])
        for name in model.settings
        if form.get(SETTING + name) not in (None, "", AUTO)
    }
    data = {"card": form.get("card") or DETECTED, "settings": settings}
    # Below zero it is refused where all requests are read; 0 stands for none.
    return data | {"vram_gib": limit} if limit else data


def form_of(request: Mapping[str, Any], model: ClipCard) -> dict[str, Any]:
    """The controls' values for a request of the past ("use these settings again")."""
    form = defaults_of(model)
    for key in ("prompt", "negative_prompt", "frames", "steps", "guidance", "flow_shift",
                "solver", "fps", "seed", "batch", "width", "height", "card"):  # fmt: skip
        if request.get(key) is not None:
            form[key] = request[key]
    form["vram_gib"] = request.get("vram_gib") or 0
    name = size_name(form["width"], form["height"])
    known = [size_name(*size) for size in model.sizes]
    form["size"] = name if name in known else CUSTOM_SIZE
    return form | settings_in(request)


def settings_in(request: Mapping[str, Any]) -> dict[str, Any]:
    """The controls' values for the settings that a request names."""
    return {
        SETTING + name: encode_setting(value)
        for name, value in (request.get("settings") or {}).items()
        if name in SETTINGS
    }


def offered_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The controls' values for the settings of an offer; None is chosen by the studio again.

    Raises:
        BadInput: there is no such setting.
    """
    for name in settings:
        if name not in SETTINGS:
            raise _unknown(name)
    return {
        SETTING + name: AUTO if value is None else encode_setting(value)
        for name, value in settings.items()
    }


def with_changes(form: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The form after an offered alternative: workload keys replaced, settings merged.

    Raises:
        BadInput: the changes name something that is no control.
    """
    changed = dict(form)
    for key, value in changes.items():
        if key == "settings" and isinstance(value, Mapping):
            changed |= offered_settings(value)
        elif key in changed and not isinstance(value, Mapping | list):
            changed[key] = value
            if key in ("width", "height"):
                changed["size"] = CUSTOM_SIZE
        else:
            raise _unknown(key)
    return changed


def restored(saved: Any, models: Mapping[str, ClipCard], cards: set[str]) -> dict[str, Any] | None:
    """The form that this browser remembers, or None; nothing in it is taken on trust."""
    saved = plain_values(saved)
    if saved.get("model") not in models:
        return None
    model = models[saved["model"]]
    form = defaults_of(model)
    defaults = model.defaults
    for key in ("prompt", "negative_prompt"):
        if isinstance(saved.get(key), str):
            form[key] = saved[key][:4000]
    form["card"] = saved["card"] if saved.get("card") in cards else DETECTED
    if saved.get("solver") in SOLVERS:
        form["solver"] = saved["solver"]
    limits: dict[str, tuple[float, float, float]] = {
        "steps": (1, 200, defaults.steps),
        "guidance": (1, 30, defaults.guidance),
        "flow_shift": (0.1, 30, defaults.flow_shift),
        "fps": (1, 120, defaults.fps),
        "seed": (-1, MAX_SEED, -1),
        "batch": (1, MAX_CLIPS, 1),
        "vram_gib": (0, MAX_VRAM_GIB, 0),
        "frames": (model.min_frames, model.max_frames, defaults.frames),
    }
    for key, (low, high, default) in limits.items():
        form[key] = min(high, max(low, number(saved.get(key), default)))
    form["frames"] = model.snap_frames(form["frames"])
    if saved.get("size") in [CUSTOM_SIZE, *(size_name(*size) for size in model.sizes)]:
        form["size"] = saved["size"]
    form["width"], form["height"] = size_of({**form, **_sides(saved)}, model)
    for name, spec in SETTINGS.items():
        choice = saved.get(SETTING + name)
        if choice in [encode_setting(value) for value in setting_values(spec, model)]:
            form[SETTING + name] = choice
    return form


def _sides(saved: Mapping[str, Any]) -> dict[str, Any]:
    return {key: saved.get(key) for key in ("width", "height")}


def plain(value: Any) -> Any:
    """The value if it is a text, a number or a switch, else None."""
    return value if isinstance(value, str | int | float | bool) else None


def plain_values(saved: Any) -> dict[str, Any]:
    """What a browser kept of a form, each value by `plain`; empty where it is no form."""
    items = saved.items() if isinstance(saved, Mapping) else ()
    return {str(key): plain(value) for key, value in items}


def offered_changes(text: str) -> Mapping[str, Any]:
    """What a button of an offer changes, as the page sends it.

    Raises:
        BadInput: it is no JSON object.
    """
    with contextlib.suppress(ValueError, RecursionError):
        changes = json.loads(text)
        if isinstance(changes, Mapping):
            return changes
    raise _unknown("changes")


def number(value: Any, default: float) -> float:
    """The value as a finite number, or the default."""
    with contextlib.suppress(TypeError, ValueError):
        read = float(value)
        if math.isfinite(read):
            return read
    return default


def _unknown(name: object) -> BadInput:

    return BadInput(str(name), words.STALE_OFFER)
