"""The phases of Stable Video Diffusion, put together from its templates for a request and settings.

The loop over chunks is that of diffusers' StableVideoDiffusionPipeline.decode_latents; tests
compare what comes out with fresh traces of the real loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import Settings
from webui.estimator.events import Part, PhaseEvents
from webui.estimator.rules import WORKSPACE, Rules
from webui.estimator.templates import find_template, width_of

PHASES = ("image_encode", "denoise", "decode")
DECODER_SCALE = 8
PIXEL_CHANNELS = 3
FIRST_CHUNKS = 2
LAST_CHUNKS = 2
"""Chunks that are replayed at the beginning and at the end; those between repeat the second and
leave only their frames."""


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Frames, height and width of the latent."""

    f: int
    h: int
    w: int

    @classmethod
    def of(cls, request: ClipRequest) -> LatentShape:
        return cls(request.frames, request.height // DECODER_SCALE, request.width // DECODER_SCALE)

    def to_dict(self) -> dict[str, int]:
        return {"f": self.f, "h": self.h, "w": self.w}


def relevant(
    phase: str, model: ClipCard, request: ClipRequest, settings: Settings, rules: Rules
) -> tuple[ClipRequest, Settings]:
    """ClipRequest and settings with a fixed value for what a phase's memory does not depend on."""
    # The second step is like all later ones, and no higher than the first.
    request = request.with_changes(steps=model.defaults.steps)
    offloaded = rules.kind == "cuda" and settings["offload"] != "none"
    settings = dict(settings)
    if phase != "decode":
        settings["decode_chunk"] = 1
    if phase != "denoise" or not request.guided:
        settings["split_guidance"] = False
    if phase != "denoise":
        settings["ffn_chunks"] = 1
    if phase == "decode":
        request = request.with_changes(guidance=1.0)
        settings["decode_chunk"] = min(int(settings["decode_chunk"]), request.frames)
    if phase == "image_encode":
        request = request.with_changes(frames=1)
    if offloaded:
        if phase != "image_encode":
            settings["image_encoder"] = "cpu"
        if phase == "denoise":
            settings["vae_precision"] = "fp32"
        else:
            settings["offload"] = "model"
    if width_of(str(settings["precision"])) == "half":
        settings["precision"] = "bf16"
    if phase != "image_encode" and width_of(str(settings["vae_precision"])) == "half":
        settings["vae_precision"] = "bf16"
    return request.with_changes(image=""), settings


class SvdMemory:
    """Events of each phase of one request under one choice of settings, on one kind of device."""

    def __init__(
        self, card: ClipCard, request: ClipRequest, settings: Settings, rules: Rules
    ) -> None:
        self.card = card
        self.request = request
        self.settings = settings
        self.rules = rules
        self.shape = LatentShape.of(request)
        width = width_of(str(settings["precision"]))
        vae_width = width_of(str(settings["vae_precision"]))
        self.image = find_template(card, "image", width)
        self.unet = find_template(card, "unet", width)
        self.vae = find_template(card, "vae", vae_width)
        self._value_bytes = 2 if width == "half" else 4
        self._vae_value_bytes = 2 if vae_width == "half" else 4
        on_gpu = rules.kind == "cuda"
        self.offload = str(settings["offload"]) if on_gpu else "none"
        """As it takes effect: a processor has nothing to offload to."""
        self.encoder = str(settings["image_encoder"]) if on_gpu else "gpu"
        self.guided = "guided" if request.guidance > 1 else "single"
        self.copies = 2 if request.guidance > 1 else 1
        """With guidance a zero picture stands before the given one."""

    @property
    def passes(self) -> str:
        """Guidance in one pass, in two (`split`), or none (`single`)."""
        split = self.request.guided and self.settings.get("split_guidance")
        return "split" if split else self.guided

    @property
    def encode_way(self) -> str:
        """`upcast` where a VAE in fp16 is made fp32 to encode."""
        upcasts = self.settings["vae_precision"] == "fp16"
        return "upcast" if upcasts and self.card.configs["vae"].get("force_upcast") else "plain"

    @property
    def chunk(self) -> int:
        return min(int(self.settings["decode_chunk"]), self.request.frames)

    def phase_names(self) -> tuple[str, ...]:
        return PHASES

    def phase(self, name: str) -> PhaseEvents:
        phases = {
            "image_encode": self._encode,
            "denoise": self._denoise,
            "decode": self._decode,
        }
        return phases[name]()

    def _always(self, *needed: str) -> list[Part]:
        """Weights on the card when a phase starts, the VAE's first."""
        weights = {"vae": self.vae, "unet": self.unet}
        if self.encoder == "gpu":
            weights["image_encoder"] = self.image
        return [
            Part(name, template.array("weights"))
            for name, template in weights.items()
            if self.offload == "none" or name in needed
        ]

    @property
    def _embedding_bytes(self) -> int:
        width = int(self.card.configs["unet"]["cross_attention_dim"])
        return self.copies * width * self._value_bytes

    @property
    def _channels(self) -> int:
        return int(self.card.configs["vae"]["latent_channels"])

    def _latent_bytes(self, frames: int) -> int:
        return self._channels * frames * self.shape.h * self.shape.w * self._value_bytes

    def _encode(self) -> PhaseEvents:
        events = PhaseEvents(self._always("vae", "image_encoder"))
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        if self.encoder == "gpu":
            tape = self.image.tape(f"encode.{self.guided}")
            events.play(tape, {}, what=f"image encoder, {self.guided}")
        else:
            events.allocate(self._embedding_bytes, "embeddings")
        name = f"encode.{self.encode_way}.{self.guided}"
        clips = self.request.batch
        latents = self._latent_bytes(self.copies)
        events.allocate_all([latents] * (clips - 1), "latents")
        # The VAE's weights are the first of the resident storages: key and place are the same.
        replaced = tuple(self.vae.array(f"{name}.outside").tolist())
        events.play(
            self.vae.tape(name), self.shape.to_dict(), replaced, what=f"VAE, {self.encode_way}"
        )
        if clips > 1:
            events.allocate(clips * latents, "latents")
            events.allocate(clips * self._embedding_bytes, "embeddings")
        return events

    def _denoise(self) -> PhaseEvents:
        mode = self.offload if self.offload in ("block", "leaf") else "resident"
        clips = self.request.batch
        given = clips * np.array([self._embedding_bytes, self._latent_bytes(self.copies)])
        needed = ("unet",) if mode == "resident" else ()
        events = PhaseEvents([*self._always(*needed), Part("embeddings", given)])
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        pieces = int(self.settings.get("ffn_chunks", 1))
        names = [mode, self.passes, *(["pieces"] if pieces > 1 else [])]
        tape = self.unet.tape(".".join(["denoise", *names]), clips)
        shape = {**self.shape.to_dict(), "piece": 1 / pieces}
        events.play(tape, shape, what=", ".join(["UNet", *names]))
        return events

    def _decode(self) -> PhaseEvents:
        latents = self._latent_bytes(self.request.frames)
        # All clips' latents wait while one after the other is decoded.
        waiting = np.array([self.request.batch * latents])
        events = PhaseEvents([*self._always("vae"), Part("latents", waiting)])
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        for _ in range(self.rules.replayed_clips(self.request.batch)):
            events.release_made()
            self._decode_clip(events)
        return events

    def _decode_clip(self, events: PhaseEvents) -> None:
        frames = self.request.frames
        own_bytes = self._latent_bytes(frames) // self._value_bytes * self._vae_value_bytes
        if self._value_bytes != self._vae_value_bytes:
            events.allocate(own_bytes, "latents")
        events.allocate(own_bytes, "latents")
        counts = [min(self.chunk, frames - start) for start in range(0, frames, self.chunk)]
        outputs = []
        for index, count in enumerate(counts):
            if FIRST_CHUNKS <= index < len(counts) - LAST_CHUNKS:
                outputs.append(events.allocate(self._pixel_bytes(count), "frames"))
            else:
                outputs.append(self._decode_chunk(events, count))
        events.allocate(self._pixel_bytes(frames), "frames")
        events.release(*outputs[:-1])
        if self._vae_value_bytes != 4:
            events.allocate(2 * self._pixel_bytes(frames), "frames in fp32")

    def _decode_chunk(self, events: PhaseEvents, count: int) -> int:
        """One call of the decoder; returns the key of its frames."""
        name = "decode.one" if count == 1 else "decode.many"
        shape = {**self.shape.to_dict(), "f": count}
        alive = events.play(self.vae.tape(name), shape, what=f"decoder, {count} frames")
        output = alive.pop(int(self.vae.array(f"{name}.output")))
        events.release(*alive.values())
        return output

    def _pixel_bytes(self, frames: int) -> int:
        area = self.shape.h * self.shape.w * DECODER_SCALE**2
        return PIXEL_CHANNELS * frames * area * self._vae_value_bytes
