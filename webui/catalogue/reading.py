"""Reads the catalogue's files: a wrong one is reported by its name and key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from webui.core.errors import BadInput
from webui.core.mapping import check_keys
from webui.core.text import Text
from webui.core.yaml_file import load_file

FOLDER = Path(__file__).parent
"""What the file names in a card are relative to."""


def read_yaml(path: Path) -> Any:
    """What a file holds.

    Raises:
        BadInput: it cannot be read, or is not YAML.
    """
    try:
        return load_file(path)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise BadInput(
            "", Text(f"{path.name} cannot be read: {error}", f"无法读取 {path.name}：{error}")
        ) from None


def read_texts(data: Any, where: str, key: str) -> Text:
    """A sentence in both languages."""
    given = check_keys(data, where=f"{where}, {key}", required=("en", "zh"))
    return Text(str(given["en"]).strip(), str(given["zh"]).strip())


def read_configs(
    data: Any, components: tuple[str, ...], where: str, beside: Path
) -> dict[str, Mapping[str, Any]]:
    """The configuration of each component, from the JSON files that the card names.

    Args:
        data: the names.
        components: those that must be named.
        where: for the messages.
        beside: the card's own folder.
    """
    given = check_keys(data, where=f"{where}, configs", required=components)
    configs = {}
    for component, name in given.items():
        try:
            own = beside / str(name)
            path = own if own.is_file() else FOLDER / str(name)
            configs[component] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise wrong(where, f"configs.{component}", f"{name} cannot be read: {error}") from None
    return configs


def read_preview(name: Any) -> dict[str, Any]:
    """The linear map from latents to RGB, which models with the same VAE share."""
    path = FOLDER / str(name)
    data = check_keys(read_yaml(path), where=path.name, required=("factors", "bias"))
    try:
        factors = tuple(tuple(float(value) for value in row) for row in data["factors"])
        bias = tuple(float(value) for value in data["bias"])
    except (TypeError, ValueError):
        raise wrong(path.name, "factors", "it is a table of numbers") from None
    require(all(len(row) == 3 for row in factors), path.name, "factors", "three columns: R G B")
    require(len(bias) == 3, path.name, "bias", "three numbers: R G B")
    return {"preview_factors": factors, "preview_bias": bias}


def require_whole(data: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    """The keys are whole numbers above zero."""
    for key in keys:
        require(type(data[key]) is int and data[key] > 0, where, key, "it is a whole number")


def require(holds: bool, where: str, key: str, rule: str) -> None:
    if not holds:
        raise wrong(where, key, rule)


def wrong(where: str, key: str, rule: str) -> BadInput:
    return BadInput(
        key, Text(f"{where}: {key} is wrong: {rule}.", f"{where}：{key} 有误：{rule}。")
    )
