"""Templates with quantised weights against fresh traces, at shapes they were not made from."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch

from webui.catalogue import find_model, load_cards
from webui.core.clip import ClipCard
from webui.core.parse import parse_request
from webui.core.settings import with_defaults
from webui.estimator import writing
from webui.estimator.events import rounded
from webui.estimator.language import TextMemory
from webui.estimator.qwen_vl import PagesMemory
from webui.estimator.rules import Rules
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, SCRATCH, cost_monomials
from webui.estimator.templates import find_template, quantized_parts
from webui.estimator.wan import WanMemory
from webui.pipelines import wan
from webui.pipelines.modules import owned_tensors
from webui.tracing import language, quantized, qwen_vl
from webui.tracing.meta_kernels import cuda_kernels
from webui.tracing.pieces import first_pieces
from webui.tracing.recorder import MARK, Event, Recorder
from webui.tracing.recording import record_run, weight_sizes
from webui.tracing.wan import single_expert, step_costs
from webui.tracing.wan_conditions import GIVEN
from webui.tracing.wan_loop import blocks_of, prepared, tensors_of
from webui.tracing.wan_request import request_of
from webui.tracing.writing import TOKENS

EXACT = 0.005
BARE = Rules("cuda", (), has_scratch=True, expandable=True, measured=True)
"""A GPU without a matrix library: the meta device has none either."""


def live_peaks(events: list[Event]) -> dict[str, int]:
    """Most bytes alive at once after each mark of a phase, counted anew."""
    sizes: dict[int, int] = {}
    peaks, live, phase = {"": 0}, 0, ""
    for event in events:
        size = rounded(event.size_bytes)
        if event.kind == MARK:
            phase = event.mark if event.mark in writing.PHASES else phase
            peaks.setdefault(phase, live)
        elif event.kind in (ALLOCATE, LOAD):
            sizes[event.slot] = size
            live += size
        elif event.kind == RELEASE:
            live -= sizes.pop(event.slot, 0)
        peaks[phase] = max(peaks[phase], live + (size if event.kind == SCRATCH else 0))
    return peaks


DENOISE = [
    ("wan2.1-t2v-1.3b", "nf4", 5.0, 1, {"f": 21, "h": 60, "w": 104}),
    ("wan2.1-t2v-1.3b", "nf4", 1.0, 8, {"f": 6, "h": 60, "w": 104}),
    ("wan2.1-t2v-1.3b", "int8", 1.0, 1, {"f": 11, "h": 60, "w": 104}),
    ("wan2.1-t2v-14b", "int8", 5.0, 7, {"f": 21, "h": 60, "w": 104}),
    ("wan2.1-i2v-14b-480p", "nf4", 5.0, 1, {"f": 9, "h": 44, "w": 44}),
    ("wan2.2-ti2v-5b", "int8", 1.0, 1, {"f": 6, "h": 32, "w": 32}),
    ("wan2.1-vace-1.3b", "nf4", 5.0, 4, {"f": 6, "h": 32, "w": 32}),
    ("wan2.1-t2v-1.3b", "int8wo", 5.0, 8, {"f": 6, "h": 60, "w": 104}),
    ("wan2.1-t2v-14b", "fp8wo", 1.0, 1, {"f": 2, "h": 16, "w": 16}),
]


@pytest.mark.parametrize(("model", "name", "guidance", "pieces", "shape"), DENOISE)
def test_denoise(model, name, guidance, pieces, shape) -> None:
    card = find_model(model)
    settings = with_defaults(
        {"text_encoder": "absent", "quantization": name, "ffn_chunks": pieces}, card.settings
    )
    pictures = dict.fromkeys(card.requires, GIVEN)
    request = request_of(card, shape, guidance=guidance, steps=5, **pictures)
    pipe = wan.build_meta(card, settings)
    del pipe.transformer.blocks[blocks_of(card) :]
    pipe, embeddings, conditions = prepared(pipe, request, settings)
    with first_pieces():
        made = record_run(
            pipe.transformer,
            "resident",
            lambda: wan.denoise(pipe, embeddings, request, settings, conditions),
            tensors_of(embeddings, conditions),
        )
    events = WanMemory(card, request, settings, BARE).phase("denoise")
    expected = live_peaks(made.events)[""]
    assert events.peak_live_bytes() - events.resident_bytes == pytest.approx(expected, rel=EXACT)


GGUF = [
    ("wan2.1-t2v-1.3b", "q8_0", "none", 5.0, 1, {"f": 6, "h": 60, "w": 104}),
    ("wan2.1-t2v-14b", "q4_k_m", "leaf", 5.0, 8, {"f": 6, "h": 60, "w": 104}),
    ("wan2.2-ti2v-5b", "q5_k_m", "leaf", 1.0, 1, {"f": 3, "h": 32, "w": 32}),
    ("wan2.1-vace-1.3b", "q6_k", "block", 1.0, 1, {"f": 2, "h": 16, "w": 16}),
    ("wan2.1-t2v-1.3b", "q5_k_s", "none", 1.0, 4, {"f": 1, "h": 16, "w": 16}),
]


@pytest.mark.parametrize(("model", "name", "offload", "guidance", "pieces", "shape"), GGUF)
def test_denoise_with_weights_in_blocks(model, name, offload, guidance, pieces, shape) -> None:
    """One template for all types of files, against the library's own restoring of each."""
    card = find_model(model)
    asked = {"quantization": "gguf", "gguf_type": name, "offload": offload, "ffn_chunks": pieces}
    settings = with_defaults({"text_encoder": "absent", **asked}, card.settings)
    request = request_of(card, shape, guidance=guidance)
    pipe = wan.build_meta(card, settings)
    del pipe.transformer.blocks[blocks_of(card) :]
    pipe, embeddings, conditions = prepared(pipe, request, settings)
    with first_pieces():
        made = record_run(
            pipe.transformer,
            "resident" if offload == "none" else offload,
            lambda: wan.denoise(pipe, embeddings, request, settings, conditions),
            tensors_of(embeddings, conditions),
        )
    events = WanMemory(card, request, settings, BARE).phase("denoise")
    expected = live_peaks(made.events)[""]
    assert events.peak_live_bytes() - events.resident_bytes == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("name", ["q8_0", "q5_k_m"])
