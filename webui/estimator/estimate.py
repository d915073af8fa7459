"""Step two of the flow: the memory and the time of a request with complete settings."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.gguf import GGUF
from webui.core.model import ModelCard
from webui.core.plan import Estimate, PhaseEstimate
from webui.core.request import Request
from webui.core.settings import Settings, unquantized
from webui.core.text import Text
from webui.core.units import GIB, format_bytes
from webui.core.upscale import UpscaleRequest
from webui.estimator.answers import phase_events, raw_seconds
from webui.estimator.case import Case
from webui.estimator.events import PhaseEvents
from webui.estimator.families import components_of, find_family
from webui.estimator.replay import Replay
from webui.estimator.rules import Rules
from webui.estimator.target import Target, margin_bytes
from webui.estimator.templates import find_template, parts_of, stored_part, weights_name, width_of
from webui.estimator.told import SecondsTerm, how_of, noting_terms
from webui.estimator.upscaling import workers_of

PROCESS_HOST_BYTES = {"cuda": int(1.9 * GIB), "cpu": int(0.6 * GIB)}
"""A worker's resident set before any model, by kind of device: Python, PyTorch, the libraries."""
UNCALIBRATED_RANGE = (0.6, 1.8)
CALIBRATED_RANGE = (0.85, 1.15)
ENOUGH_S, ENOUGH_SHARE = 10.0, 0.25
"""Receipts of so many seconds, or of such a share of what is planned, say how fast a phase is: one
short run of another size says less."""
FIRST_RUN_S = 2.0
"""What a process's first run of a model may take longer: it loads its kernels. With it 96 % of 181
runs on an H200, most of them the first of their kind, took what the range says. On a processor (two
cores) a small picture's OCR took 1.0 s and a small video's upscaling 2.9, of 0.03 and 0.7."""


def estimate(model: ModelCard, request: Request, settings: Settings, target: Target) -> Estimate:
    """The full answer: every phase replayed through the allocator with the card's limit.

    Args:
        model: the catalogue's card of the request's model.
        request: the workload.
        settings: a value for each of the model's settings.
        target: the device.
    """
    return estimate_case(Case(model, request, settings, target))


def estimate_case(case: Case) -> Estimate:
    """As `estimate`."""
    model, settings, target = case.model, case.settings, case.target
    phases = []
    fits = True
    for name in case.phases:
        found = case.expected(name)
        fits = fits and found.fits
        phases.append(
            PhaseEstimate(
                name=name,
                resident_bytes=found.resident_bytes,
                activation_bytes=found.allocated_bytes - found.resident_bytes,
                allocated_bytes=found.allocated_bytes,
                reserved_bytes=max(found.reserved_bytes, found.allocated_bytes),
                seconds=case.seconds(name),
                least_seconds=case.seconds(name) * case.least_share(name),
            )
        )
    total = sum(phase.seconds for phase in phases)
    calibrated = all(phase.name in target.speed for phase in phases)
    ranges = [range_of(target, phase.name, phase.seconds) for phase in phases]
    shortest = sum(
        phase.least_seconds * low for phase, (low, _) in zip(phases, ranges, strict=True)
    )
    longest = sum(phase.seconds * high for phase, (_, high) in zip(phases, ranges, strict=True))
    margin = usual = margin_bytes(target, case.rules)
    if fits:
        left = case.free_bytes - max(phase.reserved_bytes for phase in phases)
        margin = max(0, min(margin, left))
    return Estimate(
        model=model.name,
        card=target.card.name,
        settings=dict(settings),
        fits=fits,
        phases=tuple(phases),
        context_bytes=target.card.context_bytes,
        margin_bytes=margin,
        limit_bytes=target.limit_bytes,
        host_bytes=processes_of(case.request, settings)
        * (
            host_bytes(model, settings, case.rules)
            + find_family(model).host(model, case.request, settings)
        ),
        disk_bytes=find_family(model).disk(model, case.request, settings),
        seconds=total,
        seconds_range=(
            shortest,
            longest + (0.0 if calibrated else FIRST_RUN_S),
        ),
        load_seconds=load_seconds(model, settings),
        versions=_versions(model, settings),
        notes=(
            *_notes(model, settings, target, case.rules, calibrated, usual - margin),
            *target.notes,
        ),
    )


def range_of(target: Target, phase: str, seconds: float) -> tuple[float, float]:
    """Between which factors of its estimate a phase's seconds lie.

    Args:
        target: knows from receipts how fast the phase is, or not.
        phase: its name.
        seconds: its estimate, corrected.
    """
    speed = target.speed.get(phase)
    if speed is None:
        return UNCALIBRATED_RANGE
    needed_s = min(ENOUGH_S, ENOUGH_SHARE * seconds / speed)
    seen_s = target.speed_seconds.get(phase, needed_s)
    known = min(1.0, seen_s / needed_s) if needed_s else 1.0
    low, high = (
        wide * (near / wide) ** known
        for wide, near in zip(UNCALIBRATED_RANGE, CALIBRATED_RANGE, strict=True)
    )
    return low, high


