"""FlashVSR's templates against fresh traces of its real loop, at shapes they were not made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.estimator import flashvsr
from webui.estimator.events import rounded
from webui.estimator.flashvsr import FlashVsrMemory
from webui.estimator.rules import Rules
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, SCRATCH, Tape, term_values
from webui.estimator.templates import find_template
from webui.pipelines.flashvsr import colour as colours
from webui.tracing import flashvsr as tracing
from webui.tracing.flashvsr import trace_decoder, trace_projection, trace_streaming
from webui.tracing.flashvsr_calls import Recorded
from webui.tracing.flashvsr_run import JOINED, record_join, record_segments
from webui.tracing.recorder import MARK

EXACT = 0.005
BARE = Rules("cuda", (), has_scratch=True, expandable=True, measured=True)
"""A GPU without a matrix library: the meta device has none either."""
CARD = find_model("flashvsr-v1.1")
SCALE = 4
GIVEN = (*flashvsr.PHASE_OF, "prompt")
"""What is there before a recording begins."""


def live_peaks(recorded: Recorded) -> dict[str, int]:
    """Most bytes alive at once in each phase above what was there, counted anew."""
    sizes: dict[int, int] = {}
    peaks: dict[str, int] = {}
    live, phase = 0, "begin"
    for event in recorded.recording.events:
        size = rounded(event.size_bytes)
        if event.kind == MARK and event.mark in flashvsr.PHASES:
            phase = event.mark
        elif event.kind in (ALLOCATE, LOAD):
            sizes[event.slot] = size
            live += size
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot, 0)
        passing = size if event.kind == SCRATCH else 0
        peaks[phase] = max(peaks.get(phase, 0), live + passing)
    return peaks


@pytest.mark.parametrize("part", ["projection", "streaming", "decoder"])
def test_tracing_again_gives_the_templates(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app traces anew where its libraries are others than the templates': the tracer must still
    take the loop as it is today."""
    monkeypatch.setattr(tracing, "COLOURS", ("adain",))  # one way stands for all
    made: dict[str, np.ndarray] = {
        "projection": lambda: trace_projection(CARD, "bf16"),
        "streaming": lambda: trace_streaming(CARD, "bf16", ("leaf",)),
        "decoder": lambda: trace_decoder(CARD, "bf16"),
    }[part]()
    template = find_template(CARD, part, "half")
    shape = {"b": 2, "y": 640, "x": 896, "h": 40, "w": 56}
    for name, array in made.items():
        prefix, _, last = name.rpartition(".")
        if last == "kind":
            found, known = Tape.from_arrays(made, prefix), template.tape(prefix)
            assert found.first_product == known.first_product, name
            assert np.array_equal(found.sizes(shape), known.sizes(shape)), name
        if last == "costs":
            # Coefficients of terms that cancel out are what the processor's rounding leaves.
            terms = term_values(shape, Tape.from_arrays(made, prefix).products)
            assert np.allclose(array @ terms, template.array(name) @ terms), name
        elif array.dtype.kind in "if" and last not in ("rows", "index"):
            assert np.allclose(template.array(name), array), name


def memory_of(shape: dict[str, int], frames: int, **changes: Any) -> FlashVsrMemory:
    """The estimator's, for frames whose result has this shape; several tiles if `b` says so."""
    colour = changes.pop("colour", "adain")
    segment = changes.pop("segment_frames", 480)
    height, width = shape["y"] // SCALE, shape["x"] // SCALE
    if shape["b"] > 1:
        # Tiles of the shape, side by side.
        changes |= {"tile_batch": shape["b"], "tile": max(height, width), "tile_overlap": 0}
        width *= shape["b"]
        assert shape["y"] == shape["x"]
    request = parse_request(
        {
            "task": "upscale",
            "model": "flashvsr-v1.1",
            "frames": frames,
            "height": height,
            "width": width,
            "colour": colour,
            "segment_frames": segment,
            "overlap": 0,
        },
        find_model,
    )
    return FlashVsrMemory(CARD, request, with_defaults(changes, CARD.settings, {}), BARE)


