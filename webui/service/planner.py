"""Turns a request into a plan for the device that it names, corrected by receipts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from webui.catalogue import find_model
from webui.core.card import Card
from webui.core.errors import BadInput, DoesNotFit
from webui.core.model import ModelCard
from webui.core.phases import PHASES
from webui.core.plan import Plan
from webui.core.request import DETECTED, Request
from webui.core.text import Text
from webui.core.units import GIB, MIB, format_bytes
from webui.estimator.target import Target
from webui.hardware import DeviceReading, detected_card, find_card, load_cards
from webui.hardware.readings import process_device_bytes, read_devices
from webui.optimizer import make_estimate, make_plan
from webui.optimizer.pixels import with_pixels
from webui.service.calibration import Calibration, Corrections
from webui.service.plan_notes import encoder_note, host_note, length_note, stand_in_note
from webui.service.policy import Ruled, apply_policy, offer_of
from webui.service.unsupported import refuse_unsupported, unsupported
from webui.storage import Ledger, MemoryPolicy, StudioConfig

_WORTH_NAMING_BYTES = 64 * MIB


class Planner:
    """Plans and estimates; stateless but for what it is told of the worker.

    Args:
        ledger: for the speeds that this machine showed.
        config: the owner's choices as they are now; all by default when left out.
    """

    def __init__(self, ledger: Ledger, config: Callable[[], StudioConfig] = StudioConfig) -> None:
        self._calibration = Calibration(ledger)
        self._config = config
        self.versions: Mapping[str, str] = {}
        """Installed libraries, once a worker has reported them."""
        self.device = ""
        """The worker's name of its device, once it has reported it."""
        self.worker_pid: Callable[[], int | None] = lambda: None
        self.check_templates: Callable[[ModelCard], Text | None] = lambda model: None
        """Has templates renewed, and tells what the plan says of it; NotFound if there are none."""

    def plan(
        self,
        request: Request,
        names: bool = False,
        narrow: Callable[[Target], Target] | None = None,
        search: bool = False,
    ) -> Plan:
        """The best settings for what is open.

        Args:
            request: the workload and fixed settings.
            names: whether the plan may name other programs on the card (the owner's).
            narrow: takes from the device what earlier attempts found not to be there.
            search: choose what is open even where the policy has it take its defaults.

        Raises:
            BadInput: no such card, or it cannot do a fixed setting.
        """
        model = find_model(request.model, request.task)
        self.check_templates(model)
        target = self.target(request, names=names)
        if narrow is not None:
            target = narrow(target)
        open_request = request
        request, pixels = with_pixels(model, request, target)
        policy = replace(self.policy, auto_optimize=True) if search else self.policy
        ruled = apply_policy(policy, model, request, target)
        asked = ruled.request
        refuse_unsupported(asked, target.card)
        plan = make_plan(
            model, asked, target, lambda: self._larger_cards(asked, target), open_request
        )
        if not plan.fits and not ruled.searched:
            plan = self._with_found_settings(plan, ruled, model, target)
        plan = ruled.explained(plan)
        if pixels is not None:
            plan = replace(plan, reasons=(*plan.reasons, pixels))
        return self._with_notes(plan, model, target.card)

    @property
    def policy(self) -> MemoryPolicy:
        """The owner's memory policy as it is now."""
        return self._config().memory

    def ruled(self, request: Request) -> Request:
        """The request as the policy has it planned.

        Raises:
            BadInput: no such card.
        """
        model = find_model(request.model, request.task)
        return apply_policy(self.policy, model, request, self.target(request)).request

    def without_fp32(self, request: Request, target: Target) -> Request:
        """The request as the policy has it on that card, with what is open left open."""
        policy = replace(self.policy, auto_optimize=True)
        model = find_model(request.model, request.task)
        return apply_policy(policy, model, request, target).request

    def _with_found_settings(
        self, plan: Plan, ruled: Ruled, model: ModelCard, target: Target
    ) -> Plan:
        """Defaults that do not fit: what the optimizer would choose is offered, not taken."""
        searched = make_plan(model, self.without_fp32(ruled.asked, target), target)
        offer = offer_of(searched, ruled)
        others = tuple(each for each in plan.alternatives if "settings" not in each.changes)
        return replace(plan, alternatives=(*((offer,) if offer else ()), *others))

    def estimate(self, request: Request, calibrated: bool = True) -> Plan:
        """The request's settings with `estimate`'s defaults.

        Args:
            request: the workload and fixed settings.
            calibrated: correct seconds and context by this machine's receipts.

        Raises:
            BadInput: no such card, or it cannot do a fixed setting.
        """
        target = self.target(request, calibrated)
        refuse_unsupported(request, target.card)
        model = find_model(request.model, request.task)
        self.check_templates(model)
        plan = make_estimate(model, request, target)
        left_out = encoder_note(model, plan.estimate, request)
        return self._with_notes(plan, model, target.card, left_out)

    def _with_notes(
        self, plan: Plan, model: ModelCard, card: Card, more: tuple[Text, ...] = ()
    ) -> Plan:
        """The plan, with what is to be said about this machine and the templates' versions."""
        found, here = plan.estimate, detected_card()
        versions = self.check_templates(model)
        notes = (
            *more,
            *length_note(plan.request),
            *stand_in_note(plan.request, card, here),
            *host_note(found, card, here),
            *([] if versions is None else [versions]),
        )
        if not notes:
            return plan
        return replace(plan, estimate=replace(found, notes=(*found.notes, *notes)))

    def target(self, request: Request, calibrated: bool = True, names: bool = False) -> Target:
        """The card and the limit that the request names, corrected by receipts.

        Args:
            request: names them.
            calibrated: correct by this machine's receipts.
            names: whether other programs on the card may be named.

        Raises:
            BadInput: no such card.
        """
        here = detected_card()
        card = named_card(request, here)
        if card.name != here.name:
            limit_bytes = card.vram_bytes
            if request.vram_gib is not None:
                limit_bytes = int(request.vram_gib * GIB)
            return Target(card=card, limit_bytes=limit_bytes, host=find_card("cpu"))
        limit_bytes, notes = card.vram_bytes, tuple[Text, ...]()
        devices = read_devices() if card.kind == "cuda" else []
        if devices:
            others_bytes, notes = self._others(devices[0], names)
            limit_bytes -= others_bytes
        if request.vram_gib is not None:
            asked = int(request.vram_gib * GIB)
            if not limit_bytes < asked <= card.vram_bytes:  # others leave as much, or it is a
                limit_bytes, notes = asked, ()  # question about a larger card
        known = Corrections()
        # The driver may come and go between the reading of the card and that of its use.
        calibrated = calibrated and self._config().calibration
        if calibrated and (card.kind == "cpu" or devices):
            device_names = {"cpu"} if card.kind == "cpu" else {self.device, devices[0].name}
            torch = self.versions.get("torch", "")
            known = self._calibration.of(device_names - {""}, request.model, tuple(PHASES), torch)
            notes = (*notes, *known.notes(card.context_bytes))
        if known.context_bytes is not None:
            card = replace(card, context_bytes=known.context_bytes, context_measured=True)
        return Target(
            card=card,
            limit_bytes=limit_bytes,
            host=find_card("cpu"),
            gpus=max(1, len(devices)),
            speed=known.speed,
            versions=self.versions,
            speed_receipts=known.speed_receipts,
            speed_seconds=known.speed_seconds,
            short_shares=known.short_shares,
            context_receipts=known.context_receipts,
            notes=notes,
        )

    def check_runs_here(self, request: Request) -> None:
        """A plan can be made for any card, a run needs this machine's.

        Raises:
            BadInput: the card is not here, or this one is smaller.
        """
        here = detected_card()
        card = named_card(request, here)
        hint = Text(
            "To run here, choose the detected card and no memory limit (vram_gib).",
            "要在本机运行，请选择检测到的设备，并且不要设置显存上限（vram_gib）。",
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
        gpus = int(request.settings.get("gpus", 1)) if request.task == "upscale" else 1
        there_are = max(1, len(read_devices()))
        if card.kind == "cuda" and gpus > there_are:
            raise BadInput(
                "settings.gpus",
                Text(
                    f"{gpus} GPUs were asked for; this machine has {there_are} to use.",
                    f"要求 {gpus} 张 GPU；本机可用 {there_are} 张。",
                ),
                Text("Use fewer, or leave gpus out.", "请减少数量，或不写 gpus。"),
            )

    def hard_limit(self, request: Request) -> int | None:
        """The cap for the worker, in device bytes; None where the device is the limit."""
        here = detected_card()
        if request.vram_gib is not None:
            return int(request.vram_gib * GIB)
        if self.runs_on_processor(request) or request.card in (DETECTED, here.name):
            return None
        return find_card(request.card).vram_bytes

    def runs_on_processor(self, request: Request) -> bool:
        return named_card(request, detected_card()).kind == "cpu"

    def cards_for(self, request: Request) -> Iterator[tuple[Card, Target]]:
        """The cards of the list that can do the request's fixed settings, the smallest first."""
        host = find_card("cpu")
        for card in _by_memory():
            if unsupported(request, card) is None:
                yield card, Target(card=card, limit_bytes=card.vram_bytes, host=host)

    def refused_everywhere(self, request: Request) -> BadInput | None:
        """Why no card of the list can do the fixed settings; None where one can.

        The reason is that of the largest card: it is the least that stands in the way.
        """
        refusals = [unsupported(request, card) for card in _by_memory()]
        return None if None in refusals else refusals[-1]

    def _others(self, device: DeviceReading, names: bool) -> tuple[int, tuple[Text, ...]]:
        """Bytes of the card that other programs hold, and a sentence about them."""
        pid = self.worker_pid()
        own = process_device_bytes(pid) if pid is not None else 0
        if own is None:
            # The driver does not tell processes apart: what is used may all be the worker's.
            return 0, ()
        others_bytes = max(0, device.used_bytes - own)
        if others_bytes < _WORTH_NAMING_BYTES:
            return others_bytes, ()
        held = sorted(
            (process for process in device.processes if process.pid != pid and process.name),
            key=lambda process: -(process.used_bytes or 0),
        )
        listed = ", ".join(
            f"{process.name} ({process.pid})"
            + (f" {format_bytes(process.used_bytes)}" if process.used_bytes else "")
            for process in held
        )
        size = format_bytes(others_bytes)
        who, who_zh = (f": {listed}", f"：{listed}") if names and listed else ("", "")
        return others_bytes, (
            Text(
                f"Other programs hold {size} of this card{who}.",
                f"其他进程占用了此显卡的 {size}{who_zh}。",
            ),
        )

    def _larger_cards(self, request: Request, target: Target) -> tuple[tuple[Card, Target], ...]:
        """Cards with more memory than the limit, the smallest first."""
        return tuple(
            (card, larger)
            for card, larger in self.cards_for(request)
            if card.vram_bytes > target.limit_bytes
        )


def _by_memory() -> list[Card]:
    """The cards of the list, the smallest first."""
    return sorted(load_cards().values(), key=lambda card: card.vram_bytes)


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
