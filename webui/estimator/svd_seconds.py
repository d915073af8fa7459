"""Seconds of Stable Video Diffusion's phases."""

from __future__ import annotations

import numpy as np

from webui.core.card import Card
from webui.estimator.seconds import (
    PIECES_SHARE,
    compute_seconds,
    costs_of_clips,
    transfer_seconds,
)
from webui.estimator.svd import SvdMemory
from webui.estimator.tape import COSTS, axial_cost_monomials, cost_monomials
from webui.estimator.templates import Template, width_of
from webui.estimator.told import longest

_VARIABLES = ("f", "h", "w")
CONV_FACTOR = 1.85
"""How much longer these convolutions take than Wan's, for which the rates were fitted: half of them
are 3x1x1 over time, which cuDNN does badly. Fitted on an H200 (torch 2.11, cuDNN 9.19, 2026-11-21):
25 frames of 576x1024 in fp16, 1.69 s for two steps and 1.7 s for decoding."""


def phase_seconds(name: str, memory: SvdMemory, steps: int, card: Card, host: Card) -> float:
    """Seconds of one phase, the weights' way to the card included.

    Args:
        name: image_encode, denoise or decode.
        memory: the same request's memory.
        steps: of the denoising loop.
        card: where it runs.
        host: the processor, for an image encoder that runs there.
    """
    if name == "image_encode":
        return _encode(memory, card, host)
    return _denoise(memory, steps, card) if name == "denoise" else _decode(memory, card)


def _compute(costs: np.ndarray, card: Card, half: bool, streamed_tensors: int = 0) -> float:
    if card.kind == "cuda":
        costs = costs * np.where(np.array(COSTS) == "conv", CONV_FACTOR, 1.0)
    return compute_seconds(costs, card, half, streamed_tensors=streamed_tensors)


def _transfer(memory: SvdMemory, template: Template, card: Card) -> float:
    """Bringing a component's weights, where it waits in host memory."""
    if memory.offload == "none":
        return 0.0
    return transfer_seconds(int(template.array("weights").sum()), card)


def _encode(memory: SvdMemory, card: Card, host: Card) -> float:
    half = width_of(str(memory.settings["precision"])) == "half"
    costs = memory.image.array("costs") @ cost_monomials({}, ())
    if memory.encoder == "cpu":
        seconds = _compute(costs, host, half)
    else:
        seconds = _compute(costs, card, half) + _transfer(memory, memory.image, card)
    way = memory.encode_way
    shape = memory.shape.to_dict()
    costs = memory.vae.array(f"encode.{way}.costs") @ cost_monomials(shape, ("h", "w"))
    vae_half = way == "plain" and width_of(str(memory.settings["vae_precision"])) == "half"
    seconds += _compute(costs, card, vae_half) * memory.request.batch
    return seconds + _transfer(memory, memory.vae, card)


def _denoise(memory: SvdMemory, steps: int, card: Card) -> float:
    half = width_of(str(memory.settings["precision"])) == "half"
    split = memory.passes == "split"
    costs = memory.unet.array(f"costs.{'single' if split else memory.guided}")
    streams = memory.offload in ("leaf", "block")
    forward = _compute(
        costs_of_clips(
            costs @ axial_cost_monomials(memory.shape.to_dict(), _VARIABLES), memory.request.batch
        ),
        card,
        half,
        streamed_tensors=len(memory.unet.array("weights")) if streams else 0,
    )
    if int(memory.settings.get("ffn_chunks", 1)) > 1:
        forward *= 1 + PIECES_SHARE
    passes = 2 if split else 1
    weights = _transfer(memory, memory.unet, card)
    if streams:
        return longest(forward, weights) * passes * steps
    return forward * passes * steps + weights


def _decode(memory: SvdMemory, card: Card) -> float:
    half = width_of(str(memory.settings["vae_precision"])) == "half"
    frames, chunk = memory.request.frames, memory.chunk
    costs = memory.vae.array("decode.costs")
    seconds = 0.0
    for count, calls in ((chunk, frames // chunk), (frames % chunk, 1)):
        if count and calls:
            shape = {**memory.shape.to_dict(), "f": count}
            terms = axial_cost_monomials(shape, _VARIABLES)
            seconds += calls * _compute(costs @ terms, card, half) * memory.request.batch
    return seconds + _transfer(memory, memory.vae, card)
