"""A card: what a device can hold and how fast it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One graphics card (or the processor of this machine).

    The rates are the vendor's datasheet figures; what a model reaches of them is the time
    model's business.
    """

    name: str
    """The catalogue name, e.g. `rtx-3060-12gb`; `cpu` for this machine's processor."""
    title: str
    """The name for people, e.g. `GeForce RTX 3060 12 GB`."""
    kind: Literal["cuda", "cpu"] = "cuda"
    vram_bytes: int
    """What CUDA reports as total memory (less than the printed size: ECC, firmware)."""
    bandwidth_bytes_s: float
    """Device memory bandwidth."""
    bf16_flops: float
    """Dense matrix rate in bf16 (fp16 where the card has no bf16), operations a second."""
    fp32_flops: float
    """Plain fp32 rate."""
    pcie_bytes_s: float
    """Host link, one direction, as achieved with pinned memory."""
    compute_capability: tuple[int, int] | None = None
    bf16: bool = True
    fp8: bool = False
    context_bytes: int = 0
    """CUDA context and libraries outside PyTorch's allocator."""
    context_measured: bool = False
    """Whether `context_bytes` was measured on this architecture (else the margin is wider)."""

    def to_json(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in self.__slots__}
