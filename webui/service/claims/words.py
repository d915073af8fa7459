"""Sentences about claims, made from their figures, in both languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from webui.catalogue.claims import Range
from webui.core.setting import spelt
from webui.core.settings import Settings
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.estimator.verified import means_of
from webui.hardware import find_card

QUALITY = Text(
    "Weights at random make no results to look at; this takes real ones, side by side.",
    "随机权重不产生可评判的结果；需要用真实权重并排对比。",
)
ONE_AT_A_TIME = Text("One at a time fits.", "一次一个可以放下。")
NOTHING = Text("does not fit", "放不下")
NO_SETTINGS = Text("No settings make it fit.", "任何设置都放不下。")
THE_SAME = Text("the same", "相同")
SAME_IN_CATALOGUE = Text("The catalogue has the same.", "与目录中的相同。")
ON_WEIGHTS = Text("holds for the weights alone", "仅对权重成立")
ON_CARD = Text("on the card", "因显卡而异")
ON_LENGTH = Text("on the answer's length", "因答案长度而异")
ON_STAYING = Text("holds if the whole model stayed on the card", "整个模型都留在显卡上时成立")
ON_SAVING = Text("only with settings that save memory", "需用省显存的设置")
RUNS_SAVING = Text("with settings that save memory it runs", "用省显存的设置可以运行")
ON_ONE = Text("one at a time", "一次一个")
_BASIS = {True: Text("measured", "实测"), False: Text("estimated", "预计")}


def joined(*parts: Text) -> Text:
    """Sentences one after another."""
    return Text(" ".join(part.en for part in parts), "".join(part.zh for part in parts))


def sentence(text: Text) -> Text:
    """A clause as a sentence."""
    return Text(text.en[:1].upper() + text.en[1:] + ".", text.zh + "。")


def amount(size_bytes: float) -> Text:
    return _same(format_bytes(size_bytes))


def number(value: float) -> Text:
    return _same(f"{value:g}" if value < 1e5 else f"{value:.0f}")


def change(before: float, after: float) -> Text:
    """What became more or less, in percent."""
    return _same(_percent(before, after))


def speed_left(before: float, after: float) -> Text:
    """What is left of the speed, in percent."""
    return _same(f"{100 * before / after:.0f} %")


def seconds_span(seconds: Sequence[float]) -> Text:
    low, high = format_seconds(min(seconds)), format_seconds(max(seconds))
    low_zh, high_zh = format_seconds(min(seconds), "zh"), format_seconds(max(seconds), "zh")
    if low == high:
        return Text(low, low_zh)
    return Text(f"{low} to {high}", f"{low_zh} 至 {high_zh}")


def values(have: Mapping[str, Any]) -> Text:
    return _same(", ".join(f"{name} {_shown(value)}" for name, value in have.items()))


def peak(size_bytes: float, bounds: Range, is_measured: bool) -> Text:
    """The peak, and how many times what is claimed it is where that is far off."""
    how, size, ends = _BASIS[is_measured], format_bytes(size_bytes), _times(size_bytes, bounds)
    return Text(f"The peak is {size} ({how.en}){ends.en}", f"峰值 {size}（{how.zh}）{ends.zh}")


def more(size_bytes: float, bounds: Range, is_measured: bool) -> Text:
    """What comes on top, told as `peak` is."""
    how, size, ends = _BASIS[is_measured], format_bytes(size_bytes), _times(size_bytes, bounds)
    return Text(f"It is {size} more ({how.en}){ends.en}", f"多占 {size}（{how.zh}）{ends.zh}")


def _times(size_bytes: float, bounds: Range) -> Text:
    """The end of a sentence about an amount: how far it is from what is claimed."""
    low, high = bounds
    if high is not None and size_bytes > 1.25 * high:
        times = f"{size_bytes / high:.1f}"
        return Text(f", {times} times that.", f"，是其 {times} 倍。")
    if low is not None and size_bytes < 0.75 * low:
        share = f"{100 * size_bytes / low:.0f} %"
        return Text(f", {share} of that.", f"，是其 {share}。")
    return Text(".", "。")


def weights_alone(size_bytes: float) -> Text:
    size = format_bytes(size_bytes)
    return Text(
        f"The weights alone, without what computing takes, are {size}.",
        f"仅权重（不含计算所需）为 {size}。",
    )


def from_to_bytes(before: float, after: float, is_measured: bool) -> Text:
    how, percent = _BASIS[is_measured], _percent(before, after)
    first, last = format_bytes(before), format_bytes(after)
    return Text(
        f"From {first} to {last}: {percent} ({how.en}).",
        f"由 {first} 到 {last}：{percent}（{how.zh}）。",
    )


def from_to_seconds(
    before: float, after: float, card: str, *, is_measured: bool, of_sample: bool
) -> Text:
    """Time before and after on a card, and the speed that this makes."""
    how, percent, title = _BASIS[is_measured], _percent(before, after), find_card(card).title
    first, last = _seconds(before), _seconds(after)
    speed = f"{before / after:.2f}"
    each, each_zh = (" a sample", "每个样本") if of_sample else ("", "")
    return Text(
        f"On {title} from {first} to {last}{each}: {percent}, {speed} times the speed ({how.en}).",
        f"{title} 上{each_zh}由 {_seconds(before, 'zh')} 到 {_seconds(after, 'zh')}：{percent}，"
        f"速度为 {speed} 倍（{how.zh}）。",
    )


def span(seconds: Sequence[float], cards: Sequence[str]) -> Text:
    shown = seconds_span(seconds)
    titles = [find_card(card).title for card in cards]
    return Text(
        f"As planned for {' and '.join(titles)}: {shown.en} (estimated).",
        f"按 {'、'.join(titles)} 规划：{shown.zh}（预计）。",
    )


def by_length(seconds: Sequence[float]) -> Text:
    shown = seconds_span(seconds)
    return Text(
        f"By the length of the answer, which is not named: {shown.en}.",
        f"取决于未注明的答案长度：{shown.zh}。",
    )


def if_whole(seconds: Sequence[float]) -> Text:
    shown = seconds_span(seconds)
    return Text(
        f"If the whole model stayed on the card, by the length of the answer: {shown.en}.",
        f"若整个模型都留在显卡上，视答案长度为 {shown.zh}。",
    )


def holds_read(name: Text, verdict: Text) -> Text:
    return Text(f"{verdict.en} {name.en}", f"{name.zh}时{verdict.zh}")


def as_read(name: Text, other: Text) -> Text:
    return Text(f"{name.en[:1].upper()}{name.en[1:]}: {other.en}", f"{name.zh}：{other.zh}")


def whole_against(size_bytes: float, limit_bytes: float) -> Text:
    size, limit = format_bytes(size_bytes), format_bytes(limit_bytes)
    return Text(
        f"Loaded whole it takes {size} of the card's {limit} (estimated).",
        f"整个载入需 {size}，显卡有 {limit}（预计）。",
    )


def planned(settings: Settings, peak_bytes: float, several: bool) -> Text:
    """What the optimizer would do.

    Args:
        settings: what it chose for the work that takes most.
        peak_bytes: of that work.
        several: there are other works, which run before or after.
    """
    means, size = means_of(settings), format_bytes(peak_bytes)
    each, each_zh = (", one at a time", "，一次一个") if several else ("", "")
    return Text(
        f"As planned for it, with {means or 'other settings'}, it takes {size}{each}.",
        f"按该卡规划（{means or '其他设置'}）只需 {size}{each_zh}。",
    )


def ran_within(size_bytes: float, limit_gib: float) -> Text:
    size, limit = format_bytes(size_bytes), f"{limit_gib:g} GiB"
    return Text(
        f"It ran in {size} within a limit of {limit}.",
        f"已在 {limit} 上限内以 {size} 运行过。",
    )


def differs(differing: Mapping[str, Any]) -> Text:
    listed = values(differing).en
    return Text(f"The catalogue has {listed}.", f"目录中为 {listed}。")


def comes_to(result: float) -> Text:
    shown = number(result).en
    return Text(f"It comes to {shown}.", f"算得 {shown}。")


def not_in_catalogue(model: str) -> Text:
    return Text(f"{model} is not in the catalogue.", f"目录中没有 {model}。")


def no_run_of(model: str) -> Text:
    return Text(
        f"No run of {model} was recorded that would tell.",
        f"还没有能说明这一点的 {model} 运行记录。",
    )


def _percent(before: float, after: float) -> str:
    """'-49 %', '+3 %'."""
    value = 100 * (after / before - 1)
    shown = f"{value:+.0f}" if abs(value) >= 1 else f"{value:+.1f}"
    return f"{shown.replace('-0.0', '+0.0')} %"


def _seconds(seconds: float, language: str = "en") -> str:
    """As `format_seconds`, finer where a sample takes less than a second."""
    if seconds >= 1:
        return format_seconds(seconds, language)
    return f"{1000 * seconds:.0f} {'毫秒' if language == 'zh' else 'ms'}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    return spelt(value)


def _same(text: str) -> Text:
    return Text(text, text)
