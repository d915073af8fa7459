"""What the estimate says that step caches keep, against fresh traces of the real loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.tracing.test_templates_follow_the_loop import BARE, all_settings, live_peak
from webui.catalogue import find_model
from webui.core.settings import Settings
from webui.estimator.wan import WanMemory
from webui.estimator.wan_step_cache import computed_steps
from webui.pipelines import wan
from webui.pipelines.wan import step_cache
from webui.tracing.recorder import Recorder
from webui.tracing.recording import record_run
from webui.tracing.wan import single_expert
from webui.tracing.wan_conditions import GIVEN
from webui.tracing.wan_loop import BLOCKS, kept_storage, prepared, tensors_of
from webui.tracing.wan_request import request_of

REAL = {"f": 21, "h": 60, "w": 104}
"""81 frames of 480x832."""
SMALL = {"f": 5, "h": 16, "w": 24}
STEPS = 6
FIRST: Settings = {"step_cache": "first-block"}
TAYLOR: Settings = {"step_cache": "taylorseer", "step_cache_interval": 3}
COMPUTES, LEAVES_OUT = math.inf, 0.0
"""Changes of the first block's work: at the one all is computed, at the other what may be left out
is."""


class Traced:
    """A run of the loop with its first blocks, on meta."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        model: str,
        shape: dict[str, int],
        settings: Settings,
        change: float = COMPUTES,
        **workload: Any,
    ) -> None:
        card = find_model(model)
        self.settings = all_settings(card, **settings)
        request = request_of(card, shape, steps=STEPS, **workload)
        self.calls = [0] * (BLOCKS + 1)
        """Of each block's own work, and of the last layer's."""
        monkeypatch.setattr(Recorder, "number", change)
        with kept_storage():
            pipe = wan.build_meta(single_expert(card), self.settings)
            del pipe.transformer.blocks[BLOCKS:]
            layers = [block.attn1.to_k for block in pipe.transformer.blocks]
            for index, layer in enumerate([*layers, pipe.transformer.proj_out]):
                # Inside of all hooks of the library, which replace `forward` in turn.
                layer.forward = self._counted(index, layer.forward)
            pipe, embeddings, conditions = prepared(pipe, request, self.settings)
            mode = str(self.settings["offload"]).replace("none", "resident")
            self.peak = live_peak(
                record_run(
                    pipe.transformer,
                    mode,
                    lambda: wan.denoise(pipe, embeddings, request, self.settings, conditions),
                    tensors_of(embeddings, conditions),
                ).events
            )
        memory = WanMemory(card, request, self.settings, BARE)
        (phase,) = (name for name in memory.phase_names()[-2:] if name.startswith("denoise"))
        events = memory.phase(phase)
        self.composed = events.peak_live_bytes() - events.resident_bytes

    def _counted(self, index: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls[index] += 1
            return forward(*arguments, **named)

        return call


CELLS: list[tuple[str, dict[str, int], float, Settings, dict[str, Any]]] = [
    ("wan2.1-t2v-1.3b", REAL, 5.0, FIRST, {}),
    ("wan2.1-t2v-1.3b", REAL, 1.0, FIRST | {"offload": "leaf"}, {}),
    ("wan2.1-t2v-1.3b", REAL, 5.0, FIRST | {"offload": "leaf", "ffn_chunks": 8}, {}),
    ("wan2.1-t2v-1.3b", REAL, 1.0, FIRST | {"precision": "fp32", "ffn_chunks": 8}, {}),
    ("wan2.1-t2v-1.3b", REAL, 5.0, FIRST | {"offload": "block", "precision": "fp8"}, {}),
    ("wan2.1-t2v-1.3b", REAL, 5.0, TAYLOR, {}),
    ("wan2.1-t2v-1.3b", REAL, 1.0, TAYLOR | {"offload": "leaf", "ffn_chunks": 8}, {}),
    ("wan2.1-t2v-14b", REAL, 5.0, FIRST | {"offload": "leaf"}, {}),
    ("wan2.1-i2v-14b-480p", SMALL, 5.0, FIRST | {"offload": "leaf"}, {}),
    ("wan2.2-ti2v-5b", SMALL, 5.0, FIRST | {"ffn_chunks": 8}, {"image": GIVEN}),
    ("wan2.2-ti2v-5b", SMALL, 5.0, FIRST | {"offload": "leaf", "ffn_chunks": 8}, {}),
    ("wan2.2-ti2v-5b", SMALL, 1.0, FIRST | {"offload": "block"}, {}),
    ("wan2.2-i2v-a14b", REAL, 5.0, FIRST | {"offload": "leaf", "ffn_chunks": 8}, {}),
    ("wan2.1-vace-1.3b", SMALL, 5.0, TAYLOR | {"offload": "leaf"}, {"image": GIVEN}),
    ("demo", SMALL, 5.0, FIRST | {"precision": "fp32"}, {}),
    ("demo", SMALL, 1.0, TAYLOR | {"precision": "fp32", "ffn_chunks": 4}, {}),
]


@pytest.mark.parametrize(("model", "shape", "guidance", "settings", "pictures"), CELLS, ids=str)
def test_the_peak_with_a_cache(
    model: str,
    shape: dict[str, int],
    guidance: float,
    settings: Settings,
    pictures: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for change in (COMPUTES, LEAVES_OUT) if "first-block" in settings.values() else (COMPUTES,):
        traced = Traced(monkeypatch, model, shape, settings, change, guidance=guidance, **pictures)
        assert traced.composed == pytest.approx(traced.peak, rel=0.01)


@pytest.mark.parametrize("offload", ["none", "leaf", "block"])
def test_streamed_layers_are_left_out_too(offload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass takes away what recorded the layers' order, and must leave the caches."""
    first = Traced(monkeypatch, "demo", SMALL, FIRST | {"offload": offload}, LEAVES_OUT)
    assert first.calls == [2 * STEPS, *[2] * (BLOCKS - 1), 2 * STEPS]
    taylor = Traced(monkeypatch, "demo", SMALL, TAYLOR | {"offload": offload})
    computed = 2 * computed_steps(taylor.settings, STEPS)
    assert taylor.calls == [computed] * (BLOCKS + 1)


def test_without_care_the_library_would_lose_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, diffusers keeps its hooks by itself: `_keep_linked` can go."""

    class Nothing:
        def remove(self) -> None:
            pass

    monkeypatch.setattr(step_cache, "_keep_linked", lambda _: Nothing())
    for cache in (FIRST, TAYLOR):
        traced = Traced(monkeypatch, "demo", SMALL, cache | {"offload": "leaf"}, LEAVES_OUT)
        assert traced.calls == [2 * STEPS] * (BLOCKS + 1)
