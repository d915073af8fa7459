"""The two ends of a Wan VAE, put together from the traces of single calls.

The loops (frames, tiles) are those of diffusers' AutoencoderKLWan; tests compare what comes out
with fresh traces of the real loops. Sides are in pixels of the latent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from webui.core.clip import ClipCard
from webui.core.settings import Settings
from webui.estimator.events import PhaseEvents
from webui.estimator.tape import cost_monomials
from webui.estimator.templates import ChainedCall, Template

SCALE = 8
"""Sides of what the encoder is given and the decoder gives, over those of the latent: where the VAE
folds pixels into channels (`patch_size`), a side of the picture is longer still."""
FIRST_CALLS = 8
LAST_CALLS = 4
"""Calls that are replayed at the beginning and at the end, when the joined frames are largest. The
calls between repeat the fourth: leaving them out changes no live byte, and what is reserved by less
than 3 % (receipts/h200.json)."""
TILE_CALLS = 12
EDGE_CALLS = 4
"""The same for the last of the largest tiles, where the peak is, and of the others."""
_WHAT = "frames"


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Frames, height and width of the latent."""

    f: int
    h: int
    w: int

    def to_dict(self) -> dict[str, int]:
        return {"f": self.f, "h": self.h, "w": self.w}


@dataclass(frozen=True, slots=True)
class WanVae:
    """Plays a VAE's calls into a phase. What it plays depends on its fields alone, and is kept."""

    template: Template
    order: str
    """`contiguous` or `channels_last`."""
    value_bytes: int
    """Of the VAE's number format."""
    frame_step: int
    """Frames of a call after the first."""
    ratio: int
    """Sides of the picture over those of the latent."""
    folds: bool
    """It folds pixels into channels."""
    pixel_channels: int
    moments: int
    """Channels of what the encoder gives."""
    tiling: bool
    tile_px: int
    overlap_px: int

    @classmethod
    def of(
        cls, card: ClipCard, template: Template, settings: Settings, order: str, value_bytes: int
    ) -> WanVae:
        """A model's VAE under settings (tiling among them)."""
        config = card.configs["vae"]
        return cls(
            template=template,
            order=order,
            value_bytes=value_bytes,
            frame_step=card.frame_step,
            ratio=int(config.get("scale_factor_spatial") or SCALE),
            folds=bool(config.get("patch_size")),
            pixel_channels=int(config.get("out_channels") or 3),
            moments=2 * int(config["z_dim"]),
            tiling=bool(settings["vae_tiling"]),
            tile_px=int(settings["vae_tile"]),
            overlap_px=int(settings["vae_tile_overlap"]),
        )

    # Sides of tiles: the encoder's are counted in folded pixels, the decoder's in latent ones.

    def _tile(self, unit: int) -> tuple[int, int]:
        """Side of a tile and distance between tiles, in latent pixels."""
        return self.tile_px // unit, (self.tile_px - self.overlap_px) // unit

    def is_tiled(self, shape: LatentShape) -> bool:
        """Whether the decoder works in tiles."""
        tile, _ = self._tile(self.ratio)
        return self.tiling and max(shape.h, shape.w) > tile

    def encodes_tiled(self, shape: LatentShape) -> bool:
        """Whether the encoder does: it compares the tile with the picture's own pixels."""
        return self.tiling and max(shape.h, shape.w) * self.ratio > self.tile_px

    def tiles(self, shape: LatentShape, unit: int) -> Iterator[tuple[int, int]]:
        """Height and width of each tile."""
        tile, stride = self._tile(unit)
        for row in range(0, shape.h, stride):
            for column in range(0, shape.w, stride):
                yield min(tile, shape.h - row), min(tile, shape.w - column)

    def _pixel_bytes(self, frames: int, h: int, w: int) -> int:
        return self.pixel_channels * frames * h * w * SCALE**2 * self.value_bytes

    def _moment_bytes(self, frames: int, h: int, w: int) -> int:
        return self.moments * frames * h * w * self.value_bytes

    def _calls(self, events: PhaseEvents, end: str, h: int, w: int) -> Calls:
        segments = self.template.segments(f"{end}.{self.order}")
        return Calls(events, segments, {"h": h, "w": w}, f"{end}r call")

    # The decoder

    def play_decode(self, events: PhaseEvents, shape: LatentShape, latent_bytes: int) -> None:
        """From a latent to frames; the latent is there already."""
        events.append(_decoding(self, shape, latent_bytes))

    def decode(self, events: PhaseEvents, shape: LatentShape, latent_bytes: int) -> None:
        """As `play_decode`, call by call."""
        frames = 1 + self.frame_step * (shape.f - 1)
        whole = self._pixel_bytes(frames, shape.h, shape.w)
        if self.is_tiled(shape):
            self._decode_tiles(events, shape, frames)
            joined = events.allocate(whole, _WHAT)
        else:
            events.allocate(latent_bytes, "latents")  # post_quant_conv's result
            calls = self._calls(events, "decode", shape.h, shape.w)
            joined, *_ = _join(
                events,
                calls.call,
                shape.f,
                lambda count: self._pixel_bytes(
                    1 + self.frame_step * (count - 1), shape.h, shape.w
                ),
            )
        if self.folds:
            unfolded = events.allocate(whole, _WHAT)
            events.release(joined)
            joined = unfolded
        events.allocate(whole, _WHAT)  # clamped

    def _decode_tiles(self, events: PhaseEvents, shape: LatentShape, frames: int) -> None:
        tiles = list(self.tiles(shape, self.ratio))
        self._play_tiles(events, "decode", tiles, shape.f, frames)
        _, stride = self._tile(self.ratio)
        for row in range(0, shape.h, stride):
            height = min(stride, shape.h - row)
            events.allocate(self._pixel_bytes(frames, height, shape.w), _WHAT)

    # The encoder

    def play_encode(self, events: PhaseEvents, shape: LatentShape, frames: int) -> None:
        """From a clip of so many frames to moments; nothing of it stays.

        Args:
            events: the phase; the clip is there already, and the caller counts the moments.
            shape: of the whole clip's latent; only its sides matter.
            frames: of the clip that is encoded.
        """
        events.append(_encoding(self, replace(shape, f=0), frames))

    def encode(self, events: PhaseEvents, shape: LatentShape, frames: int) -> None:
        """As `play_encode`, call by call."""
        count = (frames - 1) // self.frame_step + 1
        made = []
        if self.folds:
            clip_px = frames * shape.h * shape.w * self.ratio**2
            made.append(events.allocate(3 * clip_px * self.value_bytes, _WHAT))
        if self.encodes_tiled(shape):
            tiles = list(self.tiles(shape, SCALE))
            made += self._play_tiles(events, "encode", tiles, count, count)
        else:
            calls = self._calls(events, "encode", shape.h, shape.w)
            made += _join(
                events, calls.call, count, lambda n: self._moment_bytes(n, shape.h, shape.w)
            )
            calls.clear()
        events.release(*made)

    # Both

    def _play_tiles(
        self,
        events: PhaseEvents,
        end: str,
        tiles: list[tuple[int, int]],
        calls: int,
        frames: int,
    ) -> list[int]:
        """Tile after tile, each frame after frame; returns the keys of the tiles."""
        size = self._pixel_bytes if end == "decode" else self._moment_bytes
        newest = self.frame_step if end == "decode" and calls > 1 else 1
        last_of_size = {sides: index for index, sides in enumerate(tiles)}
        outputs: list[int] = []
        joined: list[int] = []
        for index, (h, w) in enumerate(tiles):
            # The loop drops its list of frames when the next tile begins, the last of them only
            # after that tile's first call.
            events.release(*outputs[:-1])
            kept = outputs[-1:]
            chain = self._calls(events, end, h, w)
            if last_of_size[h, w] == index:
                played = min(calls, TILE_CALLS if (h, w) == max(tiles) else EDGE_CALLS)
                outputs = [chain.call()]
                events.release(*kept)
                outputs += [chain.call() for _ in range(played - 2)]
                skipped = size(newest, h, w)
                outputs += [events.allocate(skipped, _WHAT) for _ in range(played, calls)]
                if played > 1:
                    outputs.append(chain.call())
            else:
                events.release(*kept)
                outputs = [events.allocate(size(newest, h, w), _WHAT)]
            if index == len(tiles) - 1:
                chain.clear()
            joined.append(events.allocate(size(frames, h, w), _WHAT))
            chain.clear()
        return [*joined, *outputs]

    # Time

    def costs(self, end: str, shape: LatentShape, calls: int) -> np.ndarray:
        """Costs of one end (one value for each of COSTS): so many calls for every tile."""
        segments = self.template.segments(f"{end}.{self.order}")
        tiled = self.is_tiled(shape) if end == "decode" else self.encodes_tiled(shape)
        unit = self.ratio if end == "decode" else SCALE
        sides = Counter(self.tiles(shape, unit) if tiled else [(shape.h, shape.w)])
        total = np.zeros(len(segments[0].costs))
        for (h, w), count in sides.items():
            basis = cost_monomials({"h": h, "w": w}, ("h", "w"))
            for segment in segments[:calls]:
                total += count * (segment.costs @ basis)
            repeated = max(0, calls - len(segments))
            total += count * repeated * (segments[-1].costs @ basis)
        return total


