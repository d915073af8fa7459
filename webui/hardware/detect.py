"""Finds a card: by name, or this machine's (the first that CUDA would see, else the processor)."""

from __future__ import annotations

import platform
import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from webui.core.card import Card
from webui.core.errors import BadInput
from webui.core.host import host_memory_bytes, usable_cores
from webui.core.request import DETECTED
from webui.core.text import Text
from webui.core.units import MIB
from webui.hardware.cards import (
    KnownCard,
    architecture_context,
    has_bf16,
    has_fp8,
    link_bytes_s,
    load_known_cards,
)
from webui.hardware.nvml import attempt, decoded, memory_bytes, open_nvml

_CPU_BANDWIDTH_BYTES_S = 20e9
"""Two channels of DDR4 as one process reaches them; calibration replaces it."""
_CPU_FLOPS_PER_CORE = 2.5e9 * 32
"""AVX2 with fused multiply-add: 2 units x 8 lanes x 2 operations, at 2.5 GHz."""
_NVML_CLOCK_SM, _NVML_CLOCK_MEMORY = 1, 2
_NOTABLE_DIFFERENCE = 0.1
"""A total this far from the catalogue's is another variant of the card."""


def find_card(name: str) -> Card:
    """The card of that name: from the list, `detected`, `cpu`, or this machine's unlisted card.

    Raises:
        BadInput: there is none; the hint has the nearest names.
    """
    cards = load_known_cards()
    if name in cards:
        return cards[name].card
    if name == "cpu":
        return cpu_card()
    here = detected_card()
    if name in (DETECTED, here.name):
        return here
    wanted = name.lower().replace(" ", "-")
    alike = [
        listed
        for listed in cards
        if wanted and (listed.startswith(wanted) or wanted.startswith(listed))
    ]
    near = alike[:3] or get_close_matches(wanted, cards, 4, 0.5) or ["rtx-3060-12gb", "rtx-4090"]
    raise BadInput(
        "card",
        Text(f"There is no card '{name[:60]}' in the list.", f"显卡列表中没有“{name[:60]}”。"),
        Text(
            f"Did you mean {', '.join(near)}? `detected` is this machine's.",
            f"是否想用 {', '.join(near)}？detected 表示本机的显卡。",
        ),
    )


def detected_card() -> Card:
    """The card that a worker on this machine would use.

    Known cards get the catalogue's rates with the true total memory; unknown ones get rates from
    what the driver says of their clocks and cores. `STUDIO_DEVICE=cpu` asks for the processor.
    Read again at every call: a driver may go, and come within half a minute (`LOOK_AGAIN_S`).
    """
    with open_nvml() as (nvml, handles):
        if handles:
            index, handle = handles[0]
            return _read_card(nvml, index, handle)
    return cpu_card()


def cpu_card(cores: float | None = None) -> Card:
    """This machine's processor as a card whose memory is the host's.

    Args:
        cores: as if it had so many; those that this process may use where it is left out.
    """
    flops = (usable_cores() if cores is None else cores) * _CPU_FLOPS_PER_CORE
    return Card(
        name="cpu",
        title=_processor_title(),
        kind="cpu",
        vram_bytes=host_memory_bytes(),
        bandwidth_bytes_s=_CPU_BANDWIDTH_BYTES_S,
        bf16_flops=flops,
        fp32_flops=flops,
        pcie_bytes_s=_CPU_BANDWIDTH_BYTES_S,
        context_measured=True,
    )


def match_card(nvml_name: str, total_bytes: int) -> KnownCard | None:
    """The catalogue's card for a driver name; the nearest memory decides between variants.

    Args:
        nvml_name: e.g. "NVIDIA GeForce RTX 3060".
        total_bytes: what CUDA reports.
    """
    name = nvml_name.removeprefix("NVIDIA ").strip()
    same_name = [known for known in load_known_cards().values() if name in known.nvml_names]
    return min(same_name, key=lambda known: abs(known.card.vram_bytes - total_bytes), default=None)


def _read_card(nvml: Any, index: int, handle: Any) -> Card:
    name = decoded(attempt(nvml, "nvmlDeviceGetName", handle) or f"NVIDIA card {index}")
    total_bytes = memory_bytes(nvml, handle)[0]
    known = match_card(name, total_bytes)
    if known is None:
        return _unknown_card(nvml, handle, name, total_bytes)
    if not total_bytes:
        return known.card
    variant = abs(total_bytes / known.card.vram_bytes - 1) > _NOTABLE_DIFFERENCE
    return _with(
        known.card,
        vram_bytes=total_bytes,
        title=name.removeprefix("NVIDIA ") if variant else known.card.title,
    )


def _unknown_card(nvml: Any, handle: Any, name: str, total_bytes: int) -> Card:
    """A card that is not in the list, from what the driver knows of it."""
    compute = attempt(nvml, "nvmlDeviceGetCudaComputeCapability", handle) or (7, 5)
    cores = attempt(nvml, "nvmlDeviceGetNumGpuCores", handle) or 2048
    clock_hz = (attempt(nvml, "nvmlDeviceGetMaxClockInfo", handle, _NVML_CLOCK_SM) or 1500) * 1e6
    memory_hz = (
        attempt(nvml, "nvmlDeviceGetMaxClockInfo", handle, _NVML_CLOCK_MEMORY) or 5000
    ) * 1e6
    bus_bits = attempt(nvml, "nvmlDeviceGetMemoryBusWidth", handle) or 128
    generation = attempt(nvml, "nvmlDeviceGetMaxPcieLinkGeneration", handle) or 3
    lanes = attempt(nvml, "nvmlDeviceGetMaxPcieLinkWidth", handle) or 8
    compute = (int(compute[0]), int(compute[1]))
    fp32_flops = 2.0 * cores * clock_hz
    # The ratio of tensor to plain fp32 rate: none before Volta; GeForce runs at half rate.
    ratio = 1 if compute < (7, 0) else 2 if "GeForce" in name and has_bf16(compute) else 4
    context_bytes, measured = architecture_context(compute)
    return Card(
        name=re.sub(r"[^a-z0-9]+", "-", name.removeprefix("NVIDIA ").lower()).strip("-"),
        title=name.removeprefix("NVIDIA "),
        vram_bytes=total_bytes or 4096 * MIB,
        bandwidth_bytes_s=bus_bits / 8 * memory_hz * 2,
        bf16_flops=fp32_flops * ratio,
        fp32_flops=fp32_flops,
        pcie_bytes_s=link_bytes_s(generation, lanes),
        compute_capability=compute,
        bf16=has_bf16(compute),
        fp8=has_fp8(compute),
        context_bytes=context_bytes,
        context_measured=measured,
    )


def _with(card: Card, **changes: Any) -> Card:
    return Card(**{**card.to_json(), **changes})


@lru_cache(maxsize=1)
def _processor_title() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"
