"""What each setting does to an estimate."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.estimator.estimating import WAN, peaks, random_requests, run
from webui.catalogue import find_model
from webui.core.settings import unquantized, with_defaults
from webui.estimator.estimate import weights_bytes


@pytest.mark.parametrize("size", [(256, 256), (480, 832)])
@pytest.mark.parametrize("frames", [1, 33])
def test_streamed_weights_take_less_than_swapped_and_those_than_resident(
    size: tuple[int, int], frames: int
) -> None:
    work = {"height": size[0], "width": size[1], "frames": frames}
    by_offload = {
        offload: run(**work, settings={"offload": offload, "text_encoder": "gpu"})
        for offload in ("leaf", "block", "model", "none")
    }
    for phase in range(3):
        resident = {name: item.phases[phase].resident_bytes for name, item in by_offload.items()}
        peak = {name: item.phases[phase].allocated_bytes for name, item in by_offload.items()}
        assert resident["leaf"] <= resident["block"] <= resident["model"] <= resident["none"]
        assert peak["leaf"] <= peak["block"] <= peak["model"] <= peak["none"]
    weights = weights_bytes(
        find_model(WAN), with_defaults({"text_encoder": "gpu"}, find_model(WAN).settings)
    )
    assert by_offload["none"].phases[1].resident_bytes >= sum(weights.values())
    assert by_offload["leaf"].phases[1].resident_bytes < 0.1 * weights["transformer"]
    # What is not on the card waits on the host.
    assert by_offload["leaf"].host_bytes - by_offload["none"].host_bytes == sum(weights.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tile", [64, 128, 256])
@pytest.mark.parametrize("frames", [1, 5, 33])
def test_tiles_lower_the_decode_peak(precision: str, tile: int, frames: int) -> None:
    work = {"height": 704, "width": 1280, "frames": frames}
    common = {"vae_precision": precision, "offload": "model"}
    (whole,) = peaks(("decode",), **work, settings=common)
    (tiled,) = peaks(("decode",), **work, settings=common | {"vae_tiling": True, "vae_tile": tile})
    assert tiled < whole
    (other_phase,) = peaks(
        ("denoise",), **work, settings=common | {"vae_tiling": True, "vae_tile": tile}
    )
    assert other_phase == peaks(("denoise",), **work, settings=common)[0]


def test_tiles_larger_than_the_picture_change_nothing() -> None:
    work = {"height": 256, "width": 256, "frames": 9}
    assert peaks(("decode",), **work, settings={"vae_tiling": True}) == peaks(("decode",), **work)


@pytest.mark.parametrize("data", random_requests(10, seed=2), ids=range(10))
def test_fp32_never_needs_less_than_half_precision(data: dict[str, Any]) -> None:
    whole = unquantized(data["settings"])
    full, half, half_too = (
        run(**(data | {"settings": whole | {"precision": p, "vae_precision": p}}))
        for p in ("fp32", "bf16", "fp16")
    )
    for a, b in zip(full.phases, half.phases, strict=True):
        assert a.allocated_bytes >= b.allocated_bytes
        assert a.resident_bytes >= b.resident_bytes
    # In fp16 parts of the text encoder stay in fp32, as parts of Stable Video Diffusion's do.
    encoder = half.settings.get("text_encoder")
    if find_model(data["model"]).family != "svd" and encoder != "gpu":
        different = ("encode",) if encoder == "stream" else ()
        for a, b in zip(half.phases, half_too.phases, strict=True):
            assert a == b or a.name in different


def step_seconds(**data: Any) -> float:
    """What one more step takes: what a phase pays for its start does not count."""
    few, many = run(**data, steps=10), run(**data, steps=20)
    assert many.phases[0].name == "denoise"
    return (many.phases[0].seconds - few.phases[0].seconds) / 10


def test_guidance_costs_time_and_no_less_memory() -> None:
    one, two = {"guidance": 1.0, "frames": 33}, {"guidance": 5.0, "frames": 33}
    assert step_seconds(**two) == pytest.approx(2 * step_seconds(**one))
    assert run(**two).phases[0].allocated_bytes >= run(**one).phases[0].allocated_bytes


def test_steps_cost_time_and_no_memory() -> None:
    few, more, many = (run(frames=17, steps=steps) for steps in (10, 20, 40))
    first, second = (
        later.phases[0].seconds - earlier.phases[0].seconds
        for earlier, later in ((few, more), (more, many))
    )
    assert second == pytest.approx(2 * first)
    assert 10 * step_seconds(frames=17) < few.phases[0].seconds
    assert many.phases[0].allocated_bytes == few.phases[0].allocated_bytes
    assert many.phases[1] == few.phases[1]


def test_channels_last_saves_scratch_on_a_gpu() -> None:
    for vae in ("fp32", "bf16"):
        plain, better = (
            peaks(("decode",), frames=17, settings={"vae_precision": vae, "channels_last": on})[0]
            for on in (False, True)
        )
        assert better < plain


def test_the_default_allocator_wastes_more_where_weights_are_streamed() -> None:
    common = {"offload": "leaf", "text_encoder": "gpu"}
    expandable = run(settings=common)
    default = run(settings=common | {"allocator": "default"})
    _, denoise, _ = zip(expandable.phases, default.phases, strict=True)
    assert denoise[0].name == "denoise"
    assert denoise[1].reserved_bytes > 1.05 * denoise[0].reserved_bytes
    windows = run(settings=common, platform="windows")
    assert windows.peak_reserved_bytes == default.peak_reserved_bytes


def test_pieces_cost_time_where_weights_are_restored_for_each() -> None:
    def seconds(quantization: str, pieces: int, card: str = "h200", **more: str) -> float:
        settings = {
            "quantization": quantization,
            "ffn_chunks": pieces,
            "text_encoder": "absent",
            **more,
        }
        work = {"model": "wan2.1-t2v-14b", "frames": 81, "height": 480, "width": 832, "steps": 10}
        made = run(card, **work, settings=settings)
        return made.phases[-2].seconds

    assert seconds("nf4", 8) < 1.05 * seconds("nf4", 1)
    # One that computes longer waits longer for tables that come from the host.
    assert seconds("gguf", 8, gguf_type="q4_k_m") > 1.2 * seconds("gguf", 1, gguf_type="q4_k_m")
    assert seconds("gguf", 8, gguf_type="q8_0") < seconds("gguf", 8, gguf_type="q4_k_m")
    slower = seconds("gguf", 1, "rtx-4090", gguf_type="q4_k_m") - seconds("nf4", 1, "rtx-4090")
    faster = seconds("gguf", 1, gguf_type="q4_k_m") - seconds("nf4", 1)
    assert slower > faster > 0
