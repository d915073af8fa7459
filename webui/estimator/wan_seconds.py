"""Seconds of the Wan family's phases."""

from __future__ import annotations

from collections import Counter

import numpy as np

from webui.core.card import Card
from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import FP8, Settings
from webui.estimator.rules import Rules
from webui.estimator.seconds import compute_seconds, transfer_seconds
from webui.estimator.tape import COSTS, cost_monomials
from webui.estimator.templates import Segment, find_template, weights_name, width_of
from webui.estimator.wan import LatentShape, WanMemory

_VARIABLES = ("f", "h", "w")
PIECES_SHARE = 0.01
"""What doing the token-wise work in pieces is taken to cost: more and smaller kernels for the same
operations. Assumed, not measured; receipts of the machine correct it."""


def phase_seconds(name: str, memory: WanMemory, steps: int, card: Card, host: Card) -> float:
    """Seconds of one phase, the weights' way to the card included.

    Args:
        name: encode, denoise or decode.
        memory: the same request's memory, which knows the tiles.
        steps: of the denoising loop.
        card: where it runs.
        host: the processor, for a text encoder that runs there.
    """
    times = _Times(memory, steps, card, host)
    return {"encode": times.encode, "denoise": times.denoise, "decode": times.decode}[name]()


class _Times:
    def __init__(self, memory: WanMemory, steps: int, card: Card, host: Card) -> None:
        self.memory = memory
        self.steps = steps
        self.model: ClipCard = memory.card
        self.request: ClipRequest = memory.request
        self.settings: Settings = memory.settings
        self.rules: Rules = memory.rules
        self.shape: LatentShape = memory.shape
        self.card = card
        self.host = host
        self.width = width_of(str(self.settings["precision"]))
        self.offload = memory.offload

    def _weights_bytes(self, part: str, width: str) -> int:
        name = weights_name(part, str(self.settings["precision"]))
        return int(find_template(self.model, part, width).array(name).sum())

    def encode(self) -> float:
        template = find_template(self.model, "text", self.width)
        costs = template.array("costs") @ cost_monomials({}, ())
        weights = self._weights_bytes("text", self.width)
        half = self.width == "half"
        where = self.memory.encoder
        if where == "absent":
            return 0.0
        if where == "cpu":
            return compute_seconds(costs, self.host, half)
        seconds = compute_seconds(costs, self.card, half)
        passes = 2 if self.request.guidance > 1 else 1
        if where == "stream":
            return max(seconds, passes * transfer_seconds(weights, self.card))
        if self.rules.kind == "cuda" and self.offload != "none":
            return seconds + transfer_seconds(weights, self.card)
        return seconds

    def denoise(self) -> float:
        template = find_template(self.model, "transformer", self.width)
        shape = self.shape.to_dict()
        costs = template.array("costs") @ cost_monomials(shape, _VARIABLES)
        weights_read = self._weights_bytes("transformer", self.width)
        if self.settings["precision"] == FP8:
            # Each forward pass reads the weights once more, and writes them in bf16.
            costs[COSTS.index("bytes")] += 3 * weights_read
        forward = compute_seconds(costs, self.card, self.width == "half")
        if int(self.settings.get("ffn_chunks", 1)) > 1:
            forward *= 1 + PIECES_SHARE
        weights = transfer_seconds(weights_read, self.card)
        passes = 2 if self.request.guidance > 1 else 1
        if self.offload in ("leaf", "block"):
            forward = max(forward, weights)
        seconds = forward * passes * self.steps
        return seconds + (weights if self.offload == "model" else 0.0)

    def decode(self) -> float:
        width = width_of(str(self.settings["vae_precision"]))
        template = find_template(self.model, "vae", width)
        on_gpu = self.rules.kind == "cuda"
        order = "channels_last" if on_gpu and self.settings["channels_last"] else "contiguous"
        segments = template.segments(f"decode.{order}")
        if self.memory.is_tiled:
            sides = Counter((h, w) for _, _, h, w in self.memory.tiles())
        else:
            sides = Counter([(self.shape.h, self.shape.w)])
        costs = sum(
            (count * _calls_costs(segments, self.shape.f, h, w) for (h, w), count in sides.items()),
            start=np.zeros(len(segments[0].costs)),
        )
        seconds = compute_seconds(costs, self.card, width == "half")
        if on_gpu and self.offload != "none":
            seconds += transfer_seconds(self._weights_bytes("vae", width), self.card)
        return seconds


def _calls_costs(segments: tuple[Segment, ...], calls: int, h: int, w: int) -> np.ndarray:
    """Costs of a chain of decoder calls on one tile (one value for each of COSTS)."""
    basis = cost_monomials({"h": h, "w": w}, ("h", "w"))
    first = sum(
        (segment.costs @ basis for segment in segments[:calls]),
        start=np.zeros(len(segments[0].costs)),
    )
    repeated: np.ndarray = max(0, calls - len(segments)) * (segments[-1].costs @ basis)
    total: np.ndarray = first + repeated
    return total
