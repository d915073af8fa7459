"""Pixels of 8 or 16 bits on their way to the device and back.

In host memory frames are uint8, or uint16 from 0 to 65535. On the device those of 16 bits are
int16, 32768 less: not every device computes with uint16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Frames = NDArray[Any]
"""In host memory: uint8, or uint16."""
_OFFSET = 2**15
_DEEP = 65535


def is_deep(frames: NDArray[Any]) -> bool:
    """Whether frames in host memory have more than 8 bits."""
    return frames.dtype != np.uint8


def on_device(frames: Sequence[Frames], device: torch.device) -> torch.Tensor:
    """Frames of one size (H W 3 each) as one tensor (N H W 3) in whole numbers, on the device.

    They are copied once, to where the device takes them from.
    """
    deep = is_deep(frames[0])
    if device.type == "cuda":
        shape = (len(frames), *frames[0].shape)
        held = torch.empty(shape, dtype=torch.int16 if deep else torch.uint8, pin_memory=True)
        together = held.numpy().view(np.uint16) if deep else held.numpy()
    else:
        together = np.empty((len(frames), *frames[0].shape), frames[0].dtype)
        held = torch.from_numpy(together.view(np.int16) if deep else together)
    np.stack(frames, out=together)
    if deep:
        together ^= np.uint16(_OFFSET)
    return held.to(device, non_blocking=True)


def sent(held: torch.Tensor, device: torch.device) -> torch.Tensor:
    """What host memory holds, on the device, which goes on with what it was asked for before.

    From pageable memory the host would wait until all of that is done, and then the device for
    the host.
    """
    if device.type != "cuda":
        return held.to(device)
    return held.pin_memory().to(device, non_blocking=True)


def shares(whole: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What `on_device` gives, from 0 to 1."""
    if whole.dtype == torch.int16:
        return whole.float().add_(_OFFSET).div_(_DEEP).to(dtype)
    return whole.to(dtype).div_(255)


def deep_levels(values: torch.Tensor) -> torch.Tensor:
    """Values from 0 to 1 (float32; written) as 16 bits on the device, rounded and held within."""
    return values.mul_(_DEEP).round_().clamp_(0, _DEEP).sub_(_OFFSET).to(torch.int16)


def in_host(frames: NDArray[Any]) -> Frames:
    """What came back from the device as it is in host memory."""
    if frames.dtype != np.int16:
        return frames
    levels: Frames = frames.view(np.uint16) ^ np.uint16(_OFFSET)
    return levels
