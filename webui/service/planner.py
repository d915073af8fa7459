"""Turns a request into a plan for the device that it names, corrected by receipts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from webui.catalogue import find_model
from webui.core.card import Card
from webui.core.errors import BadInput, DoesNotFit
from webui.core.plan import Plan
from webui.core.request import DETECTED, Request
from webui.core.text import Text
from webui.core.units import GIB, format_bytes
from webui.estimator.estimate import Target
from webui.hardware import detected_card, find_card, load_cards
from webui.hardware.readings import process_device_bytes, read_devices
from webui.optimizer import make_estimate, make_plan
from webui.storage import Ledger

_PHASES = ("encode", "denoise", "decode")
_PRIOR_S = 2.0
"""Weight of 'as estimated' beside the receipts: one short run that paid for warming up says little
about a long one."""
_BELIEVED = (0.05, 20.0)
"""Measured over estimated seconds outside of this, past what a short phase pays for starting up,
say that something else was running."""


class Planner:
    """Plans and estimates; stateless but for what it is told of the worker.

    Args:
        ledger: for the speeds that this machine showed.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.versions: Mapping[str, str] = {}
        """Installed libraries, once a worker has reported them."""
        self.device = ""
        """The worker's name of its device, once it has reported it."""
        self.worker_pid: Callable[[], int | None] = lambda: None

    def plan(self, request: Request) -> Plan:
        """The best settings for what is open."""
        model = find_model(request.model)
        target = self.target(request)
        return make_plan(model, request, target, lambda: self._larger_cards(target))

    def estimate(self, request: Request, calibrated: bool = True) -> Plan:
        """The request's settings with `estimate`'s defaults.

        Args:
            request: the workload and fixed settings.
            calibrated: correct seconds by this machine's receipts.
        """
        target = self.target(request, calibrated)
        return make_estimate(find_model(request.model), request, target)

    def target(self, request: Request, calibrated: bool = True) -> Target:
        """The card and the limit that the request names.

        Raises:
            BadInput: no such card.
        """
        here = detected_card()
        card = named_card(request, here)
        is_here = card.name == here.name
        limit_bytes = card.vram_bytes
        if request.vram_gib is not None:
            limit_bytes = int(request.vram_gib * GIB)
        elif is_here and card.kind == "cuda":
            limit_bytes -= self._held_by_others()
        return Target(
            card=card,
            limit_bytes=limit_bytes,
            host=find_card("cpu"),
            speed=self._speed(card, request.model) if is_here and calibrated else {},
            versions=self.versions if is_here else {},
        )

    def check_runs_here(self, request: Request) -> None:
        """A plan can be made for any card, a run needs this machine's.

        Raises:
            BadInput: the card is not here, or this one is smaller.
        """
        here = detected_card()
        card = named_card(request, here)
        hint = Text(
            "To run here, choose the detected card and leave vram_gib out.",
            "要在本机运行，请选择检测到的设备，并且不要设置 vram_gib。",
        )
        if card.kind == "cuda" and here.kind != "cuda":
            raise BadInput(
                "card" if request.card != DETECTED else "vram_gib",
                Text(
                    f"This machine has no GPU, so it cannot run as a {card.title}.",
                    f"本机没有 GPU，无法按 {card.title} 运行。",
                ),
                hint,
            )
        asked = card.vram_bytes if request.vram_gib is None else int(request.vram_gib * GIB)
        if asked > here.vram_bytes and card.kind == here.kind:
            size, there = format_bytes(asked), format_bytes(here.vram_bytes)
            raise BadInput(
                "card" if request.vram_gib is None else "vram_gib",
                Text(
                    f"{size} were asked for, and {here.title} has {there}.",
                    f"要求 {size}，而 {here.title} 只有 {there}。",
                ),
                hint,
            )

    def hard_limit(self, request: Request) -> int | None:
        """The cap for the worker, in device bytes; None where the card is the limit."""
        here = detected_card()
        if here.kind != "cuda":
            return None
        if request.vram_gib is not None:
            return int(request.vram_gib * GIB)
        if request.card in (DETECTED, here.name):
            return None
        return find_card(request.card).vram_bytes

    def runs_on_processor(self, request: Request) -> bool:
        return named_card(request, detected_card()).kind == "cpu"

    def _held_by_others(self) -> int:
        """Bytes of the first card that other processes hold."""
        devices = read_devices()
        if not devices:
            return 0
        pid = self.worker_pid()
        own = process_device_bytes(pid) if pid is not None else 0
        if own is None:
            # The driver does not tell processes apart: what is used may all be the worker's.
            return 0
        return max(0, devices[0].used_bytes - own)

    def _speed(self, card: Card, model: str) -> dict[str, float]:
        """Measured over estimated seconds by phase, over the last receipts."""
        names = (
            {"cpu"} if card.kind == "cpu" else {self.device, f"NVIDIA {card.title}"} - {"", "cpu"}
        )
        speed = {}
        for phase in _PHASES:
            samples = [
                sample
                for name in names
                for sample in self._ledger.speeds(name, model, phase)
                if _BELIEVED[0] * sample.estimated_s < sample.measured_s
                and sample.measured_s < _BELIEVED[1] * sample.estimated_s + _PRIOR_S
            ]
            if samples:
                measured = sum(sample.measured_s for sample in samples)
                estimated = sum(sample.estimated_s for sample in samples)
                speed[phase] = (measured + _PRIOR_S) / (estimated + _PRIOR_S)
        return speed

    def _larger_cards(self, target: Target) -> tuple[tuple[Card, Target], ...]:
        """Cards with more memory than the limit, the smallest first."""
        cards = sorted(load_cards().values(), key=lambda card: card.vram_bytes)
        return tuple(
            (card, Target(card=card, limit_bytes=card.vram_bytes, host=target.host))
            for card in cards
            if card.vram_bytes > target.limit_bytes
        )


def named_card(request: Request, here: Card) -> Card:
    """The card that a request is about.

    `vram_gib` without a card asks about a graphics card of that size where there is none: the
    nearest of the list stands for its speed.

    Raises:
        BadInput: no such card.
    """
    if request.card != DETECTED:
        return find_card(request.card)
    if request.vram_gib is None or here.kind == "cuda":
        return here
    wanted_bytes = request.vram_gib * GIB
    common = [card for card in load_cards().values() if card.bf16 and card.name.startswith("rtx-")]
    return min(common, key=lambda card: abs(card.vram_bytes - wanted_bytes))


def does_not_fit(plan: Plan) -> DoesNotFit:
    """The error for a plan that does not fit, with the nearest requests that would."""
    offers = plan.alternatives
    return DoesNotFit(
        plan.reasons[0],
        Text(
            "; ".join(offer.text.en for offer in offers) + "." if offers else "",
            "；".join(offer.text.zh for offer in offers) + "。" if offers else "",
        ),
    )
