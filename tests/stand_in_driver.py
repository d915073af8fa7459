"""A stand-in for NVIDIA's library with any number of busy cards, for machines that have none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from webui.core.units import GIB


@dataclass(slots=True)
class StandInCard:
    """What the driver says of one card; change it between readings."""

    index: int
    name: str = "NVIDIA H200"
    total_bytes: int = 140 * GIB
    used_bytes: int = 20 * GIB
    busy_percent: int = 98
    temperature_c: int = 61
    power_mw: int = 512_000
    processes: tuple[tuple[int, int], ...] = ()
    """Numbers of processes, and the bytes that each holds."""
    lost: bool = False
    """It fell off the bus: the driver tells nothing of its memory."""


class StandInDriver(ModuleType):
    """Takes the place of `pynvml`; what the studio does not ask for is not there."""

    nvmlMemory_v2 = 2

    def __init__(self, cards: list[StandInCard]) -> None:
        super().__init__("pynvml")
        self.cards = cards
        self.opened = 0
        """How often the library was opened."""

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> StandInCard:
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card: StandInCard) -> str:
        return f"GPU-{card.index:08}-0000-0000-0000-000000000000"

    def nvmlDeviceGetName(self, card: StandInCard) -> str:
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: StandInCard, version: int = 1) -> Any:
        if card.lost:
            raise RuntimeError("GPU is lost")
        reserved = GIB // 2
        if version != self.nvmlMemory_v2:  # the older call counts the driver's own as used
            return SimpleNamespace(
                total=card.total_bytes + reserved, used=card.used_bytes + reserved,
                free=card.total_bytes - card.used_bytes,
            )  # fmt: skip
        return SimpleNamespace(
            total=card.total_bytes + reserved, used=card.used_bytes, reserved=reserved,
            free=card.total_bytes - card.used_bytes,
        )  # fmt: skip

    def nvmlDeviceGetUtilizationRates(self, card: StandInCard) -> Any:
        return SimpleNamespace(gpu=card.busy_percent, memory=30)

    def nvmlDeviceGetTemperature(self, card: StandInCard, sensor: int) -> int:
        return card.temperature_c

    def nvmlDeviceGetPowerUsage(self, card: StandInCard) -> int:
        return card.power_mw

    def nvmlDeviceGetEnforcedPowerLimit(self, card: StandInCard) -> int:
        return 700_000

    def nvmlDeviceGetComputeRunningProcesses(self, card: StandInCard) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.processes]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: StandInCard) -> list[Any]:
        return []


@contextmanager
def stand_in_driver(*cards: StandInCard) -> Iterator[StandInDriver]:
    """Inside, these are the cards of this machine."""
    driver = StandInDriver(list(cards))
    before = sys.modules.get("pynvml")
    sys.modules["pynvml"] = driver
    try:
        yield driver
    finally:
        if before is None:
            del sys.modules["pynvml"]
        else:
            sys.modules["pynvml"] = before