def test_weights_and_costs_of_a_transformer_in_blocks(name) -> None:
    card = single_expert(find_model("wan2.1-t2v-1.3b"))
    asked = {"text_encoder": "absent", "quantization": "gguf", "gguf_type": name}
    settings = with_defaults(asked, card.settings)
    shape = {"f": 4, "h": 20, "w": 30}
    memory = WanMemory(card, request_of(card, shape), settings, BARE)
    transformer = wan.build_meta(card, settings).transformer
    assert memory.weights("transformer").tolist() == weight_sizes(transformer).tolist()
    found = memory.template("transformer").array("costs") @ cost_monomials(shape, ("f", "h", "w"))
    pipe = wan.build_meta(card, settings)
    request = request_of(card, shape, guidance=1.0, steps=1)
    pipe, embeddings, conditions = prepared(pipe, request, settings)
    recorder = Recorder()
    with torch.no_grad(), cuda_kernels(), recorder:
        wan.denoise(pipe, embeddings, request, settings, conditions)
    costs = recorder.recording.costs
    expected = [costs["matmul"], costs["bytes"]]
    assert [found[0], found[3]] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", ["int8", "nf4", "int8wo", "fp8wo"])
def test_weights_and_costs_of_a_transformer(name) -> None:
    card = single_expert(find_model("wan2.1-t2v-1.3b"))
    settings = with_defaults({"text_encoder": "absent", "quantization": name}, card.settings)
    shape = {"f": 4, "h": 20, "w": 30}
    memory = WanMemory(card, request_of(card, shape), settings, BARE)
    transformer = wan.build_meta(card, settings).transformer
    assert memory.weights("transformer").tolist() == weight_sizes(transformer).tolist()
    found = memory.template("transformer").array("costs") @ cost_monomials(shape, ("f", "h", "w"))
    plain = WanMemory(card, request_of(card, shape), settings | {"quantization": "none"}, BARE)
    wide = plain.template("transformer").array("costs") @ cost_monomials(shape, ("f", "h", "w"))
    fresh = step_costs(card, settings, shape)
    assert found.tolist() == pytest.approx(list(fresh.values()), rel=0.01)
    assert found[0] == pytest.approx(wide[0], rel=0.01)  # the same products
    assert found[3] > wide[3]  # and more that moves


