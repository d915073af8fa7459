"""What this version estimates for runs that were measured, and how far off it is.

`python -m webui accuracy [FILE ...]` prints it, for the receipts that ship when none is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.receipt import Receipt
from webui.core.units import GIB
from webui.estimator.estimate import estimate
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.service.verify import PhaseAccuracy, accuracy

TIGHT_SHARE = 0.85
"""A plan above this share of its cap nearly fills it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One measured run and today's estimate of it, by the lists alone: nothing is calibrated."""

    receipt: Receipt
    """Its plan is today's estimate."""
    estimate: Estimate

    @property
    def phases(self) -> list[PhaseAccuracy]:
        return list(accuracy(self.receipt))

    @property
    def device_error(self) -> float:
        """Estimated over measured device bytes, less one."""
        return self.estimate.peak_device_bytes / self._measured_device_bytes - 1

    @property
    def beyond_margin(self) -> bool:
        """The driver counted more than the estimate with its margin."""
        allowed = self.estimate.peak_device_bytes + self.estimate.margin_bytes
        return self._measured_device_bytes > allowed

    @property
    def tight(self) -> bool:
        """It fits its cap and nearly fills it, by today's estimate."""
        cap_gib = self.receipt.request.get("vram_gib")
        if cap_gib is None or not self.estimate.fits:
            return False
        return self.estimate.peak_device_bytes > TIGHT_SHARE * float(cap_gib) * GIB

    @property
    def seconds_error(self) -> float:
        """Estimated over measured seconds of the whole run, less one; uncalibrated."""
        return self.estimate.seconds / self._measured_seconds - 1

    @property
    def within_range(self) -> bool:
        """The run took what was told as a range."""
        low, high = self.estimate.seconds_range
        return low <= self._measured_seconds <= high

    @property
    def _measured_seconds(self) -> float:
        assert self.receipt.measurement is not None
        return self.receipt.measurement.seconds

    @property
    def _measured_device_bytes(self) -> int:
        assert self.receipt.measurement is not None
        return self.receipt.measurement.peak_device_bytes


def recorded(receipts: Iterable[Receipt]) -> Iterator[Recorded]:
    """Today's estimate beside each run that was measured on a card, at the settings that it had.

    Raises:
        BadInput: a receipt names what this version does not know.
    """
    for receipt in filter(was_measured, receipts):
        yield renewed(receipt)


def was_measured(receipt: Receipt) -> bool:
    """Whether it is of a run on a card that came to its end."""
    measured = receipt.measurement
    return measured is not None and measured.source == "cuda" and receipt.error is None


def renewed(receipt: Receipt) -> Recorded:
    """Today's estimate of one run.

    Raises:
        BadInput: the receipt names a card, model or setting that this version does not know.
    """
    card = find_card(str(receipt.plan.get("card", "")))
    settings = receipt.plan.get("settings", {})
    request = parse_request(
        {**receipt.request, "card": card.name, "settings": settings}, find_model
    )
    limit = card.vram_bytes if request.vram_gib is None else int(request.vram_gib * GIB)
    found = estimate(
        find_model(request.model, request.task),
        request,
        request.settings,
        Target(card=card, limit_bytes=limit, host=find_card("cpu")),
    )
    return Recorded(receipt=replace(receipt, plan=found.to_json()), estimate=found)


def summary(runs: Sequence[Recorded], receipts: Sequence[Receipt]) -> str:
    """Counts and errors, a line each.

    Args:
        runs: what was measured.
        receipts: all of them, those that failed too.
    """
    phases = [phase for run in runs for phase in run.phases]
    cards = [find_model(run.estimate.model, run.receipt.request["task"]) for run in runs]
    families = {card.family for card in cards}
    models = {run.receipt.request["model"] for run in runs}
    capped = [receipt for receipt in receipts if receipt.request.get("vram_gib")]
    failed = [receipt for receipt in capped if receipt.error is not None]
    reserved = [error for phase in phases if (error := phase.reserved_error) is not None]
    seconds = [run.seconds_error for run in runs]
    beyond = sum(run.beyond_margin for run in runs)
    return "\n".join(
        [
            f"cells: {len(runs)}, of {len(models)} models in {len(families)} families",
            f"allocated: {len(phases)} phases, {spread([phase.error for phase in phases])}",
            f"reserved: {spread(reserved)}",
            f"device: {spread([run.device_error for run in runs])}; "
            f"{beyond} above the estimate with its margin",
            f"seconds: mean {mean(abs(error) for error in seconds):.0%}, worst "
            f"{max(abs(error) for error in seconds):.0%}; "
            f"{mean(run.within_range for run in runs):.0%} within the range that is told",
            f"capped plans: {len(capped)}, {sum(run.tight for run in runs)} of them above "
            f"{TIGHT_SHARE:.0%} of the cap; {len(failed)} failed",
        ]
    )


def spread(errors: Sequence[float]) -> str:
    """Mean and worst size of errors, and how many are above 4 % and 7 %."""
    sizes = [abs(error) for error in errors]
    return (
        f"mean {mean(sizes):.2%}, worst {max(sizes):.1%}, "
        f"{sum(size > 0.04 for size in sizes)} above 4 %, {sum(size > 0.07 for size in sizes)} "
        "above 7 %"
    )
