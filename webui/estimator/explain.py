"""Takes an estimate apart: every term of every figure, and where it comes from.

Nothing is computed here that `estimate` does not compute; the terms of a figure add up to it
exactly, and a test keeps it so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from webui.core.model import ModelCard
from webui.core.plan import Estimate, PhaseEstimate
from webui.core.request import Request
from webui.core.settings import FP8
from webui.core.text import Text
from webui.estimator.case import BESIDE_LIMIT, Case
from webui.estimator.estimate import (
    DISK_BYTES_S,
    PROCESS_HOST_BYTES,
    WORKER_START_S,
    PhaseTrace,
    processes_of,
    trace_phase,
)
from webui.estimator.events import Live, Part
from webui.estimator.explain_seconds import Term, seconds_terms
from webui.estimator.families import Component, components_of, find_family
from webui.estimator.rules import WORKSPACE, rules_for
from webui.estimator.tape import LOAD, RELEASE, SCRATCH
from webui.estimator.target import Target, margin_parts
from webui.estimator.templates import stored_part, template_name, weights_name, width_of

_LARGEST = 5
"""Tensors at the peak that are listed one by one."""


@dataclass(frozen=True, slots=True)
class PhaseExplanation:
    """How one phase's figures came about."""

    phase: PhaseEstimate
    memory: tuple[Term, ...]
    """Add up to the phase's `reserved_bytes`; all but the last to its `allocated_bytes`."""
    largest: tuple[Live, ...]
    """The largest storages beside the resident ones at the moment of the peak."""
    retries: int
    """How often the replay released its cache to stay below the limit."""
    seconds: tuple[Term, ...]
    """Results of the time model; `formula` says how they make `raw_seconds`."""
    formula: str
    """E.g. `100 x max(compute, transfer)`; empty where it is the model family's own."""
    raw_seconds: float
    speed: float
    """Measured over estimated on this machine; `raw_seconds * speed` is the phase's seconds."""
    speed_receipts: int

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.phase.name,
            "allocated_bytes": self.phase.allocated_bytes,
            "reserved_bytes": self.phase.reserved_bytes,
            "seconds": self.phase.seconds,
            "memory_terms": [term.to_json("bytes") for term in self.memory],
            "largest_at_peak": [
                {"source": item.source, "bytes": item.size_bytes, "formula": item.formula}
                for item in self.largest
            ],
            "retries": self.retries,
            "seconds_terms": [term.to_json("seconds") for term in self.seconds],
            "seconds_formula": self.formula,
            "raw_seconds": self.raw_seconds,
            "speed": self.speed,
            "speed_receipts": self.speed_receipts,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an estimate came about."""

    estimate: Estimate
    phases: tuple[PhaseExplanation, ...]
    device: tuple[Term, ...]
    """Add up to `peak_device_bytes`."""
    margin: tuple[Term, ...]
    host: tuple[Term, ...]
    load: tuple[Term, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "phases": [phase.to_json() for phase in self.phases],
            "device_terms": [term.to_json("bytes") for term in self.device],
            "margin_terms": [term.to_json("bytes") for term in self.margin],
            "host_terms": [term.to_json("bytes") for term in self.host],
            "load_terms": [term.to_json("seconds") for term in self.load],
        }


def explain_estimate(
    model: ModelCard, request: Request, found: Estimate, target: Target
) -> Explanation:
    """Every term of an estimate.

    Args:
        model: the request's model.
        request: what was estimated.
        found: its estimate, on the same target.
        target: the device.
    """
    highest = max(found.phases, key=lambda phase: phase.reserved_bytes)
    workers = processes_of(request, found.settings)
    processes = workers * PROCESS_HOST_BYTES[target.card.kind]
    beside = workers * find_family(model).host(model, request, found.settings)
    waiting = found.host_bytes - processes - beside
    return Explanation(
        estimate=found,
        phases=tuple(
            _explain_phase(model, request, found, target, phase) for phase in found.phases
        ),
        device=(
            Term(
                Text(f"reserved in {highest.name}", f"{highest.name} 阶段的保留显存"),
                found.peak_reserved_bytes,
                Text("the phase with the most", "保留最多的阶段"),
            ),
            Term(
                Text("CUDA context and libraries", "CUDA 上下文和库"),
                found.context_bytes,
                _context_source(target),
            ),
        ),
        margin=_margin(request, found, target),
        host=(
            Term(
                Text("the worker's process", "工作进程")
                if workers == 1
                else Text(f"the processes of {workers} workers", f"{workers} 个工作进程"),
                processes,
                Text("measured: Python, PyTorch, the libraries", "实测：Python、PyTorch 和库"),
            ),
            Term(
                Text("weights that live or wait in host memory", "留在主机内存中的权重"),
                waiting,
                Text(
                    "templates, by offload and text_encoder",
                    "模板，由 offload 与 text_encoder 决定",
                ),
            ),
            *_beside_weights(beside),
        ),
        load=(
            Term(
                Text("starting a worker", "启动工作进程"),
                WORKER_START_S,
                Text("measured once", "实测"),
            ),
            Term(
                Text("reading the weights", "读取权重"),
                found.load_seconds - WORKER_START_S,
                Text(
                    f"bytes of all weights / {DISK_BYTES_S / 1e9:g} GB/s of a solid-state disk",
                    f"全部权重字节 / 固态硬盘 {DISK_BYTES_S / 1e9:g} GB/s",
                ),
            ),
        ),
    )


def _beside_weights(size_bytes: int) -> tuple[Term, ...]:
    """Host memory for what is worked on: frames, pages."""
    if not size_bytes:
        return ()
    return (
        Term(
            Text("frames or pages being worked on", "正在处理的帧或页面"),
            size_bytes,
            Text("from the request's size and the settings", "由请求的尺寸和设置得出"),
        ),
    )


def _explain_phase(
    model: ModelCard, request: Request, found: Estimate, target: Target, phase: PhaseEstimate
) -> PhaseExplanation:
    trace = trace_phase(Case(model, request, found.settings, target), phase.name)
    live = trace.events.live_at_peak(with_scratch=target.card.kind == "cuda")
    memory = [_resident(model, found, part) for part in trace.events.parts]
    memory += _at_peak(live)
    memory.append(
        Term(
            Text("rounding of blocks", "内存块取整"),
            phase.allocated_bytes - sum(int(term.value) for term in memory),
            Text("blocks of the simulated allocator above the bytes asked for", "分配器模拟"),
        )
    )
    memory.append(_reserved(trace, phase))
    return PhaseExplanation(
        phase=phase,
        memory=tuple(term for term in memory[:-2] if term.value) + tuple(memory[-2:]),
        largest=tuple(live[:_LARGEST]),
        retries=trace.limited.retries if trace.limited else trace.replay.retries,
        seconds=seconds_terms(trace.seconds_terms, trace.seconds_formula),
        formula=trace.seconds_formula,
        raw_seconds=trace.raw_seconds,
        speed=target.speed.get(phase.name, 1.0),
        speed_receipts=target.speed_receipts.get(phase.name, 0),
    )


def _resident(model: ModelCard, found: Estimate, part: Part) -> Term:
    size = int(part.sizes.sum())
    component = components_of(model).get(part.name)
    if component is None:
        name = part.name or "weights and inputs"
        return Term(
            Text(f"{name}, there from the start", f"{name}（阶段开始时已在）"),
            size,
            Text(
                f"{len(part.sizes)} tensors, from the request",
                f"{len(part.sizes)} 个张量，由请求得出",
            ),
        )
    template, precision = _template_of(model, found, component)
    config = f"{model.name}'s {component.config}"
    return Term(
        Text(f"weights of {part.name}", f"{part.name} 的权重"),
        size,
        Text(
            f"{len(part.sizes)} tensors in {precision}, config of {config}, template {template}",
            f"{len(part.sizes)} 个张量，{precision}，配置 {config}，模板 {template}",
        ),
    )


def _template_of(model: ModelCard, found: Estimate, component: Component) -> tuple[str, str]:
    """File and precision of a component's template."""
    precision = str(found.settings[component.precision])
    part = stored_part(component.part, found.settings)
    if precision == FP8 and weights_name(part, precision) == weights_name(part, "bf16"):
        precision = "bf16"  # fp8 stores the transformer's weights only
    return template_name(model, part, width_of(precision)), component.always or precision


