"""Reads what a kind of card has beside the common keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from webui.catalogue.families import Family
from webui.catalogue.reading import read_preview, read_texts, require, require_whole, wrong
from webui.core.clip import PICTURES, SOLVERS, ClipCard, ClipDefaults
from webui.core.documents import ScanCard, ScanDefaults
from webui.core.language import TextCard, TextDefaults
from webui.core.mapping import check_keys
from webui.core.model import ModelCard
from webui.core.pages import BOXES, OUTPUTS, QUESTIONS, PageCard, PageDefaults
from webui.core.training import TrainCard, TrainDefaults
from webui.core.upscale import UpscaleCard, UpscaleDefaults


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of card."""

    card: type[ModelCard]
    read: Callable[[dict[str, Any], Family, str], dict[str, Any]]
    """From the file's values to the card's; gets the file's name for its messages."""
    optional: tuple[str, ...] = ()
    """Keys of the file that may be left out."""
    derived: tuple[str, ...] = ()
    """Fields of the card that no key of the file has."""
    extra: tuple[str, ...] = ()
    """Keys of the file that are no fields of the card."""

    def required(self) -> list[str]:
        """The file's keys that must be there."""
        left_out = {*self.optional, *self.derived, *_COMMON_OPTIONAL}
        return [
            *(
                item.name
                for item in fields(self.card)
                if item.default is MISSING and item.name not in left_out
            ),
            *self.extra,
        ]


_COMMON_OPTIONAL = ("setting_defaults", "setting_values")


