"""Units: bytes inside, GiB only for people."""

from __future__ import annotations

KIB = 2**10
MIB = 2**20
GIB = 2**30
_IN_HOURS_S = 48 * 3600
_TIME_UNITS = {"en": ("d", "h", "min", "s"), "zh": ("天", "小时", "分", "秒")}


def format_bytes(count_bytes: float) -> str:
    """A byte count for people: '512 B', '1.5 MiB', '5.43 GiB'; a minus sign is kept."""
    size = abs(count_bytes)
    sign = "-" if count_bytes < 0 else ""
    if size < KIB:
        return f"{sign}{size:.0f} B"
    if size < MIB:
        return f"{sign}{size / KIB:.0f} KiB"
    if size < 100 * MIB:
        return f"{sign}{size / MIB:.1f} MiB"
    if size < GIB:
        return f"{sign}{size / MIB:.0f} MiB"
    return f"{sign}{size / GIB:.2f} GiB"


SAME_TIME_S = 0.05
"""A smaller difference is told as none."""


def signed_time(seconds: float, language: str = "en") -> str:
    """A difference in time: '+12 s', '-0.4 s', '+0.0 s' where there is hardly any."""
    sign = "-" if seconds < -SAME_TIME_S else "+"
    return f"{sign}{format_seconds(abs(seconds), language)}"


def format_seconds(seconds: float, language: str = "en") -> str:
    """A duration for people: '0.4 s', '12 s', '3 min 20 s', '2 h 05 min', '3 d 04 h'."""
    day, hour, minute, second = _TIME_UNITS["zh" if language.lower().startswith("zh") else "en"]
    if seconds < 10:
        return f"{seconds:.1f} {second}"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} {second}"
    if whole < 3600:
        return f"{whole // 60} {minute} {whole % 60:02d} {second}"
    if whole < _IN_HOURS_S:
        return f"{whole // 3600} {hour} {whole % 3600 // 60:02d} {minute}"
    return f"{whole // 86400} {day} {whole % 86400 // 3600:02d} {hour}"
