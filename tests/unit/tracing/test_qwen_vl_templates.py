"""The templates of training steps against fresh traces, at shapes they were not made from."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers.vision_utils import get_vision_window_index

from tests.unit.pipelines.qwen_card import request_of, settings_of, tiny_qwen, write_template
from webui.catalogue import find_model
from webui.core.training import TrainCard, TrainRequest
from webui.estimator import templates
from webui.estimator.events import rounded
from webui.estimator.qwen_vl_shape import step_of, vision_attention_of, window_lengths
from webui.estimator.qwen_vl_training import TrainingMemory, join_passes
from webui.estimator.rules import Rules
from webui.estimator.segments import Segment, join, pack, places_of, unpack
from webui.estimator.tape import ALLOCATE, COSTS, RELEASE, SCRATCH, Tape, term_values
from webui.pipelines import qwen_vl_training
from webui.tracing import layers
from webui.tracing import qwen_vl_training as tracing
from webui.tracing.fit import NotOneTape, fit_tape
from webui.tracing.recorder import MARK, Event, Recording

EXACT = 0.002
CARD = find_model("qwen2.5-vl-3b", "train")


def bare(flash: bool = True) -> Rules:
    """A GPU without a matrix library: the meta device has none either."""
    return Rules("cuda", (), has_scratch=True, expandable=True, measured=True, flash=flash)


def live_peaks(events: list[Event]) -> dict[str, int]:
    """Most bytes alive in each direction of the last pass, above the model's own."""
    sizes: dict[int, int] = {}
    peaks: dict[str, int] = {}
    live, direction = 0, ""
    for event in events:
        if event.kind == MARK:
            found = event.mark.partition(" ")[0]
            if found == layers.END:
                break
            if found != direction:
                direction = found
                peaks[direction] = live
            continue
        size = rounded(event.size_bytes)
        if event.kind == ALLOCATE:
            sizes[event.slot] = size
            live += size
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot, 0)
        if direction:
            beside = size if event.kind == SCRATCH else 0
            peaks[direction] = max(peaks[direction], live + beside)
    return peaks


def fresh_peaks(
    card: TrainCard, request: TrainRequest, checkpoint: bool, precision: str, attention: str
) -> dict[str, int]:
    """The real step with all layers and the picture's own windows, on the meta device."""
    pipe = qwen_vl_training.build_meta(card, {"precision": precision})
    kernels = tracing.kernels_of(precision)[attention]
    passes = min(2, request.gradient_accumulation)
    recording = tracing.record_passes(pipe, request, checkpoint, kernels, passes, pieces=None)
    return live_peaks(recording.events)


def composed_peaks(memory: TrainingMemory) -> dict[str, int]:
    """The first step's last passes, above the model's own bytes."""
    events = memory._events
    model = int(sum(int(part.sizes.sum()) for part in events.parts))
    live = model + events.timeline().live()
    begun = [*events._begun, ("", events.events)]
    first = [name for name, _ in begun].index("optimizer")
    windows = pairwise(begun[: first + 1])
    return {name: int(live[start:end].max()) - model for (name, start), (_, end) in windows}


