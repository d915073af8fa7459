"""The templates against fresh traces of the real pipeline loop, at shapes they were not made from.

They pin that the loops of estimator/wan.py and wan_vae.py are those of diffusers (denoising,
frames, tiles, pictures).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from webui.catalogue import find_model
from webui.core.clip import ClipCard, ClipRequest
from webui.core.settings import Settings, with_defaults
from webui.estimator.events import PhaseEvents, rounded
from webui.estimator.rules import Rules
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, SCRATCH
from webui.estimator.wan import WanMemory, latent_shape
from webui.estimator.wan_vae import WanVae
from webui.pipelines import wan
from webui.tracing.meta_kernels import cuda_kernels
from webui.tracing.recorder import Event, Recorder
from webui.tracing.streaming import recorded_streaming
from webui.tracing.wan import single_expert
from webui.tracing.wan_conditions import GIVEN, record_conditions
from webui.tracing.wan_loop import blocks_of, kept_storage, prepared, tensors_of
from webui.tracing.wan_request import request_of
from webui.tracing.wan_vae import record_decode

EXACT = 0.005
BARE = Rules("cuda", (), has_scratch=True, expandable=True, measured=True)
"""A GPU without a matrix library: the meta device has none either."""


def live_peak(events: list[Event]) -> int:
    """Most bytes alive at once, counted anew from the recording."""
    sizes: dict[int, int] = {}
    live = peak = 0
    for event in events:
        size = rounded(event.size_bytes)
        if event.kind in (ALLOCATE, LOAD):
            sizes[event.slot] = size
            live += size
            peak = max(peak, live)
        elif event.kind == SCRATCH:
            peak = max(peak, live + size)
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot, 0)
    return peak


def composed_peak(card: ClipCard, request: ClipRequest, settings: Settings, phase: str) -> int:
    """What the templates say of the phase, above what is resident."""
    events: PhaseEvents = WanMemory(card, request, settings, BARE).phase(phase)
    return events.peak_live_bytes() - events.resident_bytes


def record(
    module: Any,
    mode: str,
    run: Callable[[], Any],
    given: tuple[torch.Tensor, ...] = (),
    recorder: Recorder | None = None,
) -> list[Event]:
    """The events of a run; the module's weights are resident or streamed.

    Args:
        module: of the run.
        mode: `none`, `block` or `leaf`.
        run: the run.
        given: tensors that are there before.
        recorder: a new one.
    """
    recorder = recorder or Recorder()
    for tensor in given:
        recorder.track(tensor)
    if mode == "none":
        recorder.track_module(module)
    else:
        recorder.leave_out(module)
    recorder.recording.events.clear()
    streaming = nullcontext() if mode == "none" else recorded_streaming(module, mode, recorder)
    gc.collect()
    gc.disable()
    try:
        with cuda_kernels(), streaming, recorder:
            result = run()
    finally:
        gc.enable()
    events = list(recorder.recording.events)
    del result
    return events


def all_settings(card: ClipCard, **changes: Any) -> Settings:
    return with_defaults({"text_encoder": "absent", **changes}, card.settings)


DENOISE = [
    ("demo", mode, guidance, solver, precision, shape)
    for mode, guidance, solver, precision, shape in (
        ("none", 5.0, "unipc", "bf16", {"f": 1, "h": 10, "w": 18}),
        ("none", 1.0, "unipc", "fp32", {"f": 2, "h": 18, "w": 14}),
        ("none", 5.0, "dpm++", "bf16", {"f": 21, "h": 6, "w": 10}),
        ("none", 1.0, "dpm++", "bf16", {"f": 5, "h": 20, "w": 24}),
        ("leaf", 5.0, "unipc", "bf16", {"f": 21, "h": 10, "w": 18}),
        ("leaf", 1.0, "dpm++", "fp32", {"f": 1, "h": 28, "w": 20}),
        ("leaf", 5.0, "dpm++", "bf16", {"f": 2, "h": 18, "w": 14}),
        ("leaf", 1.0, "unipc", "bf16", {"f": 6, "h": 32, "w": 32}),
        ("block", 5.0, "unipc", "bf16", {"f": 2, "h": 10, "w": 18}),
        ("block", 1.0, "dpm++", "fp32", {"f": 21, "h": 18, "w": 14}),
    )
] + [
    ("wan2.1-t2v-1.3b", "none", 5.0, "unipc", "bf16", {"f": 21, "h": 60, "w": 104}),
    ("wan2.1-t2v-1.3b", "leaf", 5.0, "unipc", "bf16", {"f": 21, "h": 60, "w": 104}),
    ("wan2.1-t2v-1.3b", "leaf", 1.0, "dpm++", "bf16", {"f": 1, "h": 26, "w": 30}),
    ("wan2.1-t2v-1.3b", "none", 1.0, "dpm++", "fp32", {"f": 2, "h": 44, "w": 44}),
]


@pytest.mark.parametrize(("model", "mode", "guidance", "solver", "precision", "shape"), DENOISE)
def test_denoise(
    model: str, mode: str, guidance: float, solver: str, precision: str, shape: dict[str, int]
) -> None:
    card = find_model(model)
    settings = all_settings(card, precision=precision, offload=mode)
    # Five steps: more than the templates were made with.
    request = request_of(card, shape, guidance=guidance, solver=solver, steps=5)
    assert latent_shape(request, card).to_dict() == shape
    pipe = wan.build_meta(card, settings)
    del pipe.transformer.blocks[blocks_of(card) :]
    embeddings = wan.encode(pipe, request, settings)
    fresh = live_peak(
        record(
            pipe.transformer,
            mode,
            lambda: wan.denoise(pipe, embeddings, request),
            tensors_of(embeddings, None),
        )
    )
    assert composed_peak(card, request, settings, "denoise") == pytest.approx(fresh, rel=EXACT)


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
@pytest.mark.parametrize(("mode", "guidance"), [("none", 5.0), ("leaf", 1.0), ("block", 5.0)])
def test_the_first_step_is_what_a_loop_of_one_does(mode: str, guidance: float, solver: str) -> None:
    card, shape = find_model("wan2.1-t2v-1.3b"), {"f": 6, "h": 18, "w": 14}
    settings = all_settings(card, precision="bf16", offload=mode)
    request = request_of(card, shape, guidance=guidance, solver=solver, steps=1)
    pipe = wan.build_meta(card, settings)
    del pipe.transformer.blocks[blocks_of(card) :]
    embeddings = wan.encode(pipe, request, settings)
    recorder = Recorder()
    ends: list[int] = []

    def run() -> torch.Tensor:
        events = recorder.recording.events
        return wan.denoise(pipe, embeddings, request, on_step=lambda *_: ends.append(len(events)))

    events = record(pipe.transformer, mode, run, tensors_of(embeddings, None), recorder)
    memory = WanMemory(card, request, settings, BARE)
    names = ["denoise", "resident" if mode == "none" else mode, memory.guided, solver]
    tape = memory.template("transformer").tape(".".join(names))
    sizes = tape.of_steps(1).sizes({"n": shape["f"] * shape["h"] * shape["w"]})
    made = [0 if event.kind == RELEASE else rounded(event.size_bytes) for event in events]
    assert len(ends) == 1 and sizes.tolist() == made[: ends[0]]
    short, long = (
        WanMemory(card, request.with_changes(steps=steps), settings, BARE).phase("denoise")
        for steps in (1, 9)
    )
    assert 0 < short.events < long.events


VARIANTS = [
    ("demo", "none", 5.0, "unipc", "bf16", 4, {"f": 5, "h": 20, "w": 24}),
    ("demo", "none", 1.0, "unipc", "fp32", 8, {"f": 3, "h": 18, "w": 14}),
    ("demo", "leaf", 5.0, "unipc", "bf16", 2, {"f": 21, "h": 10, "w": 18}),
    ("demo", "block", 1.0, "unipc", "bf16", 8, {"f": 21, "h": 18, "w": 14}),
    ("demo", "none", 5.0, "unipc", "fp8", 1, {"f": 5, "h": 20, "w": 24}),
    ("demo", "leaf", 1.0, "unipc", "fp8", 8, {"f": 5, "h": 20, "w": 24}),
    ("wan2.1-t2v-1.3b", "leaf", 5.0, "unipc", "bf16", 8, {"f": 21, "h": 60, "w": 104}),
    ("wan2.1-t2v-1.3b", "none", 1.0, "dpm++", "bf16", 7, {"f": 11, "h": 60, "w": 104}),
    ("wan2.1-t2v-1.3b", "block", 1.0, "unipc", "fp8", 4, {"f": 6, "h": 60, "w": 104}),
]


@pytest.mark.parametrize(
    ("model", "mode", "guidance", "solver", "precision", "pieces", "shape"), VARIANTS
)
def test_denoise_in_pieces_and_in_fp8(
    model: str,
    mode: str,
    guidance: float,
    solver: str,
    precision: str,
    pieces: int,
    shape: dict[str, int],
) -> None:
    """All pieces are run here, of lengths that differ; the templates know of two."""
    card = find_model(model)
    settings = all_settings(card, precision=precision, offload=mode, ffn_chunks=pieces)
    request = request_of(card, shape, guidance=guidance, solver=solver, steps=5)
    with kept_storage():
        pipe = wan.build_meta(card, settings)
        del pipe.transformer.blocks[blocks_of(card) :]
        embeddings = wan.encode(pipe, request, settings)
        fresh = live_peak(
            record(
                pipe.transformer,
                mode,
                lambda: wan.denoise(pipe, embeddings, request, settings),
                tensors_of(embeddings, None),
            )
        )
    composed = composed_peak(card, request, settings, "denoise")
    if solver == "unipc":
        assert composed == pytest.approx(fresh, rel=EXACT)
    else:  # not traced for it: UniPC's history is a little longer
        assert fresh <= composed < 1.02 * fresh


@pytest.mark.parametrize("encoder", ["gpu", "stream"])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_encode(encoder: str, precision: str) -> None:
    card = find_model("demo")
    settings = all_settings(card, precision=precision, text_encoder=encoder)
    request = request_of(card, {"f": 2, "h": 10, "w": 10})
    pipe = wan.build_meta(card, settings)
    mode = "none" if encoder == "gpu" else "leaf"
    fresh = live_peak(record(pipe.text_encoder, mode, lambda: wan.encode(pipe, request, settings)))
    assert composed_peak(card, request, settings, "encode") == pytest.approx(fresh, rel=EXACT)


def tiled(tile: int, overlap: int) -> dict[str, Any]:
    return {"vae_tiling": True, "vae_tile": tile, "vae_tile_overlap": overlap}


DECODE = [
    ("demo", {"f": 1, "h": 10, "w": 18}, {}),
    ("demo", {"f": 2, "h": 18, "w": 10}, {}),
    ("demo", {"f": 4, "h": 18, "w": 10}, {"channels_last": True}),
    ("demo", {"f": 5, "h": 10, "w": 10}, {"vae_precision": "bf16"}),
    ("demo", {"f": 6, "h": 10, "w": 14}, {}),
    ("demo", {"f": 7, "h": 10, "w": 14}, {"vae_precision": "bf16", "channels_last": True}),
    ("demo", {"f": 21, "h": 12, "w": 10}, {}),
    ("demo", {"f": 1, "h": 20, "w": 18}, tiled(64, 16)),
    ("demo", {"f": 2, "h": 10, "w": 14}, tiled(64, 32)),
    ("demo", {"f": 7, "h": 10, "w": 14}, tiled(96, 32)),
    ("demo", {"f": 5, "h": 22, "w": 18}, tiled(128, 64)),
    ("demo", {"f": 4, "h": 34, "w": 12}, tiled(128, 32) | {"vae_precision": "bf16"}),
    ("demo", {"f": 3, "h": 40, "w": 36}, tiled(256, 64)),
    ("demo", {"f": 3, "h": 20, "w": 20}, tiled(256, 64)),
    ("wan2.1-t2v-1.3b", {"f": 1, "h": 44, "w": 60}, {}),
    ("wan2.1-t2v-1.3b", {"f": 2, "h": 44, "w": 60}, {"vae_precision": "bf16"}),
    ("wan2.1-t2v-1.3b", {"f": 21, "h": 60, "w": 104}, {"channels_last": True}),
    ("wan2.1-t2v-1.3b", {"f": 6, "h": 44, "w": 54}, tiled(256, 64)),
    ("wan2.1-t2v-1.3b", {"f": 2, "h": 36, "w": 44}, tiled(128, 32)),
    ("wan2.1-t2v-1.3b", {"f": 1, "h": 60, "w": 104}, tiled(256, 64)),
]


@pytest.mark.parametrize(("model", "shape", "changes"), DECODE)
def test_decode(model: str, shape: dict[str, int], changes: dict[str, Any]) -> None:
    card = find_model(model)
    settings = all_settings(card, **changes)
    request = request_of(card, shape)
    pipe = wan.build_meta(card, settings)
    fresh = live_peak(record_decode(pipe, shape, settings).events)
    assert composed_peak(card, request, settings, "decode") == pytest.approx(fresh, rel=EXACT)


def test_a_wrong_loop_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: without the copies that join the frames it does."""
    card = find_model("demo")
    shape = {"f": 21, "h": 12, "w": 10}
    settings = all_settings(card)
    request = request_of(card, shape)
    fresh = live_peak(record_decode(wan.build_meta(card, settings), shape, settings).events)
    monkeypatch.setattr(WanVae, "_frame_bytes", lambda *_: 0)
    assert composed_peak(card, request, settings, "decode") != pytest.approx(fresh, rel=EXACT)


