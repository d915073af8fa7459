"""Requests: defaults, and every bad input named with its field and what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.clip import require_clip_inputs
from webui.core.errors import BadInput
from webui.core.fields import MAX_TEXT_CHARACTERS
from webui.core.parse import KEYS, parse_request
from webui.core.request import MAX_SEED, Request
from webui.core.settings import SETTINGS, check_settings, with_defaults

DEMO = find_model("demo")


def parse(**data: Any) -> Request:
    return parse_request(data, find_model)


def refused(data: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse_request(data, find_model)
    error = caught.value
    assert error.message.en and error.message.zh and error.exit_code == 2
    assert len(error.message.en) < 300
    return error


def test_an_empty_request_is_the_demo_with_its_defaults() -> None:
    request = parse()
    defaults = DEMO.defaults
    assert (request.task, request.model, request.card) == ("generate", "demo", "detected")
    for key in ("frames", "height", "width", "steps", "guidance", "flow_shift", "solver", "fps"):
        assert getattr(request, key) == getattr(defaults, key)
    assert (request.prompt, request.seed, request.vram_gib, request.settings) == ("", -1, None, {})
    assert request.platform in ("linux", "windows")


def test_none_means_the_default() -> None:
    assert parse(**dict.fromkeys(KEYS)) == parse()
    assert parse(settings={"offload": None, "precision": "auto"}).settings == {}


def test_round_trip_through_json() -> None:
    request = parse(
        model="wan2.1-t2v-1.3b",
        prompt="一只猫",
        frames=33,
        height=480,
        width=832,
        seed=MAX_SEED,
        vram_gib=12,
        card="rtx-4090",
        platform="windows",
        settings={"offload": "leaf", "vae_tiling": True, "vae_tile": 192},
    )
    assert parse_request(json.loads(json.dumps(request.to_json())), find_model) == request


HUGE = 10**400
BAD: list[tuple[str, Any]] = [
    *(("frames", value) for value in (0, -3, 2, 6, 16.5, "17", True, [17], {}, 1e9, 10**12)),
    *(("frames", value) for value in (float("nan"), float("inf"), float("-inf"), HUGE, -HUGE)),
    *(("height", value) for value in (0, 100, 127, 16, 4096, 1e9, float("nan"), "128", True)),
    *(("width", value) for value in (0, 100, 127.5, 16, 4096, float("inf"), "x", False)),
    *(("steps", value) for value in (0, -1, 201, 1.5, "ten", True)),
    *(("guidance", value) for value in (0, 0.99, 31, float("nan"), "5", True)),
    *(("flow_shift", value) for value in (0, 31, -1, "x")),
    *(("fps", value) for value in (0, 121, 12.5)),
    *(("seed", value) for value in (-2, MAX_SEED + 1, 0.5, "1", True)),
    *(("vram_gib", value) for value in (0, 0.1, -8, 5000, float("nan"), "12", True)),
    *(("solver", value) for value in ("euler", 1, [], "")),
    *(("platform", value) for value in ("macos", 3, "Windows")),
    *(("task", value) for value in ("upscaling", 1, "")),
    *(("model", value) for value in ("demmo", 3, "", ["demo"])),
    *(("prompt", value) for value in (3, ["a"], "x" * (MAX_TEXT_CHARACTERS + 1))),
    ("negative_prompt", "x" * (MAX_TEXT_CHARACTERS + 1)),
    *(("settings", value) for value in ([], "offload", 3)),
    ("card", 3060),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=lambda item: str(item)[:30])
def test_bad_values_are_named(field: str, value: Any) -> None:
    error = refused({field: value})
    assert error.field == field


@pytest.mark.parametrize("data", [None, [], "model: demo", 3, True])
def test_not_a_mapping(data: Any) -> None:
    assert refused(data).hint.en == "For example: model: demo"


@pytest.mark.parametrize(
    ("key", "near"), [("frame", "frames"), ("promt", "prompt"), ("heigth", "height"), (3, "Keys")]
)
def test_unknown_keys_come_with_the_nearest(key: Any, near: str) -> None:
    error = refused({key: 1})
    assert error.field == str(key) and near in error.hint.en
    assert near in error.hint.zh or near == "Keys"


def test_what_is_no_setting_is_told_where_it_belongs() -> None:
    with pytest.raises(BadInput) as caught:
        parse_request({"model": "demo", "prompt": "a", "settings": {"steps": 3}}, find_model)
    assert caught.value.field == "settings.steps"
    assert caught.value.hint.en == "It stands beside settings, not in them."


def test_a_setting_beside_the_settings_is_told_where_it_belongs() -> None:
    error = refused({"gpus": 2})
    assert error.field == "gpus" and "settings: {gpus: ...}" in error.hint.en


def test_long_names_are_not_repeated_in_full() -> None:
    assert len(refused({"x" * 10**6: 1}).field) <= 40
    assert len(refused({"settings": {"y" * 10**6: 1}}).field) <= 60
    refused({"settings": {"offload": "z" * 10**6}})
    refused({"model": "m" * 3000})


def test_frames_and_sides_say_what_would_do() -> None:
    assert "17 or 21" in refused({"frames": 18}).hint.en
    assert "17 或 21" in refused({"frames": 18}).hint.zh
    assert "96 or 112" in refused({"height": 100}).hint.en
    last = DEMO.max_side
    assert str(last) in refused({"height": last + 16}).hint.en
    for frames in (17, 21, 17.0):
        assert parse(frames=frames).frames == int(frames)


def test_unknown_models_come_with_the_nearest() -> None:
    error = refused({"model": "wan2.1-t2v-13b"})
    assert error.field == "model" and "wan2.1-t2v-1" in error.hint.en


@pytest.mark.parametrize(
    ("settings", "field", "hint"),
    [
        ({"ofload": "leaf"}, "settings.ofload", "offload"),
        ({"zzz": 1}, "settings.zzz", "Settings:"),
        ({"offload": "leav"}, "settings.offload", "leaf"),
        ({"offload": True}, "settings.offload", "block"),
        ({"vae_tiling": "true"}, "settings.vae_tiling", "true"),
        ({"vae_tiling": 1}, "settings.vae_tiling", "false"),
        ({"vae_tile": 100}, "settings.vae_tile", "32"),
        ({"vae_tile": 32}, "settings.vae_tile", "64"),
        ({"vae_tile": 2048}, "settings.vae_tile", "1024"),
        ({"vae_tile": True}, "settings.vae_tile", "64"),
        ({"vae_tile": "256"}, "settings.vae_tile", "64"),
        ({"vae_tile": float("nan")}, "settings.vae_tile", "64"),
        ({"vae_tile": float("inf")}, "settings.vae_tile", "64"),
        ({"vae_tile": HUGE}, "settings.vae_tile", "64"),
        ({"vae_tile_overlap": 160}, "settings.vae_tile_overlap", "128"),
        ({"vae_tile": 128, "vae_tile_overlap": 80}, "settings.vae_tile_overlap", "64"),
        ({"precision": "int8"}, "settings.precision", "bf16"),
        ({"precision": ["bf16"]}, "settings.precision", "fp32"),
    ],
    ids=lambda item: str(item)[:40],
)
def test_bad_settings(settings: dict[str, Any], field: str, hint: str) -> None:
    error = refused({"settings": settings})
    assert error.field == field
    assert hint in error.hint.en
    assert error.hint.zh


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("attention_slicing", "SDPA"),
        ("enable_attention_slicing", "ffn_chunks"),
        ("xformers", "attention: xformers"),
    ],
)
def test_names_of_other_programs_are_answered(name: str, hint: str) -> None:
    error = refused({"settings": {name: True}})
    assert error.field == f"settings.{name}"
    assert hint in error.hint.en and error.hint.zh


def test_a_setting_that_the_model_does_not_have() -> None:
    with pytest.raises(BadInput, match="no effect on this model") as caught:
        check_settings({"channels_last": True}, ("precision", "offload"))
    assert "precision, offload" in caught.value.hint.en
    assert check_settings({"channels_last": "auto"}, ("precision",)) == {}


def test_whole_numbers_may_come_as_floats() -> None:
    settings = parse(settings={"vae_tile": 256.0, "vae_tile_overlap": 32.0}).settings
    assert settings == {"vae_tile": 256, "vae_tile_overlap": 32}
    assert all(type(value) is int for value in settings.values())


@pytest.mark.parametrize("tile", range(64, 1025, 32))
def test_every_tile_has_an_overlap_that_works(tile: int) -> None:
    given = parse(settings={"vae_tile": tile}).settings
    filled = with_defaults(given, DEMO.settings)
    assert filled["vae_tile"] == tile
    assert 0 < int(filled["vae_tile_overlap"]) <= tile // 2
    assert check_settings(filled, DEMO.settings) == filled


def test_defaults_of_estimate() -> None:
    filled = with_defaults({}, tuple(SETTINGS))
    assert filled == {
        "precision": "bf16",
        "offload": "none",
        "quantization": "none",
        "gguf_type": "q8_0",
        "attention": "sdpa",
        "step_cache": "none",
        "step_cache_threshold": 5,
        "step_cache_interval": 5,
        "ffn_chunks": 1,
        "split_guidance": False,
        "text_encoder": "absent",
        "image_encoder": "gpu",
        "vae_precision": "fp32",
        "vae_tiling": False,
        "vae_tile": 256,
        "vae_tile_overlap": 64,
        "decode_chunk": 50,
        "channels_last": False,
        "page_batch": 1,
        "decoder": "tiny",
        "sparsity": "stable",
        "tile": 0,
        "tile_overlap": 24,
        "tile_batch": 1,
        "tile_recheck": 5,
        "tile_reserve_gib": 2,
        "gradient_checkpointing": True,
        "optimizer": "adamw-fused",
        "gpus": 1,
        "zero_stage": 0,
        "allocator": "expandable",
    }
    assert with_defaults({"offload": "leaf"}, ("offload",)) == {"offload": "leaf"}


def test_every_setting_is_explained_in_both_languages() -> None:
    for spec in SETTINGS.values():
        assert spec.label.en and spec.label.zh and spec.info.en and spec.info.zh
        assert spec.check(spec.default) == spec.default
        for choice in spec.choices:
            assert spec.choice_labels[choice].en and spec.choice_labels[choice].zh
            assert spec.check(choice) == choice


def test_a_run_needs_a_prompt_and_an_encoder() -> None:
    for empty in ("", "  ", "\n\t"):
        with pytest.raises(BadInput) as caught:
            require_clip_inputs(parse(prompt=empty), DEMO)
        assert caught.value.field == "prompt"
    require_clip_inputs(parse(prompt="x"), DEMO)
    assert parse(prompt="x" * MAX_TEXT_CHARACTERS)
    with pytest.raises(BadInput) as caught:
        require_clip_inputs(parse(prompt="x", settings={"text_encoder": "absent"}), DEMO)
    assert caught.value.field == "settings.text_encoder"


@pytest.mark.parametrize(
    ("asked", "given"), [(1, 1), (2, 1), (4, 5), (17.4, 17), (1e6, 257), (-5, 1)]
)
def test_snapping_frames(asked: float, given: int) -> None:
    assert DEMO.snap_frames(asked) == given
    assert parse(frames=given).frames == given


@pytest.mark.parametrize("side", [0, 31, 100, 129, 5000])
def test_snapping_sides(side: int) -> None:
    snapped = DEMO.snap_side(side)
    assert parse(height=snapped).height == snapped


@pytest.mark.parametrize("name", ["int8", "nf4", "int8wo", "fp8wo"])
@pytest.mark.parametrize(
    ("other", "value", "hint"),
    [
        ("offload", "leaf", "offload: none or model"),
        ("offload", "block", "offload: none or model"),
        ("precision", "fp8", "precision: bf16 or fp16"),
        ("precision", "fp32", "precision: bf16 or fp16"),
    ],
)
def test_what_quantised_weights_do_not_go_with(
    name: str, other: str, value: str, hint: str
) -> None:
    settings = {"quantization": name, other: value}
    error = refused({"model": "wan2.1-t2v-1.3b", "settings": settings})
    assert error.field == f"settings.{other}"
    assert name in error.message.en and hint in error.hint.en and hint[:9] in error.hint.zh
    parse(model="wan2.1-t2v-1.3b", settings=settings | {"quantization": "none"})


def test_weights_in_gguf_blocks_may_be_streamed() -> None:
    settings = {"quantization": "gguf", "gguf_type": "q4_k_m", "offload": "leaf"}
    assert parse(model="wan2.1-t2v-1.3b", settings=settings).settings == settings
    for precision in ("fp8", "fp32"):
        error = refused(
            {"model": "wan2.1-t2v-1.3b", "settings": settings | {"precision": precision}}
        )
        assert error.field == "settings.precision" and "gguf" in error.message.en
    error = refused({"model": "wan2.1-t2v-1.3b", "settings": {"gguf_type": "Q4_K_M"}})
    assert error.field == "settings.gguf_type" and "q4_k_m" in error.hint.en
    wrong = {"model": "qwen3-4b", "prompt_tokens": 9, "settings": {"quantization": "gguf"}}
    assert refused(wrong).field == "settings.quantization"


def test_a_model_without_quantised_templates_does_not_offer_it() -> None:
    assert refused({"settings": {"quantization": "nf4"}}).field == "settings.quantization"
