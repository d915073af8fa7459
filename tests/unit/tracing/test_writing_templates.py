"""Templates of models that write text against fresh recordings, at shapes they were not made from.

The fresh ones are cut as the tower itself cuts them: windows and pictures are its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.unit.pipelines.text_cards import tiny_language, tiny_qwen25
from webui.catalogue import find_model
from webui.core.model import ModelCard
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.estimator.language import TextMemory
from webui.estimator.qwen_vl import PagesMemory
from webui.estimator.rules import Rules
from webui.estimator.tape import ALLOCATE, COSTS, LOAD, RELEASE, SCRATCH
from webui.estimator.writing import WritingMemory
from webui.pipelines.live_bytes import round_bytes
from webui.tracing import language, qwen_vl
from webui.tracing.cutting import LAYER, cut_pieces
from webui.tracing.fit import NotOneTape
from webui.tracing.meta_kernels import cuda_kernels
from webui.tracing.recorder import MARK, Event, Recorder, Recording
from webui.tracing.writing import TOKENS, WAYS, pieces_of

EXACT = 0.005
PHASES = ("vision", "prefill", "generate")
NO_PADDING, MIXED = "", "a folder whose pages may differ in size"


def rules_of(way: str) -> Rules:
    """A GPU without a matrix library: the meta device has none either."""
    flash = not way.startswith("math")
    return Rules("cuda", (), has_scratch=True, expandable=True, measured=True, flash=flash)


def memory_of(card: ModelCard, way: str, mode: str, precision: str, **keys: Any) -> WritingMemory:
    """The estimator's memory of a request, as the phases of a run are put together."""
    settings = {
        "precision": precision,
        "attention": WAYS[way].attention,
        "offload": "none" if mode == "resident" else "leaf",
    }
    if card.task == "parse":
        settings["page_batch"] = keys["pages"]
    asked = {"model": card.name, "task": card.task, "new_tokens": TOKENS, **keys}
    request: Any = parse_request(asked, lambda *_: card)
    complete = with_defaults(settings, card.settings)
    kind: Any = TextMemory if card.task == "generate" else PagesMemory
    made: WritingMemory = kind(card, request, complete, rules_of(way))
    assert made.way == way
    return made


def live_peaks(recording: Recording) -> dict[str, int]:
    """Most bytes alive in each phase, counted anew from the recording."""
    sizes: dict[int, int] = {}
    peaks: dict[str, int] = {}
    live, phase = 0, ""
    for event in recording.events:
        size = round_bytes(event.size_bytes)
        if event.kind == MARK:
            phase = event.mark if event.mark in PHASES else phase
            peaks.setdefault(phase, live)
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot)
        elif event.kind == SCRATCH:
            peaks[phase] = max(peaks[phase], live + size)
        else:
            assert event.kind in (ALLOCATE, LOAD)
            sizes[event.slot] = size
            live += size
            peaks[phase] = max(peaks[phase], live)
    return peaks


def composed_peaks(memory: WritingMemory) -> dict[str, int]:
    """What the estimator says of each phase, without the weights that stay."""
    stays = sum(round_bytes(size) for size in memory.template.array("weights").tolist())
    weights = 0 if memory.streamed else stays
    return {name: memory.phase(name).peak_live_bytes() - weights for name in memory.phase_names()}


PAGES = [
    ("qwen2.5-vl-7b", "bf16", "resident", "flash", 1, (896, 868), NO_PADDING),
    ("logics-parsing-v1", "fp16", "resident", "eager-many", 3, (504, 476), NO_PADDING),
    ("qwen2.5-vl-7b", "bf16", "resident", "padded", 2, (700, 504), MIXED),
    ("qwen2.5-vl-3b", "fp32", "resident", "math-one", 1, (420, 616), MIXED),
    ("logics-parsing-v2", "bf16", "leaf", "flash", 2, (992, 704), NO_PADDING),
    ("logics-parsing-v2", "fp32", "resident", "eager-one", 1, (320, 448), NO_PADDING),
    ("glm-ocr", "bf16", "resident", "flash", 2, (504, 476), NO_PADDING),
    ("paddleocr-vl-1.5", "bf16", "leaf", "flash", 3, (420, 504), NO_PADDING),
    ("paddleocr-vl-1.5", "fp16", "resident", "eager-many", 2, (420, 504), NO_PADDING),
    ("mineru2.5", "bf16", "resident", "padded", 2, (1120, 1036), MIXED),
]