SMALL = {"f": 5, "h": 16, "w": 24}
LOOPS: list[tuple[str, str, float, dict[str, Any], dict[str, Any]]] = [
    ("wan2.1-i2v-14b-480p", "none", 5.0, {}, {}),
    ("wan2.1-i2v-14b-480p", "leaf", 1.0, {"ffn_chunks": 4}, {}),
    ("wan2.1-flf2v-14b", "leaf", 5.0, {}, {}),
    ("wan2.1-vace-1.3b", "none", 5.0, {}, {}),
    ("wan2.1-vace-1.3b", "leaf", 5.0, {}, {"image": GIVEN}),
    ("wan2.1-vace-1.3b", "block", 1.0, {"ffn_chunks": 3}, {}),
    ("wan2.2-ti2v-5b", "none", 5.0, {}, {}),
    ("wan2.2-ti2v-5b", "leaf", 5.0, {}, {"image": GIVEN}),
    ("wan2.2-ti2v-5b", "leaf", 5.0, {"ffn_chunks": 3}, {"image": GIVEN}),
    ("wan2.2-i2v-a14b", "leaf", 5.0, {}, {}),
]


@pytest.mark.parametrize(("model", "mode", "guidance", "changes", "pictures"), LOOPS)
def test_loops_with_pictures(
    model: str, mode: str, guidance: float, changes: dict[str, Any], pictures: dict[str, Any]
) -> None:
    card = find_model(model)
    settings = all_settings(card, offload=mode, **changes)
    request = request_of(card, SMALL, guidance=guidance, steps=4, **pictures)
    pipe = wan.build_meta(single_expert(card), settings)
    del pipe.transformer.blocks[blocks_of(card) :]
    pipe, embeddings, conditions = prepared(pipe, request, settings)
    fresh = live_peak(
        record(
            pipe.transformer,
            mode,
            lambda: wan.denoise(pipe, embeddings, request, settings, conditions),
            tensors_of(embeddings, conditions),
        )
    )
    memory = WanMemory(card, request, settings, BARE)
    (phase,) = (name for name in memory.phase_names()[-2:] if name.startswith("denoise"))
    events = memory.phase(phase)
    assert events.peak_live_bytes() - events.resident_bytes == pytest.approx(fresh, rel=EXACT)
    given = [size for part in events.parts if part.name == "conditions" for size in part.sizes]
    real = [*(conditions.latents if conditions else ())]
    real += [conditions.embeddings] if conditions and conditions.embeddings is not None else []
    assert sorted(given) == sorted(rounded(tensor.nbytes) for tensor in real)


