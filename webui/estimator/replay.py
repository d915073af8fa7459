"""Replays events through the simulated allocator: what is allocated and reserved, and what fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from webui.estimator.plain_replay import play_in_python
from webui.estimator.simulator import simulator
from webui.estimator.timeline import Span, Timeline

NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay came to."""

    allocated_bytes: int
    reserved_bytes: int
    resident_bytes: int
    fits: bool
    retries: int
    """How often the allocator had to release its cache."""
    met_limit: bool = False
    """The limit was met by now, in this span or before: without it all would be otherwise."""
    asked_bytes: int = 0
    """A limit of at least this would not have been met by now."""


def replay_spans(
    timeline: Timeline, spans: Sequence[Span], expandable: bool, limit_bytes: int | None
) -> list[Replay]:
    """Runs events through the simulated allocator once; what each span came to.

    A span starts with all that the events before it left, the allocator's cache included. Only
    blocks of the large pool are simulated one by one. The small pool, half of all events and a
    hundredth of the bytes, packs densely: it is taken as its most live bytes, rounded up to its
    segments.

    Args:
        timeline: the events.
        spans: in order, each after the one before.
        expandable: the allocator's kind of segments.
        limit_bytes: what it may reserve; None for no limit.
    """
    compiled = simulator().compiled(len(timeline.kinds))
    if compiled is None or not timeline.fits_integers:
        played = play_in_python(timeline, spans, expandable, limit_bytes)
    else:
        bounds = np.array([(span.start, span.end) for span in spans], dtype=np.int64)
        limit = NO_LIMIT if limit_bytes is None else limit_bytes
        arrays = (timeline.resident, timeline.kinds, timeline.keys, timeline.deltas)
        played = compiled(*arrays, bounds.reshape(-1, 2), expandable, limit).tolist()
    return [
        Replay(
            allocated_bytes=allocated,
            reserved_bytes=reserved,
            resident_bytes=resident,
            fits=bool(fits),
            retries=retries,
            met_limit=retried > 0 or not fits,
            asked_bytes=asked,
        )
        for allocated, reserved, resident, asked, retries, retried, fits in played
    ]