@pytest.mark.parametrize(("name", "precision", "mode", "way", "pages", "size", "file"), PAGES)
def test_pages(name, precision, mode, way, pages, size, file) -> None:
    card = find_model(name)
    height, width = size
    keys = {"pages": pages, "height": height, "width": width, "input": file}
    memory = memory_of(card, way, mode, precision, **keys)
    tokens = memory.shape["s"]
    if way == "padded":  # prompts whose rows of a mask are filled up by one, as when it was traced
        tokens = tokens // 8 * 8 + 7
        memory.shape = {**memory.shape, "s": tokens}
    unit = card.size_multiple
    grid = (height // unit, width // unit)
    shape = {"b": pages, "s": tokens}
    made = qwen_vl.record_batch(card, precision, mode, way, "pictures", shape, grid)
    fresh = live_peaks(made[1][0])
    assert list(fresh) == list(PHASES)
    assert composed_peaks(memory) == pytest.approx(fresh, rel=EXACT)


TEXTS = [
    ("qwen3-4b", "bf16", "leaf", "flash", 2, 333),
    ("glm-edge-1.5b", "fp16", "resident", "math-many", 2, 120),
    ("chatglm3-6b", "fp32", "resident", "eager-one", 1, 250),
]


@pytest.mark.parametrize(("name", "precision", "mode", "way", "batch", "tokens"), TEXTS)
def test_prompts(name, precision, mode, way, batch, tokens) -> None:
    card = find_model(name)
    memory = memory_of(card, way, mode, precision, batch=batch, prompt_tokens=tokens)
    shape = {"b": batch, "s": tokens}
    fresh = live_peaks(language.record_batch(card, precision, mode, way, shape)[1][0])
    assert composed_peaks(memory) == pytest.approx(fresh, rel=EXACT)


def test_a_second_batch_of_streamed_weights_has_them_in_order() -> None:
    """From the second batch on, a layer's weights come while the one before it computes."""
    card = find_model("qwen2.5-vl-3b")
    keys = {"pages": 1, "height": 308, "width": 224}
    first = memory_of(card, "flash", "leaf", "bf16", **keys)
    again = memory_of(card, "flash", "leaf", "bf16", **keys)
    again.mode = "warm"
    shape = {"b": 1, "s": first.shape["s"]}
    made = qwen_vl.record_batch(card, "bf16", "leaf", "flash", "pictures", shape, (11, 8))[1]
    assert composed_peaks(first) == pytest.approx(live_peaks(made[0]), rel=EXACT)
    assert composed_peaks(again) == pytest.approx(live_peaks(made[1]), rel=EXACT)
    assert composed_peaks(again)["vision"] > composed_peaks(first)["vision"]


@pytest.mark.parametrize(
    ("name", "grid"), [("qwen2.5-vl-7b", (20, 16)), ("paddleocr-vl-1.5", (17, 15))]
)
def test_the_cost_of_seeing_is_that_of_each_picture(name: str, grid: tuple[int, int]) -> None:
    """Whole windows: what attention computes grows with the pixels there, not with their square;
    and what leads from tower to language model takes picture after picture."""
    card = find_model(name)
    keys = {"pages": 2, "height": grid[0] * 28, "width": grid[1] * 28}
    memory = memory_of(card, "flash", "resident", "bf16", **keys)
    shape = {"b": 2, "s": memory.shape["s"]}
    made = qwen_vl.record_batch(card, "bf16", "resident", "flash", "pictures", shape, grid)
    pieces = pieces_of(made[0], made[1][0])
    for piece in ("vision", "prefill", "first"):
        fresh = [pieces[piece].costs[name] for name in COSTS]
        assert memory.costs(piece).tolist() == pytest.approx(fresh, rel=1e-6)
    for piece, cached in (("second", 0), ("step", 1)):
        fresh = [pieces[piece].costs[name] for name in COSTS]
        found = memory.costs(piece, c=shape["s"] + cached).tolist()
        assert found == pytest.approx(fresh, rel=1e-6)


def test_a_wrong_chain_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: without the cache that a step replaces it does."""
    card = find_model("glm-edge-1.5b")
    memory = memory_of(card, "flash", "resident", "bf16", batch=8, prompt_tokens=900)
    shape = {"b": 8, "s": 900}
    fresh = live_peaks(language.record_batch(card, "bf16", "resident", "flash", shape)[1][0])
    assert composed_peaks(memory)["generate"] == pytest.approx(fresh["generate"], rel=EXACT)
    memory.shape = {**memory.shape, "s": 800}
    assert composed_peaks(memory)["generate"] != pytest.approx(fresh["generate"], rel=EXACT)


def test_the_tower_is_cut_by_its_own_windows_in_the_fresh_ones() -> None:
    card = tiny_qwen25()
    events = {}
    for cut in ("pictures", "whole"):
        shape = {"b": 1, "s": 120}
        made = qwen_vl.record_batch(card, "bf16", "resident", "flash", cut, shape, (9, 9))
        events[cut] = len(made[1][0].events)
    assert events["pictures"] >= events["whole"] + 100


def test_what_only_middle_layers_have_is_no_template() -> None:
    """Layers between are left out, which is wrong where one of them has more than the others."""

    def recording(peak_layer: int) -> Recording:
        events = [Event(MARK, -1, mark="prefill")]
        for layer in range(8):
            events.append(Event(MARK, layer, mark=LAYER))
            size = 4096 if layer == peak_layer else 1024
            events += [Event(ALLOCATE, layer, size), Event(RELEASE, layer)]
        events.append(Event(MARK, -1, mark="end"))
        for event in events:
            event.costs = dict.fromkeys(COSTS, 0.0)
        return Recording(events)

    kept = cut_pieces(recording(7), {"prefill": 8})[0].events
    assert [event.slot for event in kept if event.kind == ALLOCATE] == [0, 1, 2, 6, 7]
    with pytest.raises(NotOneTape, match="between"):
        cut_pieces(recording(4), {"prefill": 8})


def recorded_bytes(call: Any, flash: bool | None = None) -> int:
    recorder = Recorder()
    with cuda_kernels(flash), recorder:
        call()
    return recorder.peak_bytes


@pytest.mark.parametrize("half", [True, False])
def test_fewer_key_heads_are_repeated_only_where_no_kernel_takes_them(half: bool) -> None:
    dtype = torch.bfloat16 if half else torch.float32
    query = torch.empty(1, 8, 64, 32, dtype=dtype, device="meta")
    key = torch.empty(1, 2, 64, 32, dtype=dtype, device="meta")

    def attend() -> torch.Tensor:
        return functional.scaled_dot_product_attention(
            query, key, key, is_causal=True, enable_gqa=True
        )

    output, sums = query.nbytes, 8 * 64 * 4
    assert recorded_bytes(attend, flash=True) == pytest.approx(output + sums, abs=2048)
    without = recorded_bytes(attend, flash=False)
    assert without > output + 2 * 8 * 64 * 64 * 4  # matrices
    usual = output + sums if half else without
    assert recorded_bytes(attend) == pytest.approx(usual, abs=2048)


@pytest.mark.parametrize(("length", "row"), [(63, 64), (64, 64)])
def test_a_mask_becomes_a_bias_in_whole_rows(length: int, row: int) -> None:
    query = torch.empty(2, 4, length, 8, dtype=torch.bfloat16, device="meta")
    mask = torch.ones(2, 1, length, length, dtype=torch.bool, device="meta")

    def attend() -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)

    plain, whole = 2 * length * length * 2, 2 * length * row * 2
    most = max(plain + whole if row > length else plain, whole + query.nbytes)
    assert recorded_bytes(attend) == pytest.approx(most, abs=2048)


def test_values_picked_by_a_mask_are_as_many_as_was_said() -> None:
    recorder = Recorder()
    recorder.true_values = 5
    values = torch.empty(3, 7, 16, device="meta")
    mask = torch.ones(3, 7, dtype=torch.bool, device="meta")
    with recorder:
        picked = values[mask, :]
        values[mask, :] = picked + 1
        on_host = picked.to("cpu")
    assert picked.shape == (5, 16) and on_host.shape == (5, 16)
    scratch = [event.size_bytes for event in recorder.recording.events if event.kind == SCRATCH]
    assert scratch == [5 * 2 * 8] * 2


def test_tracing_leaves_the_model_card_as_it_is() -> None:
    card = tiny_language("glm-edge-1.5b")
    before = repr(card)
    arrays = language.trace_model(card, "bf16", modes=("resident",), ways=("flash",))
    assert repr(card) == before
    assert int(arrays["bytes.token"]) == 2 * 3 * 2 * 16 * 2
