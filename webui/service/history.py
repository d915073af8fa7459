"""The readings of the last eight hours: a second each for one hour, ten seconds each before."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from webui.hardware import DeviceReading, HostReading

HOURS_S = 8 * 3600
LEVELS = ((1, 3600), (10, HOURS_S // 10))
"""Seconds of a sample, and how many are kept: of the last hour, and of all."""
USED, UTILISATION, TEMPERATURE, POWER = range(4)
"""Columns of a device's sample: bytes, share, degrees Celsius, watts."""
HOST_USED, HOST_UTILISATION = range(2)
"""Columns of the host's sample: bytes, share."""
_PEAKS = (USED, TEMPERATURE)
"""Columns whose highest value stands for several; of the others it is the mean."""
_HOST_PEAKS = (HOST_USED,)

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Samples of a span up to now, evenly spaced, the oldest first; NaN where nothing was read."""

    span_s: float
    devices: Samples
    """Points, devices, columns."""
    host: Samples
    """Points, columns."""


class History:
    """Ring buffers in float32; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: tuple[tuple[int, str], ...] = ()
        self._devices: list[_Ring] = []
        self._hosts = [_Ring(*level, (2,), _HOST_PEAKS) for level in LEVELS]
        self._fit(())

    @property
    def nbytes(self) -> int:
        """What the buffers take; they never grow."""
        with self._lock:
            return sum(ring.nbytes for ring in (*self._devices, *self._hosts))

    def add(self, at_s: float, devices: Sequence[DeviceReading], host: HostReading) -> None:
        """Takes in one reading.

        Args:
            at_s: when it was made, in seconds of a clock that never goes back.
            devices: other cards than before begin a new history of the cards.
            host: read at the same time.
        """
        names = tuple((device.index, device.name) for device in devices)
        sample = np.array(
            [
                [
                    device.used_bytes,
                    _number(device.utilisation),
                    _number(device.temperature_c),
                    _number(device.power_w),
                ]
                for device in devices
            ],
            np.float32,
        ).reshape(len(names), 4)
        used = host.memory_bytes - host.available_bytes
        with self._lock:
            if names != self._names:
                self._fit(names)
            for ring in self._devices:
                ring.add(at_s, sample)
            for ring in self._hosts:
                ring.add(at_s, np.array([used, host.utilisation], np.float32))

    def series(self, now_s: float, span_s: float, points: int) -> Series:
        """The last `span_s` seconds in about so many points."""
        fine = next(
            (index for index, (step, kept) in enumerate(LEVELS) if step * kept >= span_s),
            len(LEVELS) - 1,
        )
        with self._lock:
            return Series(
                span_s=span_s,
                devices=self._devices[fine].last(now_s, span_s, points),
                host=self._hosts[fine].last(now_s, span_s, points),
            )

    def _fit(self, names: tuple[tuple[int, str], ...]) -> None:
        self._names = names
        self._devices = [_Ring(*level, (len(names), 4), _PEAKS) for level in LEVELS]


class _Ring:
    """Slots of equal time, by the clock; a slot that nothing was read in stays empty."""

    def __init__(
        self, step_s: int, kept: int, shape: tuple[int, ...], peaks: tuple[int, ...]
    ) -> None:
        self._step_s, self._kept = step_s, kept
        self._peaks = np.zeros(shape[-1], bool)
        self._peaks[list(peaks)] = True
        self._values: Samples = np.full((kept, *shape), np.nan, np.float32)
        self._slot: int | None = None
        """The newest one; None before the first."""
        self._count = 0

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    def add(self, at_s: float, sample: Samples) -> None:
        here = self._values[self._advance(at_s) % self._kept]
        self._count += 1
        mean = np.where(np.isnan(here), sample, here + (sample - here) / self._count)
        here[...] = np.where(self._peaks, np.fmax(here, sample), mean)

    def last(self, now_s: float, span_s: float, points: int) -> Samples:
        newest = self._advance(now_s)
        count = min(self._kept, max(1, round(span_s / self._step_s)))
        together = max(1, count // points)
        count -= count % together
        slots = np.arange(newest - count + 1, newest + 1) % self._kept
        found = self._values[slots]
        return self._merged(found.reshape(count // together, together, *found.shape[1:]))

    def _merged(self, groups: Samples) -> Samples:
        """One sample of each group; without the warnings that nanmean has for empty ones."""
        there = ~np.isnan(groups)
        total = np.where(there, groups, 0).sum(axis=1, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            mean = total / there.sum(axis=1)
        merged: Samples = np.where(self._peaks, np.fmax.reduce(groups, axis=1), mean)
        return merged.astype(np.float32)

    def _advance(self, now_s: float) -> int:
        """Empties the slots that the clock has passed; returns the newest one."""
        slot, before = int(now_s // self._step_s), self._slot
        if before is not None and slot <= before:
            return before
        if before is not None:
            passed = np.arange(max(before, slot - self._kept) + 1, slot + 1)
            self._values[passed % self._kept] = np.nan
        self._slot, self._count = slot, 0
        return slot


def _number(value: float | None) -> float:
    return np.nan if value is None else value
