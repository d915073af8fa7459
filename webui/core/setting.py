"""One setting: a memory slider with its values and its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from webui.core.errors import BadInput
from webui.core.fields import shown
from webui.core.text import Text

SettingValue = str | int | bool
Settings = dict[str, SettingValue]
"""Values by setting name; complete once the optimizer or `with_defaults` has filled it."""
Values = Mapping[str, tuple[SettingValue, ...]]
"""For some settings, those of their values that a model knows; the others have all of them."""


def spelt(value: object) -> str:
    """A value as YAML has it: booleans in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec:
    """One setting: its values in order of preference, its default, and its words."""

    name: str
    choices: tuple[SettingValue, ...] = ()
    """Allowed values; empty for a whole number between `low` and `high`."""
    low: int = 0
    high: int = 0
    multiple: int = 1
    default: SettingValue
    """What `estimate` takes when the request does not name it."""
    label: Text
    info: Text
    choice_labels: Mapping[SettingValue, Text]
    """What a value means, for people."""
    only_with: tuple[str, SettingValue] | None = None
    """Another setting and its value, without which this one changes nothing."""

    def matters(self, settings: Mapping[str, SettingValue]) -> bool:
        """Whether it changes something beside the others' values."""
        return self.only_with is None or settings.get(self.only_with[0]) == self.only_with[1]

    def check(self, value: Any, among: tuple[SettingValue, ...] | None = None) -> SettingValue:
        """The value in its proper type.

        Args:
            value: from outside.
            among: the choices that a model knows; None for all.

        Raises:
            BadInput: not one of the choices, or out of range.
        """
        field = f"settings.{self.name}"
        if self.choices:
            choices = self.choices if among is None else among
            if self.choices == (False, True):
                if isinstance(value, bool) and value in choices:
                    return value
            elif isinstance(value, str) and value in choices:
                return value
            names = [str(choice).lower() for choice in choices]
            near = get_close_matches(shown(value), names, 1, 0.5)
            allowed = ", ".join(names)
            raise BadInput(
                field,
                Text(
                    f"'{shown(value)}' is not a value of the setting {self.name}.",
                    f"设置 {self.name} 没有“{shown(value)}”这个值。",
                ),
                Text(
                    (f"Did you mean {near[0]}? " if near else "") + f"It takes: {allowed}.",
                    (f"是否想用 {near[0]}？" if near else "") + f"可用的值：{allowed}。",
                ),
            )
        # 256.0 counts as 256: JSON of other languages writes whole numbers so.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high or value % self.multiple:
            raise BadInput(
                field,
                Text(
                    f"'{shown(value)}' is not a value of the setting {self.name}.",
                    f"设置 {self.name} 没有“{shown(value)}”这个值。",
                ),
                Text(
                    f"It takes a multiple of {self.multiple} from {self.low} to {self.high}.",
                    f"请用 {self.low} 到 {self.high} 之间 {self.multiple} 的倍数。",
                ),
            )
        return int(value)
