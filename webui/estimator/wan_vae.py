"""The two ends of a Wan VAE, put together from the traces of single calls.

The loops (frames, tiles) are those of diffusers' AutoencoderKLWan; tests compare what comes out
with fresh traces of the real loops. Sides are in pixels of the latent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from webui.core.clip import ClipCard
from webui.core.settings import Settings
from webui.estimator.events import PhaseEvents
from webui.estimator.tape import cost_monomials
from webui.estimator.templates import ChainedCall, Template
from webui.estimator.wan_vae_passages import FRAMES, WHOLE_CALLS, tile_passage, whole_passage

SCALE = 8
"""Sides of what the encoder is given and the decoder gives, over those of the latent: where the VAE
folds pixels into channels (`patch_size`), a side of the picture is longer still."""
TILE_CALLS = 12
EDGE_CALLS = 4
"""Calls that are replayed of the last of the largest tiles, where the peak is, and of the others;
`WHOLE_CALLS` are the same of the whole picture."""
_NONE = np.empty(0, np.int64)


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
    """Plays a VAE's calls into a phase."""

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

    def _frame_bytes(self, end: str) -> int:
        """Of a frame that an end gives, for each pixel of the latent."""
        if end == "decode":
            return self.pixel_channels * SCALE**2 * self.value_bytes
        return self.moments * self.value_bytes

    def _frames(self, end: str, calls: int) -> int:
        """That an end's calls give together."""
        return 1 + self.frame_step * (calls - 1) if end == "decode" else calls

    def _segments(self, end: str) -> tuple[ChainedCall, ...]:
        return self.template.segments(f"{end}.{self.order}")

    # The decoder

    def play_decode(self, events: PhaseEvents, shape: LatentShape, latent_bytes: int) -> None:
        """From a latent to frames; the latent is there already."""
        row = self._frames("decode", shape.f) * shape.w * self._frame_bytes("decode")
        whole = row * shape.h
        if self.is_tiled(shape):
            self._play_tiles(events, "decode", list(self.tiles(shape, self.ratio)), shape.f)
            _, stride = self._tile(self.ratio)
            for top in range(0, shape.h, stride):
                events.allocate(row * min(stride, shape.h - top), FRAMES)
            joined = events.allocate(whole, FRAMES)
        else:
            events.allocate(latent_bytes, "latents")  # post_quant_conv's result
            joined, *_ = self._play_whole(events, "decode", shape, shape.f)
        if self.folds:
            events.allocate(whole, FRAMES)  # unfolded
            events.release(joined)
        events.allocate(whole, FRAMES)  # clamped

    # The encoder

    def play_encode(self, events: PhaseEvents, shape: LatentShape, frames: int) -> None:
        """From a clip of so many frames to moments; nothing of it stays.

        Args:
            events: the phase; the clip is there already, and the caller counts the moments.
            shape: of the whole clip's latent; only its sides matter.
            frames: of the clip that is encoded.
        """
        count = (frames - 1) // self.frame_step + 1
        made = []
        if self.folds:
            clip_px = frames * shape.h * shape.w * self.ratio**2
            made.append(events.allocate(3 * clip_px * self.value_bytes, FRAMES))
        if self.encodes_tiled(shape):
            made += self._play_tiles(events, "encode", list(self.tiles(shape, SCALE)), count)
        else:
            made += self._play_whole(events, "encode", shape, count)
        events.release(*made)

    # Both

    def _play_whole(
        self, events: PhaseEvents, end: str, shape: LatentShape, calls: int
    ) -> list[int]:
        """Call after call; returns the keys of what they gave."""
        step = self.frame_step if end == "decode" else 1
        known = (self._segments(end), end, self._frame_bytes(end), step)
        played = min(calls, WHOLE_CALLS)
        passage = whole_passage(*known, played, drops_caches=end == "encode")
        sides = {"f": calls, "h": shape.h, "w": shape.w}
        first = events.play_all(passage.tape, sides, _NONE)
        return [first + slot for slot in passage.outputs]

    def _play_tiles(
        self, events: PhaseEvents, end: str, tiles: list[tuple[int, int]], calls: int
    ) -> list[int]:
        """Tile after tile, each frame after frame; returns the keys of the tiles."""
        unit, frames = self._frame_bytes(end), self._frames(end, calls)
        newest = self.frame_step if end == "decode" and calls > 1 else 1
        last_of_size = {sides: index for index, sides in enumerate(tiles)}
        outputs: list[int] = []
        joined: list[int] = []
        for index, (h, w) in enumerate(tiles):
            # The loop drops its list of frames when the next tile begins, the last of them only
            # after that tile's first call.
            events.release(*outputs[:-1])
            kept = outputs[-1:]
            caches = _NONE
            if last_of_size[h, w] == index:
                played = min(calls, TILE_CALLS if (h, w) == max(tiles) else EDGE_CALLS)
                known = (self._segments(end), end, newest * unit, played, calls - played)
                passage = tile_passage(*known, follows=bool(kept))
                first = events.play_all(passage.tape, {"h": h, "w": w}, np.array(kept, np.int64))
                outputs = [first + slot for slot in passage.outputs]
                caches = passage.caches + first
            else:
                events.release(*kept)
                outputs = [events.allocate(newest * unit * h * w, FRAMES)]
            last = index == len(tiles) - 1
            if last:
                events.release_all(caches)
            joined.append(events.allocate(frames * unit * h * w, FRAMES))
            if not last:
                events.release_all(caches)
        return [*joined, *outputs]

    # Time

    def costs(self, end: str, shape: LatentShape, calls: int) -> np.ndarray:
        """Costs of one end (one value for each of COSTS): so many calls for every tile."""
        segments = self._segments(end)
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
