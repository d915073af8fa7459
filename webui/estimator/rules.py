"""What depends on libraries, architecture and platform, and on no model or shape."""

from __future__ import annotations

from dataclasses import dataclass

from webui.core.card import Card
from webui.core.units import MIB

_CUBLAS_WORKSPACE = {9: 32 * MIB, 10: 32 * MIB, 12: 32 * MIB}
_CUBLAS_WORKSPACE_BEFORE = 8_519_680
"""Bytes by major compute capability: torch.backends (aten/cuda/CublasHandlePool.cpp,
`parseChosenWorkspaceSize`): 4096 KiB x 8 from Hopper on, else 4096 KiB x 2 + 16 KiB x 8."""

_FIRST_FLASH = 8
"""Major compute capability (aten/native/transformers/cuda/sdp_utils.cpp)."""
MEASURED_ARCHITECTURES = ((9, 0),)
"""Compute capabilities on which estimates were compared with measurements."""


WORKSPACE = "workspace"
"""What a phase's events call that of the matrix library: it comes with the first product, and the
worker gives it back between phases."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one device."""

    kind: str
    """`cuda` or `cpu`."""
    workspace_bytes: tuple[int, ...]
    """What the matrix library takes of PyTorch's allocator at its first product; the worker gives
    it back between phases."""
    has_scratch: bool
    """Convolutions take scratch memory (cuDNN)."""
    expandable: bool
    measured: bool
    flash: bool = True
    """There are attention kernels that make no matrix and repeat no heads: of half precision on
    cards since Ampere (aten/native/transformers/cuda/sdp_utils.cpp), of any on a processor."""

    def replayed_clips(self, clips: int) -> int:
        """Of clips that are decoded one by one those that tell what is reserved.

        With expandable segments the second fits where the first was. Without, it may find the free
        blocks in other sizes.
        """
        return 1 if self.expandable else min(clips, 2)


def rules_for(card: Card, allocator: str, platform: str) -> Rules:
    """The rules for a card; expandable segments do not exist on Windows."""
    if card.kind == "cpu":
        return Rules("cpu", (), has_scratch=False, expandable=True, measured=True)
    major = (card.compute_capability or (0, 0))[0]
    workspace = _CUBLAS_WORKSPACE.get(major, _CUBLAS_WORKSPACE_BEFORE)
    return Rules(
        "cuda",
        (workspace,),
        has_scratch=True,
        expandable=allocator == "expandable" and platform != "windows",
        measured=card.compute_capability in MEASURED_ARCHITECTURES,
        flash=major >= _FIRST_FLASH,
    )
