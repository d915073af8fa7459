"""Reads the model cards: `models/*.yaml`, with the component configurations they name.

Adding a model of a known family takes one YAML file (and the JSON files of components that are not
there yet); nothing here changes. A new family adds a line to `_FAMILIES`. The files are data, so a
wrong one is reported by its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from webui.core.errors import BadInput
from webui.core.mapping import check_keys
from webui.core.model import GenerateDefaults, ModelCard
from webui.core.request import SOLVERS
from webui.core.settings import SETTINGS, check_settings
from webui.core.text import Text

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class _Family:
    components: tuple[str, ...]
    """What its pipelines are made of."""
    workload: tuple[str, ...]
    """The optional workload keys that its models take."""
    lacks: tuple[str, ...]
    """Settings that change nothing for it."""


_FAMILIES = {
    "wan": _Family(
        components=("transformer", "vae", "text_encoder", "scheduler"),
        workload=("prompt", "negative_prompt", "flow_shift", "solver"),
        lacks=("image_encoder", "decode_chunk"),
    ),
    "svd": _Family(
        components=("image_encoder", "unet", "vae", "scheduler"),
        workload=("image",),
        lacks=(
            "text_encoder",
            "vae_tiling",
            "vae_tile",
            "vae_tile_overlap",
            "channels_last",
            "ffn_chunks",
        ),
    ),
}
_DERIVED_FIELDS = {"preview_factors", "preview_bias", "workload", "setting_defaults"}
"""Fields of the card that come from the file under `preview`, from the family, or may be left
out."""


@cache
def load_models() -> dict[str, ModelCard]:
    """All model cards by name, the embedded demo first.

    Raises:
        BadInput: a file of the catalogue is wrong; the message names it.
    """
    cards = [read_model(path) for path in sorted((_FOLDER / "models").glob("*.yaml"))]
    return {card.name: card for card in sorted(cards, key=lambda card: not card.embedded)}


def find_model(name: str) -> ModelCard:
    """The model card of that name.

    Raises:
        BadInput: there is none; the hint has the nearest names.
    """
    models = load_models()
    if name in models:
        return models[name]
    near = get_close_matches(name, models, 2, 0.4)
    names = ", ".join(models)
    raise BadInput(
        "model",
        Text(f"There is no model '{name[:60]}'.", f"没有名为“{name[:60]}”的模型。"),
        Text(
            (f"Did you mean {' or '.join(near)}? " if near else "") + f"Models: {names}.",
            (f"是否想用 {' 或 '.join(near)}？" if near else "") + f"可用的模型：{names}。",
        ),
    )


def read_model(path: Path) -> ModelCard:
    """One model card.

    Args:
        path: a YAML file; the file names under `configs` and `preview` are relative to the
            catalogue's folder.

    Raises:
        BadInput: unknown or missing key, or a value of the wrong kind.
    """
    where = path.name
    keys = [
        field.name
        for field in fields(ModelCard)
        if field.default is MISSING and field.name not in _DERIVED_FIELDS
    ]
    data = dict(
        check_keys(
            _read_yaml(path),
            where=where,
            required=[*keys, "preview"],
            optional=["setting_defaults"],
        )
    )
    if data["name"] != path.stem:
        raise _wrong(where, "name", f"it must be the file's name, {path.stem}")
    for key in ("title", "task", "family", "licence", "hub"):
        _require(isinstance(data[key], str), where, key, "it is a text")
    for key in (
        "download_bytes",
        "size_multiple",
        "frame_step",
        "max_frames",
        "max_side",
        "min_side",
        "max_sequence_length",
    ):
        _require(type(data[key]) is int and data[key] > 0, where, key, "it is a whole number")
    _require(isinstance(data["embedded"], bool), where, "embedded", "it is true or false")
    families = ", ".join(_FAMILIES)
    _require(data["family"] in _FAMILIES, where, "family", f"it is one of {families}")
    _require(isinstance(data["examples"], list), where, "examples", "it is a list")
    data["about"] = _text(data["about"], where, "about")
    data["examples"] = tuple(_text(item, where, "examples") for item in data["examples"])
    family = _FAMILIES[data["family"]]
    data["workload"] = family.workload
    data["defaults"] = _defaults(data["defaults"], family.workload, where)
    data["sizes"] = _sizes(data["sizes"], where)
    data["settings"] = _settings(data["settings"], family.lacks, where)
    data["setting_defaults"] = check_settings(data.get("setting_defaults", {}), data["settings"])
    data["configs"] = _configs(data["configs"], family.components, where)
    data.update(_preview(data.pop("preview"), where))
    card = ModelCard(**data)
    _check_workload(card, where)
    return card


def _check_workload(card: ModelCard, where: str) -> None:
    """The card's own defaults must be requests that it accepts."""
    defaults = card.defaults
    snapped = (card.snap_frames(defaults.frames), card.snap_frames(card.max_frames))
    _require(snapped == (defaults.frames, card.max_frames), where, "frames", "it breaks frame_step")
    sides = {defaults.width, defaults.height, card.max_side, card.min_side}
    sides.update(side for size in card.sizes for side in size)
    for side in sides:
        _require(card.snap_side(side) == side, where, "sizes", f"{side} is not a side it takes")
    vae = card.configs["vae"]
    channels = vae.get("z_dim", vae.get("latent_channels"))
    _require(
        channels in (None, len(card.preview_factors)), where, "preview", "a row for each channel"
    )


