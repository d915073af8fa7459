"""After a run has run out of memory: what the estimate lacked, and a plan that needs less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from webui.core.model import ModelCard
from webui.core.phases import title_of
from webui.core.receipt import Shortage
from webui.core.request import Request
from webui.core.settings import SETTINGS, Settings, SettingValue
from webui.core.text import Text
from webui.core.units import format_bytes, signed_time
from webui.estimator.case import Case
from webui.estimator.target import Target
from webui.optimizer.candidates import effective_settings, quality_cost

STEP_SHARE = 0.02
"""Of the phase that failed, at least so much less is asked of the next settings: a smaller
difference is within what estimates are wrong by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Settings that ran out of memory."""

    settings: Settings
    phase: str
    """The phase of the estimate that has to need less."""
    short_bytes: int = 0
    """By how much its estimate was too low, at least."""


def blamed_phase(case: Case, phase: str) -> str:
    """The phase that has to need less: the one that failed, else the one that needs most."""
    return phase if phase in case.phases else max(case.phases, key=case.peak_bytes)


def short_bytes(case: Case, shortage: Shortage) -> int:
    """By how much the estimate of the phase that failed was too low, at least.

    Settings that should have fitted need more than there was, and more than what was in use and
    wanted when they failed. 0 where they would not have fitted what there really was.

    Args:
        case: the failed settings on the target as it really was.
        shortage: how things stood.
    """
    phase = blamed_phase(case, shortage.phase)
    seen = shortage.in_use_bytes + shortage.wanted_bytes - case.peak_bytes(phase)
    missed = case.room_bytes - case.peak_bytes(phase) if case.holds(phase) else 0
    return max(0, seen, missed)


def narrowed(model: ModelCard, request: Request, target: Target, tried: Sequence[Tried]) -> Target:
    """The target with less room for the phases that failed: what was tried fits no more, and what
    does fit needs less of that phase by a step, and leaves free what its estimate lacked. The
    other phases may stay as they are.

    Args:
        model: the request's model.
        request: the job's; its fixed settings stay fixed.
        target: the device as it is now.
        tried: what ran out of memory.
    """
    short = dict(target.short_bytes)
    for one in tried:
        case = Case(model, request, one.settings, target)
        allowed = int(case.peak_bytes(one.phase) * (1 - STEP_SHARE)) - 1
        kept = max(case.room_bytes - allowed, one.short_bytes)
        short[one.phase] = max(short.get(one.phase, 0), kept)
    return replace(target, short_bytes=short)


def what_happened(number: int, shortage: Shortage, expected_bytes: int, less_room: bool) -> Text:
    """How an attempt ended, in bytes.

    Args:
        number: of the attempt, from 1.
        shortage: how things stood.
        expected_bytes: what the plan expected the phase to take.
        less_room: there was less than the plan had been told of; the estimate was not wrong.
    """
    phase = title_of(shortage.phase)
    in_use, expected = format_bytes(shortage.in_use_bytes), format_bytes(expected_bytes)
    wanted = format_bytes(shortage.wanted_bytes)
    limit = format_bytes(shortage.limit_bytes or 0)
    more, more_zh = (
        (f", {wanted} more wanted", f"，还需要 {wanted}") if shortage.wanted_bytes else ("", "")
    )
    of, of_zh = (f" of {limit}", f"（上限 {limit}）") if shortage.limit_bytes else ("", "")
    return Text(
        f"Attempt {number} ran out of memory in the phase '{phase.en}': {in_use}{of} in use{more}; "
        f"{expected} had been estimated"
        + (", and less was there than planned with." if less_room else "."),
        f"第 {number} 次尝试在“{phase.zh}”阶段内存不足：已用 {in_use}{of_zh}{more_zh}；"
        f"原先预计 {expected}" + ("，而实际可用的比规划时少。" if less_room else "。"),
    )


def what_changes(before: Case, after: Case, phase: str) -> Text:
    """What the next settings do otherwise, what that saves in the phase that failed, and its cost.

    Args:
        before: the settings that failed.
        after: those that come next.
        phase: the one that has to need less.
    """
    names = [
        name
        for name in effective_settings(after.model, after.target)
        if before.settings[name] != after.settings[name] and SETTINGS[name].matters(after.settings)
    ]
    saved = before.peak_bytes(phase) - after.peak_bytes(phase)
    time = after.total_seconds - before.total_seconds
    cost, cost_zh = (
        f"-{format_bytes(saved)}{comma}{signed_time(time, language)}"
        for comma, language in ((", ", "en"), ("，", "zh"))
    )
    changes = [
        (label.en, label.zh, _shown(name, before.settings[name]), _shown(name, value))
        for name in names
        for label, value in [(SETTINGS[name].label, after.settings[name])]
    ]
    changed_en = ", ".join(f"{en}: {old.en} → {new.en}" for en, _, old, new in changes)
    changed_zh = "，".join(f"{zh}：{old.zh} → {new.zh}" for _, zh, old, new in changes)
    lossy = quality_cost(after.settings) > quality_cost(before.settings)
    return Text(
        f"Now {changed_en} ({cost})."
        + (" Nothing lossless was left; this may change the picture a little." if lossy else ""),
        f"现在改为 {changed_zh}（{cost_zh}）。"
        + ("已没有无损的办法，画面可能略有变化。" if lossy else ""),
    )


def _shown(name: str, value: SettingValue) -> Text:
    """A setting's value for people, without what explains it."""
    label = SETTINGS[name].choice_labels.get(value, Text(str(value), str(value)))
    return Text(label.en.split(":")[0], label.zh.replace("：", ":").split(":")[0])
