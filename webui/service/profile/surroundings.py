"""What is around a matrix: the card, other processes on all cards, versions."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import webui
from webui.core.units import format_bytes
from webui.hardware import read_devices
from webui.hardware.nvml import driver_version
from webui.hardware.readings import DeviceReading

if TYPE_CHECKING:
    from webui.service.studio import Studio


def surroundings(studio: Studio) -> dict[str, Any]:
    """The `environment` of a summary."""
    card = studio.detected()
    devices = read_devices() if card.kind == "cuda" else []
    worker = studio.devices()["worker"]
    return {
        "kind": card.kind,
        "card": card.title,
        "card_bytes": card.vram_bytes,
        "used_bytes": devices[0].used_bytes if devices else None,
        "processes": others_on(devices, None if worker is None else worker["pid"]),
        "versions": {
            "vram-studio": webui.__version__,
            "python": platform.python_version(),
            "driver": driver_version(),
        },
        "platform": platform.platform(),
        "warm_up": [],
    }


def others_on(devices: Iterable[DeviceReading], worker_pid: int | None) -> list[dict[str, Any]]:
    """The processes that hold memory of any card, but for the studio's own worker.

    Args:
        devices: all cards.
        worker_pid: of the studio's worker, where it runs.

    Returns:
        `card` (its index on the machine), `pid`, `name`, `used_bytes`.
    """
    return [
        {"card": device.index, **process.to_json()}
        for device in devices
        for process in device.processes
        if process.pid != worker_pid
    ]


def others_lines(around: Mapping[str, Any]) -> Iterator[str]:
    """A line for each other process, or that there is none."""
    for process in around["processes"]:
        used = f", {format_bytes(process['used_bytes'])}" if process.get("used_bytes") else ""
        yield (
            f"also on card {process.get('card', 0)}: {process['name'] or '?'} "
            f"({process['pid']}){used}"
        )
    if not around["processes"]:
        yield "no other process was on the card"
