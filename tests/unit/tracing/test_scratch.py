"""What convolutions take beside their tensors, against an H200's record of the allocator."""

from __future__ import annotations

import pytest
import torch

from webui.estimator.tape import SCRATCH
from webui.tracing.recorder import Recorder
from webui.tracing.recording import record_run

CUDNN_OWN = 147
"""Bytes that cuDNN takes beside the copies; they are left out."""


def scratch_of(
    image: tuple[int, ...],
    weight: tuple[int, ...],
    dtype: torch.dtype,
    kernels_last: bool = False,
    stride: int | tuple[int, ...] = 1,
    pixels: torch.Tensor | None = None,
) -> int:
    """Of one convolution that keeps the sides of what it sees, `pixels` or a contiguous image."""
    kind = torch.nn.Conv2d if len(image) == 4 else torch.nn.Conv3d
    padding = [side // 2 if stride == 1 else 0 for side in weight[2:]]
    layer = kind(
        weight[1], weight[0], weight[2:], padding=padding, stride=stride, device="meta", dtype=dtype
    )
    if kernels_last:
        last = torch.channels_last if len(image) == 4 else torch.channels_last_3d
        layer.weight.data = layer.weight.data.contiguous(memory_format=last)
    seen = torch.empty(image, device="meta", dtype=dtype) if pixels is None else pixels

    def run(recorder: Recorder) -> torch.Tensor:
        return layer(seen)

    recording = record_run(layer, "resident", run, (seen,), wants_recorder=True)
    return sum(event.size_bytes for event in recording.events if event.kind == SCRATCH)


@pytest.mark.parametrize(
    ("image", "weight", "recorded"),
    [
        ((25, 320, 72, 128), (320, 320, 3, 3), 296_755_347),
        ((1, 320, 25, 72, 128), (320, 320, 3, 1, 1), 295_526_547),
        ((25, 2560, 9, 16), (1280, 2560, 1, 1), 27_648_147),
    ],
)
def test_what_is_contiguous_is_copied(
    image: tuple[int, ...], weight: tuple[int, ...], recorded: int
) -> None:
    """SVD's UNet; a kernel of one pixel lies the same in both layouts."""
    assert scratch_of(image, weight, torch.float16) + CUDNN_OWN == recorded


def test_channels_are_filled_up_to_eight() -> None:
    """Patches of Wan's clips that begin with a picture, 36 channels; other sizes stay."""
    found = scratch_of((1, 36, 9, 60, 104), (5120, 36, 1, 2, 2), torch.bfloat16, stride=(1, 2, 2))
    assert found + CUDNN_OWN == 149_900_947


def test_kernels_in_channels_last_leave_the_image() -> None:
    """Wan's VAE: only the image is copied."""
    image = (1, 192, 3, 34, 34)
    found = scratch_of(image, (192, 192, 3, 3, 3), torch.float32, kernels_last=True)
    assert found == torch.empty(image, device="meta").nbytes


@pytest.mark.parametrize(
    ("image", "weight", "recorded"),
    [
        ((4, 64, 1088, 1920), (3, 64, 3, 3), 133_710_336),
        ((4, 64, 1088, 1920), (64, 64, 3, 3), 147_968),
        ((8, 48, 256, 256), (12, 48, 3, 3), 100_705_280),
        ((1, 64, 544, 960), (64, 64, 3, 3), 147_968),
    ],
)
def test_pictures_in_channels_last(
    image: tuple[int, ...], weight: tuple[int, ...], recorded: int
) -> None:
    """Swin2SR's upsamplers."""
    pixels = torch.empty(image, device="meta").contiguous(memory_format=torch.channels_last)
    found = scratch_of(image, weight, torch.float32, pixels=pixels)
    assert found == pytest.approx(recorded, rel=0.001, abs=1024)


def test_a_single_picture_of_tokens_is_gathered_first() -> None:
    """Swin2SR's layers: the first stride of one picture is that of its channels."""
    tokens = torch.empty((1, 272 * 480, 180), device="meta")
    pixels = tokens.transpose(1, 2).view(1, 180, 272, 480)
    assert pixels.is_contiguous(memory_format=torch.channels_last)
    shape = (180, 180, 3, 3)
    found = scratch_of(tuple(pixels.shape), shape, torch.float32, pixels=pixels)
    assert found == pytest.approx(283_545_088, rel=0.002)


def test_patches_that_the_kernel_covers_are_a_product() -> None:
    assert scratch_of((64, 3, 2, 14, 14), (1152, 3, 2, 14, 14), torch.bfloat16, stride=14) == 0


def test_what_cublas_makes_is_noted_and_nothing_else() -> None:
    layers = [
        torch.nn.Conv2d(8, 16, 3, padding=1, device="meta"),
        torch.nn.Linear(16, 32, device="meta"),
        torch.nn.Linear(32, 32, bias=False, device="meta"),
    ]
    model = torch.nn.Sequential(layers[0], torch.nn.Flatten(2))
    pixels = torch.empty((2, 8, 4, 4), device="meta")

    def run(recorder: Recorder) -> torch.Tensor:
        tokens = model(pixels).transpose(1, 2)
        query = layers[2](layers[1](tokens))[:, None]
        found = torch.nn.functional.scaled_dot_product_attention(query, query, query)
        return found.squeeze(1) @ found.squeeze(1).transpose(1, 2)

    events = record_run(
        torch.nn.ModuleList([model, *layers[1:]]), "resident", run, (pixels,), wants_recorder=True
    ).events
    noted = [event.size_bytes for event in events if event.product]
    tokens = 2 * 16
    assert noted == [tokens * 32 * 4, tokens * 32 * 4, tokens * 16 * 4]
    assert any(event.kind == SCRATCH for event in events), "the convolution's copies"
