"""A plan, its explanation and its frontier as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from webui.core.plan import Plan
from webui.core.units import format_bytes, format_seconds
from webui.estimator.explain import Explanation, PhaseExplanation
from webui.estimator.explain_seconds import Term
from webui.optimizer.frontier import Point

_RATES = (
    "  rates in brackets: the card's, times the part of it that is reached (fitted; above 1 where "
    "caches serve some of what is counted)\n"
    "  overlapped: the fourth root of the fourth powers of the card's time and the launches', added"
)


def plan_text(plan: Plan) -> str:
    """The verdict, the phases, the settings, and why."""
    found = plan.estimate
    verdict = "fits" if found.fits else "does not fit"
    low, high = found.seconds_range
    return "\n".join(
        [
            f"{found.model} on {found.card}: {verdict}, "
            f"{format_bytes(found.peak_device_bytes)} of {format_bytes(found.limit_bytes)}, "
            f"{format_seconds(low)} to {format_seconds(high)}"
            f" (+ {format_seconds(found.load_seconds)} to load the model)",
            *(
                [f"  {format_bytes(found.context_bytes)} of it for CUDA, beside the phases"]
                if found.context_bytes
                else []
            ),
            f"  {format_bytes(found.host_bytes)} of the computer's own memory",
            *(
                f"  {phase.name:<8} {format_bytes(phase.allocated_bytes):>10} allocated "
                f"{format_bytes(phase.reserved_bytes):>10} reserved  "
                f"{format_seconds(phase.seconds)}"
                for phase in found.phases
            ),
            "  " + ", ".join(f"{name}: {value}" for name, value in found.settings.items()),
            *(f"  - {reason.en}" for reason in (*plan.reasons, *found.notes)),
            *(f"  * {offer.text.en}" for offer in plan.alternatives),
        ]
    )


def explanation_text(found: Explanation) -> str:
    """Every term of every figure, a line each; bytes in full, so that they can be added."""
    lines = [line for phase in found.phases for line in _phase_lines(phase)]
    estimate = found.estimate
    lines += _sum("device at the peak", found.device, estimate.peak_device_bytes)
    lines += _sum("margin", found.margin, estimate.margin_bytes)
    needed = estimate.peak_device_bytes + estimate.margin_bytes
    lines.append(
        f"  needed {needed:,} B of {estimate.limit_bytes:,} B ({format_bytes(needed)} of "
        f"{format_bytes(estimate.limit_bytes)})"
    )
    lines += _sum("host memory", found.host, estimate.host_bytes)
    lines.append(
        f"  seconds: {' + '.join(f'{phase.seconds:.4g}' for phase in estimate.phases)}"
        f" = {estimate.seconds:.4g} s"
    )
    lines.append(_RATES)
    lines.append(f"  loading: {estimate.load_seconds:.4g} s")
    lines += [_seconds_line(term) for term in found.load]
    return "\n".join(lines)


def frontier_text(points: Sequence[Point]) -> str:
    """A table: memory against time, with the settings that differ; the chosen ones are marked."""
    differing = [
        name
        for name in points[0].settings
        if len({str(point.settings[name]) for point in points}) > 1
    ]
    same = [f"{name}: {points[0].settings[name]}" for name in points[0].settings]
    same = [text for text in same if text.partition(":")[0] not in differing]
    lines = [
        "  memory against time (* chosen, - does not fit, ~ the result may differ a little from "
        "the authors' settings):"
    ]
    for point in points:
        mark = "*" if point.chosen else " " if point.fits else "-"
        settings = ", ".join(f"{name}: {point.settings[name]}" for name in differing)
        lines.append(
            f"  {mark} {format_bytes(point.peak_device_bytes):>10} "
            f"{format_seconds(point.seconds):>10} {'~' if point.quality_cost else ' '} {settings}"
        )
    return "\n".join([*lines, f"  the same in all: {', '.join(same)}"])


def _phase_lines(found: PhaseExplanation) -> list[str]:
    phase = found.phase
    lines = _sum(f"{phase.name}: allocated", found.memory[:-1], phase.allocated_bytes)
    beyond = found.memory[-1]
    lines.append(_bytes_line(beyond))
    lines.append(f"      = {phase.reserved_bytes:,} B reserved")
    if found.largest:
        lines.append("    largest at the peak, beside what was there from the start:")
        lines += [
            f"      {item.size_bytes:>16,} B  {item.source or 'inputs'}"
            + (f": {item.formula}" if "*" in item.formula else "")
            for item in found.largest
        ]
    lines.append(f"    seconds: {phase.seconds:.4g} s")
    lines += [_seconds_line(term) for term in found.seconds]
    factor = (
        f" x {found.speed:.3g}, measured in {found.speed_receipts} runs of this machine"
        if found.speed_receipts
        else ""
    )
    how = f"{found.formula} = " if found.formula else ""
    lines.append(f"      {how}{found.raw_seconds:.4g} s{factor}")
    return lines


def _sum(title: str, terms: Sequence[Term], total: int) -> list[str]:
    return [f"  {title} {total:,} B ({format_bytes(total)})", *map(_bytes_line, terms)]


def _bytes_line(term: Term) -> str:
    return f"    {int(term.value):>18,} B  {term.name.en}  [{term.source.en}]"


def _seconds_line(term: Term) -> str:
    return f"      {term.value:>10.4g} s  {term.name.en}  [{term.source.en}]"
