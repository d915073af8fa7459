"""The loops of a Wan VAE as tapes, against its calls played one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from webui.catalogue import find_model
from webui.core.settings import SettingValue, with_defaults
from webui.estimator.events import PhaseEvents
from webui.estimator.tape import RELEASE, SCRATCH
from webui.estimator.templates import ChainedCall, find_template
from webui.estimator.timeline import Timeline
from webui.estimator.wan_vae import LatentShape, WanVae

MODEL = "wan2.1-t2v-1.3b"
LATENT_BYTES = 3 * 512


def vae_of(**changes: SettingValue) -> WanVae:
    card = find_model(MODEL)
    settings = with_defaults(changes, card.settings)
    return WanVae.of(card, find_template(card, "vae", "half"), settings, "contiguous", 2)


def by_birth(timeline: Timeline) -> list[tuple[int, int, int]]:
    """Kind, storage and bytes of each event; storages are counted as they come."""
    numbers: dict[int, int] = {}
    found = []
    for kind, key, delta in zip(
        timeline.kinds.tolist(), timeline.keys.tolist(), timeline.deltas.tolist(), strict=True
    ):
        if kind not in (RELEASE, SCRATCH):
            numbers[key] = len(numbers)
        found.append((kind, -1 if kind == SCRATCH else numbers[key], delta))
    return found


class Loop:
    """diffusers' loop over the calls of one end, which keeps caches for the next call."""

    def __init__(self, events: PhaseEvents, calls: tuple[ChainedCall, ...], h: int, w: int) -> None:
        self.events, self.calls, self.sides = events, calls, {"h": h, "w": w}
        self.made: list[tuple[ChainedCall, int]] = []

    def call(self) -> int:
        call = self.calls[min(len(self.made), len(self.calls) - 1)]
        freed = [self.made[len(self.made) - back][1] + slot for back, slot in call.outside]
        first = self.events.play_all(call.tape, self.sides, np.array(freed, dtype=np.int64))
        self.made.append((call, first))
        return first + call.output

    def join(self, calls: int, joined_bytes: Callable[[int], int]) -> list[int]:
        """What each call gives is joined to what is there; keys of all of it and of the last."""
        joined, previous = self.call(), None
        for index in range(1, calls):
            if 8 <= index < calls - 4:  # left out: they repeat
                continue
            output = self.call()
            if previous is not None:
                self.events.release(previous)
            longer = self.events.allocate(joined_bytes(index))
            self.events.release(joined)
            joined, previous = longer, output
        return [joined] if previous is None else [joined, previous]

    def drop_caches(self) -> None:
        for call, first in self.made:
            kept = [first + int(slot) for slot in call.caches]
            self.events.release(*[key for key in kept if self.events.size_of(key) >= 0])


@pytest.mark.parametrize("f", [1, 2, 3, 4, 5, 11, 12, 13, 21])
def test_decoding_joins_frame_after_frame(f: int) -> None:
    vae, (h, w) = vae_of(), (16, 22)
    found, loop_events = PhaseEvents([]), PhaseEvents([])
    vae.play_decode(found, LatentShape(f, h, w), LATENT_BYTES)

    def pixels(frames: int) -> int:
        return 3 * frames * h * w * 64 * 2

    loop_events.allocate(LATENT_BYTES)
    loop = Loop(loop_events, vae.template.segments("decode.contiguous"), h, w)
    loop.join(f, lambda index: pixels(1 + 4 * index))
    loop_events.allocate(pixels(1 + 4 * (f - 1)))
    assert by_birth(found.timeline()) == by_birth(loop_events.timeline())


@pytest.mark.parametrize("frames", [1, 5, 9, 45, 49, 81])
def test_encoding_drops_its_caches(frames: int) -> None:
    vae, (h, w) = vae_of(), (16, 22)
    found, loop_events = PhaseEvents([]), PhaseEvents([])
    vae.play_encode(found, LatentShape(1, h, w), frames)
    calls = (frames - 1) // 4 + 1
    loop = Loop(loop_events, vae.template.segments("encode.contiguous"), h, w)
    joined = loop.join(calls, lambda index: 32 * (index + 1) * h * w * 2)
    loop.drop_caches()
    loop_events.release(*joined)
    assert by_birth(found.timeline()) == by_birth(loop_events.timeline())
    assert not found.timeline().live(with_scratch=False)[-1]


@pytest.mark.parametrize("f", [1, 2, 4, 13])
def test_two_tiles_share_no_caches(f: int) -> None:
    """One tile beside another that is narrower: the first one's frames wait for the second's."""
    vae = vae_of(vae_tiling=True, vae_tile=128, vae_tile_overlap=32)
    h, widths = 12, (16, 10)
    assert list(vae.tiles(LatentShape(f, h, 22), 8)) == [(h, width) for width in widths]
    found, loop_events = PhaseEvents([]), PhaseEvents([])
    vae.play_decode(found, LatentShape(f, h, 22), LATENT_BYTES)

    def pixels(frames: int, width: int) -> int:
        return 3 * frames * h * width * 64 * 2

    outputs: list[int] = []
    for number, width in enumerate(widths):
        loop_events.release(*outputs[:-1])
        kept = outputs[-1:]
        loop = Loop(loop_events, vae.template.segments("decode.contiguous"), h, width)
        played = min(f, 4 if number else 12)
        outputs = [loop.call()]
        loop_events.release(*kept)
        outputs += [loop.call() for _ in range(played - 2)]
        outputs += [loop_events.allocate(pixels(4, width)) for _ in range(played, f)]
        outputs += [loop.call()] if played > 1 else []
        if number == 1:
            loop.drop_caches()
        loop_events.allocate(pixels(1 + 4 * (f - 1), width))
        if number == 0:
            loop.drop_caches()
    for _ in range(3):  # the one row of tiles, all of them, and clamped
        loop_events.allocate(pixels(1 + 4 * (f - 1), 22))
    assert by_birth(found.timeline()) == by_birth(loop_events.timeline())