def composed_peak(memory: FlashVsrMemory, phase: str) -> int:
    events = memory.phase(phase)
    given = sum(int(part.sizes.sum()) for part in events.parts if part.name in GIVEN)
    return events.peak_live_bytes() - given


@pytest.mark.parametrize(
    ("shape", "frames", "changes"),
    [
        ({"b": 1, "y": 200, "x": 400}, 25, {}),
        ({"b": 1, "y": 300, "x": 200}, 53, {"offload": "leaf"}),
        ({"b": 1, "y": 256, "x": 144}, 53, {"decoder": "full", "colour": "wavelet"}),
        ({"b": 3, "y": 128, "x": 128}, 37, {"offload": "model"}),
        ({"b": 2, "y": 256, "x": 256}, 37, {"decoder": "full", "precision": "fp32"}),
        # Tiles of 224: far larger than what the templates were made from.
        ({"b": 2, "y": 896, "x": 896}, 25, {}),
    ],
)
def test_every_phase_of_every_block(
    shape: dict[str, int],
    frames: int,
    changes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks of two chunks, so that a short video has several."""
    monkeypatch.setattr(flashvsr, "BLOCK_CHUNKS", 2)
    memory = memory_of(shape, frames, **changes)
    assert (memory.shape["b"], memory.tiles) == (shape["b"], shape["b"])
    way = JOINED if shape["b"] > 1 else str(changes.get("colour", "adain"))
    chunks = flashvsr.count_chunks(frames)
    settings = memory.settings
    mode = "leaf" if settings["offload"] == "leaf" else "resident"
    recorded = record_segments(CARD, settings, shape, mode, way, chunks, block_frames=16)
    fresh = live_peaks(recorded)
    for phase in flashvsr.PHASES:
        if phase == "decode" and shape["b"] > 1:
            # Joining tiles is another recording.
            monkeypatch.setattr(FlashVsrMemory, "_join", lambda self: self._decode(self.blocks[0]))
        assert composed_peak(memory, phase) == pytest.approx(fresh[phase], rel=EXACT), phase


@pytest.mark.parametrize("colour", ["adain", "wavelet"])
@pytest.mark.parametrize("band_px", [8 * 2**20, 100_000])
def test_the_colours_of_joined_tiles(
    colour: str, band_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame at once, and in bands."""
    monkeypatch.setattr(flashvsr, "BAND_PX", band_px)
    monkeypatch.setattr(colours, "BAND_PX", band_px)
    assert (band_px, colours.HALO_ROWS) == (flashvsr.BAND_PX, flashvsr.HALO_ROWS)
    memory = memory_of({"b": 2, "y": 512, "x": 512}, 21, colour=colour)
    height, width = memory.request.output_size
    events = memory._join()
    recorded = record_join(CARD, memory.settings, {"y": height, "x": width}, colour)
    found = events.peak_live_bytes() - events.resident_bytes
    assert found == pytest.approx(live_peaks(recorded)["decode"], rel=EXACT)


def test_bands_are_as_high_as_the_pipeline_makes_them() -> None:
    assert (flashvsr.BAND_PX, flashvsr.HALO_ROWS) == (colours.BAND_PX, colours.HALO_ROWS)
    size = {"height": 4096, "width": 2300}
    for colour, beyond in (("adain", 0), ("wavelet", 2 * colours.HALO_ROWS)):
        request = parse_request(
            {"task": "upscale", "model": "flashvsr-v1.1", "colour": colour, **size}, find_model
        )
        height, width = request.output_size
        bands = colours.bands_of(height, width, colours.BAND_PX)
        assert flashvsr.band_rows(request) == bands[0].stop + beyond


def test_a_wrong_schedule_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: without what the first block leaves it does."""
    monkeypatch.setattr(flashvsr, "BLOCK_CHUNKS", 2)
    shape = {"b": 1, "y": 128, "x": 256}
    memory = memory_of(shape, 37)
    recorded = record_segments(CARD, memory.settings, shape, chunks=3, block_frames=16)
    fresh = live_peaks(recorded)["project"]
    assert composed_peak(memory, "project") == pytest.approx(fresh, rel=EXACT)
    memory.blocks[1:] = []
    assert composed_peak(memory, "project") != pytest.approx(fresh, rel=EXACT)