CASES = [
    # batch, tokens, picture, rank, micro-batches, checkpoints, precision, kernel
    (3, 777, 400, 0, 1, True, "bf16", "fused"),
    (2, 512, 252, 24, 2, False, "bf16", "fused"),
    (2, 640, 0, 5, 1, True, "fp32", "plain"),
    (1, 600, 560, 0, 1, False, "fp16", "plain"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shipped_templates_follow_the_whole_model(case: tuple[Any, ...]) -> None:
    """A full trace: 36 layers, 32 blocks, and pictures cut into windows of several sizes."""
    batch, length, image_size, rank, passes, checkpoint, precision, attention = case
    request = request_of(
        CARD,
        batch=batch,
        sequence_length=length,
        image_size=image_size,
        lora_rank=rank,
        gradient_accumulation=passes,
    )
    settings = settings_of(CARD, precision=precision, gradient_checkpointing=checkpoint)
    rules = bare(flash=attention == "fused")
    fresh = fresh_peaks(CARD, request, checkpoint, precision, attention)
    found = composed_peaks(TrainingMemory(CARD, request, settings, rules))
    assert found.keys() == fresh.keys() == {"forward", "backward"}
    for direction, peak in fresh.items():
        assert found[direction] == pytest.approx(peak, rel=EXACT), direction


def test_windows_are_those_of_the_library() -> None:
    for side in (56, 112, 140, 336, 392, 644):
        patches = side // 14
        _, ends = get_vision_window_index(torch.tensor([[1, patches, patches]]), 2, 112, 14)
        assert sorted(window_lengths(CARD, side)) == sorted((ends[1:] - ends[:-1]).tolist())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainCard, Any]:
    """A small model with one traced variant."""
    card, folder = tiny_qwen(layers=6, blocks=5), tmp_path_factory.mktemp("templates")
    write_template(card, "bf16", ("full.all.image.fused",), folder)
    return card, folder


def memory_of(small: tuple[TrainCard, Any], patch: pytest.MonkeyPatch, **keys: Any) -> Any:
    card, folder = small
    patch.setattr(templates, "FOLDER", folder)
    request = request_of(card, **{"image_size": 224, "sequence_length": 100, "batch": 2, **keys})
    settings = settings_of(card, precision="bf16", gradient_checkpointing=False)
    return TrainingMemory(card, request, settings, bare())


def test_layers_repeat(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four traced layers of each tower stand for as many as a model has."""
    card, folder = small
    request = request_of(card, image_size=224, sequence_length=100, batch=2)
    for count in (3, 6, 9):
        deep = tiny_qwen(layers=count, blocks=count)
        deep = replace(deep, name=f"qwen-{count}")
        monkeypatch.setattr(templates, "_digest", lambda *_: "same")
        name = templates.template_name(deep, "model", "half")
        source = next(iter(folder.glob("*.half.npz")))
        (folder / name).write_bytes(source.read_bytes()) if source.name != name else None
        memory = memory_of((deep, folder), monkeypatch)
        fresh = fresh_peaks(deep, request, False, "bf16", "fused")
        for direction, peak in fresh.items():
            # Heads this small leave most of a block of 512 bytes empty for each window.
            assert composed_peaks(memory)[direction] == pytest.approx(peak, rel=0.01)


def test_layers_that_are_left_out_show_in_nothing(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playing what lasts of the middle layers gives the peaks of playing all."""
    memory = memory_of(small, monkeypatch, gradient_accumulation=2)
    whole = join_passes(memory.template, memory.card, memory.variant, near=99)
    shape = memory.step.to_dict()
    short = memory._joined()
    for few, all_ in ((short.forward, whole.forward), (short.backward, whole.backward)):
        assert len(few.tape.kind) < len(all_.tape.kind)
        assert _net_bytes(few.tape, shape) == _net_bytes(all_.tape, shape)
    found = composed_peaks(memory)
    monkeypatch.setattr(TrainingMemory, "_joined", lambda self: whole)
    assert composed_peaks(memory_of(small, monkeypatch, gradient_accumulation=2)) == found


def _net_bytes(tape: Tape, shape: dict[str, int]) -> int:
    """Bytes of what a tape allocates and does not free."""
    freed = set(tape.slot[tape.kind == RELEASE].tolist())
    sizes = tape.sizes(shape)
    made = np.flatnonzero(tape.kind == ALLOCATE).tolist()
    return sum(int(sizes[index]) for index in made if int(tape.slot[index]) not in freed)


def test_a_wrong_rule_would_be_seen(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: without the vision tower's patches it does."""
    memory = memory_of(small, monkeypatch)
    right = composed_peaks(memory)
    memory = memory_of(small, monkeypatch)
    memory.step = replace(memory.step, p=0)
    assert composed_peaks(memory)["forward"] < 0.9 * right["forward"]


def test_costs_follow_the_pieces_of_attention(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the vision tower's windows save, and what launching each of them takes."""
    card, _ = small
    memory = memory_of(small, monkeypatch)
    request = memory.request
    pipe = qwen_vl_training.build_meta(card, {"precision": "bf16"})
    recording = tracing.record_passes(
        pipe, request, False, tracing.kernels_of("bf16")["fused"], passes=1, pieces=None
    )
    marks = [event for event in recording.events if event.kind == MARK]
    backward = next(event for event in marks if event.mark == "backward")
    cut = vision_attention_of(card, request)
    shape = step_of(card, request).to_dict() | {"q": cut.q, "x": cut.x}
    prefix = f"{memory.variant}.costs"
    products = memory.template.array(f"{prefix}.terms").tolist()
    terms = tuple(tuple(names.split("*")) if names else () for names in products)
    for direction, costs in (
        ("forward", backward.costs),
        ("backward", {name: marks[-1].costs[name] - backward.costs[name] for name in COSTS}),
    ):
        found = memory.template.array(f"{prefix}.{direction}") @ term_values(shape, terms)
        for name, value in zip(COSTS, found.tolist(), strict=True):
            assert value == pytest.approx(costs[name], rel=0.005), (direction, name)


def _piece(direction: str, tower: str, layer: int, *sizes: int) -> layers.Piece:
    events = [Event(ALLOCATE, index, size) for index, size in enumerate(sizes)]
    return layers.Piece(direction, tower, layer, events)


def test_layers_that_differ_are_refused() -> None:
    alike = [_piece("forward", "text", layer, 512) for layer in range(4)]
    assert set(layers.merge_middles(alike)) == {
        "forward.text.first", "forward.text.middle", "forward.text.last"
    }  # fmt: skip
    alike[2] = _piece("forward", "text", 2, 1024)
    with pytest.raises(NotOneTape, match="layers 1 and 2 differ"):
        layers.merge_middles(alike)
    with pytest.raises(NotOneTape, match="too few layers"):
        layers.merge_middles(alike[:1])


def test_a_pass_that_frees_what_was_there_before_is_refused() -> None:
    events = [Event(MARK, -1, mark="forward", costs=dict.fromkeys(COSTS, 0.0)), Event(RELEASE, 7)]
    with pytest.raises(NotOneTape, match="frees what was there before"):
        layers.cut_passes(Recording(events))


def test_shapes_must_tell_the_terms_apart() -> None:
    runs = [({"a": n, "b": 2 * n}, [Event(ALLOCATE, 0, 3 * n)]) for n in (1, 2, 3)]
    with pytest.raises(NotOneTape, match="do not tell"):
        fit_tape(runs, ("a", "b"), (("a",), ("b",)))
    tape = fit_tape(runs, ("a",), ((), ("a",)))
    assert Tape.from_arrays(tape.to_arrays("x"), "x").sizes({"a": 1000})[0] == rounded(3000)


def test_packed_segments_come_back(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = memory_of(small, monkeypatch)
    segments = unpack(memory.template.array, f"{memory.variant}.first")
    again = pack(segments, "x")
    back = unpack(lambda name: again[name], "x")
    assert list(back) == list(segments)
    for name, segment in segments.items():
        assert back[name].outside == segment.outside
        assert (back[name].tape.slot == segment.tape.slot).all()
        assert (back[name].tape.coefficients == segment.tape.coefficients).all()


def test_what_a_layer_frees_is_found_by_its_distance(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every storage of the forward pass is freed once on the way back, for any number of layers."""
    memory = memory_of(small, monkeypatch)
    segments = unpack(memory.template.array, f"{memory.variant}.first")
    for count in (3, 12):
        counts = {"vision": count, "text": count}
        forward = join(segments, list(places_of("forward", counts)), counts)
        backward = join(segments, list(places_of("backward", counts)), counts, forward)
        kept = _survivors(forward.tape)
        assert sorted(backward.outside) == sorted(kept)
    broken = dict(segments)
    name = "backward.text.middle"
    far = tuple(one._replace(distance=one.distance - 40) for one in segments[name].outside)
    broken[name] = Segment(segments[name].tape, far)
    with pytest.raises(KeyError):
        join(broken, list(places_of("backward", counts)), counts, forward)


def _survivors(tape: Tape) -> list[int]:
    freed = set(tape.slot[tape.kind == RELEASE].tolist())
    made = tape.slot[tape.kind == ALLOCATE].tolist()
    return [slot for slot in made if slot not in freed]
