"""Reads the keys of a request: the value in its proper type, or one clear error."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from webui.core.errors import BadInput
from webui.core.text import Text

MAX_TEXT_CHARACTERS = 4000
MAX_BATCH = 256
"""Samples or prompts that go through a model at a time."""


def shown(value: Any) -> str:
    """A value from outside as a message repeats it: short, whatever it is."""
    text = "empty" if value == "" else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def read_text(given: Mapping[str, Any], key: str, default: str) -> str:
    """A text of at most `MAX_TEXT_CHARACTERS`.

    Raises:
        BadInput: something else, or too long.
    """
    value = given.get(key, default)
    if not isinstance(value, str):
        raise BadInput(
            key,
            Text(f"{key} is a text.", f"{key} 应当是文字。"),
            Text("Put it in quotes.", "请加上引号。"),
        )
    if len(value) > MAX_TEXT_CHARACTERS:
        raise BadInput(
            key,
            Text(
                f"{key} has {len(value)} characters.",
                f"{key} 有 {len(value)} 个字符。",
            ),
            Text(
                f"Use at most {MAX_TEXT_CHARACTERS}.",
                f"请不超过 {MAX_TEXT_CHARACTERS} 个字符。",
            ),
        )
    return value


def read_prompt(given: Mapping[str, Any], key: str = "prompt", default: str = "") -> str:
    """A text for a model, without what no tokenizer takes."""
    return read_text(given, key, default).replace("\x00", "")


def read_choice(given: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str) -> str:
    """One of the choices.

    Raises:
        BadInput: another value; the hint has the nearest choice.
    """
    value = given.get(key, default)
    if value in choices:
        return str(value)
    near = get_close_matches(str(value), choices, 1, 0.5)
    raise BadInput(
        key,
        Text(f"'{shown(value)}' is not a {key}.", f"{key} 没有“{shown(value)}”这个值。"),
        Text(
            (f"Did you mean {near[0]}? " if near else "") + f"It takes: {', '.join(choices)}.",
            (f"是否想用 {near[0]}？" if near else "") + f"可用的值：{', '.join(choices)}。",
        ),
    )


def read_number(
    given: Mapping[str, Any], key: str, default: float, low: float, high: float, whole: bool = False
) -> float:
    """A number from `low` to `high`.

    Raises:
        BadInput: something else.
    """
    value = given.get(key, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # The limits first: they also stop NaN and integers too large for a float.
    if number and low <= value <= high and not (whole and value % 1):
        return float(value)
    kind_en, kind_zh = ("whole number", "整数") if whole else ("number", "数")
    raise BadInput(
        key,
        Text(
            f"{key} cannot be {shown(value)}.",
            f"{key} 不能是 {shown(value)}。",
        ),
        Text(
            f"It is a {kind_en} from {low:g} to {high:.10g}.",
            f"它是 {low:g} 到 {high:.10g} 之间的{kind_zh}。",
        ),
    )


def read_whole(given: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """A whole number from `low` to `high`.

    Raises:
        BadInput: something else.
    """
    return int(read_number(given, key, default, low, high, whole=True))


def read_side(
    given: Mapping[str, Any], key: str, default: int, low: int, high: int, multiple: int
) -> int:
    """A side of a picture in pixels, on the model's grid.

    Raises:
        BadInput: out of range, or between two places of the grid, which the hint names.
    """
    side = read_whole(given, key, default, low, high)
    if side % multiple:
        below = max(low, side - side % multiple)
        above = min(high, below + multiple)
        raise BadInput(
            key,
            Text(
                f"{key} must be a multiple of {multiple} px; {side} is not.",
                f"{key} 必须是 {multiple} 像素的倍数，{side} 不是。",
            ),
            Text(f"Use {below} or {above}.", f"请用 {below} 或 {above}。"),
        )
    return side
