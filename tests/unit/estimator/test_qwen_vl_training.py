"""Estimates of training steps: what each part of the workload and each setting changes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from webui.catalogue import find_model
from webui.core.parse import parse_request
from webui.core.plan import Estimate, PhaseEstimate
from webui.core.settings import with_defaults
from webui.core.training import TrainRequest
from webui.core.units import GIB, MIB
from webui.estimator import qwen_vl_training
from webui.estimator.estimate import estimate, host_bytes, load_seconds
from webui.estimator.optimizer_states import states_of, step_costs, temporaries_of
from webui.estimator.qwen_vl_shape import step_of, variant_of
from webui.estimator.qwen_vl_training import TrainingMemory, join_passes
from webui.estimator.rules import rules_for
from webui.estimator.tape import COSTS
from webui.estimator.target import Target
from webui.estimator.zero import shared_states
from webui.hardware import find_card
from webui.pipelines.live_bytes import LiveBytes, round_bytes
from webui.pipelines.qwen_vl_training.optimizers import build_optimizer

CARD = find_model("qwen2.5-vl-3b", "train")
WEIGHTS = 7_509_245_952
SMALL = {
    "image_size": 336,
    "sequence_length": 1024,
    "batch": 1,
    "gradient_accumulation": 1,
}


def parse(**keys: Any) -> TrainRequest:
    model = keys.pop("model", "qwen2.5-vl-3b")
    request = parse_request({"task": "train", "model": model, **SMALL, **keys}, find_model)
    assert isinstance(request, TrainRequest)
    return request


def figures(on: str = "h200", settings: dict[str, Any] | None = None, **keys: Any) -> Estimate:
    request = parse(**keys)
    model = find_model(request.model, "train")
    card = find_card(on)
    target = Target(card=card, limit_bytes=2**42, host=find_card("cpu"))
    return estimate(model, request, with_defaults(settings or {}, model.settings), target)


def phases(**asked: Any) -> dict[str, PhaseEstimate]:
    return {phase.name: phase for phase in figures(**asked).phases}


def test_a_full_step_is_four_times_the_weights_and_what_passes_through() -> None:
    found = phases()
    assert list(found) == ["forward", "backward", "optimizer"]
    assert found["optimizer"].resident_bytes == pytest.approx(4 * WEIGHTS, rel=0.01)
    assert found["optimizer"].activation_bytes == 0
    assert found["forward"].resident_bytes == pytest.approx(3 * WEIGHTS, rel=0.01)
    # The tied embedding gets two gradients, and their sum is a third tensor.
    embedding = 151936 * 2048 * 2
    beyond = found["backward"].allocated_bytes - 4 * WEIGHTS - 2 * embedding
    assert 2 * 32 * MIB < beyond < 2 * 32 * MIB + 8 * MIB


def test_logits_are_there_in_two_bytes_and_twice_in_four() -> None:
    """bf16 as the model makes them, fp32 for the loss, and the loss's own."""
    least, more = (
        phases(lora_rank=4, image_size=0, sequence_length=length)["forward"]
        for length in (1024, 2048)
    )
    per_token = (more.activation_bytes - least.activation_bytes) / 1024
    assert per_token > 10 * CARD.configs["model"]["vocab_size"]


def test_reserved_memory_stays_from_phase_to_phase() -> None:
    """Nothing empties the cache within a step."""
    for settings in ({"allocator": "expandable"}, {"allocator": "default"}):
        found = phases(settings=settings)
        reserved = [phase.reserved_bytes for phase in found.values()]
        assert reserved == sorted(reserved)
        assert all(phase.reserved_bytes >= phase.allocated_bytes for phase in found.values())
        assert found["optimizer"].reserved_bytes > 1.02 * found["optimizer"].allocated_bytes


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("sequence_length", (512, 1000, 1024, 2048, 4096)),
        ("batch", (1, 2, 3, 8)),
        ("image_size", (0, 56, 336, 448, 700)),
        ("lora_rank", (1, 8, 64, 256)),
    ],
)
@pytest.mark.parametrize("checkpoint", [True, False])
def test_more_of_anything_never_needs_less(
    key: str, values: tuple[int, ...], checkpoint: bool
) -> None:
    rank = {} if key == "lora_rank" else {"lora_rank": 16}
    settings = {"gradient_checkpointing": checkpoint}
    peaks = [
        figures(settings=settings, **{**rank, key: value}).peak_allocated_bytes for value in values
    ]
    assert all(less < more for less, more in pairwise(peaks))


