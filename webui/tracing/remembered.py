"""Remembers what operations make on the meta device: a trace asks the same of it many times.

PyTorch finds the shape of a result by Python code that takes far longer than making the result
(`torch._refs`, `torch._prims_common`), and a model's layers ask for the same again and again.
"""

from __future__ import annotations

from typing import Any

import torch

from webui.pipelines.live_bytes import tensors_in

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_VALUES = (int, float, bool, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
Made = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""Shape, strides and number format of a new tensor."""
MOST = 100_000
"""Operations that are remembered: those of a few models."""


class Remembered:
    """What operations made and cost, by what was asked of them."""

    def __init__(self) -> None:
        self._made: dict[Any, list[Made]] = {}
        self.costs: dict[Any, tuple[str, float] | None] = {}

    def run(self, asked: Any, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """New tensors as the operation made them before, or by the operation itself."""
        made = self._made.get(asked)
        if made is not None:
            return make(made, single=len(func._schema.returns) == 1)
        result = func(*args, **kwargs)
        if asked is not None:
            made = made_of(result, args, kwargs)
            if made is not None and len(made) == len(func._schema.returns):
                if len(self._made) >= MOST:
                    self._made.clear()
                    self.costs.clear()
                self._made[asked] = made
        return result


def asked_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What decides the results of an operation, or None where that may be more than this.

    Of operations that write into a tensor or give a view of one nothing is remembered.
    """
    schema = func._schema
    if schema.is_mutable or func.is_view or any(one.alias_info for one in schema.returns):
        return None
    key = _key((args, kwargs))
    return None if key is None else (func, key)


def make(made: list[Made], single: bool) -> Any:
    """New tensors as they were made before."""
    tensors = tuple(
        torch.empty_strided(shape, strides, dtype=dtype, device="meta")
        for shape, strides, dtype in made
    )
    return tensors[0] if single else tensors


def made_of(result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Made] | None:
    """What there is to remember of a result; None where it is not all new and whole tensors."""
    results = (result,) if isinstance(result, torch.Tensor) else result
    if not isinstance(results, tuple):
        return None
    given = {tensor.untyped_storage()._cdata for tensor in tensors_in((args, kwargs))}
    made: list[Made] = []
    for tensor in results:
        if type(tensor) is not torch.Tensor or not tensor.is_meta or tensor.storage_offset():
            return None
        storage = tensor.untyped_storage()
        one = (tuple(tensor.shape), tensor.stride(), tensor.dtype)
        alone = torch.empty_strided(one[0], one[1], dtype=one[2], device="meta")
        if storage._cdata in given or storage.nbytes() != alone.untyped_storage().nbytes():
            return None
        given.add(storage._cdata)
        made.append(one)
    return made


def _key(value: Any) -> Any:
    """Something to look up; None where a part is of an unknown kind."""
    if isinstance(value, torch.Tensor):
        if type(value) not in _PLAIN or value.layout is not torch.strided:
            return None
        place = (value.storage_offset(), value.device)
        return (tuple(value.shape), value.stride(), value.dtype, *place)
    if isinstance(value, dict):
        value = tuple(value.items())
    if isinstance(value, (list, tuple)):
        parts = tuple(_key(part) for part in value)
        return None if None in parts else parts
    if value is None or isinstance(value, _VALUES):
        return (type(value), value)
    return None