PICTURES: list[tuple[str, dict[str, int], dict[str, Any], dict[str, Any]]] = [
    ("wan2.1-i2v-14b-480p", {"f": 1, "h": 10, "w": 18}, {}, {}),
    ("wan2.1-i2v-14b-480p", {"f": 5, "h": 24, "w": 18}, {"channels_last": True}, {}),
    ("wan2.1-i2v-14b-480p", {"f": 21, "h": 12, "w": 14}, {"vae_precision": "bf16"}, {}),
    ("wan2.1-i2v-14b-480p", {"f": 7, "h": 44, "w": 36}, tiled(256, 64), {}),
    ("wan2.1-flf2v-14b", {"f": 21, "h": 14, "w": 12}, {}, {}),
    ("wan2.1-flf2v-14b", {"f": 3, "h": 36, "w": 28}, tiled(128, 32), {}),
    ("wan2.1-vace-1.3b", {"f": 5, "h": 12, "w": 20}, {}, {}),
    ("wan2.1-vace-1.3b", {"f": 9, "h": 12, "w": 20}, {}, {"image": GIVEN}),
    ("wan2.1-vace-1.3b", {"f": 5, "h": 20, "w": 28}, tiled(128, 32), {"image": GIVEN}),
    ("wan2.2-ti2v-5b", {"f": 9, "h": 10, "w": 14}, {}, {"image": GIVEN}),
    ("wan2.2-ti2v-5b", {"f": 9, "h": 36, "w": 22}, tiled(256, 64), {"image": GIVEN}),
    ("wan2.2-i2v-a14b", {"f": 6, "h": 14, "w": 12}, {}, {}),
]


