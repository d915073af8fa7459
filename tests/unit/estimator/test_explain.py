"""An explanation adds up: every term of a figure is there, and nothing else."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tests.unit.optimizer.test_plan import FULL, plan, target_of
from webui.catalogue import find_model
from webui.core.plan import Plan
from webui.estimator.explain import Explanation, explain_estimate
from webui.estimator.target import Target
from webui.service.account import explanation_text

TRAINING = {
    "task": "train",
    "model": "qwen2.5-vl-3b",
    "image_size": 336,
    "sequence_length": 768,
    "gradient_accumulation": 1,
}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("h200", FULL),
    ("rtx-3060-12gb", {**FULL, "vram_gib": 6}),
    ("rtx-3060-12gb", {**FULL, "vram_gib": 2}),
    ("rtx-4090", {**FULL, "settings": {"offload": "block", "vae_tiling": True}}),
    ("rtx-2080-ti", {**FULL, "platform": "windows", "settings": {"offload": "model"}}),
    ("cpu", {"model": "demo"}),
    ("rtx-3060-12gb", {"model": "svd-xt"}),
    ("h200", {"model": "svd-xt", "settings": {"offload": "none"}}),
    ("rtx-4090", {"task": "parse", "model": "qwen2.5-vl-7b", "pages": 5}),
    ("rtx-3060-12gb", {"task": "parse", "model": "logics-parsing-v2", "pages": 3, "vram_gib": 6}),
    ("h200", {"task": "generate", "model": "qwen3-4b", "batch": 16, "new_tokens": 3000}),
    ("rtx-2080-ti", {"task": "generate", "model": "chatglm3-6b", "platform": "windows"}),
    ("cpu", {"task": "generate", "model": "glm-edge-1.5b"}),
    ("rtx-3060-12gb", {**TRAINING, "lora_rank": 16}),
    ("rtx-3060-12gb", {**TRAINING, "vram_gib": 6}),
    ("h200", {**TRAINING, "gradient_accumulation": 3, "settings": {"optimizer": "adamw"}}),
    ("rtx-4090", {**TRAINING, "settings": {"gpus": 8, "zero_stage": 3}}),
    ("rtx-4090", {**TRAINING, "gradient_accumulation": 2, "settings": {"gpus": 8}}),
    ("rtx-4060", {**FULL, "settings": {"offload": "leaf", "ffn_chunks": 4}}),
    (
        "rtx-4060",
        {"task": "parse", "model": "logics-parsing-v1", "pages": 7, "settings": {"page_batch": 2}},
    ),
    ("h200", {"task": "upscale", "model": "flashvsr-v1.1", "frames": 300}),
    ("rtx-3060-12gb", {"task": "upscale", "model": "flashvsr-v1.1", "vram_gib": 6}),
    ("cpu", {"task": "upscale", "model": "swin2sr-demo"}),
]


def explained(card: str, data: dict[str, Any]) -> tuple[Plan, Target, Explanation]:
    made = plan(card, **data)
    target = target_of(made.request, card)
    model = find_model(made.request.model, made.request.task)
    return made, target, explain_estimate(model, made.request, made.estimate, target)


@pytest.mark.parametrize(("card", "data"), CASES, ids=str)
def test_terms_add_up_to_the_plans_figures(card: str, data: dict[str, Any]) -> None:
    made, _, found = explained(card, data)
    estimate = made.estimate
    assert [phase.phase for phase in found.phases] == list(estimate.phases)
    for part in found.phases:
        values = [term.value for term in part.memory]
        assert all(value == int(value) for value in values)
        for term in part.memory:
            assert term.value >= 0 or term.name.en == "freed before the peak"
        assert sum(values[:-1]) == part.phase.allocated_bytes
        assert sum(values) == part.phase.reserved_bytes
        assert part.raw_seconds * part.speed == part.phase.seconds
    assert sum(term.value for term in found.device) == estimate.peak_device_bytes
    assert sum(term.value for term in found.margin) == estimate.margin_bytes
    assert sum(term.value for term in found.host) == estimate.host_bytes
    assert math.isclose(sum(term.value for term in found.load), estimate.load_seconds)
    assert math.isclose(sum(part.phase.seconds for part in found.phases), estimate.seconds)


@pytest.mark.parametrize(("card", "data"), CASES, ids=str)
def test_the_formula_of_seconds_gives_them(card: str, data: dict[str, Any]) -> None:
    _, _, found = explained(card, data)
    for part in found.phases:
        names = {term.name.en.partition(":")[0]: repr(term.value) for term in part.seconds}
        formula = part.formula
        for name in sorted(names, key=len, reverse=True):
            formula = formula.replace(name, names[name])
        value = eval(formula.replace(" x ", " * "), {"max": max, "__builtins__": {}})
        assert math.isclose(value, part.raw_seconds, rel_tol=1e-3)


@pytest.mark.parametrize(("card", "data"), CASES, ids=str)
def test_every_term_has_a_source_in_both_languages(card: str, data: dict[str, Any]) -> None:
    _, _, found = explained(card, data)
    terms = [term for part in found.phases for term in (*part.memory, *part.seconds)]
    for term in (*terms, *found.device, *found.margin, *found.host, *found.load):
        assert term.name.en and term.name.zh and term.source.en and term.source.zh


def test_terms_are_those_of_the_busiest_card_and_memory_of_all_workers() -> None:
    data = {"task": "upscale", "model": "flashvsr-v1.1", "frames": 961, "height": 216, "width": 384}
    alone, shared = (
        explained("rtx-4090", {**data, "settings": {"gpus": count, "tile": 0}}) for count in (1, 4)
    )
    for _, _, found in (alone, shared):
        for part in found.phases:
            for term in part.seconds:
                assert re.search(rf"\b{term.name.en.partition(':')[0]}\b", part.formula)
    workers = [term.name.en for term in shared[2].host]
    assert "the processes of 4 workers" in workers
    of_one = {term.name.en: term.value for term in alone[2].host}["the worker's process"]
    assert shared[2].host[0].value == 4 * of_one
    assert shared[0].estimate.host_bytes > 3 * alone[0].estimate.host_bytes


def test_weights_name_their_component_precision_and_template() -> None:
    _, _, found = explained("h200", FULL)
    encode = found.phases[0]
    text = next(term for term in encode.memory if term.name.en == "weights of text")
    assert "bf16" in text.source.en and "text_encoder" in text.source.en
    assert "wan-text-" in text.source.en and text.source.en.endswith(".half.npz")
    vae = next(term for term in encode.memory if term.name.en == "weights of vae")
    assert "fp32" in vae.source.en


def test_fp8_is_said_of_the_weights_that_are_stored_so() -> None:
    _, _, found = explained("h200", {**FULL, "settings": {"precision": "fp8"}})
    sources = {term.name.en: term.source.en for term in found.phases[0].memory}
    assert "in fp8" in sources["weights of transformer"]
    assert "in bf16" in sources["weights of text"]


def test_seconds_say_how_they_were_made() -> None:
    made, _, found = explained("h200", {**FULL, "settings": {"offload": "leaf"}})
    denoise = next(part for part in found.phases if part.phase.name == "denoise")
    assert denoise.formula == f"{2 * made.request.steps} x max(compute 1, transfer 1) + start 1"
    compute = next(term for term in denoise.seconds if "compute" in term.name.en)
    assert "matrix products" in compute.source.en and "h200" in compute.name.en
    assert "GB moved / (4800 x 1.3 GB/s)" in compute.source.en, "the data sheet's, and the part"


def test_a_corrected_phase_says_from_how_many_runs() -> None:
    made = plan("h200", **FULL)
    plain = target_of(made.request, "h200")
    target = Target(
        card=plain.card,
        limit_bytes=plain.limit_bytes,
        host=plain.host,
        speed={"denoise": 1.25},
        speed_receipts={"denoise": 4},
        context_receipts=4,
    )
    model = find_model(made.request.model)
    from webui.estimator.estimate import estimate

    corrected = estimate(model, made.request, made.settings, target)
    found = explain_estimate(model, made.request, corrected, target)
    denoise = next(part for part in found.phases if part.phase.name == "denoise")
    assert (denoise.speed, denoise.speed_receipts) == (1.25, 4)
    assert "4 runs of this machine" in found.device[1].source.en
    text = explanation_text(found)
    assert "measured in 4 runs of this machine" in text
    for phase in corrected.phases:
        assert f"{phase.allocated_bytes:,} B" in text and f"{phase.reserved_bytes:,} B" in text


def test_the_allocators_retries_are_told_where_the_limit_is_met() -> None:
    _, _, found = explained("rtx-3060-12gb", {**FULL, "vram_gib": 6})
    decode = found.phases[-1]
    assert decode.retries > 0
    assert f"{decode.retries} times" in decode.memory[-1].source.en


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({"offload": "none", "page_batch": 2}, "2 x (compute 1 + 99 x compute 2) + start 1"),
        (
            {"offload": "leaf", "page_batch": 4},
            "compute 1 + 99 x max(compute 2, transfer 1) + start 1",
        ),
    ],
)
def test_a_first_token_and_the_steps_make_the_seconds(
    settings: dict[str, Any], formula: str
) -> None:
    data = {"task": "parse", "model": "qwen2.5-vl-7b", "pages": 4, "new_tokens": 100}
    _, _, found = explained("h200", {**data, "settings": settings})
    assert found.phases[-1].formula == formula
    step = found.phases[-1].seconds[1]
    assert "weights and cache read" in step.source.en
    assert found.phases[0].formula.endswith(" + prepare 1 + start 1")
    _, _, one = explained("h200", {**data, "pages": 1, "settings": settings})
    prepared = [
        next(term for term in made.phases[0].seconds if "prepare" in term.name.en)
        for made in (found, one)
    ]
    assert "megapixels" in prepared[0].source.en
    assert prepared[0].value == pytest.approx(4 * prepared[1].value)