@dataclass(frozen=True, slots=True)
class PhaseTrace:
    """What a phase's figures were made from, for explanations."""

    events: PhaseEvents
    replay: Replay
    """Without a limit."""
    limited: Replay | None
    """Within the limit, where that is one."""
    seconds_terms: tuple[SecondsTerm, ...]
    raw_seconds: float
    """Before this machine's correction."""
    seconds_formula: str
    """How the terms make them; they are numbered by kind, `compute 1`, `transfer 1`, ..."""


def trace_phase(case: Case, phase: str) -> PhaseTrace:
    """The same computation as `estimate`'s of one phase, with all that it goes through."""
    expected = case.expected(phase)
    key, target = case.key(phase), case.target
    with noting_terms() as terms:
        raw = raw_seconds.__wrapped__(key, phase, case.request.repeats, target.card, target.host)
    return PhaseTrace(
        events=phase_events(key, phase),
        replay=case.replay(phase, unlimited=True),
        limited=expected if expected.met_limit or not expected.fits else None,
        seconds_terms=tuple(terms),
        raw_seconds=float(raw),
        seconds_formula=how_of(raw) if terms else "0",
    )


def weights_bytes(model: ModelCard, settings: Settings) -> dict[str, int]:
    """Bytes of each component's weights at the chosen precisions."""
    sizes = {}
    for name, component in components_of(model).items():
        if component.only is not None and settings[component.only[0]] != component.only[1]:
            continue
        precision = str(settings[component.precision])
        part = stored_part(component.part, settings)
        template = find_template(model, part, width_of(precision))
        sizes[name] = int(template.array(weights_name(part, precision)).sum())
        if component.place is not None and settings.get(component.place) in ("absent", "cached"):
            sizes[name] = 0
    return sizes


def host_bytes(model: ModelCard, settings: Settings, rules: Rules) -> int:
    """Host memory of a worker: the process, and weights that wait or live there."""
    sizes = weights_bytes(model, settings if rules.kind == "cuda" else unquantized(settings))
    if rules.kind == "cuda" and settings.get("offload", "none") == "none":
        places = {name: component.place for name, component in components_of(model).items()}
        sizes = {
            name: size
            for name, size in sizes.items()
            if (place := places[name]) is not None and settings.get(place, "gpu") != "gpu"
        }
    return PROCESS_HOST_BYTES[rules.kind] + sum(sizes.values())


def processes_of(request: Request, settings: Settings) -> int:
    """How many workers this computer runs for a request: several only share a video."""
    return workers_of(request, settings) if isinstance(request, UpscaleRequest) else 1


def load_seconds(model: ModelCard, settings: Settings) -> float:
    """Starting a worker and reading the weights from disk, where only GGUF's are quantised."""
    read = settings if settings.get("quantization") == GGUF else unquantized(settings)
    size = sum(weights_bytes(model, read).values())
    return WORKER_START_S + size / DISK_BYTES_S


WORKER_START_S = 9.0
"""A new process that imports PyTorch, and what its model needs of diffusers and transformers."""
DISK_BYTES_S = 1.0e9
"""Reading weights from a solid-state disk, the first time."""


def _versions(model: ModelCard, settings: Settings) -> dict[str, str]:
    main = find_family(model).main
    if not main:
        return {}
    # A model for one scale may lack the usual part.
    part = main if main in parts_of(model) else parts_of(model)[0]
    width = width_of(str(settings["precision"]))
    return find_template(model, stored_part(part, settings), width).versions


def _notes(
    model: ModelCard,
    settings: Settings,
    target: Target,
    rules: Rules,
    calibrated: bool,
    cached: int,
) -> tuple[Text, ...]:
    """What is to be known about the figures; `cached`: bytes of the margin that the allocator's
    cache takes."""
    notes = [*find_family(model).notes(settings)]
    if target.card.kind == "cpu":
        if components_of(model):  # of the others the family says where their memory is
            notes.append(
                Text(
                    "No GPU here: it runs on the processor, and memory means live tensor bytes.",
                    "本机没有 GPU：在处理器上运行，内存指存活张量的字节数。",
                )
            )
    elif not (rules.measured and target.card.context_measured):
        size = format_bytes(cached)
        notes.append(
            Text(
                "This architecture was never measured, so the margin is wider"
                + (f"; the allocator's cache takes {size} of it." if cached else "."),
                "这种架构还没有实测过，因此余量更大"
                + (f"；其中 {size} 被分配器缓存占用。" if cached else "。"),
            )
        )
    if not calibrated and not target.speed:
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
