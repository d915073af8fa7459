"""Workloads of the service tests, and how they follow a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from webui.core.job import JobView
from webui.core.request import Request
from webui.service import Studio

OWNER = "user:boss"
"""Of the hosted studio: is not limited, and sees only its own runs."""
TINY = {"prompt": "a red circle moves up", "frames": 5, "height": 64, "width": 64, "steps": 2}
ENDLESS = TINY | {"frames": 17, "height": 96, "width": 96, "steps": 200}
WAN = "wan2.1-t2v-1.3b"
WAN_FILES = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
)


def ask(studio: Studio, **changes: Any) -> Request:
    return studio.parse(TINY | changes)


def finish(studio: Studio, job_id: str, owner: str = OWNER) -> JobView:
    """Waits for the end of a job."""
    *_, last = studio.watch(job_id, owner)
    assert last.state.final
    return last


def wait_for(
    studio: Studio,
    job_id: str,
    wanted: Callable[[JobView], bool],
    owner: str = OWNER,
    timeout_s: float = 60.0,
) -> JobView:
    """Follows a job until its view is as wanted."""
    deadline = time.monotonic() + timeout_s
    for view in studio.watch(job_id, owner):
        if wanted(view):
            return view
        assert not view.state.final, f"{view.state}: {view.error}"
        assert time.monotonic() < deadline, f"still {view.phase} {view.step}"
    raise AssertionError("the job ended")


def is_denoising(view: JobView) -> bool:
    return view.phase == "denoise" and view.step >= 1
