"""Records one run with its module resident or streamed; what every family's tracing starts from."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from webui.pipelines.modules import owned_tensors
from webui.tracing.meta_kernels import cuda_kernels
from webui.tracing.recorder import Recorder, Recording
from webui.tracing.streaming import recorded_streaming


def weight_sizes(module: nn.Module) -> np.ndarray:
    """Bytes of each parameter and buffer, in the order of the module; tied ones once."""
    return np.array([tensor.nbytes for tensor in owned_tensors(module)], dtype=np.int64)


def record_run(
    module: nn.Module,
    mode: str,
    run: Callable[..., Any],
    before: tuple[torch.Tensor, ...] = (),
    wants_recorder: bool = False,
) -> Recording:
    """Runs with the module resident or streamed and returns what happened meanwhile.

    Args:
        module: on meta.
        mode: `resident`, `leaf` or `block`.
        run: the run; what it returns is not part of the recording.
        before: tensors that are there when it starts.
        wants_recorder: hand the recorder to `run`.
    """
    recorder = Recorder()
    for tensor in before:
        recorder.track(tensor)
    if mode == "resident":
        recorder.track_module(module)
    else:
        recorder.leave_out(module)
    recorder.recording.events.clear()
    streaming = nullcontext() if mode == "resident" else recorded_streaming(module, mode, recorder)
    gc.collect()
    # A collection in the middle would free cycles at a moment that no other run repeats.
    gc.disable()
    try:
        with cuda_kernels(), streaming, recorder:
            result = run(recorder) if wants_recorder else run()
    finally:
        gc.enable()
    # A copy: what dies later, the result among it, is not part of the phase.
    recording = replace(recorder.recording, events=list(recorder.recording.events))
    del result
    return recording
