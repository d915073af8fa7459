"""Seconds of the Wan family's phases."""

from __future__ import annotations

import numpy as np

from webui.core.card import Card
from webui.core.settings import FP8
from webui.estimator.seconds import (
    PIECES_SHARE,
    compute_seconds,
    costs_of_clips,
    transfer_seconds,
)
from webui.estimator.tape import COSTS, cost_monomials
from webui.estimator.templates import BlockTemplate
from webui.estimator.told import longest
from webui.estimator.wan import WITHOUT_ENCODER, WanMemory
from webui.estimator.wan_step_cache import computed_steps, least_share
from webui.estimator.wan_steps import expert_steps

INT8_FACTOR = 1.3
"""How much longer a pass takes with 8-bit products, each of which waits for the host: Wan2.1 14B,
81 frames of 480x832 on an H200 (bitsandbytes 0.50, 2026-11-27)."""

LAYERS_IN_PIECES = (4, 1)
"""Layers of a block that `ffn_chunks` calls once a piece (webui/pipelines/wan/pieces.py), in the
usual blocks of GGUF and in the finer ones: the two projections after attention, the query of the
text's, and the feed-forward's two."""
KERNELS_OF_A_PIECE = 45
"""Other operations of a block's piece that nothing hides once its layers wait for the card. Fitted
to Wan 1.3B and 14B in eight pieces on an H200 (diffusers 0.42, torch 2.11, 2026-11-27)."""


def phase_seconds(name: str, memory: WanMemory, steps: int, card: Card, host: Card) -> float:
    """Seconds of one phase, the weights' way to the card included.

    Args:
        name: encode, image_encode, denoise (or denoise_high, denoise_low), decode.
        memory: the same request's memory, which knows the tiles.
        steps: of the denoising loop.
        card: where it runs.
        host: the processor, for an encoder that runs there.
    """
    times = _Times(memory, card, host)
    if name == "encode":
        return times.encode()
    if name == "image_encode":
        return times.encode_conditions()
    if name == "decode":
        return times.decode()
    return times.denoise(_steps_of(name, memory, steps))


def least_of(name: str, memory: WanMemory, steps: int) -> float:
    """The share of a phase's seconds that it takes at least: a cache may leave the rest out."""
    if not name.startswith("denoise"):
        return 1.0
    return least_share(memory.card, memory.settings, _steps_of(name, memory, steps))


def _steps_of(name: str, memory: WanMemory, steps: int) -> int:
    """Of the loop's steps those that a denoising phase does."""
    if name == "denoise":
        return steps
    high, low = expert_steps(memory.card, memory.request, steps)
    return high if name == "denoise_high" else low


class _Times:
    def __init__(self, memory: WanMemory, card: Card, host: Card) -> None:
        self.memory = memory
        self.card = card
        self.host = host
        self.half = memory.width == "half"
        self.vae_half = memory.vae_width == "half"
        self.offload = memory.offload

    def _weights_bytes(self, part: str) -> int:
        return int(self.memory.weights(part).sum())

    def _transfer(self, part: str) -> float:
        """Bringing a component's weights, where it waits in host memory."""
        if self.offload == "none":
            return 0.0
        return transfer_seconds(self._weights_bytes(part), self.card)

    def encode(self) -> float:
        where = self.memory.encoder
        if where in WITHOUT_ENCODER:
            return 0.0
        costs = self.memory.template("text").array("costs") @ cost_monomials({}, ())
        if where == "cpu":
            return compute_seconds(costs, self.host, self.half)
        passes = 2 if self.memory.request.guided else 1
        tensors = passes * len(self.memory.weights("text")) if where == "stream" else 0
        seconds = compute_seconds(costs, self.card, self.half, streamed_tensors=tensors)
        if where == "stream":
            weights = transfer_seconds(self._weights_bytes("text"), self.card)
            return longest(seconds, passes * weights)
        return seconds + self._transfer("text")

    def encode_conditions(self) -> float:
        memory = self.memory
        seconds = 0.0
        if "image_encoder" in memory.card.configs:
            costs = memory.template("image").array(
                f"costs.{len(memory.pictures)}"
            ) @ cost_monomials({}, ())
            if memory.image_encoder == "cpu":
                seconds += compute_seconds(costs, self.host, half=False)
            else:
                seconds += compute_seconds(costs, self.card, half=False) + self._transfer("image")
        costs = np.zeros(len(COSTS))
        for frames in memory.encode_calls():
            calls = (frames - 1) // memory.card.frame_step + 1
            costs += memory.vae.costs("encode", memory.shape, calls)
        seconds += compute_seconds(costs, self.card, self.vae_half)
        return seconds + self._transfer("vae")

    def denoise(self, steps: int) -> float:
        memory = self.memory
        shape = {**memory.shape.to_dict(), "f": memory.loop_frames}
        template = memory.template("transformer")
        costs = template.array("costs") @ cost_monomials(shape, ("f", "h", "w"))
        pieces = int(memory.settings.get("ffn_chunks", 1))
        restoring_s = 0.0
        if isinstance(template, BlockTemplate):
            costs = costs - template.restoring()
            restoring_s = self._restore(template, pieces)
        costs = costs_of_clips(costs, memory.request.batch)
        weights_read = self._weights_bytes("transformer")
        # The costs of other quantised layers have what restoring their weights moves.
        if memory.settings["precision"] == FP8:
            # Each forward pass reads the weights once more, and writes them in bf16.
            costs[COSTS.index("bytes")] += 3 * weights_read
        streams = self.offload in ("leaf", "block")
        forward = compute_seconds(
            costs,
            self.card,
            self.half,
            streamed_tensors=len(self.memory.weights("transformer")) if streams else 0,
        )
        if memory.settings.get("quantization") == "int8":
            forward *= INT8_FACTOR
        if pieces > 1:
            forward *= 1 + PIECES_SHARE
        forward += restoring_s
        passes = 2 if memory.request.guided else 1
        weights = transfer_seconds(weights_read, self.card)
        if streams:
            forward = longest(forward, weights)
        # Steps that a cache leaves out are free: no block runs, and what is left (embeddings,
        # norms, zeros for the blocks) is under 1 % of a pass of 1.3B and larger, 5 % of the demo's
        # on a processor (operations and bytes counted on meta).
        seconds = forward * passes * computed_steps(memory.settings, steps)
        return seconds + (weights if self.offload == "model" else 0.0)

    def _restore(self, template: BlockTemplate, pieces: int) -> float:
        """Restoring GGUF's weights in one pass. Nothing hides it: the library brings small tables
        from the host each time, for which it waits until the card has done what it had."""
        costs = template.restoring()
        if pieces > 1:
            config = self.memory.card.configs["transformer"]
            blocks = int(config["num_layers"]) + len(config.get("vace_layers") or ())
            width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
            grown = width * int(config["ffn_dim"])
            again = (pieces - 1) * blocks
            costs += again * template.restoring(LAYERS_IN_PIECES, (3 * width**2 + grown, grown))
            costs[COSTS.index("kernels")] += again * KERNELS_OF_A_PIECE
        return compute_seconds(costs, self.card, self.half)

    def decode(self) -> float:
        costs = self.memory.vae.costs("decode", self.memory.shape, self.memory.shape.f)
        one = compute_seconds(costs, self.card, self.vae_half)
        return one * self.memory.request.batch + self._transfer("vae")