def test_accumulated_gradients_are_there_in_later_micro_batches() -> None:
    once, twice = phases(), phases(gradient_accumulation=2)
    assert twice["forward"].resident_bytes - once["forward"].resident_bytes == pytest.approx(
        WEIGHTS, rel=0.01
    )
    assert twice["optimizer"].allocated_bytes == once["optimizer"].allocated_bytes
    many = phases(gradient_accumulation=64)
    for name, phase in twice.items():
        assert many[name].allocated_bytes == phase.allocated_bytes
    assert many["forward"].seconds == pytest.approx(64 * once["forward"].seconds)
    assert many["backward"].seconds > 63 * once["backward"].seconds
    assert many["optimizer"].seconds == once["optimizer"].seconds


def test_checkpoints_trade_time_for_memory() -> None:
    shape = {"lora_rank": 16, "sequence_length": 16384}
    kept = phases(settings={"gradient_checkpointing": False}, **shape)
    again = phases(settings={"gradient_checkpointing": True}, **shape)
    assert again["backward"].allocated_bytes < 0.7 * kept["backward"].allocated_bytes
    assert again["forward"].seconds == kept["forward"].seconds
    assert 1.3 < again["backward"].seconds / kept["backward"].seconds < 2


def test_adapters_train_a_thousandth_and_keep_the_rest() -> None:
    rank = 16
    found = phases(lora_rank=rank)
    model = CARD.configs["model"]
    hidden, wide, keys = model["hidden_size"], model["intermediate_size"], 256
    # Two matrices for each of q, k, v, o, gate, up and down.
    values = rank * (4 * hidden + 2 * (hidden + keys) + 3 * (hidden + wide))
    adapters = 2 * model["num_hidden_layers"] * values
    states = found["optimizer"].resident_bytes - WEIGHTS - 2 * 32 * MIB
    assert states == pytest.approx(4 * adapters, rel=0.03)


@pytest.mark.parametrize("model", ["qwen2.5-vl-7b", "omnisvg-4b", "omnisvg-8b"])
def test_every_model_has_its_templates(model: str) -> None:
    card = find_model(model, "train")
    for precision, width in (("bf16", 2), ("fp32", 4)):
        found = figures(model=model, settings={"precision": precision})
        parameters = card.download_bytes // 2
        peak = found.peak_allocated_bytes
        assert 4 * parameters * width < peak < 4.6 * parameters * width
        assert found.versions["transformers"]


def test_untied_heads_have_no_second_gradient() -> None:
    found = {phase.name: phase for phase in figures(model="qwen2.5-vl-7b").phases}
    beyond = found["backward"].allocated_bytes - found["optimizer"].allocated_bytes
    tied = phases()
    assert beyond < tied["backward"].allocated_bytes - tied["optimizer"].allocated_bytes


def test_full_precision_takes_the_plain_formula() -> None:
    """No CUDA kernel takes grouped heads in fp32: attention's matrix is there, and is kept."""
    growth = []
    for precision in ("bf16", "fp32"):
        settings = {"precision": precision, "gradient_checkpointing": False}
        kept = [
            phases(settings=settings, lora_rank=8, image_size=0, sequence_length=length)[
                "backward"
            ].resident_bytes
            for length in (2048, 4096, 8192)
        ]
        growth.append((kept[2] - kept[1]) / (kept[1] - kept[0]))
    assert growth[0] == pytest.approx(2, rel=0.01) and growth[1] > 3


