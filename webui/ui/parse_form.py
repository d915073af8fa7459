"""Between the controls of the documents tab and a request: values by name, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.core.documents import ALL, AUTO, DPI, MAX_DPI, MIN_DPI, DocumentCard, ScanCard
from webui.core.errors import BadInput
from webui.core.pages import PageCard
from webui.core.request import DETECTED
from webui.core.settings import SETTINGS
from webui.ui.form import AUTO as CHOSEN_FOR_YOU
from webui.ui.form import (
    MAX_VRAM_GIB,
    SETTING,
    encode_setting,
    number,
    offered_settings,
    plain_values,
    plan_data,
    setting_values,
    settings_in,
)
from webui.ui.words import common as words

INPUT = "document"
"""Stands for the input's place in a plan."""
PIXEL_STEP = 1024
MAX_PAGES_TEXT = 200
"""Letters of a list of page ranges that a browser remembers."""

Form = dict[str, Any]


def defaults_of(model: DocumentCard) -> Form:
    """The controls' values for a model that was just picked: the authors', and all auto."""
    defaults = model.defaults if isinstance(model, PageCard) else None
    return {
        "model": model.name,
        "pages": ALL,
        "dpi": DPI,
        "max_pixels": default_pixels(model),
        "largest": False,
        "new_tokens": defaults.new_tokens if defaults else 1,
        "card": DETECTED,
        "vram_gib": 0,
        "folder": "",
        **{SETTING + name: CHOSEN_FOR_YOU for name in SETTINGS},
    }


def default_pixels(model: DocumentCard) -> int:
    """What the authors shrink pages to."""
    assert isinstance(model, PageCard | ScanCard)
    return model.defaults.max_pixels


def pixel_range(model: DocumentCard) -> tuple[int, int]:
    """Least and most of the slider, in steps of `PIXEL_STEP`."""
    least = max(model.min_pixels, model.size_multiple**2)
    return -(-least // PIXEL_STEP) * PIXEL_STEP, model.max_pixels


def request_data(
    form: Mapping[str, Any], model: DocumentCard, counted: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `Studio.parse` takes, from the controls' values, without the input.

    Args:
        form: the controls' values.
        model: reads the pages.
        counted: `pages`, `height` and `width` of the input, once they are known.
    """
    data: dict[str, Any] = {
        "task": model.task,
        "model": model.name,
        "pages": str(form.get("pages") or ALL),
        "dpi": form.get("dpi"),
        "max_pixels": AUTO if form.get("largest") is True else form.get("max_pixels"),
        **plan_data(form, model),
    }
    if isinstance(model, PageCard):
        data["new_tokens"] = form.get("new_tokens")
    if counted:
        return data | {**counted, "input": INPUT}
    # Nobody knows how many pages there will be: the plan is for one.
    return {key: value for key, value in data.items() if key != "pages"}


def form_of(request: Mapping[str, Any], model: DocumentCard) -> Form:
    """The controls' values for a request of the past, or of a preset."""
    form = defaults_of(model)
    for key in ("dpi", "new_tokens", "card"):
        if request.get(key) is not None and key in form:
            form[key] = request[key]
    pixels = request.get("max_pixels")
    form["largest"] = pixels == AUTO
    if isinstance(pixels, int):
        form["max_pixels"] = pixels
    form["vram_gib"] = request.get("vram_gib") or 0
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
        elif key in ("width", "height"):
            # A page has the size that it has; what the model sees of it is what can be changed.
            width, height = changes.get("width"), changes.get("height")
            if isinstance(width, int) and isinstance(height, int):
                changed |= {"max_pixels": width * height, "largest": False}
        elif key in changed and not isinstance(value, Mapping | list):
            changed[key] = 0 if key == "vram_gib" and value is None else value
        else:
            raise BadInput(str(key), words.STALE_OFFER)
    return changed


def restored(saved: Any, models: Mapping[str, DocumentCard], cards: set[str]) -> Form | None:
    """The form that this browser remembers, or None; nothing in it is taken on trust."""
    saved = plain_values(saved)
    if saved.get("model") not in models:
        return None
    model = models[saved["model"]]
    form = defaults_of(model)
    form["card"] = saved["card"] if saved.get("card") in cards else DETECTED
    form["largest"] = saved.get("largest") is True
    if isinstance(saved.get("pages"), str):
        form["pages"] = saved["pages"][:MAX_PAGES_TEXT]
    least, most = pixel_range(model)
    limits: dict[str, tuple[float, float]] = {
        "dpi": (MIN_DPI, MAX_DPI),
        "max_pixels": (least, most),
        "vram_gib": (0, MAX_VRAM_GIB),
    }
    if isinstance(model, PageCard):
        limits["new_tokens"] = (1, model.max_positions)
    for key, (low, high) in limits.items():
        value = min(high, max(low, number(saved.get(key), form[key])))
        form[key] = value if key == "vram_gib" else int(value)
    for name in model.settings:
        known = [encode_setting(value) for value in setting_values(SETTINGS[name], model)]
        if saved.get(SETTING + name) in known:
            form[SETTING + name] = saved[SETTING + name]
    return form
