"""What the claims are compared with: estimates of this version, and runs that were recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from webui.catalogue import find_model
from webui.catalogue.claims import Work, Works
from webui.core.clip import ClipRequest
from webui.core.parse import parse_request
from webui.core.plan import Estimate
from webui.core.receipt import Measurement, Receipt
from webui.core.request import Request, keys_of
from webui.core.settings import with_defaults
from webui.core.training import TrainRequest
from webui.core.units import GIB
from webui.estimator.estimate import weights_bytes
from webui.estimator.target import Target
from webui.hardware import find_card
from webui.hardware.detect import cpu_card
from webui.optimizer import make_estimate
from webui.optimizer.search import find_best
from webui.service.recorded import was_measured

TEST_CARD = "h200"
"""The card that the recorded runs are of."""
HOST_CORES = 16
"""Of the machines that the card was measured in; the table is not about the one that reads it."""
_NO_MATTER = frozenset(
    ("prompt", "negative_prompt", "image", "last_image", "input", "data", "fps", "guidance")
)
"""Workload keys that change neither memory nor time; whether there is guidance does."""
_REPEATED = ("steps", "new_tokens")
"""A recorded run may have fewer: its memory is the same, but for the few bytes of an answer's
tokens, and its time is scaled."""
_TIMED_FROM = {"steps": 2, "new_tokens": 100}
"""Where there are fewer, what a process does once would be scaled with them."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and the receipts that it rests on (none for an estimate)."""

    value: float
    receipts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    receipt: Receipt
    measured: Measurement
    request: Request
    work: Hashable
    """What is done, whatever the settings."""


class Bench:
    """Looks up estimates and measurements of works; each is made once.

    Args:
        receipts: the recorded runs.
    """

    def __init__(self, receipts: Iterable[Receipt]) -> None:
        self._runs = [_as_run(receipt) for receipt in receipts if was_measured(receipt)]
        self._found: dict[tuple[str, ...], Any] = {}

    def request(self, work: Work, card: str = TEST_CARD) -> Request:
        """The work as a request for a card under Linux.

        Raises:
            BadInput: it is none.
        """
        return parse_request({**work, "card": card, "platform": "linux"}, find_model)

    def whole(self, work: Work, card: str = TEST_CARD) -> Estimate:
        """The work at `estimate`'s defaults: nothing is offloaded, streamed, tiled or split."""

        def make() -> Estimate:
            request = self.request(work, card)
            model = find_model(request.model, request.task)
            return make_estimate(model, request, _target(card)).estimate

        return self._once(("whole", _name(work), card), make)

    def planned(self, work: Work, card: str) -> Estimate | None:
        """The work with what the optimizer chooses for the card; None where nothing fits."""

        def make() -> Estimate | None:
            request = self.request(work, card)
            return find_best(find_model(request.model, request.task), request, _target(card))

        return self._once(("planned", _name(work), card), make)

    def run_of(self, work: Work) -> Receipt | None:
        """The recorded run of the work at `estimate`'s defaults, without a limit: the longest, and
        of those the newest."""
        best = max(
            self._runs_of(work),
            key=lambda run: (_repeats(run.request), run.receipt.created),
            default=None,
        )
        return best.receipt if best else None

    def _runs_of(self, work: Work) -> list[_Run]:
        settings = self.whole(work).settings
        wanted = _work(self.request(work))
        return [
            run
            for run in self._runs
            if run.request.vram_gib is None
            and run.work == wanted
            and _settings(run.request) == settings
        ]

    def limited_run(self, work: Work, card: str) -> Receipt | None:
        """A recorded run of the work within a limit that is no larger than the card: that of the
        largest limit, and of those the newest."""
        wanted = self.request(work)
        limit_gib = find_card(card).vram_bytes / GIB
        runs = [
            run
            for run in self._runs
            if run.request.vram_gib is not None
            and run.request.vram_gib <= limit_gib
            and run.work == _work(wanted)
            and wanted.settings.items() <= run.request.settings.items()
        ]
        best = max(runs, key=lambda run: (run.request.vram_gib, run.receipt.created), default=None)
        return best.receipt if best else None

    def estimated_bytes(self, works: Works, card: str = TEST_CARD) -> int:
        """Device bytes of works that are on the card at the same time, run one after another."""
        found = [self.whole(work, card) for work in works]
        return self._together(works, [estimate.peak_device_bytes for estimate in found])

    def measured_bytes(self, works: Works) -> Figure | None:
        """As `estimated_bytes`, from recorded runs; None where one is missing."""
        runs = [self.run_of(work) for work in works]
        peaks = [run.measurement.peak_device_bytes for run in runs if run and run.measurement]
        if len(peaks) < len(works):
            return None
        return Figure(self._together(works, peaks), tuple(run.id for run in runs if run))

    def weights_bytes(self, works: Works) -> int:
        """Bytes of the works' weights."""
        return sum(self._weights(work) for work in works)

    def estimated_seconds(self, works: Works, card: str = TEST_CARD) -> float:
        """Seconds of works one after another, loaded already; in training, of one sample."""
        return sum(self.whole(work, card).seconds / _samples(self.request(work)) for work in works)

    def measured_seconds(self, works: Works) -> Figure | None:
        """As `estimated_seconds`, from recorded runs, scaled where they were shorter: of those of
        a work the fastest counts, since the first of a process pays for loading its kernels."""
        total, receipts = 0.0, []
        for work in works:
            wanted = self.request(work)
            found = [
                (_scaled_seconds(run.measured, wanted, run.request), run.receipt.id)
                for run in self._runs_of(work)
                if _long_enough(run.request)
            ]
            if not found:
                return None
            seconds, receipt = min(found)
            total += seconds / _samples(wanted)
            receipts.append(receipt)
        return Figure(total, tuple(receipts))

    def is_training(self, works: Works) -> bool:
        return any(isinstance(self.request(work), TrainRequest) for work in works)

    def _together(self, works: Works, peaks: list[int]) -> int:
        """The highest peak, with the weights of the others beside it."""
        if len(works) == 1:
            return peaks[0]
        total = self.weights_bytes(works)
        return max(
            peak + total - self._weights(work) for work, peak in zip(works, peaks, strict=True)
        )

    def _weights(self, work: Work) -> int:
        request = self.request(work)
        model = find_model(request.model, request.task)
        return sum(weights_bytes(model, self.whole(work).settings).values())

    def _once(self, key: tuple[str, ...], make: Callable[[], Answer]) -> Answer:
        if key not in self._found:
            self._found[key] = make()
        found: Answer = self._found[key]
        return found