def _read_clip(data: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    require_whole(
        data,
        (
            "size_multiple",
            "frame_step",
            "max_frames",
            "max_side",
            "min_side",
            "max_sequence_length",
        ),
        where,
    )
    require(isinstance(data["examples"], list), where, "examples", "it is a list")
    data["examples"] = tuple(read_texts(item, where, "examples") for item in data["examples"])
    data["workload"] = tuple(data.get("workload", family.workload))
    pictures = tuple(key for key in PICTURES if key in data["workload"])
    data["requires"] = tuple(data.get("requires", pictures))
    require(set(data["requires"]) <= set(pictures), where, "requires", "it names its pictures")
    data["pipeline"] = dict(data.get("pipeline", {}))
    data["defaults"] = _clip_defaults(data["defaults"], data["workload"], where)
    data["sizes"] = _sizes(data["sizes"], where)
    return data | read_preview(data.pop("preview"))


_UNUSED_DEFAULTS = {"flow_shift": 1.0, "solver": SOLVERS[0], "negative_prompt": ""}
"""Stand where the model takes no such key."""


def _clip_defaults(data: Any, workload: tuple[str, ...], where: str) -> ClipDefaults:
    unused = {key: value for key, value in _UNUSED_DEFAULTS.items() if key not in workload}
    named = check_keys(
        data,
        where=f"{where}, defaults",
        required=[item.name for item in fields(ClipDefaults) if item.name not in unused],
    )
    given = {**unused, **named}
    for key in ("frames", "height", "width", "steps", "fps"):
        require(type(given[key]) is int, where, f"defaults.{key}", "it is a whole number")
    for key in ("guidance", "flow_shift"):
        require(type(given[key]) in (int, float), where, f"defaults.{key}", "it is a number")
    require(given["solver"] in SOLVERS, where, "defaults.solver", f"one of {', '.join(SOLVERS)}")
    require(isinstance(given["negative_prompt"], str), where, "defaults.negative_prompt", "a text")
    numbers = {key: float(given[key]) for key in ("guidance", "flow_shift")}
    return ClipDefaults(**{**given, **numbers})


def _sizes(data: Any, where: str) -> tuple[tuple[int, int], ...]:
    try:
        sizes = tuple((int(width), int(height)) for width, height in data)
    except (TypeError, ValueError):
        raise wrong(where, "sizes", "it is a list of [width, height]") from None
    require(bool(sizes), where, "sizes", "at least one is needed")
    return sizes


def check_clip(card: ClipCard, where: str) -> None:
    """The card's own defaults must be requests that it accepts."""
    defaults = card.defaults
    snapped = (card.snap_frames(defaults.frames), card.snap_frames(card.max_frames))
    require(snapped == (defaults.frames, card.max_frames), where, "frames", "it breaks frame_step")
    sides = {defaults.width, defaults.height, card.max_side, card.min_side}
    sides.update(side for size in card.sizes for side in size)
    for side in sides:
        require(card.snap_side(side) == side, where, "sizes", f"{side} is not a side it takes")
    vae = card.configs["vae"]
    channels = vae.get("z_dim", vae.get("latent_channels"))
    require(
        channels in (None, len(card.preview_factors)) or not card.preview_factors,
        where,
        "preview",
        "a row for each channel",
    )


def _read_pages(data: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    numbers = ("size_multiple", "min_pixels", "max_pixels", "prompt_tokens", "max_positions")
    require_whole(data, numbers, where)
    require(isinstance(data["prompt"], str), where, "prompt", "it is a text")
    for key, values in (("output", OUTPUTS), ("boxes", BOXES)):
        require(data.get(key, values[0]) in values, where, key, f"one of {', '.join(values)}")
    if data.get("output") == "regions":
        check_keys(data.get("questions"), where=f"{where}, questions", required=QUESTIONS)
        require_whole({"layout_size": 0, **data}, ("layout_size",), where)
    return data | {"defaults": _whole_defaults(PageDefaults, data["defaults"], where)}


def _read_scan(data: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    require_whole(data, ("size_multiple", "min_pixels", "max_pixels"), where)
    return data | {"defaults": _whole_defaults(ScanDefaults, data["defaults"], where)}


def _read_language(data: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    require_whole(data, ("max_positions",), where)
    return data | {"defaults": _whole_defaults(TextDefaults, data["defaults"], where)}


def _read_training(data: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    numbers = ("size_multiple", "min_image_size", "max_image_size", "max_positions")
    require_whole(data, numbers, where)
    return data | {"defaults": _whole_defaults(TrainDefaults, data["defaults"], where)}


def _read_upscaling(data: dict[str, Any], family: Family, where: str) -> dict[str, Any]:
    require_whole(data, ("tile_multiple",), where)
    require(isinstance(data["temporal"], bool), where, "temporal", "it is true or false")
    scales = data["scales"]
    listed = isinstance(scales, list) and bool(scales)
    whole = listed and all(type(scale) is int and scale > 0 for scale in scales)
    require(whole, where, "scales", "it is a list of whole numbers")
    files = data["files"]
    named = isinstance(files, list) and all(isinstance(name, str) for name in files)
    require(named, where, "files", "it is a list of names")
    defaults = UpscaleDefaults(
        **check_keys(
            data["defaults"],
            where=f"{where}, defaults",
            required=[item.name for item in fields(UpscaleDefaults)],
        )
    )
    require(defaults.scale in scales, where, "defaults.scale", "it is one of its scales")
    return data | {"scales": tuple(scales), "files": tuple(files), "defaults": defaults}


def _whole_defaults(kind: Any, data: Any, where: str) -> Any:
    names = [item.name for item in fields(kind)]
    given = check_keys(data, where=f"{where}, defaults", required=names)
    require_whole(given, tuple(names), f"{where}, defaults")
    return kind(**given)


def _optional_of(kind: Kind) -> tuple[str, ...]:
    return (*_COMMON_OPTIONAL, *kind.optional)


KINDS: Mapping[str, Kind] = {
    "clip": Kind(
        ClipCard,
        _read_clip,
        optional=("workload", "requires", "pipeline"),
        derived=("preview_factors", "preview_bias"),
        extra=("preview",),
    ),
    "pages": Kind(PageCard, _read_pages, optional=("output", "boxes", "layout_size", "questions")),
    "scans": Kind(ScanCard, _read_scan),
    "language": Kind(TextCard, _read_language),
    "training": Kind(TrainCard, _read_training),
    "upscaling": Kind(UpscaleCard, _read_upscaling),
}


def keys_of(kind: Kind) -> tuple[list[str], tuple[str, ...]]:
    """The keys of a card's file: those that must be there, and those that may be left out."""
    return kind.required(), _optional_of(kind)
