"""The phases of the Wan family, put together from its templates for a request and settings.

The loops (frames, tiles) are those of diffusers' AutoencoderKLWan.decode; tests compare what
comes out with fresh traces of the real loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import FP8, Settings
from webui.estimator.events import Part, PhaseEvents
from webui.estimator.rules import Rules
from webui.estimator.templates import Segment, find_template, weights_name, width_of

PIXEL_CHANNELS = 3
DECODER_SCALE = 8
FIRST_FRAMES = 8
LAST_FRAMES = 4
"""Decoder calls that are replayed at the beginning and at the end, when the joined frames are
largest. The calls between repeat the fourth: leaving them out changes no live byte, and what is
reserved by less than 3 % (receipts/h200.json)."""
TILE_FRAMES = 12
EDGE_FRAMES = 4
"""The same for the last of the largest tiles, where the peak is, and of the others."""


_PHASES = ("encode", "denoise", "decode")


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Frames, height and width of the latent."""

    f: int
    h: int
    w: int

    @classmethod
    def of(cls, request: ClipRequest, card: ClipCard) -> LatentShape:
        return cls(
            f=(request.frames - 1) // card.frame_step + 1,
            h=request.height // DECODER_SCALE,
            w=request.width // DECODER_SCALE,
        )

    def to_dict(self) -> dict[str, int]:
        return {"f": self.f, "h": self.h, "w": self.w}


def relevant_settings(phase: str, settings: Settings, rules: Rules) -> Settings:
    """The settings that a phase's memory and time depend on; the others get a fixed value.

    What is not on the card in a phase cannot change it, so that many settings share one answer.
    """
    relevant = dict(settings)
    offloaded = rules.kind == "cuda" and settings["offload"] != "none"
    if phase != "denoise" and "ffn_chunks" in relevant:
        relevant["ffn_chunks"] = 1
    if phase == "decode":
        if offloaded:
            relevant |= {"offload": "model", "text_encoder": "cpu"}
            relevant["precision"] = settings["vae_precision"]
        if not settings["vae_tiling"]:
            relevant |= {"vae_tile": 256, "vae_tile_overlap": 64}
    else:
        relevant |= {"vae_tiling": False, "vae_tile": 256, "vae_tile_overlap": 64}
        relevant["channels_last"] = False
        if offloaded:
            relevant["vae_precision"] = "fp32"
            if phase == "denoise":
                relevant["text_encoder"] = "cpu"
            else:
                relevant["offload"] = "model"
                if relevant["precision"] == FP8:
                    relevant["precision"] = "bf16"
    # Both halves take two bytes a value.
    for name in ("precision", "vae_precision"):
        if relevant[name] != FP8:
            relevant[name] = "bf16" if width_of(str(relevant[name])) == "half" else "fp32"
    return relevant


