"""Small systems of equations are solved on the host, so that a GPU needs no library for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _SolveOnHost(TorchFunctionMode):
    """Inside it `torch.linalg.solve` computes on the host and answers where its input is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.linalg.solve and args[0].device.type != "meta":
            matrix, right = args
            return func(matrix.cpu(), right.cpu()).to(matrix.device)
        return func(*args, **(kwargs or {}))


def solving_on_host(scheduler: Any) -> Any:
    """The scheduler, whose steps solve their systems on the host.

    UniPC solves one of two equations at each step from the third on. On a GPU that loads cuSOLVER,
    which holds 96 MiB beside PyTorch's allocator (H200, torch 2.11, 2026-11-27) until the process
    ends; and it waits for the device there too, so nothing is lost.
    """
    step = scheduler.step

    def step_on_host(*arguments: Any, **named: Any) -> Any:
        with _SolveOnHost():
            return step(*arguments, **named)

    scheduler.step = step_on_host
    return scheduler