_NAMED = {
    "gradients": Text("gradients", "梯度"),
    "step cache": Text("kept by the step cache", "步间缓存保留的张量"),
    "copies for attention": Text("copies for attention", "注意力用的副本"),
    "activations kept": Text("activations kept for the way back", "为反向传播保留的激活"),
}
"""Sources that say what the storages are, and not which tape made them."""


def _at_peak(live: Sequence[Live]) -> list[Term]:
    """The storages alive at the peak, by the tape that made them and their kind."""
    groups: dict[tuple[str, str], list[Live]] = defaultdict(list)
    for item in live:
        kind = {LOAD: "streamed", SCRATCH: "scratch", RELEASE: "freed"}.get(item.kind, "")
        groups["" if kind == "freed" else item.source, kind].append(item)
    terms = []
    for (source, kind), items in groups.items():
        size = sum(item.size_bytes for item in items)
        count = len(items)
        if source == WORKSPACE:
            name = Text("workspace of the matrix library", "矩阵库的工作区")
            why = Text(
                "rules.py, by compute capability (PyTorch's CublasHandlePool.cpp)",
                "rules.py，按计算能力（PyTorch 的 CublasHandlePool.cpp）",
            )
        elif kind == "streamed":
            name = Text(f"weights on their way: {source}", f"流式传输中的权重：{source}")
            why = Text(f"{count} tensors of the tape at the peak", f"峰值时磁带中的 {count} 个张量")
        elif kind == "freed":
            name = Text("freed before the peak", "峰值前已释放")
            why = Text(f"{count} tensors that were there at first", f"{count} 个起初就在的张量")
        elif kind == "scratch":
            name = Text(f"scratch of one operation: {source}", f"单个运算的临时空间：{source}")
            why = Text("the operation at which the peak is", "峰值所在的运算")
        else:
            other = Text(f"activations: {source or 'inputs'}", f"激活：{source or '输入'}")
            name = _NAMED.get(source, other)
            largest = items[0].formula or str(items[0].size_bytes)
            why = Text(
                f"{count} tensors alive at the peak, the largest {largest}",
                f"峰值时存活 {count} 个张量，最大的是 {largest}",
            )
        terms.append(Term(name, size, why))
    return terms