@pytest.mark.parametrize(("model", "shape", "changes", "pictures"), PICTURES)
def test_pictures_are_encoded(
    model: str, shape: dict[str, int], changes: dict[str, Any], pictures: dict[str, Any]
) -> None:
    """Without the image encoder: its tape has no shape, and a test of its own."""
    card = find_model(model)
    settings = all_settings(card, **changes)
    request = request_of(card, shape, **pictures)
    fresh = live_peak(record_conditions(card, request, settings, whole=True).events)
    configs = {name: value for name, value in card.configs.items() if name != "image_encoder"}
    bare = replace(card, configs=configs)
    assert composed_peak(bare, request, settings, "image_encode") == pytest.approx(fresh, rel=EXACT)


FOLDED: list[tuple[dict[str, int], dict[str, Any]]] = [
    ({"f": 1, "h": 10, "w": 14}, {}),
    ({"f": 5, "h": 12, "w": 10}, {"vae_precision": "bf16", "channels_last": True}),
    ({"f": 21, "h": 10, "w": 12}, {}),
    ({"f": 4, "h": 22, "w": 18}, tiled(256, 64)),
]


@pytest.mark.parametrize(("shape", "changes"), FOLDED)
def test_a_decoder_that_folds_pixels(shape: dict[str, int], changes: dict[str, Any]) -> None:
    card = find_model("wan2.2-ti2v-5b")
    settings = all_settings(card, **changes)
    fresh = live_peak(record_decode(wan.build_meta(card, settings), shape, settings).events)
    composed = composed_peak(card, request_of(card, shape), settings, "decode")
    assert composed == pytest.approx(fresh, rel=EXACT)
