"""Requests for text."""

from __future__ import annotations

from typing import Any

import pytest

from webui.catalogue import find_model, models_of
from webui.core.errors import BadInput
from webui.core.language import TextCard, TextRequest
from webui.core.parse import parse_request


def parse(model: str = "glm-edge-1.5b", **keys: Any) -> TextRequest:
    request = parse_request({"task": "generate", "model": model, **keys}, find_model)
    assert isinstance(request, TextRequest)
    return request


@pytest.mark.parametrize("model", list(models_of(TextCard)))
def test_an_empty_request_takes_the_cards_values(model: str) -> None:
    card, request = models_of(TextCard)[model], parse(model)
    assert request.prompt_tokens == card.defaults.prompt_tokens
    assert request.new_tokens == card.defaults.new_tokens
    assert (request.batch, request.repeats) == (1, 1)
    assert parse_request(request.to_json(), find_model) == request
    assert card.max_positions == card.configs["model"]["max_position_embeddings"]


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"prompt_tokens": 8193}, "prompt_tokens"),
        ({"new_tokens": 0}, "new_tokens"),
        ({"prompt_tokens": 8000, "new_tokens": 193}, "new_tokens"),
        ({"batch": 0}, "batch"),
        ({"batch": 257}, "batch"),
        ({"prompt": 5}, "prompt"),
        ({"frames": 5}, "frames"),
        ({"pages": 5}, "pages"),
        ({"settings": {"page_batch": 2}}, "settings.page_batch"),
        ({"settings": {"offload": "model"}}, "settings.offload"),
    ],
)
def test_bad_input(keys: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(**keys)
    assert caught.value.field == field
    assert caught.value.message.zh and caught.value.hint.zh


def test_a_prompt_and_its_answer_may_fill_the_model() -> None:
    assert parse(prompt_tokens=8000, new_tokens=192).size_text == "1x8000 +192"
