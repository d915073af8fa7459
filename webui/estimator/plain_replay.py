"""The replay in Python: what it comes to where numba is not there, or is not loaded yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from webui.estimator.allocator import CachingAllocator, SimulatedOutOfMemory
from webui.estimator.blocks import SMALL_SEGMENT, SMALL_SIZE
from webui.estimator.tape import RELEASE
from webui.estimator.timeline import Span, Timeline


def play_in_python(
    timeline: Timeline, spans: Sequence[Span], expandable: bool, limit_bytes: int | None
) -> list[tuple[int, ...]]:
    """As `replay_spans`.

    Returns:
        Of each span: allocated, reserved and resident bytes, most asked by now, retries in it and
        by now, and whether all went well.
    """
    large = np.flatnonzero(np.abs(timeline.deltas) > SMALL_SIZE)
    first = int(timeline.resident.sum())
    first_small = int(timeline.resident[timeline.resident <= SMALL_SIZE].sum())
    kept = timeline.live(with_scratch=False)
    most_live = first + timeline.live()
    small = timeline.deltas.copy()
    small[large] = 0
    small[timeline.scratch] = 0
    beside = first_small + np.cumsum(small)
    limit = None
    if limit_bytes is not None:
        limit = limit_bytes - _whole_segments(max(int(beside.max(initial=0)), first_small))
    run = _Run(CachingAllocator(expandable, limit), timeline, beside)
    run.hold()
    place = 0
    found: list[tuple[int, ...]] = []
    for span in spans:
        begin, end = np.searchsorted(large, [span.start, span.end]).tolist()
        run.play(large[place:begin])
        books = run.allocator
        books.reset_peaks()
        retries = books.retries
        run.play(large[begin:end])
        place = end
        resident = first + (int(kept[span.start - 1]) if span.start else 0)
        live = int(most_live[span.start : span.end].max(initial=resident))
        most_small = _whole_segments(max(int(beside[: span.end].max(initial=0)), first_small))
        found.append(
            (
                max(books.peak_alive_bytes, live),
                books.peak_reserved_bytes + most_small,
                resident,
                books.most_asked_bytes + most_small,
                books.retries - retries,
                books.retries,
                int(run.fits),
            )
        )
    return found


def resident_blocks(timeline: Timeline, joined: bool) -> Iterator[tuple[int, int]]:
    """Keys and bytes of the large storages that are there first, in order.

    Args:
        timeline: has the storages.
        joined: neighbours that are never freed are one block, as an expandable segment lays them
            beside each other.
    """
    freed = set(timeline.keys[timeline.kinds == RELEASE].tolist()) if joined else set()
    stays: tuple[int, int] | None = None
    for key in np.flatnonzero(timeline.resident > SMALL_SIZE).tolist():
        size = int(timeline.resident[key])
        if joined and key not in freed:
            stays = (key, size) if stays is None else (stays[0], stays[1] + size)
            continue
        if stays is not None:
            yield stays
            stays = None
        yield key, size
    if stays is not None:
        yield stays


def _whole_segments(size_bytes: int) -> int:
    return -(-size_bytes // SMALL_SEGMENT) * SMALL_SEGMENT


class _Run:
    """An allocator on its way through the events; it stops where the limit is met for good."""

    def __init__(self, allocator: CachingAllocator, timeline: Timeline, beside: np.ndarray) -> None:
        self.allocator = allocator
        self.fits = True
        self._timeline = timeline
        self._beside = beside

    def hold(self) -> None:
        """Takes the large storages that are there first."""
        try:
            for key, size in resident_blocks(self._timeline, self.allocator.expandable):
                self.allocator.allocate(key, size)
        except SimulatedOutOfMemory:
            self.fits = False

    def play(self, events: np.ndarray) -> None:
        """Plays the events of these numbers."""
        if not self.fits:
            return
        timeline = self._timeline
        try:
            self.allocator.play(
                timeline.kinds[events].tolist(),
                timeline.keys[events].tolist(),
                timeline.deltas[events].tolist(),
                self._beside[events].tolist(),
            )
        except SimulatedOutOfMemory:
            self.fits = False
