"""Layers in GGUF blocks, traced once for all types of files.

Types differ in the bytes of a block and in what restoring it takes beside the result, which is
measured once for each kind of block. In the recording of a run, restoring a weight is one event, in
proportion to its values, instead of the library's many small operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from webui.core.gguf import GGUF, GGUF_MIXES
from webui.estimator.tape import SCRATCH
from webui.pipelines.gguf import library
from webui.pipelines.modules import owned_tensors
from webui.tracing.recorder import MARK, Event, Recorder

TRACED_TYPE = "q4_k_m"
"""Its two kinds of blocks tell the layers in finer blocks from the others."""
PLACES = {"": 0, "usual": 1, "finer": 2}
"""What arrays of a template say of a tensor or an event: in no blocks, in the usual, in finer."""
_ROWS, _COLUMNS = 2048, 2048
"""Of a weight that is measured."""


@contextmanager
def restored_at_once(recorder: Recorder) -> Iterator[None]:
    """Inside, restoring a weight is one scratch event beside the restored weight."""
    gguf = library()
    with _disable_current_modes():
        known = {name: measured(name) for name in GGUF_MIXES[TRACED_TYPE]}

    def restore(weight: Any) -> torch.Tensor:
        values = int(np.prod(weight.quant_shape))
        _, scratch, moved, kernels = known[weight.quant_type.name]
        found = torch.empty(weight.quant_shape, dtype=torch.float16, device=weight.device)
        size = round(values * scratch)
        event = Event(SCRATCH, -1, size, mark=place_of(weight))
        recorder.recording.events.append(event)
        # The empty tensor was counted as an operation that writes it.
        recorder.recording.costs["bytes"] += values * moved - found.nbytes
        recorder.recording.costs["kernels"] += kernels - 1
        return found

    recorder.mark_of = place_of
    with patch.object(gguf, "dequantize_gguf_tensor", restore):
        yield


def restoring(recorder: Recorder, settings: Mapping[str, Any]) -> Any:
    """`restored_at_once` where the settings have weights in blocks."""
    is_gguf = settings.get("quantization") == GGUF
    return restored_at_once(recorder) if is_gguf else nullcontext()


def place_of(tensor: Any) -> str:
    """Whether a tensor is in the usual blocks of the traced type, in the finer ones, or in none."""
    kind = getattr(tensor, "quant_type", None)
    return "" if kind is None else ("usual", "finer")[GGUF_MIXES[TRACED_TYPE].index(kind.name)]


@cache
def measured(name: str) -> tuple[float, float, float, float]:
    """Of a kind of block: bytes of a value as stored, bytes of a value that restoring takes beside
    the result at most, bytes of a value that it moves, and its kernels.

    The difference of two weights, so that what is the same for every size does not count.
    """
    (peak, result, stored, moved, kernels), second = (_restore(name, n) for n in (1, 2))
    values = _ROWS * _COLUMNS
    beside = (second[0] - peak) - (second[1] - result)
    found = (second[2] - stored, beside, second[3] - moved)
    return (*(part / values for part in found), kernels)  # type: ignore[return-value]


def _restore(name: str, times: int) -> tuple[int, int, int, float, float]:
    """Restores one weight: bytes at the peak, of the result, as stored, moved; and kernels."""
    gguf = library()
    kind = import_module("gguf").GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    shape = (times * _ROWS, _COLUMNS // values * size)
    data = torch.empty(shape, dtype=torch.uint8, device="meta")
    weight = gguf.GGUFParameter(data, quant_type=kind)
    recorder = Recorder()
    recorder.track(data)
    before = recorder.current_bytes
    recorder.reset_peak()
    with recorder:
        result = gguf.dequantize_gguf_tensor(weight)
    costs = recorder.recording.costs
    peak = recorder.peak_bytes - before
    return peak, result.nbytes, data.nbytes, costs["bytes"], costs["kernels"]


def kinds() -> dict[str, np.ndarray]:
    """What `measured` says of every kind of block, as arrays of a template."""
    names = sorted({name for mix in GGUF_MIXES.values() for name in mix})
    return {
        "kinds": np.array([measured(name) for name in names]),
        "kinds.names": np.array(names),
        "kinds.traced": np.array(GGUF_MIXES[TRACED_TYPE]),
    }


def places_of_weights(module: nn.Module) -> np.ndarray:
    """The place of each tensor, in the order of the module's weights."""
    places = [PLACES[place_of(tensor)] for tensor in owned_tensors(module)]
    return np.array(places, dtype=np.int8)


def places_of_events(events: list[Event]) -> np.ndarray:
    """The place of what each event of a tape is about."""
    places = [PLACES[event.mark] for event in events if event.kind != MARK]
    return np.array(places, dtype=np.int8)
