"""The verified card table: plans that ran at full size under a hard cap, from the receipts here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from webui.catalogue import find_model
from webui.core.errors import BadInput
from webui.core.pages import PageRequest
from webui.core.parse import parse_request
from webui.core.receipt import Receipt
from webui.core.request import Request
from webui.core.settings import Settings
from webui.core.text import Text

_SPARE: Settings = {
    "quantization": "none",
    "offload": "none",
    "ffn_chunks": 1,
    "split_guidance": False,
    "vae_precision": "fp32",
    "vae_tiling": False,
    "decode_chunk": 0,
    "page_batch": 1,
    "gradient_checkpointing": False,
    "optimizer": "adamw-fused",
}
"""The settings that a table names, unless they have these values."""
FOLDER = Path(__file__).parent / "receipts"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRun:
    """One run of `python -m webui verify` under a cap, with random weights.

    The cap stands for a card's memory, not for its speed: the seconds are those of `device`.
    """

    model: str
    cap_gib: float
    size: str
    """Of the work, e.g. `832x480x81`; of several pages, `16 x 861x1218 +32`."""
    settings: Mapping[str, Any]
    estimated_bytes: int
    """Device bytes that the plan predicted, CUDA context included."""
    measured_bytes: int
    """Device bytes that the driver counted at the peak."""
    seconds: float
    """Of a denoising step where there are any, else of the whole run."""
    steps: bool
    """The seconds are those of a step."""
    device: str
    date: str

    @property
    def difference(self) -> float:
        """Measured over planned, less one."""
        return self.measured_bytes / self.estimated_bytes - 1

    @property
    def means(self) -> str:
        """The settings that are not as they would be on a card with memory to spare."""
        return means_of(self.settings)


def means_of(settings: Mapping[str, Any]) -> str:
    """Names the settings that save memory, e.g. `offload leaf, vae_tiling`."""
    return ", ".join(
        f"{name} {value}".replace(" True", "")
        for name, value in settings.items()
        if name in _SPARE and value != _SPARE[name]
    )


@cache
def read_receipts(folder: Path = FOLDER) -> tuple[Receipt, ...]:
    """All receipts that ship with the estimator, those of failed runs too."""
    return tuple(receipt for path in sorted(folder.glob("*.json")) for receipt in read_file(path))


def read_file(path: Path) -> list[Receipt]:
    """The receipts of a file that `verify --save` wrote.

    Raises:
        BadInput: it cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            "", Text(f"{path} cannot be read: {reason}.", f"无法读取 {path}：{reason}。")
        ) from error
    try:
        items = json.loads(text)
        return [Receipt.from_json(item) for item in items if "plan" in item]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "",
            Text(f"{path.name} holds no receipts.", f"{path.name} 中没有运行记录。"),
            Text("`verify --save FILE.json` writes them.", "verify --save FILE.json 会写出。"),
        ) from error


def verified_runs(receipts: tuple[Receipt, ...] | None = None) -> list[VerifiedRun]:
    """Runs under a cap, by model, then amount of work, then cap; the newest of each."""
    newest: dict[tuple[str, str, float], VerifiedRun] = {}
    for run in _capped(read_receipts() if receipts is None else receipts):
        key = (run.model, run.size, run.cap_gib)
        if key not in newest or run.date >= newest[key].date:
            newest[key] = run
    return sorted(newest.values(), key=_place)


def _place(run: VerifiedRun) -> tuple[str, list[int], float]:
    numbers = [int(number) for number in re.findall(r"\d+", run.size)]
    return run.model, [prod(numbers), *numbers], run.cap_gib


def _size(request: Request) -> str:
    pages = request.repeats if isinstance(request, PageRequest) else 1
    return f"{pages} x {request.size_text}" if pages > 1 else request.size_text


def _capped(receipts: tuple[Receipt, ...]) -> Iterator[VerifiedRun]:
    for receipt in receipts:
        measured, cap_gib = receipt.measurement, receipt.request.get("vram_gib")
        if measured is None or receipt.error is not None or not cap_gib:
            continue
        request = parse_request(receipt.request, find_model)
        denoising = sum(p.seconds for p in measured.phases if p.name.startswith("denoise"))
        yield VerifiedRun(
            model=request.model,
            cap_gib=cap_gib,
            size=_size(request),
            settings=receipt.plan["settings"],
            estimated_bytes=receipt.plan["peak_device_bytes"],
            measured_bytes=measured.peak_device_bytes,
            seconds=denoising / request.repeats if denoising else measured.seconds,
            steps=denoising > 0,
            device=receipt.device,
            date=receipt.created[:10],
        )
