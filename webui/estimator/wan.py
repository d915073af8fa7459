"""The phases of the Wan family, put together from its templates for a request and settings.

Tests compare what comes out with fresh traces of the real loop.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import FP8, NOT_QUANTIZED, Settings, unquantized
from webui.estimator.events import Part, PhaseEvents
from webui.estimator.rules import WORKSPACE, Rules
from webui.estimator.tape import Tape
from webui.estimator.templates import (
    FP16,
    Template,
    find_template,
    stored_part,
    text_name,
    weights_name,
    width_of,
)
from webui.estimator.wan_attention import copies_bytes, relevant_attention
from webui.estimator.wan_step_cache import kept_bytes, relevant_cache, tokens_of
from webui.estimator.wan_steps import expert_steps, relevant_steps, steps_of
from webui.estimator.wan_vae import SCALE, LatentShape, WanVae

DENOISE = "denoise"
TRACED_SOLVER = "unipc"
"""The one that loops in fp8, in pieces or quantised were traced with (`tracing.wan_loop`)."""
WITHOUT_ENCODER = ("absent", "cached")
"""Places of the text encoder that keep it off this run."""
_EXPERTS = {"denoise_high": "transformer", "denoise_low": "transformer_2"}
"""Phases of models with two transformers, and which one each runs."""


def latent_shape(request: ClipRequest, card: ClipCard) -> LatentShape:
    """Of the clip alone, without what a reference adds."""
    ratio = int(card.configs["vae"].get("scale_factor_spatial") or SCALE)
    return LatentShape(
        f=(request.frames - 1) // card.frame_step + 1,
        h=request.height // ratio,
        w=request.width // ratio,
    )


def relevant(
    phase: str, card: ClipCard, request: ClipRequest, settings: Settings, rules: Rules
) -> tuple[ClipRequest, Settings]:
    """Request and settings with a fixed value for what a phase's memory does not depend on.

    What is not on the card in a phase cannot change it, so that many settings share one answer.
    """
    shift = request.flow_shift if phase in _EXPERTS else card.defaults.flow_shift
    steps = relevant_steps(phase, card, request)
    request = request.with_changes(steps=steps, flow_shift=shift)
    if phase == "encode":
        side = card.min_side
        request = request.with_changes(
            frames=1,
            height=side,
            width=side,
            solver="unipc",
            image="",
            last_image="",
            # The prompt is encoded once for all clips.
            batch=1,
        )
    elif phase == "image_encode":
        # With guidance there are two prompts' embeddings beside it.
        request = request.with_changes(solver="unipc")
    elif phase == "decode":
        request = request.with_changes(guidance=1.0, solver="unipc", image="", last_image="")
    conditioned = bool(card.pictures or card.configs["transformer"].get("vace_layers"))
    return request, _relevant_settings(phase, settings, rules, conditioned)


def _relevant_settings(phase: str, settings: Settings, rules: Rules, conditioned: bool) -> Settings:
    relevant = dict(settings)
    offloaded = rules.kind == "cuda" and settings["offload"] != "none"
    denoises = phase.startswith(DENOISE)
    if not denoises and "ffn_chunks" in relevant:
        relevant["ffn_chunks"] = 1
    relevant |= relevant_cache(settings, denoises) | relevant_attention(settings, denoises)
    uses_vae = phase in ("image_encode", "decode")
    if not uses_vae:
        relevant |= {"vae_tiling": False, "channels_last": False}
    if not relevant["vae_tiling"]:
        relevant |= {"vae_tile": 256, "vae_tile_overlap": 64}
    if rules.kind != "cuda" or (offloaded and not denoises):
        relevant = unquantized(relevant)
    if offloaded:
        if "image_encoder" in relevant and phase != "image_encode":
            relevant["image_encoder"] = "cpu"
        if phase != "encode":
            relevant["text_encoder"] = "cpu"
        # What the pictures became is in the VAE's number format, and there while denoising.
        if not uses_vae and not (denoises and conditioned):
            relevant["vae_precision"] = "fp32"
        if not denoises:
            relevant["offload"] = "model"
        if phase == "decode":
            relevant["precision"] = settings["vae_precision"]
        elif not denoises and relevant["precision"] == FP8:
            relevant["precision"] = "bf16"
    # Both halves take two bytes a value; only of a text encoder on the card more stays in fp32.
    encodes = relevant["text_encoder"] in ("gpu", "stream")
    for name in ("precision", "vae_precision"):
        if name == "precision" and relevant[name] == FP16 and encodes:
            continue
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
        on_gpu = rules.kind == "cuda"
        self.settings = settings if on_gpu else unquantized(settings)
        self.rules = rules
        self.shape = latent_shape(request, card)
        self.width = width_of(str(settings["precision"]))
        self.vae_width = width_of(str(settings["vae_precision"]))
        self._value_bytes = 2 if self.width == "half" else 4
        vae_value_bytes = 2 if self.vae_width == "half" else 4
        self.offload = str(settings["offload"]) if on_gpu else "none"
        """As it takes effect: a processor has nothing to offload to."""
        encoder = str(settings["text_encoder"])
        self.encoder = encoder if on_gpu or encoder in WITHOUT_ENCODER else "gpu"
        self.image_encoder = str(settings.get("image_encoder", "gpu")) if on_gpu else "gpu"
        order = "channels_last" if on_gpu and settings["channels_last"] else "contiguous"
        self.vae = WanVae.of(card, self.template("vae"), settings, order, vae_value_bytes)
        self._vae_value_bytes = vae_value_bytes

    def template(self, part: str) -> Template:
        """Of a part of the model, at the width and in the bits that its settings say."""
        width = self.vae_width if part in ("vae", "conditions") else self.width
        return find_template(self.card, stored_part(part, self.settings), width)

    @property
    def guided(self) -> str:
        return "guided" if self.request.guided else "single"

    @property
    def pictures(self) -> tuple[str, ...]:
        """The pictures that the request comes with, or that the model cannot do without."""
        named = [key for key in self.card.pictures if getattr(self.request, key)]
        return tuple(dict.fromkeys([*self.card.requires, *named]))

    @property
    def _controls(self) -> bool:
        return bool(self.card.configs["transformer"].get("vace_layers"))

    @property
    def has_conditions(self) -> bool:
        """Whether there is something to encode beside the prompt."""
        return bool(self.pictures) or self._controls

    @property
    def loop_frames(self) -> int:
        """Latent frames that are denoised: a reference picture stands before the clip's own."""
        return self.shape.f + (1 if self._controls and self.pictures else 0)

    def phase_names(self) -> tuple[str, ...]:
        """In order; without a text encoder there is nothing to encode."""
        names = [] if self.encoder == "absent" else ["encode"]
        if self.has_conditions:
            names.append("image_encode")
        if "transformer_2" in self.card.configs:
            high, low = expert_steps(self.card, self.request, self.request.steps)
            names += ["denoise_high"] if high else []
            names += ["denoise_low"] if low else []
        else:
            names.append(DENOISE)
        return (*names, "decode")

    def phase(self, name: str) -> PhaseEvents:
        if name.startswith(DENOISE):
            return self._denoise(name)
        phases = {
            "encode": self._encode,
            "image_encode": self._encode_conditions,
            "decode": self._decode,
        }
        return phases[name]()

    def weights(self, part: str) -> np.ndarray:
        """Bytes of each tensor of a component's weights."""
        if part == "transformer_2":
            part = "transformer"
        array: np.ndarray = self.template(part).array(
            weights_name(part, str(self.settings["precision"]))
        )
        return array

    def _always(self, *needed: str) -> list[Part]:
        """Weights on the card when a phase starts: all of them, or those that it needs."""
        parts = ["text"] if self.encoder == "gpu" else []
        if "image_encoder" in self.card.configs and self.image_encoder == "gpu":
            parts.append("image")
        parts += [name for name in ("transformer", "transformer_2") if name in self.card.configs]
        parts.append("vae")
        return [
            Part(part, self.weights(part))
            for part in parts
            if self.offload == "none" or part in needed
        ]

    @property
    def _embeddings(self) -> np.ndarray:
        """The prompt's, and with guidance the negative prompt's."""
        width = int(self.card.configs["transformer"]["text_dim"])
        size = self.card.max_sequence_length * width * self._value_bytes
        return np.full(2 if self.request.guided else 1, size)

    @property
    def _latent_bytes(self) -> int:
        channels = int(self.card.configs["vae"]["z_dim"])
        return channels * self.shape.f * self.shape.h * self.shape.w * 4

    def _encode(self) -> PhaseEvents:
        events = PhaseEvents(self._always("text"))
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        if self.encoder in ("gpu", "stream"):
            mode = "resident" if self.encoder == "gpu" else "leaf"
            name = text_name(f"encode.{mode}", str(self.settings["precision"]))
            tape = self.template("text").tape(name)
            events.play(tape, {}, what=f"text encoder, {mode}")
        else:
            for size in self._embeddings.tolist():
                events.allocate(size, "embeddings")
        return events

    def _encode_conditions(self) -> PhaseEvents:
        given = [*self._always("image", "vae"), Part("embeddings", self._embeddings)]
        events = PhaseEvents(given)
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        if "image_encoder" in self.card.configs:
            tape = self._image_tape
            if self.image_encoder == "gpu":
                events.play(tape, {}, what="image encoder")
            else:
                for size in _left_by(tape, {}):
                    events.allocate(size, "features")
        kept = events.play(
            self._conditions_tape,
            self._clip_shape,
            what="conditions",
            on_call=lambda frames: self.vae.play_encode(events, self.shape, frames),
        )
        if self.request.batch > 1 and self._keeps_noise:
            events.allocate(self.request.batch * self._latent_bytes, "noise")
            events.release(kept[min(kept)])
        return events

    @property
    def _keeps_noise(self) -> bool:
        """Whether the first thing that the conditions keep is the noise, which each clip has."""
        return not self._controls

    @property
    def _image_tape(self) -> Tape:
        return self.template("image").tape(f"encode.{len(self.pictures)}")

    @property
    def _conditions_tape(self) -> Tape:
        name = "pictures"
        if self._controls:
            name = "reference" if self.pictures else "none"
        return self.template("conditions").tape(f"conditions.{name}")

    @property
    def _clip_shape(self) -> dict[str, int]:
        return {"t": self.request.frames, "h": self.shape.h, "w": self.shape.w}

    @cached_property
    def _conditions(self) -> np.ndarray:
        """Bytes of what the pictures became."""
        if not self.has_conditions:
            return np.empty(0, np.int64)
        events = PhaseEvents([])
        kept = events.play(self._conditions_tape, self._clip_shape)
        sizes = [events.size_of(kept[slot]) for slot in sorted(kept)]
        if self._keeps_noise:
            sizes[0] = self.request.batch * self._latent_bytes
        if "image_encoder" in self.card.configs:
            sizes += _left_by(self._image_tape, {})
        return np.array(sizes)

    def encode_calls(self) -> list[int]:
        """Frames of each clip that the VAE encodes."""
        return self._conditions_tape.counts(self._clip_shape)

    def _denoise(self, phase: str) -> PhaseEvents:
        transformer = _EXPERTS.get(phase, "transformer")
        mode = self.offload if self.offload in ("block", "leaf") else "resident"
        given = [
            *self._always(*((transformer,) if mode == "resident" else ())),
            Part("embeddings", self._embeddings),
            Part("conditions", self._conditions),
        ]
        events = PhaseEvents([part for part in given if len(part.sizes)])
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        variant = [FP8] if self.settings["precision"] == FP8 else []
        quantization = str(self.settings.get("quantization", NOT_QUANTIZED))
        pieces = int(self.settings.get("ffn_chunks", 1))
        variant += ["pieces"] if pieces > 1 else []
        if quantization != NOT_QUANTIZED:
            last = variant or [TRACED_SOLVER]
            variant = [quantization, *variant]
        else:
            last = variant or [self.request.solver]
        names = [self.way, DENOISE, mode, self.guided, *last]
        clips = self.request.batch
        name = ".".join(name for name in names if name)
        steps = steps_of(phase, self.card, self.request)
        tape = self.template("transformer").tape(name, clips).of_steps(steps)
        places = self.loop_frames * self.shape.h * self.shape.w
        shape = {"n": places, "piece": 1 / pieces}
        latents = clips * places
        passes = 2 if self.request.guided else 1
        kept = kept_bytes(self.card, self.settings, latents, self._value_bytes, passes)
        events.allocate_all(kept, "step cache")
        copies = copies_bytes(self.settings, *tokens_of(self.card, latents))
        events.allocate_all(copies, "copies for attention")
        events.play(tape, shape, what=", ".join(["transformer", mode, self.guided, *variant]))
        return events

    @property
    def way(self) -> str:
        """Which of the model's loops the request takes: its own where a picture is a choice."""
        chosen = not self.card.requires and not self._controls and self.pictures
        return "image" if chosen else ""

    def _decode(self) -> PhaseEvents:
        # All clips' latents wait while one after the other is decoded.
        waiting = np.array([self.request.batch * self._latent_bytes])
        events = PhaseEvents([*self._always("vae"), Part("latents", waiting)])
        latent = self._latent_bytes // 4 * self._vae_value_bytes
        for _ in range(self.rules.replayed_clips(self.request.batch)):
            events.release_made()
            events.allocate(latent, "latents")
            self.vae.play_decode(events, self.shape, latent)
        return events


def _left_by(tape: Tape, shape: dict[str, int]) -> list[int]:
    """Bytes of each storage that a tape leaves."""
    events = PhaseEvents([])
    return [events.size_of(key) for key in events.play(tape, shape).values()]
