"""Reads a matrix: YAML of one row, a list of them, or values to multiply out, into rows.

A row may hold the guide's sections (`model_config`, `optimization`, `logging`), our own request
keys, or both; `matrix:` names keys by their path and the values that each takes:

    model: demo
    matrix:
      settings.precision: [fp32, bf16]
      frames: [5, 9]
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from webui.core.errors import BadInput, StudioError
from webui.core.fields import shown
from webui.core.text import Text
from webui.service.profile.rows import Row, read_row
from webui.storage.profiles import PROFILE_FILES, folder_name
from webui.storage.yaml_text import read_yaml

MAX_ROWS = 64
_MATRIX = "matrix"


def read_matrix(text: str, name: str, kind: str) -> list[Row]:
    """The rows of a matrix; one that is wrong has its error, and the others are as they are.

    Args:
        text: YAML.
        name: of the file, for messages.
        kind: `cuda` or `cpu`, what this machine has.

    Raises:
        BadInput: not YAML, no rows, or too many.
    """
    data = read_yaml(text, name).data
    given = data if isinstance(data, list) else [data]
    if not given or given == [None]:
        raise BadInput(
            "",
            Text(f"{name} holds no row.", f"{name} 中没有任何一行。"),
            Text("For example: model: demo", "例如：model: demo"),
        )
    raw = [row for item in given for row in _multiplied(item)]
    if len(raw) > MAX_ROWS:
        raise BadInput(
            _MATRIX,
            Text(
                f"{name} comes to {len(raw)} rows.",
                f"{name} 展开后有 {len(raw)} 行。",
            ),
            Text(f"Use at most {MAX_ROWS}.", f"请不超过 {MAX_ROWS} 行。"),
        )
    # A folder of that name would stand where the profile's own files go.
    rows, taken = [], set[str](PROFILE_FILES)
    for number, item in enumerate(raw, 1):
        row = _read(item, number, kind)
        folder, count = row.folder, 1
        while folder in taken:
            count += 1
            folder = f"{row.folder}-{count}"
        taken.add(folder)
        rows.append(replace(row, folder=folder))
    return rows


def _read(item: Any, number: int, kind: str) -> Row:
    try:
        return read_row(item, number, kind)
    except StudioError as error:
        named = item.get("name") if isinstance(item, Mapping) else None
        name = shown(named) if isinstance(named, str) and named else f"row-{number}"
        return Row(name=name, folder=folder_name(name), error=error)


def _multiplied(item: Any) -> Iterator[Any]:
    """A row as it stands, or one for each combination of its `matrix`."""
    if not isinstance(item, Mapping) or _MATRIX not in item:
        yield item
        return
    axes = item[_MATRIX]
    fixed = {key: value for key, value in item.items() if key != _MATRIX}
    wrong = not isinstance(axes, Mapping) or not axes
    if wrong or not all(isinstance(values, list) and values for values in axes.values()):
        raise BadInput(
            _MATRIX,
            Text(
                "matrix names keys and a list of values for each.",
                "matrix 应当写明各个键及其取值列表。",
            ),
            Text(
                "For example: matrix: {settings.precision: [fp32, bf16]}",
                "例如：matrix: {settings.precision: [fp32, bf16]}",
            ),
        )
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > MAX_ROWS:
        raise BadInput(
            _MATRIX,
            Text(f"matrix comes to {count} rows.", f"matrix 展开后有 {count} 行。"),
            Text(f"Use at most {MAX_ROWS}.", f"请不超过 {MAX_ROWS} 行。"),
        )
    for values in product(*axes.values()):
        row = copy.deepcopy(fixed)
        parts = [str(fixed.get("name") or "row")]
        for path, value in zip(axes, values, strict=True):
            _set(row, str(path), value)
            parts.append(f"{str(path).rpartition('.')[2]}-{value}")
        row["name"] = "_".join(parts)[:80]
        yield row


def _set(row: dict[str, Any], path: str, value: Any) -> None:
    *sections, key = path.split(".")
    place = row
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise BadInput(
                f"{_MATRIX}.{shown(path)}",
                Text(f"{shown(section)} has no keys below it.", f"{shown(section)} 之下没有键。"),
            )
        place = inner
    place[key] = value