def _reserved(trace: PhaseTrace, phase: PhaseEstimate) -> Term:
    """What is reserved above the allocated bytes."""
    beyond = phase.reserved_bytes - phase.allocated_bytes
    name = Text("kept by the allocator beyond that", "分配器额外保留")
    if trace.limited is None:
        source = Text("replay of the allocator without a limit", "不设上限的分配器回放")
    elif trace.limited.fits:
        source = Text(
            f"replay against the limit, or one {BESIDE_LIMIT - 1:.0%} above it where more is kept: "
            f"{trace.limited.retries} times giving back the cache (without a limit it would "
            f"reserve {trace.replay.reserved_bytes} B)",
            f"按上限回放（或高 {BESIDE_LIMIT - 1:.0%}，取保留较多者），"
            f"释放缓存 {trace.limited.retries} 次"
            f"（不设上限时会保留 {trace.replay.reserved_bytes} B）",
        )
    else:
        source = Text(
            "replay of the allocator; against the limit it runs out of memory",
            "分配器回放；按上限回放时显存不足",
        )
    # Within a limit there may be no room for all of it.
    unseen = min(trace.events.unseen_bytes, beyond)
    if unseen > 0:
        source = Text(
            f"{source.en}; {unseen} B of it for the steps between, which are not replayed: fitted",
            f"{source.zh}；其中 {unseen} B 为中间未回放的步骤，拟合值",
        )
    return Term(name, beyond, source)


def _margin(request: Request, found: Estimate, target: Target) -> tuple[Term, ...]:
    rules = rules_for(
        target.card, str(found.settings.get("allocator", "default")), request.platform
    )
    share, shared, fixed = margin_parts(target, rules)
    why = (
        Text("this architecture was measured", "该架构已实测")
        if rules.measured and target.card.context_measured
        else Text("this architecture was never measured: wider", "该架构未实测：余量更大")
    )
    by_share = int(shared * share)
    terms = [
        Term(Text(f"{share:.1%} of {shared} B", f"{shared} B 的 {share:.1%}"), by_share, why),
        Term(Text("fixed part", "固定部分"), fixed, why),
    ]
    if found.margin_bytes < by_share + fixed:
        terms.append(
            Term(
                Text("filled by the allocator's cache", "被分配器缓存占用"),
                found.margin_bytes - by_share - fixed,
                Text("it gives that back when it is needed", "需要时会释放"),
            )
        )
    return tuple(terms)


def _context_source(target: Target) -> Text:
    if target.card.kind == "cpu":
        return Text("a processor has none", "处理器没有")
    if target.context_receipts:
        count = target.context_receipts
        return Text(
            f"measured in {count} run{'s' if count > 1 else ''} of this machine",
            f"本机 {count} 次运行的实测值",
        )
    if target.card.context_measured:
        return Text("list of cards, measured on this architecture", "显卡列表，该架构实测")
    return Text("list of cards, an estimate for this architecture", "显卡列表，该架构的估计值")
