"""What the runs of all families share: reporting, cancelling, overflow, frames as pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from webui.core.clip import ClipRequest
from webui.core.errors import RunFailed
from webui.core.text import Text

CheckCancel = Callable[[], None]
"""Raises `Cancelled` when the user wants to stop."""
OnStep = Callable[[int, int, torch.Tensor], None]
"""Step, steps, and the newest estimate of the clean latent (B C T H W)."""
OnProgress = Callable[[int, int], None]


class Report(Protocol):
    """What a family's `run` tells whoever runs it."""

    def begin(self, phase: str, continues: bool = False) -> None:
        """A phase begins, and the one before it ends: its weights are brought.

        Args:
            phase: its name; one that was there before goes on.
            continues: it is one piece of work with the phase before: no weights move, and the
                allocator keeps its cache.
        """

    def warmed_up(self) -> None:
        """What ran so far was to warm up: its peaks count, its seconds do not."""

    def check(self) -> None:
        """Raises `Cancelled` when the user wants to stop."""

    def step(self, done: int, total: int) -> None:
        """So much of the phase is done."""

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        """The same, with the newest estimate of the clean latent (B C T H W) for a preview."""


def check_finite(latents: torch.Tensor) -> None:
    """Stops a run whose numbers overflowed, before a black clip is made.

    Raises:
        RunFailed: the latent holds infinities or not-a-number.
    """
    if not latents.is_meta and not bool(torch.isfinite(latents).all()):
        raise RunFailed(
            Text(
                "The model's numbers overflowed, so there is no picture.",
                "模型计算溢出，没有得到画面。",
            ),
            Text(
                "Use precision bf16 or fp32 instead of fp16.",
                "请把精度从 fp16 改为 bf16 或 fp32。",
            ),
        )


def noise_sources(request: ClipRequest) -> list[torch.Generator]:
    """What draws the noise of each clip, on the processor: a seed means the same everywhere."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in request.seeds]


def to_frames(video: torch.Tensor) -> NDArray[np.uint8]:
    """Pixels in -1..1 (B C T H W) to uint8 frames (T H W C).

    A numpy array on purpose: on a processor it must not count as one of the model's tensors.
    """
    _, channels, count, height, width = video.shape
    frames = np.empty((count, height, width, channels), np.uint8)
    for index in range(count):
        pixels = video[0, :, index].float() * 127.5 + 127.5
        pixels = pixels.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
        if not pixels.is_meta:
            frames[index] = pixels.cpu().numpy()
    return frames


def decode_each(
    latents: torch.Tensor,
    decode: Callable[[torch.Tensor, OnProgress], NDArray[np.uint8]],
    on_progress: OnProgress,
) -> list[NDArray[np.uint8]]:
    """The frames of each clip (T H W C, uint8), decoded one after the other.

    Args:
        latents: of all clips, which are the first dimension.
        decode: one clip's latent (the same, with a first dimension of 1) to its frames.
        on_progress: told how much of all clips is done.
    """
    clips = latents.split(1)

    def told(index: int) -> OnProgress:
        return lambda done, total: on_progress(index * total + done, len(clips) * total)

    return [decode(latent, told(index)) for index, latent in enumerate(clips)]


@contextmanager
def checked(modules: Iterable[nn.Module], check: CheckCancel | None) -> Iterator[None]:
    """Calls `check` before every forward pass of the modules."""
    if check is None:
        yield
        return
    handles = [module.register_forward_pre_hook(lambda *_: check()) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def before_first(module: nn.Module | None, call: Callable[[], None] | None) -> Iterator[None]:
    """Inside, `call` is called once before the module's first forward pass; later ones first."""
    if module is None or call is None:
        yield
        return
    pending = [call]

    def before(*_: Any) -> None:
        if pending:
            pending.pop()()

    handle = module.register_forward_pre_hook(before, prepend=True)
    try:
        yield
    finally:
        handle.remove()