def same_work(one: Request, other: Request) -> bool:
    """Whether two requests ask for the same, but for how often it is repeated."""
    return _work(one) == _work(other)


def _as_run(receipt: Receipt) -> _Run:
    assert receipt.measurement is not None
    data = {**receipt.request, "settings": receipt.plan.get("settings", {})}
    request = parse_request(data, find_model)
    return _Run(receipt, receipt.measurement, request, _work(request))


def _work(request: Request) -> Hashable:
    keys = [key for key in keys_of(type(request)) if key not in _NO_MATTER and key not in _REPEATED]
    guided = isinstance(request, ClipRequest) and request.guided
    return (request.model, request.task, guided, *(getattr(request, key) for key in keys))


def _settings(request: Request) -> dict[str, Any]:
    """All settings of a recorded run: later versions may have more than it names."""
    model = find_model(request.model, request.task)
    return with_defaults(request.settings, model.settings, model.setting_defaults)


def _repeats(request: Request) -> int:
    return max((int(getattr(request, key, 1)) for key in _REPEATED), default=1)


def _long_enough(request: Request) -> bool:
    return all(getattr(request, key, most) >= most for key, most in _TIMED_FROM.items())


def _samples(request: Request) -> int:
    if not isinstance(request, TrainRequest):
        return 1
    return request.batch * request.gradient_accumulation


def _scaled_seconds(measured: Measurement, wanted: Request, done: Request) -> float:
    """Seconds of a run with as many steps or tokens as are wanted."""
    scale = _repeats(wanted) / _repeats(done)
    return sum(
        phase.seconds * (scale if phase.name.startswith(("denoise", "generate")) else 1.0)
        for phase in measured.phases
    )


def _target(card: str) -> Target:
    found = find_card(card)
    return Target(card=found, limit_bytes=found.vram_bytes, host=cpu_card(HOST_CORES))


def _name(work: Work) -> str:
    return json.dumps(work, sort_keys=True)
