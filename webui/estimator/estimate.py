"""Step two of the flow: the memory and the time of a request with complete settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from webui.core.card import Card
from webui.core.model import ModelCard
from webui.core.plan import Estimate, PhaseEstimate
from webui.core.request import Request
from webui.core.settings import Settings, unquantized
from webui.core.text import Text
from webui.core.units import GIB, MIB
from webui.estimator.answers import Key, key_of, live_peak, memory_of, raw_seconds, replay
from webui.estimator.events import PhaseEvents
from webui.estimator.families import components_of, find_family
from webui.estimator.replay import Replay
from webui.estimator.rules import Rules, rules_for
from webui.estimator.seconds import SecondsTerm, noting_terms
from webui.estimator.templates import find_template, stored_part, weights_name, width_of

PROCESS_HOST_BYTES = {"cuda": int(1.9 * GIB), "cpu": int(0.6 * GIB)}
"""A worker's resident set before any model, by kind of device: Python, PyTorch, the libraries."""
MARGIN_SHARE = 0.03
MARGIN_BYTES = 64 * MIB
UNMEASURED_MARGIN_SHARE = 0.05
UNMEASURED_MARGIN_BYTES = 128 * MIB
UNCALIBRATED_RANGE = (0.6, 1.8)
CALIBRATED_RANGE = (0.85, 1.15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request is to run."""

    card: Card
    limit_bytes: int
    """What the process may use in all."""
    host: Card
    """The processor beside it."""
    speed: Mapping[str, float] = field(default_factory=dict)
    """Measured over estimated seconds by phase, from receipts of this machine."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Installed libraries, as a worker reported them; empty when none has run."""
    speed_receipts: Mapping[str, int] = field(default_factory=dict)
    """From how many receipts each phase's speed comes."""
    context_receipts: int = 0
    """From how many receipts the card's `context_bytes` comes; 0: from the list of cards."""
    notes: tuple[Text, ...] = ()
    """What the plan says about this device: calibration, other programs."""


def estimate(model: ModelCard, request: Request, settings: Settings, target: Target) -> Estimate:
    """The full answer: every phase replayed through the allocator with the card's limit.

    Args:
        model: the catalogue's card of the request's model.
        request: the workload.
        settings: a value for each of the model's settings.
        target: the device.
    """
    rules = rules_for(target.card, str(settings["allocator"]), request.platform)
    margin = margin_bytes(target, rules)
    room = max(0, room_bytes(target, rules))
    phases = []
    fits = True
    for name in phase_names(model, request, settings, rules):
        key = key_of(name, model, request, settings, rules)
        found = replay(key, name, room)
        reserved = found.reserved_bytes
        if not found.fits:
            fits = False
            found = replay(key, name, None)
            reserved = found.reserved_bytes
        elif found.met_limit:
            # The allocator fills what it may, then gives back its cache and tries again.
            reserved = room
        phases.append(
            PhaseEstimate(
                name=name,
                resident_bytes=found.resident_bytes,
                activation_bytes=found.allocated_bytes - found.resident_bytes,
                allocated_bytes=found.allocated_bytes,
                reserved_bytes=max(reserved, found.allocated_bytes),
                seconds=seconds(model, request, settings, target, name),
            )
        )
    total = sum(phase.seconds for phase in phases)
    calibrated = all(phase.name in target.speed for phase in phases)
    low, high = CALIBRATED_RANGE if calibrated else UNCALIBRATED_RANGE
    return Estimate(
        model=model.name,
        card=target.card.name,
        settings=dict(settings),
        fits=fits,
        phases=tuple(phases),
        context_bytes=target.card.context_bytes,
        margin_bytes=margin,
        limit_bytes=target.limit_bytes,
        host_bytes=host_bytes(model, settings, rules),
        seconds=total,
        seconds_range=(total * low, total * high),
        load_seconds=load_seconds(model, settings),
        versions=_versions(model, settings),
        notes=(*_notes(model, settings, target, rules, calibrated), *target.notes),
    )


def can_hold(model: ModelCard, request: Request, settings: Settings, target: Target) -> bool:
    """Whether `estimate` would say that it fits; stops at the first phase that does not.

    The phase with the most live bytes is replayed first: it is the one that fails, if any does.
    """
    rules = rules_for(target.card, str(settings["allocator"]), request.platform)
    room = max(0, room_bytes(target, rules))
    keys = {
        name: key_of(name, model, request, settings, rules)
        for name in phase_names(model, request, settings, rules)
    }
    hardest_first = sorted(keys, key=lambda name: live_peak(keys[name], name), reverse=True)
    return all(replay(keys[name], name, room).fits for name in hardest_first)


def peak_bytes(
    model: ModelCard, request: Request, settings: Settings, target: Target, phase: str
) -> int:
    """A phase's live bytes, without a replay: a lower bound of what it reserves."""
    rules = rules_for(target.card, str(settings["allocator"]), request.platform)
    return live_peak(key_of(phase, model, request, settings, rules), phase)


def seconds(
    model: ModelCard, request: Request, settings: Settings, target: Target, phase: str
) -> float:
    """A phase's seconds, corrected by what this machine showed."""
    rules = rules_for(target.card, str(settings["allocator"]), request.platform)
    key = key_of(phase, model, request, settings, rules)
    raw = raw_seconds(key, phase, request.repeats, target.card, target.host)
    return raw * target.speed.get(phase, 1.0)


@dataclass(frozen=True, slots=True)
class PhaseTrace:
    """What a phase's figures were made from, for explanations."""

    events: PhaseEvents
    replay: Replay
    """Without a limit."""
    limited: Replay | None
    """Within the room, where that is a limit."""
    seconds_terms: tuple[SecondsTerm, ...]
    raw_seconds: float
    """Before this machine's correction."""


def trace_phase(
    model: ModelCard, request: Request, settings: Settings, target: Target, phase: str
) -> PhaseTrace:
    """The same computation as `estimate`'s of one phase, with all that it goes through."""
    rules = rules_for(target.card, str(settings["allocator"]), request.platform)
    room = max(0, room_bytes(target, rules))
    key = key_of(phase, model, request, settings, rules)
    limited = replay(key, phase, room)
    with noting_terms() as terms:
        raw = raw_seconds.__wrapped__(key, phase, request.repeats, target.card, target.host)
    return PhaseTrace(
        events=memory_of(key).phase(phase),
        replay=replay(key, phase, None),
        limited=limited if limited.met_limit else None,
        seconds_terms=tuple(terms),
        raw_seconds=raw,
    )


def phase_names(
    model: ModelCard, request: Request, settings: Settings, rules: Rules
) -> tuple[str, ...]:
    """The phases that the request has, in order."""
    return memory_of(Key(model, request, settings, rules)).phase_names()


def room_bytes(target: Target, rules: Rules) -> int:
    """What the allocator may reserve: the limit less the context and the margin."""
    return target.limit_bytes - target.card.context_bytes - margin_bytes(target, rules)


def margin_bytes(target: Target, rules: Rules) -> int:
    """What is kept free: more where nothing was measured, none in host memory."""
    share, shared, fixed = margin_parts(target, rules)
    return int(shared * share) + fixed


def margin_parts(target: Target, rules: Rules) -> tuple[float, int, int]:
    """The margin's rule: a share, the bytes that it is a share of, and fixed bytes."""
    shared = min(target.limit_bytes, target.card.vram_bytes)
    if target.card.kind == "cpu":
        return 0.0, shared, 0
    measured = rules.measured and target.card.context_measured
    if measured:
        return MARGIN_SHARE, shared, MARGIN_BYTES
    return UNMEASURED_MARGIN_SHARE, shared, UNMEASURED_MARGIN_BYTES


def weights_bytes(model: ModelCard, settings: Settings) -> dict[str, int]:
    """Bytes of each component's weights at the chosen precisions."""
    sizes = {}
    for name, component in components_of(model).items():
        precision = str(settings[component.precision])
        part = stored_part(component.part, settings)
        template = find_template(model, part, width_of(precision))
        sizes[name] = int(template.array(weights_name(part, precision)).sum())
        if component.place is not None and settings.get(component.place) in ("absent", "cached"):
            sizes[name] = 0
    return sizes


def host_bytes(model: ModelCard, settings: Settings, rules: Rules) -> int:
    """Host memory of the worker: the process, and weights that wait or live there."""
    sizes = weights_bytes(model, settings if rules.kind == "cuda" else unquantized(settings))
    if rules.kind == "cuda" and settings.get("offload", "none") == "none":
        places = {name: component.place for name, component in components_of(model).items()}
        sizes = {
            name: size
            for name, size in sizes.items()
            if (place := places[name]) is not None and settings.get(place, "gpu") != "gpu"
        }
    return PROCESS_HOST_BYTES[rules.kind] + sum(sizes.values())


def load_seconds(model: ModelCard, settings: Settings) -> float:
    """Starting a worker and reading the weights from disk, where they are not quantised yet."""
    size = sum(weights_bytes(model, unquantized(settings)).values())
    return WORKER_START_S + size / DISK_BYTES_S


WORKER_START_S = 9.0
"""Importing PyTorch, diffusers and transformers in a new process."""
DISK_BYTES_S = 1.0e9
"""Reading weights from a solid-state disk, the first time."""


def _versions(model: ModelCard, settings: Settings) -> dict[str, str]:
    width = width_of(str(settings["precision"]))
    return find_template(model, stored_part(find_family(model).main, settings), width).versions


def _notes(
    model: ModelCard, settings: Settings, target: Target, rules: Rules, calibrated: bool
) -> tuple[Text, ...]:
    notes = []
    if target.card.kind == "cpu":
        notes.append(
            Text(
                "No GPU here: it runs on the processor, and memory means live tensor bytes.",
                "本机没有 GPU：在处理器上运行，内存指存活张量的字节数。",
            )
        )
    elif not (rules.measured and target.card.context_measured):
        notes.append(
            Text(
                "This architecture was never measured, so the margin is wider.",
                "这种架构还没有实测过，因此余量更大。",
            )
        )
    if rules.kind == "cuda" and settings != unquantized(settings):
        notes.append(
            Text(
                "Quantised weights were not yet compared with measurements on any card.",
                "量化权重的估算还没有在任何显卡上与实测对比过。",
            )
        )
    if not calibrated:
        notes.append(
            Text(
                "The time is a range until this machine has run the model once.",
                "在本机运行过一次该模型之前，时间只是一个范围。",
            )
        )
    traced = _versions(model, settings)
    differing = [
        f"{name} {target.versions[name].split('+')[0]} (traced with {version})"
        for name, version in traced.items()
        if name in target.versions and target.versions[name].split("+")[0] != version
    ]
    if differing:
        listed = ", ".join(differing)
        notes.append(
            Text(
                f"Other library versions than the estimate's templates: {listed}.",
                f"库版本与估算模板不同：{listed}。",
            )
        )
    return tuple(notes)
