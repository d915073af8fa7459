"""Takes an estimate's seconds apart: the terms of the time model in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webui.core.text import Text
from webui.estimator.told import SecondsTerm


@dataclass(frozen=True, slots=True)
class Term:
    """One summand, in bytes or seconds."""

    name: Text
    value: float
    source: Text

    def to_json(self, unit: str) -> dict[str, Any]:
        return {"name": self.name.en, unit: self.value, "source": self.source.en}


_AMOUNTS = {
    "matmul": ("TFLOP of matrix products", 1e12, "TFLOP/s"),
    "conv": ("TFLOP of convolutions", 1e12, "TFLOP/s"),
    "attention": ("TFLOP of attention", 1e12, "TFLOP/s"),
    "bytes": ("GB moved", 1e9, "GB/s"),
    "read": ("GB of weights and cache read", 1e9, "GB/s"),
    "narrow": ("G values of few channels", 1e9, "G/s"),
    "pixels": ("megapixels", 1e6, "megapixels a second"),
}


_FITTED, _MEASURED = Text("fitted", "拟合值"), Text("measured", "实测值")
_BY_PROCESSOR = {
    "prepare": (Text("pages cut into patches", "页面切成图块"), _FITTED),
    "enlarge": (Text("frames enlarged", "放大帧"), _MEASURED),
    "encode": (Text("frames encoded", "编码帧"), _MEASURED),
    "join": (Text("tiles and clips joined", "拼接分块与片段"), _MEASURED),
}
"""The processor's kinds of work, and where their rates come from."""


def seconds_terms(terms: Sequence[SecondsTerm], formula: str) -> tuple[Term, ...]:
    """The results of the time model that a formula has, numbered by kind as it names them.

    It has not those of cards that are done sooner than the busiest.
    """
    named = set(re.findall(r"[a-z]+ \d+", formula))
    count: Counter[str] = Counter()
    told = []
    for term in terms:
        count[term.kind] += 1
        name = f"{term.kind} {count[term.kind]}"
        if name in named:
            told.append(_told(term, f"{name}: "))
    return tuple(told)


def _told(term: SecondsTerm, label: str) -> Term:
    """One result, with the amounts and rates behind it."""
    parts = [
        f"{amount / _AMOUNTS[name][1]:.4g} {_AMOUNTS[name][0]} / {_rate(term, name)}"
        for name, amount in term.amounts.items()
        if name in _AMOUNTS and amount
    ]
    listed = " + ".join(parts)
    if term.kind == "transfer":
        name = Text(f"{label}to {term.card}", f"{label}传输到 {term.card}")
        return Term(name, term.seconds, Text(listed or "0 B", listed or "0 B"))
    if term.kind in _BY_PROCESSOR:
        work, source = _BY_PROCESSOR[term.kind]
        name = Text(f"{label}{work.en}", f"{label}{work.zh}")
        return Term(name, term.seconds, Text(f"{listed}, {source.en}", f"{listed}，{source.zh}"))
    if term.kind == "start":
        return Term(
            Text(f"{label}of the phase", f"{label}阶段启动"),
            term.seconds,
            Text("kernels are chosen and loaded, fitted", "选择并加载内核，拟合值"),
        )
    kernels = term.amounts.get("kernels", 0.0)
    launched = f"{kernels:.0f} kernels x {term.rates.get('kernels', 0.0) * 1e6:g} us"
    if streamed := term.amounts.get("streamed"):
        launched += f" + {streamed:.0f} streamed tensors x {term.rates['streamed'] * 1e6:g} us"
    how = "overlapped" if term.card != "cpu" else "added"
    how_zh = "重叠进行" if term.card != "cpu" else "相加"
    return Term(
        Text(f"{label}on {term.card}", f"{label}在 {term.card} 上计算"),
        term.seconds,
        Text(f"{listed}; {launched} ({how})", f"{listed}；{launched}（{how_zh}）"),
    )


def _rate(term: SecondsTerm, name: str) -> str:
    """A rate; where it is a part of the card's, as that: `(448 x 1.3 GB/s)`."""
    _, scale, unit = _AMOUNTS[name]
    if name not in term.reached:
        return f"{term.rates[name] / scale:.4g} {unit}"
    rate, part = term.reached[name]
    return f"({rate / scale:.4g} x {part:g} {unit})"
