"""Stable Video Diffusion's templates against fresh traces, at shapes they were not made from."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from tests.unit.pipelines.svd_card import tiny_svd
from webui.catalogue import find_model
from webui.core.settings import Settings, with_defaults
from webui.estimator import templates
from webui.estimator.events import rounded
from webui.estimator.rules import Rules
from webui.estimator.svd import LatentShape, SvdMemory
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, SCRATCH
from webui.pipelines import svd
from webui.pipelines.svd.phases import encode_embedding
from webui.tracing.__main__ import trace_model
from webui.tracing.fit import NotOneTape, fit_tape
from webui.tracing.recorder import Event
from webui.tracing.recording import record_run
from webui.tracing.svd import record_decode, record_denoise, record_encode, request_of

EXACT = 0.005
BARE = Rules("cuda", (), has_scratch=True, expandable=True, measured=True)
"""A GPU without a matrix library: the meta device has none either."""
CARD = find_model("svd-xt")


def live_peak(events: list[Event]) -> int:
    """Most bytes alive at once above what was there, counted anew from the recording."""
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


def settings_of(**changes: Any) -> Settings:
    return with_defaults(changes, CARD.settings, {**CARD.setting_defaults, "decode_chunk": 1})


def composed_peak(request: Any, settings: Settings, phase: str) -> int:
    events = SvdMemory(CARD, request, settings, BARE).phase(phase)
    return events.peak_live_bytes() - events.resident_bytes


@pytest.mark.parametrize(
    ("mode", "guidance", "precision", "shape"),
    [
        ("none", 3.0, "fp16", {"f": 25, "h": 72, "w": 128}),
        ("none", 1.0, "fp32", {"f": 8, "h": 32, "w": 24}),
        ("none", 3.0, "bf16", {"f": 2, "h": 16, "w": 16}),
        ("leaf", 3.0, "fp16", {"f": 14, "h": 40, "w": 56}),
        ("block", 1.0, "fp16", {"f": 25, "h": 24, "w": 64}),
    ],
)
def test_denoise(mode: str, guidance: float, precision: str, shape: dict[str, int]) -> None:
    settings = settings_of(precision=precision, offload=mode)
    request = request_of(CARD, shape, guidance=guidance, steps=3)
    assert LatentShape.of(request).to_dict() == shape
    pipe = svd.build_meta(CARD, settings)
    recorded_as = "resident" if mode == "none" else mode
    fresh = live_peak(record_denoise(pipe, request, recorded_as).events)
    assert composed_peak(request, settings, "denoise") == pytest.approx(fresh, rel=EXACT)


@pytest.mark.parametrize("vae_precision", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_image_encode(vae_precision: str, guidance: float) -> None:
    settings = settings_of(vae_precision=vae_precision)
    request = request_of(CARD, {"f": 25, "h": 72, "w": 56}, guidance=guidance)
    pipe = svd.build_meta(CARD, settings)
    recording, replaced = record_encode(pipe, request)
    tensors = [tensor.nbytes for tensor in (*pipe.vae.parameters(), *pipe.vae.buffers())]
    assert len(replaced) == (len(tensors) if vae_precision == "fp16" else 0)
    # What the recording frees of the VAE's own weights counts below what was there.
    before = svd.build_meta(CARD, settings).vae.parameters()
    own = {index: rounded(tensor.nbytes) for index, tensor in enumerate(before)}
    expected = _peak_with_weights(recording.events, replaced, own)
    image = Image.new("RGB", (request.width, request.height))
    embedding = live_peak(
        record_run(
            pipe.image_encoder, "resident", lambda: encode_embedding(pipe, image, request)
        ).events
    )
    found = composed_peak(request, settings, "image_encode")
    assert found == pytest.approx(max(expected, embedding), rel=EXACT)


def _peak_with_weights(events: list[Event], replaced: list[int], own: dict[int, int]) -> int:
    sizes: dict[int, int] = {}
    live = peak = 0
    waiting = iter(replaced)
    for event in events:
        size = rounded(event.size_bytes)
        if event.kind == ALLOCATE:
            sizes[event.slot] = size
            live += size
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot) if event.slot in sizes else own[next(waiting)]
        peak = max(peak, live + (size if event.kind == SCRATCH else 0))
    return peak


@pytest.mark.parametrize(
    ("frames", "chunk", "vae_precision", "shape"),
    [
        (25, 25, "fp16", {"h": 72, "w": 128}),
        (25, 8, "fp16", {"h": 40, "w": 24}),
        (25, 4, "bf16", {"h": 24, "w": 24}),
        (9, 1, "fp32", {"h": 16, "w": 48}),
        (1, 1, "fp16", {"h": 32, "w": 32}),
        (12, 6, "fp32", {"h": 16, "w": 16}),
    ],
)
def test_decode(frames: int, chunk: int, vae_precision: str, shape: dict[str, int]) -> None:
    settings = settings_of(vae_precision=vae_precision, decode_chunk=chunk)
    request = request_of(CARD, {"f": frames, **shape})
    fresh = live_peak(record_decode(svd.build_meta(CARD, settings), request, chunk).events)
    assert composed_peak(request, settings, "decode") == pytest.approx(fresh, rel=EXACT)


def test_a_wrong_loop_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: without the frames that pile up it does."""
    settings = settings_of(decode_chunk=1)
    request = request_of(CARD, {"f": 25, "h": 16, "w": 24})
    fresh = live_peak(record_decode(svd.build_meta(CARD, settings), request, 1).events)
    monkeypatch.setattr(SvdMemory, "_pixel_bytes", lambda *_: 0)
    assert composed_peak(request, settings, "decode") != pytest.approx(fresh, rel=EXACT)


def test_what_does_not_fit_one_tape_is_refused() -> None:
    """A side that the UNet cannot halve three times takes other steps: no template pretends."""
    pipe = svd.build_meta(tiny_svd(), settings_of())
    shapes = [{"f": 2, "h": 16, "w": 16}, {"f": 2, "h": 24, "w": 16}, {"f": 1, "h": 16, "w": 16}]
    runs = [(s, record_denoise(pipe, request_of(pipe.card, s), "resident").events) for s in shapes]
    with pytest.raises(NotOneTape):
        fit_tape(runs, ("f",))


def test_tracing_writes_what_the_estimator_reads(tmp_path, monkeypatch) -> None:
    card = tiny_svd()
    written = trace_model(card, tmp_path, only="image")
    monkeypatch.setattr(templates, "FOLDER", tmp_path)
    assert sorted(path.name for path in written) == sorted(
        templates.template_name(card, "image", width) for width in ("half", "full")
    )
    assert templates.find_template(card, "image", "half").array("weights").sum() > 0
