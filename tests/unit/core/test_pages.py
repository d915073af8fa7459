"""Requests for pages: sizes as the library's picture processor makes them, pages by number."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from webui.catalogue import find_model, models_of
from webui.core.documents import (
    MAX_PAGES,
    MAX_RATIO,
    MAX_SIDE_PX,
    count_pages,
    page_numbers,
    range_text,
)
from webui.core.errors import BadInput
from webui.core.pages import PageCard, PageRequest
from webui.core.parse import parse_request

MODELS = list(models_of(PageCard))


def parse(model: str = "logics-parsing-v1", **keys: Any) -> PageRequest:
    request = parse_request({"task": "parse", "model": model, **keys}, find_model)
    assert isinstance(request, PageRequest)
    return request


def refused(model: str = "logics-parsing-v1", **keys: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(model, **keys)
    assert caught.value.message.zh and caught.value.hint.zh
    return caught.value


@pytest.mark.parametrize("model", MODELS)
def test_a_page_is_fed_at_the_size_that_the_library_makes(model: str) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    card = models_of(PageCard)[model]
    chance = random.Random(7)
    sizes = [(chance.randrange(20, 6000), chance.randrange(20, 6000)) for _ in range(200)]
    for height, width in [*sizes, (card.size_multiple, card.size_multiple), (3508, 2480)]:
        if max(height, width) > 100 * min(height, width):
            continue
        for limit in (None, 300_000, card.max_pixels):
            theirs = smart_resize(
                height,
                width,
                factor=card.size_multiple,
                min_pixels=card.min_pixels,
                max_pixels=limit or card.max_pixels,
            )
            assert card.fed_size(height, width, limit) == theirs


@pytest.mark.parametrize("model", MODELS)
def test_an_empty_request_is_an_upright_page_at_the_authors_limit(model: str) -> None:
    card, request = models_of(PageCard)[model], parse(model)
    height, width = card.fed_size(request.height, request.width, request.max_pixels)
    assert height > width and height * width <= card.defaults.max_pixels
    assert height * width > 0.9 * card.defaults.max_pixels
    assert request.new_tokens == card.defaults.new_tokens
    assert (request.repeats, request.max_pixels) == (1, card.defaults.max_pixels)


def test_a_named_size_is_taken_as_it_is() -> None:
    assert (parse(height=1400, width=1000).max_pixels, parse(width=1000).height) == (None, 1414)
    assert parse(height=1414).width == 1000
    assert parse(height=1400, width=1000, max_pixels=500_000).max_pixels == 500_000
    card = models_of(PageCard)["logics-parsing-v1"]
    assert card.image_tokens(parse(height=1400, width=1008)) == 50 * 36


def test_known_cards() -> None:
    cards = models_of(PageCard)
    first, second = cards["logics-parsing-v1"], cards["logics-parsing-v2"]
    assert first.prompt == second.prompt == "QwenVL HTML"
    assert (first.size_multiple, second.size_multiple) == (28, 32)
    assert first.defaults.new_tokens == 8192 and second.defaults.new_tokens == 16384
    assert first.configs == cards["qwen2.5-vl-7b"].configs
    for card in cards.values():
        vision = card.configs["model"]["vision_config"]
        assert card.size_multiple == vision["patch_size"] * vision["spatial_merge_size"]
        assert card.download_bytes < 20e9 and "/" in card.hub


@pytest.mark.parametrize(
    ("pages", "numbers"),
    [("3", [3]), ("1-3, 7", [1, 2, 3, 7]), (" 2 - 4,3 ", [2, 3, 4]), ("5,1", [1, 5])],
)
def test_page_numbers(pages: str, numbers: list[int]) -> None:
    assert page_numbers(pages, MAX_PAGES) == numbers
    assert page_numbers(range_text(numbers), MAX_PAGES) == numbers
    assert parse(pages=pages).repeats == count_pages(pages) == len(numbers)


@pytest.mark.parametrize("last", [MAX_PAGES + 1, 100_000_000_000, "9" * 3000], ids=[1, 2, 3])
def test_pages_beyond_the_last_are_refused_at_once(last: int | str) -> None:
    began = time.monotonic()
    error = refused(pages=f"1-{last}")
    assert error.field == "pages" and str(MAX_PAGES) in error.message.en + error.hint.en
    assert refused(pages=f"3, {last}").field == "pages"
    assert time.monotonic() - began < 1


def test_pages_named_again_and_again_are_counted_fast() -> None:
    began = time.monotonic()
    assert parse(pages=",".join([f"1-{MAX_PAGES}"] * 400)).repeats == MAX_PAGES
    assert parse(pages=f"1-{MAX_PAGES - 1}, 7, {MAX_PAGES}, 0001").repeats == MAX_PAGES
    assert time.monotonic() - began < 1
    assert refused(pages="1," * 2000 + "1").field == "pages"


def test_pictures_that_the_processor_refuses_are_refused() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    for short in (28, 41, 81):
        smart_resize(MAX_RATIO * short, short)
        assert parse(height=MAX_RATIO * short, width=short).height == MAX_RATIO * short
        assert parse(height=short, width=MAX_RATIO * short).width == MAX_RATIO * short
        with pytest.raises(ValueError, match="aspect ratio"):
            smart_resize(MAX_RATIO * short + 1, short)
        high = refused(height=MAX_RATIO * short + 1, width=short)
        wide = refused(height=short, width=MAX_RATIO * short + 1)
        assert (high.field, wide.field) == ("height", "width")
        for error in (high, wide):
            assert "200:1" in error.message.en and f"at most {MAX_RATIO * short}" in error.hint.en


@pytest.mark.parametrize(
    "pages", ["", "x", "3-1", "0", "1-", "1,,2", "1-3-5", "-2", "1.5", "9" * 9]
)
def test_what_names_no_pages(pages: str) -> None:
    assert refused(pages=pages).field == "pages"


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        ({"pages": 0}, "pages"),
        ({"pages": 10**9}, "pages"),
        ({"pages": 1.5}, "pages"),
        ({"pages": True}, "pages"),
        ({"max_pixels": 100}, "max_pixels"),
        ({"max_pixels": 10**9}, "max_pixels"),
        ({"max_pixels": "many"}, "max_pixels"),
        ({"height": 5}, "height"),
        ({"width": MAX_SIDE_PX + 1}, "width"),
        ({"new_tokens": 0}, "new_tokens"),
        ({"new_tokens": 128_001}, "new_tokens"),
        ({"new_tokens": 127_500}, "new_tokens"),
        ({"frames": 5}, "frames"),
        ({"prompt_tokens": 5}, "prompt_tokens"),
        ({"settings": {"vae_tiling": True}}, "settings.vae_tiling"),
        ({"settings": {"page_batch": 0}}, "settings.page_batch"),
        ({"settings": {"offload": "block"}}, "settings.offload"),
        ({"settings": {"precision": "fp8"}}, "settings.precision"),
        ({"settings": {"attention": "xformers"}}, "settings.attention"),
    ],
)
def test_bad_input(keys: dict[str, Any], field: str) -> None:
    assert refused(**keys).field == field


def test_tokens_beyond_the_models_positions_say_how_many_there_are() -> None:
    error = refused(height=1400, width=1008, new_tokens=127_000)
    assert f"{50 * 36 + 25 + 127_000}" in error.message.en and "128000" in error.message.en


def test_the_task_needs_a_model() -> None:
    with pytest.raises(BadInput) as caught:
        parse_request({"task": "parse"}, find_model)
    assert caught.value.field == "model"
    with pytest.raises(BadInput) as caught:
        parse_request({"task": "parse", "model": "qwen3-4b"}, find_model)
    assert caught.value.field == "model" and "qwen2.5-vl-7b" in caught.value.hint.en


def test_what_memory_depends_on_is_in_the_shape() -> None:
    base = parse(height=700, width=504, pages=4)
    for changes in ({"height": 728}, {"new_tokens": 9}, {"pages": 5}, {"input": "scan.png"}):
        assert base.with_changes(**changes).shape != base.shape
    assert base.with_changes(seed=9, card="h200").shape == base.shape


def test_an_input_is_read_whole_unless_pages_are_named() -> None:
    assert parse(input="a.pdf").pages == "all" and parse().pages == 1
    assert parse(input="a.pdf", pages=2).pages == 2
    assert page_numbers("all", 3) == page_numbers(3, 9) == [1, 2, 3]
    with pytest.raises(BadInput) as caught:
        page_numbers("2-4", 3)
    assert caught.value.field == "pages" and "has 3" in caught.value.message.en


def test_ocr_takes_no_tokens() -> None:
    request = parse_request({"task": "parse", "model": "ocr", "input": "a.pdf"}, find_model)
    assert "new_tokens" not in request.to_json()
    assert parse_request(request.to_json(), find_model) == request
    with pytest.raises(BadInput) as caught:
        parse_request({"task": "parse", "model": "ocr", "new_tokens": 8}, find_model)
    assert caught.value.field == "new_tokens"


def test_the_most_pixels_can_be_asked_for() -> None:
    request = parse(max_pixels="auto", height=2000, width=1000)
    assert request.max_pixels == "auto" and parse(**request.to_json()) == request
    assert refused(max_pixels="most").field == "max_pixels"
