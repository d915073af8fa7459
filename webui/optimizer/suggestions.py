"""What a request could do to need less memory: each means by itself, with the bytes it saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webui.core.model import ModelCard
from webui.core.request import Request
from webui.core.settings import SETTINGS, Settings, SettingValue, refused_together
from webui.core.text import Text
from webui.core.units import MIB, format_bytes, format_seconds
from webui.estimator.case import Case
from webui.estimator.target import Target
from webui.optimizer.candidates import effective_settings, open_values, quality_cost

_WORTH_BYTES = 1 * MIB
_NO_TIME_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """One setting's other value."""

    setting: str
    value: SettingValue
    saved_bytes: int
    """Of the peak of live bytes, the other settings as they are."""
    seconds: float
    """Added to the run; negative where it is faster."""
    lossless: bool
    """The result stays the same."""

    @property
    def text(self) -> Text:
        spec = SETTINGS[self.setting]
        shown = spec.choice_labels.get(self.value, Text(str(self.value), str(self.value)))
        saved = format_bytes(self.saved_bytes)
        sign, seconds = "-" if self.seconds < 0 else "+", abs(self.seconds)
        if seconds < _NO_TIME_S:
            sign, seconds = "", 0.0
        time, time_zh = (sign + format_seconds(seconds, each) for each in ("en", "zh"))
        small, small_zh = ("", "") if self.lossless else (", small differences", "，结果略有不同")
        return Text(
            f"{spec.label.en}: {shown.en} saves {saved} ({time}{small}).",
            f"{spec.label.zh}：{shown.zh}，节省 {saved}（{time_zh}{small_zh}）。",
        )

    def to_json(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in self.__slots__}, "text": self.text.en}


def find_suggestions(
    model: ModelCard, request: Request, settings: Settings, target: Target
) -> tuple[Suggestion, ...]:
    """For each setting that the user left open the value that saves most; lossless ones first, the
    most bytes first.

    Args:
        model: the request's model.
        request: its fixed settings are not touched.
        settings: a value for each of the model's settings: what is to be improved.
        target: the device.
    """
    base = Case(model, request, settings, target)
    cost = quality_cost(settings)
    found = []
    values = open_values(model, request, target)
    for name in effective_settings(model, target):
        best: Suggestion | None = None
        for value in values[name]:
            changed = settings | {name: value}
            if name in request.settings or value == settings[name] or refused_together(changed):
                continue
            case = Case(model, request, changed, target)
            one = Suggestion(
                setting=name,
                value=value,
                saved_bytes=base.peaks_bytes[0] - case.peaks_bytes[0],
                seconds=case.total_seconds - base.total_seconds,
                lossless=quality_cost(changed) <= cost,
            )
            if best is None or one.saved_bytes > best.saved_bytes:
                best = one
        if best is not None and best.saved_bytes >= _WORTH_BYTES:
            found.append(best)
    return tuple(sorted(found, key=lambda one: (not one.lossless, -one.saved_bytes)))