def test_cards_without_flash_attention_need_more() -> None:
    settings = {"precision": "fp16", "gradient_checkpointing": False}
    old, new = (
        figures(on=card, lora_rank=8, sequence_length=4096, settings=settings)
        for card in ("rtx-2080-ti", "rtx-3090")
    )
    assert old.peak_allocated_bytes > 2 * new.peak_allocated_bytes
    rules = [rules_for(find_card(card), "default", "linux") for card in ("rtx-2080-ti", "cpu")]
    settings = with_defaults({"precision": "fp16"}, CARD.settings)
    made = [TrainingMemory(CARD, parse(), settings, rule).variant for rule in rules]
    assert made == [variant_of("full", "checkpoint", "image", kind) for kind in ("plain", "fused")]


def test_half_precisions_are_alike() -> None:
    bf16, fp16 = (figures(settings={"precision": name}) for name in ("bf16", "fp16"))
    assert bf16.phases == fp16.phases


def trained_sizes() -> list[int]:
    return [4096 * 7 + 3, 4095, 4096, 130, 1, 512 * 512]


def parameters_of(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(count, dtype=dtype)) for count in trained_sizes()]


@pytest.mark.parametrize("name", ["adamw-fused", "adamw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_and_temporaries_are_the_real_ones(name: str, dtype: torch.dtype) -> None:
    """Two steps of PyTorch's own: what stays after the first, and the most in the second."""
    parameters = parameters_of(dtype)
    live = LiveBytes()
    with live:
        optimizer = build_optimizer(name, parameters)
        for step in range(2):
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            before = live.current_bytes
            live.reset_peak()
            optimizer.step()
            if step == 0:
                states = live.current_bytes - before
            else:
                temporary = live.peak_bytes - before
    trained = np.array([parameter.nbytes for parameter in parameters])
    kept = states_of(name, trained, parameters[0].element_size(), "cpu")
    assert sum(round_bytes(size) for size in kept) == states
    for_a_moment = sum(round_bytes(size) for size in temporaries_of(name, trained))
    assert abs(temporary - for_a_moment) <= 512  # the scalar 1 that counts steps


def test_states_in_eight_bits() -> None:
    """As bitsandbytes makes them: bytes, and a scale for each 256 values; small ones in fp32."""
    trained = np.array([4096, 4095, 1000 * 256 + 1]) * 2
    sizes = states_of("adamw-8bit", trained, 2, "cuda")
    table, small = [1024, 1024], [4095 * 4] * 2
    assert sizes.tolist() == [*table, 4096, 4096, 64, 64, *small, 256001, 256001, 4004, 4004]
    assert not len(temporaries_of("adamw-8bit", trained))


def test_optimizers_compared() -> None:
    fused, foreach, eight = (
        phases(settings={"optimizer": name}) for name in ("adamw-fused", "adamw", "adamw-8bit")
    )
    beyond = foreach["optimizer"].allocated_bytes - fused["optimizer"].allocated_bytes
    assert beyond == pytest.approx(WEIGHTS, rel=0.01)
    saved = fused["optimizer"].allocated_bytes - eight["optimizer"].allocated_bytes
    # Two states of two bytes become one byte and a 64th of four each.
    assert saved == pytest.approx(WEIGHTS * (1 - 4 / 256), rel=0.01)
    assert foreach["optimizer"].seconds > 2 * fused["optimizer"].seconds
    assert eight["optimizer"].seconds < foreach["optimizer"].seconds
    bytes_moved = step_costs("adamw-fused", np.array([10]), 2)[COSTS.index("bytes")]
    assert bytes_moved == 70


@pytest.mark.parametrize("gpus", [2, 8])
def test_zero_follows_deepspeeds_formulas(gpus: int) -> None:
    """2P + 18P/N for stage 2, and 4L + 18P/N for stage 3, beside communication."""
    parameters, largest = 3_754_622_976, 151936 * 2048
    communication = ("communication bucket", "prefetched weights")
    for stage, expected in (
        (1, 4 * parameters + 16 * parameters // gpus),
        (2, 2 * parameters + 18 * parameters // gpus),
        (3, 4 * largest + 18 * parameters // gpus),
    ):
        found = shared_states(
            stage, gpus, weights=parameters, trained=parameters, largest=largest, value_bytes=2
        )
        states = sum(size for name, size in found.items() if name not in communication)
        assert states == pytest.approx(expected, abs=4 * gpus)
        assert found["communication bucket"] == 2 * 500_000_000


def test_each_stage_shares_more_and_takes_longer() -> None:
    found = [
        figures(settings={"gpus": 8, "zero_stage": stage}, gradient_accumulation=2)
        for stage in range(4)
    ]
    # Without ZeRO everything is in two bytes: no copies in fp32 to share.
    peaks = [one.peak_allocated_bytes for one in found]
    assert peaks[1] > peaks[2] > peaks[3] and peaks[0] > peaks[1]
    seconds = [one.seconds for one in found]
    assert seconds == sorted(seconds) and len(set(seconds)) == 4


def test_several_gpus_without_zero_keep_buckets_of_gradients() -> None:
    one, two, eight = (figures(settings={"gpus": gpus, "zero_stage": 0}) for gpus in (1, 2, 8))
    assert two.peak_allocated_bytes - one.peak_allocated_bytes == pytest.approx(WEIGHTS, rel=0.01)
    assert two.peak_allocated_bytes == eight.peak_allocated_bytes
    # Sending them hides behind the backward pass where that takes longer.
    assert two.seconds == one.seconds
    one, two, eight = (figures(on="rtx-4090", settings={"gpus": n}).seconds for n in (1, 2, 8))
    assert one < two < eight


def test_host_memory_and_loading_are_those_of_one_model() -> None:
    settings = with_defaults({}, CARD.settings)
    on_card, on_host = (rules_for(find_card(card), "default", "linux") for card in ("h200", "cpu"))
    assert host_bytes(CARD, settings, on_card) < 2.5 * GIB
    assert host_bytes(CARD, settings, on_host) > WEIGHTS
    assert load_seconds(CARD, settings) > WEIGHTS / 1e9


def test_seconds_are_near_the_measured_step() -> None:
    """Two steps took 1.08 s and more on an H200, with the optimizer launched 818 times."""
    assert 0.2 < figures().seconds < 0.54


@pytest.mark.parametrize(
    "settings",
    [
        {"allocator": "expandable"},
        {"allocator": "default"},
        {"allocator": "expandable", "gradient_checkpointing": False},
    ],
    ids=str,
)
def test_layers_that_are_not_played_hardly_change_what_is_reserved(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = with_defaults(settings, CARD.settings)
    rules = rules_for(find_card("h200"), str(settings["allocator"]), "linux")
    found = []
    for near in (qwen_vl_training.NEAR, 99):
        memory = TrainingMemory(CARD, parse(), complete, rules)
        passes = join_passes(memory.template, CARD, memory.variant, near)
        monkeypatch.setattr(TrainingMemory, "_joined", lambda self, passes=passes: passes)
        found.append(
            [memory.phase(name).replay(rules.expandable, None) for name in memory.phase_names()]
        )
    for short, whole in zip(*found, strict=True):
        assert short.resident_bytes == whole.resident_bytes
        assert short.allocated_bytes == pytest.approx(whole.allocated_bytes, rel=0.002)
        assert short.reserved_bytes == pytest.approx(whole.reserved_bytes, rel=0.02)


def test_phases_start_with_what_the_others_left() -> None:
    complete = with_defaults({}, CARD.settings)
    rules = rules_for(find_card("h200"), "expandable", "linux")
    memory = TrainingMemory(CARD, parse(gradient_accumulation=2), complete, rules)
    names = {
        name: {part.name for part in memory.phase(name).parts if part.sizes.sum()}
        for name in memory.phase_names()
    }
    always = {"model", "workspace", "the optimizer's states", "gradients"}
    assert names["forward"] == always
    assert names["backward"] == always | {"activations kept"}
    assert names["optimizer"] == always
    for name in memory.phase_names():
        phase = memory.phase(name)
        assert sum(int(part.sizes.sum()) for part in phase.parts) == phase.resident_bytes


def test_the_variables_of_a_step() -> None:
    step = step_of(CARD, parse(batch=3, sequence_length=1000, image_size=400, lora_rank=8))
    assert (step.b, step.t, step.u) == (3, 3000, 3 * 1024)
    assert (step.p, step.r, step.w) == (3 * 784, 896, 128)
    assert (step.a, step.c, step.k) == (3 * 10**6, 10**6, 8)
