"""Requests for fine-tuning: what is taken, and every bad input named with what is allowed."""

from __future__ import annotations

from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.errors import BadInput
from webui.core.parse import parse_request
from webui.core.training import TrainCard, TrainRequest

CARD = find_model("qwen2.5-vl-3b", "train")


def parse(**data: Any) -> TrainRequest:
    request = parse_request({"task": "train", "model": "qwen2.5-vl-3b", **data}, find_model)
    assert isinstance(request, TrainRequest)
    return request


def refused(**data: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(**data)
    error = caught.value
    assert error.message.en and error.message.zh and error.exit_code == 2
    return error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("image_size", value) for value in (-28, 1, 55, 2241, 336.5, "336", True)),
        *(("sequence_length", value) for value in (0, -1, 128001, 1.5, "long")),
        *(("batch", value) for value in (0, 257, 2.5, False)),
        *(("gradient_accumulation", value) for value in (0, 1025, "4")),
        *(("lora_rank", value) for value in (-1, 1025, 0.5, "8")),
        ("data", 3),
        ("frames", 17),
        ("prompt", "a cat"),
    ],
)
def test_bad_values_are_named(field: str, value: Any) -> None:
    assert refused(**{field: value}).field == field


@pytest.mark.parametrize(
    ("settings", "field", "hint"),
    [
        ({"precision": "fp8"}, "settings.precision", "bf16"),
        ({"optimizer": "adam"}, "settings.optimizer", "adamw"),
        ({"offload": "leaf"}, "settings.offload", "gradient_checkpointing"),
        ({"gradient_checkpointing": "yes"}, "settings.gradient_checkpointing", "false"),
        ({"zero_stage": 4, "gpus": 2}, "settings.zero_stage", "3"),
        ({"gpus": 0}, "settings.gpus", "64"),
        ({"zero_stage": 2}, "settings.zero_stage", "gpus to 2"),
        (
            {"zero_stage": 1, "gpus": 2, "optimizer": "adamw-8bit"},
            "settings.optimizer",
            "adamw-fused",
        ),
    ],
)
def test_settings_that_do_not_go(settings: dict[str, Any], field: str, hint: str) -> None:
    error = refused(settings=settings)
    assert error.field == field and hint in error.hint.en


def test_a_picture_leaves_room_for_text() -> None:
    error = refused(image_size=448, sequence_length=256)
    assert error.field == "sequence_length"
    assert "256 tokens" in error.message.en and "more than 256" in error.hint.en
    assert parse(image_size=448, sequence_length=257).sequence_length == 257
    assert parse(image_size=0, sequence_length=1).image_size == 0


def test_pictures_are_counted_as_the_processor_resizes_them() -> None:
    """The guide's three sizes: 448, 384 and 336; 384 is no multiple of 28."""
    sizes = {size: CARD.image_tokens(size) for size in (448, 384, 336, 56, 0)}
    assert sizes == {448: 256, 384: 196, 336: 144, 56: 4, 0: 0}
    assert parse(image_size=384).image_size == 384
    assert CARD.fed_size(384) == 392


def test_round_trip_and_size() -> None:
    request = parse(image_size=336, sequence_length=1024, batch=2, lora_rank=8, data="svg")
    assert parse_request(request.to_json(), find_model) == request
    assert request.size_text == "2x1024 336px r8"
    assert request.repeats == 4  # the card's own
    assert parse(gradient_accumulation=2).shape == parse(gradient_accumulation=9).shape
    assert parse(gradient_accumulation=1).shape != parse(gradient_accumulation=2).shape


def test_the_task_chooses_the_card() -> None:
    assert isinstance(find_model("qwen2.5-vl-3b", "train"), TrainCard)
    with pytest.raises(BadInput) as caught:
        find_model("svd-xt", "train")
    assert "qwen2.5-vl-3b" in caught.value.hint.en