class WanMemory:
    """Events of each phase of one request under one choice of settings, on one kind of device."""

    def __init__(
        self, card: ClipCard, request: ClipRequest, settings: Settings, rules: Rules
    ) -> None:
        self.card = card
        self.request = request
        self.settings = settings
        self.rules = rules
        self.shape = LatentShape.of(request, card)
        width = width_of(str(settings["precision"]))
        vae_width = width_of(str(settings["vae_precision"]))
        self._text = find_template(card, "text", width)
        self._transformer = find_template(card, "transformer", width)
        self._vae = find_template(card, "vae", vae_width)
        self._value_bytes = 2 if width == "half" else 4
        self._vae_value_bytes = 2 if vae_width == "half" else 4
        on_gpu = rules.kind == "cuda"
        self.offload = str(settings["offload"]) if on_gpu else "none"
        """As it takes effect: a processor has nothing to offload to."""
        encoder = str(settings["text_encoder"])
        self.encoder = encoder if on_gpu or encoder == "absent" else "gpu"

    def phase_names(self) -> tuple[str, ...]:
        """In order; without a text encoder there is nothing to encode."""
        return ("denoise", "decode") if self.encoder == "absent" else _PHASES

    def phase(self, name: str) -> PhaseEvents:
        return {"encode": self._encode, "denoise": self._denoise, "decode": self._decode}[name]()

    def _always(self, *parts: str) -> list[Part]:
        """Weights on the card when a phase starts: all of them, or those that it needs."""
        resident = []
        weights = {
            "text": self._text.array("weights") if self.encoder == "gpu" else None,
            "transformer": self._transformer.array(
                weights_name("transformer", str(self.settings["precision"]))
            ),
            "vae": self._vae.array("weights"),
        }
        for part, sizes in weights.items():
            if sizes is not None and (self.offload == "none" or part in parts):
                resident.append(Part(part, sizes))
        return resident

    def _start_matmul(self, events: PhaseEvents) -> None:
        """The workspace of the matrix library, which the worker gives back between phases."""
        for size in self.rules.workspace_bytes:
            events.allocate(size, "workspace")

    @property
    def _embedding_bytes(self) -> int:
        width = int(self.card.configs["transformer"]["text_dim"])
        return self.card.max_sequence_length * width * self._value_bytes

    @property
    def _embeddings(self) -> np.ndarray:
        """The prompt's, and with guidance the negative prompt's."""
        return np.full(2 if self.request.guidance > 1 else 1, self._embedding_bytes)

    @property
    def _latent_bytes(self) -> int:
        channels = int(self.card.configs["vae"]["z_dim"])
        return channels * self.shape.f * self.shape.h * self.shape.w * 4

    def _encode(self) -> PhaseEvents:
        events = PhaseEvents(self._always("text"))
        if self.encoder != "cpu":
            self._start_matmul(events)
        if self.encoder in ("gpu", "stream"):
            mode = "resident" if self.encoder == "gpu" else "leaf"
            events.play(self._text.tape(f"encode.{mode}"), {}, what=f"text encoder, {mode}")
        else:
            for size in self._embeddings.tolist():
                events.allocate(size, "embeddings")
        return events

    def _denoise(self) -> PhaseEvents:
        mode = self.offload if self.offload in ("block", "leaf") else "resident"
        parts = ("transformer",) if mode == "resident" else ()
        events = PhaseEvents([*self._always(*parts), Part("embeddings", self._embeddings)])
        self._start_matmul(events)
        guided = "guided" if self.request.guidance > 1 else "single"
        variant = [FP8] if self.settings["precision"] == FP8 else []
        pieces = int(self.settings.get("ffn_chunks", 1))
        variant += ["pieces"] if pieces > 1 else []
        tape = self._transformer.tape(
            ".".join(["denoise", mode, guided, *(variant or [self.request.solver])])
        )
        values = self.shape.f * self.shape.h * self.shape.w
        shape = {**self.shape.to_dict(), "n": values, "piece": 1 / pieces}
        events.play(tape, shape, what=", ".join(["transformer", mode, guided, *variant]))
        return events

    def _decode(self) -> PhaseEvents:
        events = PhaseEvents(
            [*self._always("vae"), Part("latents", np.array([self._latent_bytes]))]
        )
        latent = self._latent_bytes // 4 * self._vae_value_bytes
        events.allocate(latent, "latents")
        order = "channels_last" if self.settings["channels_last"] else "contiguous"
        if self.rules.kind != "cuda":
            order = "contiguous"
        segments = self._vae.segments(f"decode.{order}")
        if self.is_tiled:
            self._play_tiles(events, segments)
        else:
            self._play_frames(events, segments, latent)
        return events

    @property
    def is_tiled(self) -> bool:
        tile = int(self.settings["vae_tile"]) // DECODER_SCALE
        return bool(self.settings["vae_tiling"]) and (self.shape.h > tile or self.shape.w > tile)

    def tiles(self) -> Iterator[tuple[int, int, int, int]]:
        """(row, column, height, width) of each tile, in latent pixels."""
        tile = int(self.settings["vae_tile"]) // DECODER_SCALE
        stride = tile - int(self.settings["vae_tile_overlap"]) // DECODER_SCALE
        for row in range(0, self.shape.h, stride):
            for column in range(0, self.shape.w, stride):
                yield (
                    row,
                    column,
                    min(tile, self.shape.h - row),
                    min(tile, self.shape.w - column),
                )

    def _pixel_bytes(self, frames: int, h: int, w: int) -> int:
        area = h * w * DECODER_SCALE**2
        return PIXEL_CHANNELS * frames * area * self._vae_value_bytes

    def _play_frames(
        self, events: PhaseEvents, segments: tuple[Segment, ...], latent_bytes: int
    ) -> None:
        events.allocate(latent_bytes, "latents")  # post_quant_conv's result
        chain = _Calls(events, segments, {"h": self.shape.h, "w": self.shape.w})
        frames = self.card.frame_step
        joined = chain.call()
        previous = None
        for index in range(1, self.shape.f):
            if FIRST_FRAMES <= index < self.shape.f - LAST_FRAMES:
                continue
            output = chain.call()
            if previous is not None:
                events.release(previous)
            longer = events.allocate(
                self._pixel_bytes(1 + frames * index, self.shape.h, self.shape.w), "frames"
            )
            events.release(joined)
            joined, previous = longer, output
        events.allocate(
            self._pixel_bytes(self.request.frames, self.shape.h, self.shape.w), "frames"
        )

    def _play_tiles(self, events: PhaseEvents, segments: tuple[Segment, ...]) -> None:
        frames = self.request.frames
        tiles = [(h, w) for _, _, h, w in self.tiles()]
        last_of_size = {size: index for index, size in enumerate(tiles)}
        outputs: list[int] = []
        for index, (h, w) in enumerate(tiles):
            # The loop drops its list of frames when the next tile begins, the last of them only
            # after that tile's first call.
            events.release(*outputs[:-1])
            kept = outputs[-1:]
            chain = _Calls(events, segments, {"h": h, "w": w})
            if last_of_size[h, w] == index:
                calls = min(self.shape.f, TILE_FRAMES if (h, w) == max(tiles) else EDGE_FRAMES)
                outputs = [chain.call()]
                events.release(*kept)
                outputs += [chain.call() for _ in range(calls - 2)]
                skipped = self._pixel_bytes(self.card.frame_step, h, w)
                outputs += [events.allocate(skipped, "frames") for _ in range(calls, self.shape.f)]
                if calls > 1:
                    outputs.append(chain.call())
            else:
                events.release(*kept)
                newest = self.card.frame_step if self.shape.f > 1 else 1
                outputs = [events.allocate(self._pixel_bytes(newest, h, w), "frames")]
            if index == len(tiles) - 1:
                chain.clear()
            events.allocate(self._pixel_bytes(frames, h, w), "frames")
            chain.clear()
        stride = int(self.settings["vae_tile"]) - int(self.settings["vae_tile_overlap"])
        for row in range(0, self.request.height, stride):
            h = min(stride, self.request.height - row) // DECODER_SCALE
            events.allocate(self._pixel_bytes(frames, h, self.shape.w), "frames")
        whole = self._pixel_bytes(frames, self.shape.h, self.shape.w)
        events.allocate(whole, "frames")
        events.allocate(whole, "frames")


class _Calls:
    """A chain of decoder calls: each replaces the feature caches of the one before."""

    def __init__(
        self, events: PhaseEvents, segments: tuple[Segment, ...], shape: dict[str, int]
    ) -> None:
        self._events = events
        self._segments = segments
        self._shape = shape
        self._made: list[dict[int, int]] = []

    def call(self) -> int:
        """One more call; returns the key of its frames."""
        index = len(self._made)
        segment = self._segments[min(index, len(self._segments) - 1)]
        outside = tuple(self._made[index - back].pop(slot) for back, slot in segment.outside)
        survivors = self._events.play(segment.tape, self._shape, outside, f"decoder call {index}")
        output = survivors.pop(segment.output)
        self._made.append(survivors)
        return output

    def clear(self) -> None:
        """The caches are dropped."""
        for made in self._made:
            self._events.release(*made.values())
            made.clear()