@lru_cache(maxsize=16)
def _decoding(vae: WanVae, shape: LatentShape, latent_bytes: int) -> PhaseEvents:
    events = PhaseEvents([])
    vae.decode(events, shape, latent_bytes)
    return events


@lru_cache(maxsize=16)
def _encoding(vae: WanVae, sides: LatentShape, frames: int) -> PhaseEvents:
    events = PhaseEvents([])
    vae.encode(events, sides, frames)
    return events


def _join(
    events: PhaseEvents, call: Callable[[], int], count: int, joined_bytes: Callable[[int], int]
) -> list[int]:
    """Calls whose results are joined one after the other.

    Returns:
        Key of all of them together, and of the last one, which the loop still holds.
    """
    joined = call()
    previous = None
    for index in range(1, count):
        if FIRST_CALLS <= index < count - LAST_CALLS:
            continue
        output = call()
        if previous is not None:
            events.release(previous)
        longer = events.allocate(joined_bytes(index + 1), _WHAT)
        events.release(joined)
        joined, previous = longer, output
    return [joined] if previous is None else [joined, previous]


class Calls:
    """A chain of calls: each replaces the feature caches of the one before."""

    def __init__(
        self,
        events: PhaseEvents,
        segments: tuple[ChainedCall, ...],
        shape: dict[str, int],
        what: str,
    ) -> None:
        self._events = events
        self._segments = segments
        self._shape = shape
        self._what = what
        self._made: list[tuple[ChainedCall, int]] = []
        """The calls so far, and the key of each one's first storage."""

    def call(self) -> int:
        """One more call; returns the key of its result."""
        index = len(self._made)
        segment = self._segments[min(index, len(self._segments) - 1)]
        back, slots = segment.freed.T
        firsts = np.array([first for _, first in self._made], dtype=np.int64)
        first = self._events.play_all(
            segment.tape, self._shape, firsts[index - back] + slots, f"{self._what} {index}"
        )
        self._made.append((segment, first))
        return first + segment.output

    def clear(self) -> None:
        """The caches are dropped."""
        for segment, first in self._made:
            caches = segment.caches + first
            self._events.release_all(caches[self._events.sizes_of(caches) >= 0])
        self._made = []
