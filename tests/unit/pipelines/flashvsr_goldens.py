"""Golden data of the authors' code, and a small FlashVSR with their weights.

Each file holds the tensors of one of their parts at small size in float32, run on a processor;
`how` in what `golden` returns says how. The files are packed: bytes of equal weight stand
together, which compresses.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from webui.core.model import ModelCard
from webui.core.text import Text

_FOLDER = Path(__file__).parents[2] / "fixtures" / "flashvsr"
Tensors = dict[str, torch.Tensor]


def golden(name: str) -> tuple[dict[str, Any], Tensors]:
    """What the file says of itself, and its tensors."""
    data = lzma.decompress((_FOLDER / f"{name}.xz").read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    about, parts = json.loads(data[8:end])
    tensors = {}
    for key, (dtype, shape) in parts.items():
        kind = np.dtype(dtype)
        stop = end + int(np.prod(shape)) * kind.itemsize
        planes = np.frombuffer(data[end:stop], np.uint8).reshape(kind.itemsize, -1)
        values = np.ascontiguousarray(planes.T).view(kind).reshape(shape)
        tensors[key], end = torch.from_numpy(values.copy()), stop
    return about, tensors


def weights_of(tensors: Tensors, prefix: str = "weights.") -> Tensors:
    """The weights under the authors' names."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def transformer_config(dit: dict[str, Any]) -> dict[str, Any]:
    """Of the library's class, from what a golden file says."""
    return {
        "num_attention_heads": dit["num_heads"],
        "attention_head_dim": dit["dim"] // dit["num_heads"],
        "num_layers": dit["num_layers"],
        "ffn_dim": dit["ffn_dim"],
        "text_dim": dit["text_dim"],
        "freq_dim": dit["freq_dim"],
    }


def small_card() -> ModelCard:
    """The sizes of the golden file `pipeline_tiny`."""
    about, _ = golden("pipeline_tiny")
    lq = about["lq"]
    configs = {
        "transformer": transformer_config(about["dit"]),
        "projection": {"version": "v1.1", "hidden": lq["hidden"], "dim": lq["out_dim"]},
        "decoder": {"channels": about["tc_channels"]},
    }
    return ModelCard(
        name="small-flashvsr",
        title="Small FlashVSR",
        task="upscale",
        family="flashvsr",
        about=Text("", ""),
        licence="",
        hub="",
        embedded=False,
        configs=configs,
        download_bytes=0,
        settings=(),
        setting_defaults={},
        setting_values={},
    )


def write_checkpoint(folder: Path) -> None:
    """The weights of `pipeline_tiny` in the authors' files."""
    _, tensors = golden("pipeline_tiny")
    folder.mkdir(exist_ok=True)
    save_file(
        weights_of(tensors, "weights.dit."),
        folder / "diffusion_pytorch_model_streaming_dmd.safetensors",
    )
    torch.save(weights_of(tensors, "weights.lq_proj."), folder / "LQ_proj_in.ckpt")
    torch.save(weights_of(tensors, "weights.tc_decoder."), folder / "TCDecoder.ckpt")
    torch.save(tensors["in.context"], folder / "posi_prompt.pth")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest, of tensors of one shape."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


class Memory:
    """Footage that lies in memory, and a report that keeps what it is told."""

    folder, cores, bits = None, 2, 8

    def __init__(self, frames: np.ndarray, counts: list[int]) -> None:
        self.frames, self.total = frames, sum(counts)
        self.segments = [
            SimpleNamespace(count=count, start=sum(counts[:at]), at=at)
            for at, count in enumerate(counts)
        ]
        self.written: dict[tuple[int, int], np.ndarray] = {}
        self.finished: list[int] = []
        self.all_written = False
        self.told: list[Any] = []

    def read(self, segment: Any) -> Any:
        return iter(self.frames[segment.start : segment.start + segment.count])

    def write(self, segment: Any, index: int, frame: np.ndarray) -> None:
        assert (segment.at, index) not in self.written
        self.written[segment.at, index] = frame.copy()

    def finish(self, segment: Any) -> None:
        self.finished.append(segment.at)

    def wait(self) -> None:
        self.all_written = True

    def begin(self, phase: str, continues: bool = False) -> None:
        self.told.append(phase)

    def step(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def check(self) -> None:
        pass

    def warmed_up(self) -> None:
        pass

    def latent_step(self, done: int, total: int, latents: torch.Tensor) -> None:
        pass
