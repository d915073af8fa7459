"""Reads the list of cards (`cards.yaml`): memory, rates and link of each, from data sheets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from webui.core.card import Card
from webui.core.errors import BadInput
from webui.core.mapping import check_keys
from webui.core.text import Text
from webui.core.units import GIB, MIB
from webui.core.yaml_file import load_file

_FILE = Path(__file__).parent / "cards.yaml"
_LANE_BYTES_S = {3: 0.985e9, 4: 1.969e9, 5: 3.938e9}
"""Theoretical PCIe rate of one lane, one direction, by generation (128b/130b encoding)."""
_LINK_EFFICIENCY = 0.8
"""What large copies from pinned memory reach of it."""
_FIRST_BF16 = (8, 0)
_FIRST_FP8 = (8, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCard:
    """A card of the list, with what only detection and tests need."""

    card: Card
    nvml_names: tuple[str, ...]
    """The driver's names, without the leading "NVIDIA"; several cards may share one."""
    memory_bytes: int
    """Nameplate memory."""
    vram_measured: bool
    """Whether the card's `vram_bytes` is a reading (else nameplate minus a typical reserve)."""


def load_cards() -> dict[str, Card]:
    """All cards by name, in the order of the list (GeForce, workstation, data centre)."""
    return {name: known.card for name, known in load_known_cards().items()}


@cache
def load_known_cards() -> dict[str, KnownCard]:
    """The whole list by name.

    Raises:
        BadInput: the file has an unknown key or a wrong value.
    """
    data = check_keys(
        load_file(_FILE),
        where=_FILE.name,
        required=("architectures", "cards"),
    )
    known = [_read_card(entry, data["architectures"]) for entry in data["cards"]]
    by_name = {entry.card.name: entry for entry in known}
    if len(by_name) != len(known):
        raise BadInput(
            "name",
            Text(f"{_FILE.name}: a name occurs twice.", f"{_FILE.name}：有重复的名称。"),
        )
    return by_name


def link_bytes_s(generation: int, lanes: int) -> float:
    """What a PCIe link reaches in one direction with pinned memory."""
    rate = _LANE_BYTES_S.get(generation, _LANE_BYTES_S[3 if generation < 3 else 5])
    return rate * lanes * _LINK_EFFICIENCY


def typical_vram_bytes(memory_bytes: int, ecc: bool = False) -> int:
    """What CUDA reports for a card of that nameplate memory when no reading is known.

    The driver and the firmware keep about 300 MiB and 1 %; GDDR memory with ECC loses 1/16. Against
    the readings in `cards.yaml` it is at most 0.1 GiB too high and 0.6 GiB too low (a test).
    """
    kept = memory_bytes - memory_bytes // 16 if ecc else memory_bytes
    return kept - memory_bytes // 100 - 300 * MIB


def has_bf16(compute: tuple[int, int]) -> bool:
    """Whether the tensor cores of that compute capability take bf16."""
    return compute >= _FIRST_BF16


def has_fp8(compute: tuple[int, int]) -> bool:
    """Whether the tensor cores of that compute capability take fp8."""
    return compute >= _FIRST_FP8


def architecture_context(compute: tuple[int, int]) -> tuple[int, bool]:
    """Context bytes of cards of that compute capability (or the nearest older), and if measured."""
    contexts = {
        known.card.compute_capability: (known.card.context_bytes, known.card.context_measured)
        for known in load_known_cards().values()
        if known.card.compute_capability is not None
    }
    older = [listed for listed in contexts if listed is not None and listed <= compute]
    nearest = max(older) if older else min(listed for listed in contexts if listed is not None)
    context_bytes, measured = contexts[nearest]
    return context_bytes, measured and nearest == compute


def _read_card(entry: Any, architectures: Mapping[str, Any]) -> KnownCard:
    name = entry.get("name", "?") if isinstance(entry, Mapping) else "?"
    where = f"{_FILE.name}, {name}"
    given = check_keys(
        entry,
        where=where,
        required=(
            "name",
            "title",
            "nvml",
            "architecture",
            "memory_gib",
            "bandwidth_gb_s",
            "bf16_tflops",
            "fp32_tflops",
            "pcie",
        ),
        optional=("total_gib", "ecc"),
    )
    architecture = check_keys(
        architectures.get(given["architecture"]),
        where=f"{_FILE.name}, architecture {given['architecture']} of {name}",
        required=("compute", "context_mib"),
        optional=("context_measured",),
    )
    major, minor = architecture["compute"]
    generation, lanes = (int(part) for part in str(given["pcie"]).split("x"))
    memory_bytes = int(given["memory_gib"] * GIB)
    measured = "total_gib" in given
    vram_bytes = (
        int(given["total_gib"] * GIB)
        if measured
        else typical_vram_bytes(memory_bytes, bool(given.get("ecc", False)))
    )
    card = Card(
        name=str(name),
        title=str(given["title"]),
        vram_bytes=vram_bytes,
        bandwidth_bytes_s=given["bandwidth_gb_s"] * 1e9,
        bf16_flops=given["bf16_tflops"] * 1e12,
        fp32_flops=given["fp32_tflops"] * 1e12,
        pcie_bytes_s=link_bytes_s(generation, lanes),
        compute_capability=(major, minor),
        bf16=has_bf16((major, minor)),
        fp8=has_fp8((major, minor)),
        context_bytes=architecture["context_mib"] * MIB,
        context_measured=bool(architecture.get("context_measured", False)),
    )
    return KnownCard(
        card=card,
        nvml_names=tuple(given["nvml"]),
        memory_bytes=memory_bytes,
        vram_measured=measured,
    )
