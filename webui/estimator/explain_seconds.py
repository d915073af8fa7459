"""Takes an estimate's seconds apart: the terms of the time model, and how they make the whole."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose
from typing import Any

from webui.core.clip import ClipRequest
from webui.core.language import TextRequest
from webui.core.pages import PageRequest
from webui.core.plan import Estimate
from webui.core.request import Request
from webui.core.text import Text
from webui.estimator.estimate import PhaseTrace
from webui.estimator.seconds import SecondsTerm

_SAME = 1e-12
"""Relative difference that is the order of additions."""


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
}


def seconds_term(term: SecondsTerm) -> Term:
    """One result of the time model, with the amounts and rates behind it."""
    parts = [
        f"{amount / _AMOUNTS[name][1]:.4g} {_AMOUNTS[name][0]} / "
        f"{term.rates[name] / _AMOUNTS[name][1]:.4g} {_AMOUNTS[name][2]}"
        for name, amount in term.amounts.items()
        if name in _AMOUNTS and amount
    ]
    listed = " + ".join(parts)
    if term.kind == "transfer":
        name = Text(f"transfer to {term.card}", f"传输到 {term.card}")
        return Term(name, term.seconds, Text(listed or "0 B", listed or "0 B"))
    if term.kind == "start":
        return Term(
            Text("start of the phase", "阶段启动"),
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
        Text(f"computing on {term.card}", f"在 {term.card} 上计算"),
        term.seconds,
        Text(f"{listed}; {launched} ({how})", f"{listed}；{launched}（{how_zh}）"),
    )


def _run_counts(request: Request, passes: int) -> list[int]:
    """How often a forward pass may run: a second transformer takes some of the steps."""
    if not isinstance(request, ClipRequest):
        return [request.repeats]
    steps = range(request.repeats, 0, -1)
    return list(dict.fromkeys([passes * request.repeats, *steps, *(passes * n for n in steps)]))


def seconds_formula(trace: PhaseTrace, request: Request, found: Estimate) -> str:
    """How the terms make the phase's seconds: the form that gives them to the last digits."""
    c, t, start = (
        sum(term.seconds for term in trace.seconds_terms if term.kind == kind)
        for kind in ("compute", "transfer", "start")
    )
    working = trace.raw_seconds - start
    passes = 2 if isinstance(request, ClipRequest) and request.guided else 1
    forms = {
        "0": 0.0,
        "compute": c,
        "compute + transfer": c + t,
        f"max(compute, {passes} x transfer)": max(c, passes * t),
    }
    for runs in _run_counts(request, passes):
        forms |= {
            f"{runs} x compute": c * runs,
            f"{runs} x compute + transfer": c * runs + t,
            f"{runs} x max(compute, transfer)": max(c, t) * runs,
        }
    forms |= _token_forms(trace, request, found)
    computed = [term.seconds for term in trace.seconds_terms if term.kind == "compute"]
    if len(computed) == 2:
        more = request.repeats - 1
        forms[f"compute 1 + {more} x compute 2 + transfer"] = computed[0] + more * computed[1] + t
    exact = [
        name + (" + start" if start else "")
        for name, value in forms.items()
        if isclose(value, working, rel_tol=_SAME)
    ]
    if found.settings.get("offload") in ("block", "leaf"):
        # A transfer that hides behind the computation is part of the account all the same.
        exact.sort(key=lambda name: "max" not in name)
    if not exact and c and not t:
        return f"{working / c:.6g} x compute" + (" + start" if start else "")
    return exact[0] if exact else ""


def _token_forms(trace: PhaseTrace, request: Request, found: Estimate) -> dict[str, float]:
    """How passes over full batches make the seconds, and a first token with the steps after it."""
    if not isinstance(request, PageRequest | TextRequest):
        return {}
    computed = [term.seconds for term in trace.seconds_terms if term.kind == "compute"]
    moved = [term.seconds for term in trace.seconds_terms if term.kind == "transfer"]
    batches = -(-request.repeats // int(found.settings.get("page_batch", 1)))
    once = f"{batches} x "
    if len(computed) == 1:
        slower = max(computed + moved)
        return {
            f"{once}compute": batches * computed[0],
            f"{once}max(compute, transfer)": batches * slower,
        }
    if len(computed) != 2:
        return {}
    first, following = computed
    steps = request.new_tokens - 1
    forms = {f"{once}(first + {steps} x next)": batches * (first + steps * following)}
    if moved:
        slower = max(following, moved[0])
        name = f"{once}(first + {steps} x max(next, transfer))"
        forms[name] = batches * (first + steps * slower)
    return forms
