"""Strict reading of mappings from files: an unknown or missing key is an error that names both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from webui.core.errors import BadInput
from webui.core.text import Text


def check_keys(
    data: Any, *, where: str, required: Collection[str] = (), optional: Collection[str] = ()
) -> Mapping[str, Any]:
    """The mapping itself, once all of its keys are known and none is missing.

    Args:
        data: what the file holds.
        where: the file, and the place in it, for the message.
        required: keys that must be there.
        optional: keys that may be there.

    Raises:
        BadInput: not a mapping, an unknown key (with the nearest known one), or a missing key.
    """
    known = [*required, *optional]
    if not isinstance(data, Mapping):
        raise BadInput(
            "",
            Text(f"{where} is not a mapping of keys to values.", f"{where} 不是键到值的映射。"),
            Text(f"Its keys: {', '.join(known)}.", f"可用的键：{', '.join(known)}。"),
        )
    for key in data:
        if key not in known:
            near = get_close_matches(str(key), known, 1, 0.5)
            raise BadInput(
                str(key),
                Text(f"{where}: there is no key '{key}'.", f"{where}：没有“{key}”这个键。"),
                Text(
                    f"Did you mean {near[0]}?" if near else f"Keys: {', '.join(known)}.",
                    f"是否想用 {near[0]}？" if near else f"可用的键：{', '.join(known)}。",
                ),
            )
    for key in required:
        if key not in data:
            raise BadInput(
                key,
                Text(f"{where}: the key '{key}' is missing.", f"{where}：缺少“{key}”这个键。"),
            )
    return data