_UNUSED_DEFAULTS = {"flow_shift": 1.0, "solver": SOLVERS[0], "negative_prompt": ""}
"""Stand where the family takes no such key."""


def _defaults(data: Any, workload: tuple[str, ...], where: str) -> GenerateDefaults:
    unused = {key: value for key, value in _UNUSED_DEFAULTS.items() if key not in workload}
    named = check_keys(
        data,
        where=f"{where}, defaults",
        required=[field.name for field in fields(GenerateDefaults) if field.name not in unused],
    )
    given = {**unused, **named}
    for key in ("frames", "height", "width", "steps", "fps"):
        _require(type(given[key]) is int, where, f"defaults.{key}", "it is a whole number")
    for key in ("guidance", "flow_shift"):
        _require(type(given[key]) in (int, float), where, f"defaults.{key}", "it is a number")
    _require(given["solver"] in SOLVERS, where, "defaults.solver", f"one of {', '.join(SOLVERS)}")
    _require(isinstance(given["negative_prompt"], str), where, "defaults.negative_prompt", "a text")
    numbers = {key: float(given[key]) for key in ("guidance", "flow_shift")}
    return GenerateDefaults(**{**given, **numbers})


def _sizes(data: Any, where: str) -> tuple[tuple[int, int], ...]:
    try:
        sizes = tuple((int(width), int(height)) for width, height in data)
    except (TypeError, ValueError):
        raise _wrong(where, "sizes", "it is a list of [width, height]") from None
    _require(bool(sizes), where, "sizes", "at least one is needed")
    return sizes


def _settings(data: Any, lacks: tuple[str, ...], where: str) -> tuple[str, ...]:
    """`all` of the family, or a list; in the order of `SETTINGS`, which is that of the page."""
    if data == "all":
        return tuple(name for name in SETTINGS if name not in lacks)
    _require(isinstance(data, list), where, "settings", "it is `all` or a list of names")
    check_keys(dict.fromkeys(data), where=f"{where}, settings", optional=list(SETTINGS))
    return tuple(name for name in SETTINGS if name in data)


def _configs(data: Any, components: tuple[str, ...], where: str) -> dict[str, Mapping[str, Any]]:
    given = check_keys(data, where=f"{where}, configs", required=components)
    configs = {}
    for component, name in given.items():
        path = _FOLDER / str(name)
        try:
            configs[component] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _wrong(where, f"configs.{component}", f"{name} cannot be read: {error}") from None
    return configs


def _preview(name: Any, where: str) -> dict[str, Any]:
    """The linear map from latents to RGB, which models with the same VAE share."""
    path = _FOLDER / str(name)
    data = check_keys(_read_yaml(path), where=path.name, required=("factors", "bias"))
    try:
        factors = tuple(tuple(float(value) for value in row) for row in data["factors"])
        bias = tuple(float(value) for value in data["bias"])
    except (TypeError, ValueError):
        raise _wrong(path.name, "factors", "it is a table of numbers") from None
    _require({len(row) for row in factors} == {3}, path.name, "factors", "three columns: R G B")
    _require(len(bias) == 3, path.name, "bias", "three numbers: R G B")
    return {"preview_factors": factors, "preview_bias": bias}


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(
            "", Text(f"{path.name} cannot be read: {error}", f"无法读取 {path.name}：{error}")
        ) from None


def _text(data: Any, where: str, key: str) -> Text:
    given = check_keys(data, where=f"{where}, {key}", required=("en", "zh"))
    return Text(str(given["en"]).strip(), str(given["zh"]).strip())


def _require(holds: bool, where: str, key: str, rule: str) -> None:
    if not holds:
        raise _wrong(where, key, rule)


def _wrong(where: str, key: str, rule: str) -> BadInput:
    return BadInput(
        key, Text(f"{where}: {key} is wrong: {rule}.", f"{where}：{key} 有误：{rule}。")
    )
