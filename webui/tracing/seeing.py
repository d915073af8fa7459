"""What the vision towers do with pictures, told to a run on meta.

A tower cuts its attention into pictures and windows, with a loop over them: how many there are
depends on the pictures. What is alive at a time does not: the parts' results are all there until
they are joined, and add up to the whole. So a recording takes one part that covers all, and its
events are the same for every picture. Where the plain formula makes a matrix for each picture,
the last picture, at whose matrix all results before are there, is a part of its own.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from webui.pipelines.text_model import layers_of, parts_of

CUTS = ("pictures", "whole", "last")
"""As the tower cuts; one part; all pictures but the last, and the last. Of the last two the second
is for the plain formula."""
Found = tuple[torch.Tensor, ...]


@contextmanager
def seeing(model: Any, grid: torch.Tensor, cut: str, on_meta: bool) -> Iterator[None]:
    """Inside, the tower finds the places of its patches without reading them from meta.

    Args:
        model: with a tower that takes pictures of any shape, told by a grid of patches.
        grid: frames, rows and columns of patches of each picture (B 3), on the host.
        cut: one of `CUTS`.
        on_meta: the prompt is on meta too, so that the pictures' places in it are unknown.
    """
    # A model may have the tower of another.
    names = {type(part).__module__ for part in (model, *parts_of(model)["vision"].modules())}
    modules = [sys.modules[name] for name in sorted(names)]
    sizes = grid.prod(-1).tolist()
    before = sum(sizes[:-1]) if cut == "last" else 0
    ends = [0, before, sum(sizes)] if before else [0, sum(sizes)]
    parts = torch.tensor(ends, dtype=torch.int32)

    def places(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda _, *rest, **named: function(grid, *rest, **named).to("meta")

    def weights(function: Callable[..., Found]) -> Callable[..., Found]:
        return lambda _, *rest, **named: tuple(
            tensor.to("meta") for tensor in function(grid, *rest, **named)
        )

    def pictures(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(_: torch.Tensor, *rest: Any, **named: Any) -> Any:
            found = function(grid, *rest, **named)
            return found if cut == "pictures" else (parts, *found[1:])

        return call

    def windows(function: Callable[..., Found]) -> Callable[..., Found]:
        def call(_: torch.Tensor, *rest: Any, **named: Any) -> Found:
            order, borders = function(grid, *rest, **named)
            return order.to("meta"), borders if cut == "pictures" else borders[[0, -1]]

        return call

    ways: dict[str, Any] = {
        "get_vision_position_ids": places,
        "get_vision_interpolation_indices_and_weights": weights,
        "get_vision_attention_seqlens": pictures,
        "get_vision_window_index": windows,
    }
    with ExitStack() as around:
        for module, (name, way) in itertools.product(modules, ways.items()):
            if hasattr(module, name):
                function = getattr(module, name)
                around.enter_context(patch.object(module, name, way(function)))
        if on_meta:
            around.enter_context(patch.object(model.model, "get_rope_index", _prompt_places))
        if cut == "last":
            around.enter_context(_small_windows(model))
        connector = parts_of(model).get("connector")
        if connector is not None and len(inspect.signature(connector.forward).parameters) > 1:
            around.enter_context(_connected(connector, grid, cut))
        yield


@contextmanager
def _connected(connector: Any, grid: torch.Tensor, cut: str) -> Iterator[None]:
    """Inside, what leads to the language model takes the last picture only, unless it is asked to
    take them all: the results of those before are there, as they are when it comes to that one."""
    whole = type(connector).forward
    sizes = grid.prod(-1).tolist()
    before = 0 if cut == "pictures" else sum(sizes[:-1])

    def call(self: Any, features: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        if cut == "pictures":
            return whole(self, features, grid)
        last = whole(self, features[before:], grid[-1:])
        places = before * len(last) // sizes[-1]
        # One row more, so that something is there also before an only picture.
        results = last.new_empty((places + 1, last.shape[-1]))[:places]
        return torch.cat([results, last])

    with patch.object(type(connector), "forward", call):
        yield


@contextmanager
def _small_windows(model: Any) -> Iterator[None]:
    """Inside, the layers with windows make no matrices: a window's is of 64 patches."""
    tower: Any = parts_of(model)["vision"]
    blocks = layers_of(tower)
    full = getattr(tower, "fullatt_block_indexes", range(len(blocks)))
    plain = copy.copy(tower.config)
    plain._attn_implementation = "sdpa"
    with ExitStack() as around:
        for index, block in enumerate(blocks):
            if index not in full:
                around.enter_context(patch.object(block.attn, "config", plain))
        yield


def _prompt_places(input_ids: torch.Tensor, **_: Any) -> Found:
    """Places of the tokens in three dimensions (3 B S), and how far they run ahead (B 1)."""
    places = torch.empty((3, *input_ids.shape), dtype=torch.int64, device=input_ids.device)
    return places, torch.empty((len(input_ids), 1), dtype=torch.int64, device=input_ids.device)