def test_bytes_of_a_weight_in_four_bits() -> None:
    """Half a byte a value, a byte for each 64 values, four for each 64 * 256: and small tables."""
    card = find_model("wan2.1-t2v-14b")
    settings = with_defaults({"text_encoder": "absent", "quantization": "nf4"}, card.settings)
    layer: Any = wan.build_meta(card, settings).transformer.blocks[0].ffn.net[2]
    values = 5120 * 13824
    found = sorted(tensor.nbytes for tensor in owned_tensors(layer))
    blocks = values // 64
    assert found == sorted([values // 2, blocks, 4 * blocks // 256, 4, 4 * 16, 4 * 256, 2 * 5120])


TEXTS = [
    ("qwen3-4b", "nf4", "flash", 3, 333),
    ("qwen3-4b", "int8", "flash", 1, 70),
    ("glm-edge-1.5b", "int8", "flash", 4, 120),
    ("chatglm3-6b", "nf4", "flash", 2, 201),
]


@pytest.mark.parametrize(("model", "name", "way", "batch", "tokens"), TEXTS)
def test_texts(model, name, way, batch, tokens) -> None:
    card = find_model(model)
    settings = with_defaults({"quantization": name}, card.settings)
    asked = {"prompt_tokens": tokens, "batch": batch, "new_tokens": TOKENS}
    request: Any = parse_request({"model": card.name, "task": card.task, **asked}, lambda *_: card)
    memory = TextMemory(card, request, settings, BARE)
    assert memory.way == way
    shape = {"b": batch, "s": tokens}
    made = language.record_batch(card, "bf16", "resident", way, shape, name)[1][0]
    fresh = live_peaks(made.events)
    stays = sum(rounded(size) for size in memory.template.array("weights").tolist())
    for phase in memory.phase_names():
        found = memory.phase(phase).peak_live_bytes() - stays
        assert found == pytest.approx(fresh[phase], rel=EXACT), phase


PAGES = [("qwen2.5-vl-7b", "nf4", 1, (896, 868)), ("logics-parsing-v2", "int8", 2, (640, 448))]


@pytest.mark.parametrize(("model", "name", "pages", "size"), PAGES)
def test_pages(model, name, pages, size) -> None:
    card = find_model(model)
    height, width = size
    asked = {"height": height, "width": width, "pages": pages, "new_tokens": TOKENS}
    request: Any = parse_request({"model": card.name, "task": "parse", **asked}, lambda *_: card)
    settings = with_defaults({"quantization": name, "page_batch": pages}, card.settings)
    memory = PagesMemory(card, request, settings, BARE)
    shape = {"b": pages, "s": memory.shape["s"]}
    grid = (height // card.size_multiple, width // card.size_multiple)
    made = qwen_vl.record_batch(
        card, "bf16", "resident", "flash", "pictures", shape, grid, quantization=name
    )
    fresh = live_peaks(made[1][0].events)
    stays = sum(rounded(size) for size in memory.template.array("weights").tolist())
    for phase in memory.phase_names():
        found = memory.phase(phase).peak_live_bytes() - stays
        assert found == pytest.approx(fresh[phase], rel=EXACT), phase


def test_steps_of_many_answers_restore_their_weights() -> None:
    card = find_model("qwen3-4b")
    settings = with_defaults({"quantization": "nf4"}, card.settings)

    def memory(batch: int) -> TextMemory:
        asked = {"prompt_tokens": 50, "batch": batch, "new_tokens": 8}
        request: Any = parse_request(
            {"model": card.name, "task": card.task, **asked}, lambda *_: card
        )
        return TextMemory(card, request, settings, BARE)

    assert memory(4).restored_bytes == {}
    assert memory(5).restored_bytes["most"] == 2 * 2560 * 9728


def test_the_fewest_rows_are_the_librarys() -> None:
    source = distribution("bitsandbytes").locate_file("bitsandbytes/backends/cuda/ops.py")
    text = Path(str(source)).read_text(encoding="utf-8")
    found = re.search(r"_GEMM_4BIT_CUSTOM_FLOOR_M = (\d+)", text)
    assert int(found[1]) == quantized.FUSED_ROWS == writing.FUSED_ROWS


OFFERED = {
    f"{card.name}-{part}": (card, part)
    for card in load_cards().values()
    for part in quantized_parts(card)
}


@pytest.mark.parametrize("offered", OFFERED)
def test_every_model_that_offers_it_has_templates(offered: str) -> None:
    """The same products as with whole weights, and fewer bytes."""
    card, part = OFFERED[offered]
    narrow = find_template(card, part, "half")
    wide = find_template(card, part.split("_")[0], "half")
    name = part.split("_")[1]
    packages = {"gguf": "gguf", "int8wo": "torchao", "fp8wo": "torchao"}
    assert packages.get(name, "bitsandbytes") in narrow.versions
    share = narrow.array("weights").sum() / wide.array("weights").sum()
    assert share < {"nf4": 0.7, "gguf": 0.5}.get(name, 0.8)
    pieces = ["costs"]
    if not isinstance(card, ClipCard):
        pieces = ["costs.flash.prefill", "costs.flash.step", "costs.eager-one.prefill"]
    for piece in pieces:
        assert narrow.array(piece)[0].sum() == pytest.approx(wide.array(piece)[0].sum(), rel=1e-6)
