"""Comparisons: the figures of a difference, what may be compared, and runs by the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from webui.__main__ import main
from webui.core.errors import BadInput, RunFailed
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.text import Text
from webui.service import Studio
from webui.service.access import LOCAL
from webui.service.compare import MOST_KNOWN, MOST_RUNS, Comparisons, read_variants
from webui.service.difference import compare_files
from webui.service.variants import Refused, prepare, told_once

ASKED = {"model": "demo", "prompt": "a red circle", "frames": 1, "height": 64, "width": 64,
         "steps": 2}  # fmt: skip


def pixels(noise: int = 0, size: int = 48) -> np.ndarray:
    drawn = np.random.default_rng(0)
    picture = drawn.integers(40, 200, (size, size, 3))
    return (picture + drawn.integers(-noise, noise + 1, picture.shape)).astype(np.uint8)


def save(path: Path, *frames: np.ndarray) -> Path:
    if path.suffix == ".png":
        Image.fromarray(frames[0]).save(path)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 8)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_pictures(tmp_path: Path) -> None:
    plain, noisy = pixels(), pixels(12)
    first = save(tmp_path / "a.png", plain)
    found = compare_files(first, save(tmp_path / "b.png", noisy))
    mse = np.mean((plain.astype(float) - noisy.astype(float)) ** 2)
    assert found.psnr_mean == pytest.approx(10 * math.log10(255**2 / mse), abs=0.01)
    assert 0.5 < found.ssim_mean < 1 and "dB" in found.text.en
    same = compare_files(first, save(tmp_path / "c.png", plain))
    assert same.identical and same.psnr_mean is None and same.ssim_mean == 1
    assert json.loads(json.dumps(same.to_json(), allow_nan=False))["identical"] is True
    with pytest.raises(BadInput, match="different sizes"):
        compare_files(first, save(tmp_path / "d.png", pixels(size=32)))
    (tmp_path / "e.png").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="cannot be read"):
        compare_files(first, tmp_path / "e.png")


def test_clips_frame_by_frame(tmp_path: Path) -> None:
    plain, noisy = pixels(), pixels(30)
    first = save(tmp_path / "a.mp4", plain, plain, plain)
    found = compare_files(first, save(tmp_path / "b.mp4", plain, noisy, plain))
    assert len(found.psnr) == len(found.ssim) == 3
    assert min(found.ssim) == found.ssim[1] and "worst frame" in found.text.en
    assert compare_files(first, save(tmp_path / "c.mp4", plain, plain, plain)).ssim_mean > 0.95
    with pytest.raises(BadInput, match="different lengths"):
        compare_files(first, save(tmp_path / "d.mp4", plain, plain))


def test_what_failed_once_is_remembered_and_old_ones_go(local: Studio, tmp_path: Path) -> None:
    run_id = local.submit(local.parse(ASKED), LOCAL)
    assert list(local.watch(run_id, LOCAL))[-1].state is JobState.DONE
    run = local.run(run_id, LOCAL)
    broken = tmp_path / run.outputs[0].name
    broken.write_bytes(b"nonsense")
    runs = {"first": run} | {
        str(number): replace(run, id=str(number), outputs=(broken,))
        for number in range(MOST_KNOWN + 3)
    }
    found = Comparisons(lambda run_id, visitor: runs[run_id])
    for number in range(MOST_KNOWN + 3):
        [_, column] = found.of(["first", str(number)], LOCAL)
        assert column.difference is None and column.why and "cannot be read" in column.why.en
    assert len(found._known) == MOST_KNOWN
    broken.unlink()
    [_, column] = found.of(["first", str(number)], LOCAL)
    assert column.why and "cannot be read" in column.why.en, "not tried again"


def test_variants_have_one_seed_and_keep_what_they_share() -> None:
    data = {**ASKED, "settings": {"offload": "none"}, "variants": [{"precision": "fp32"}, {}]}
    first, second = read_variants(data)
    assert first["settings"] == {"offload": "none", "precision": "fp32"}
    assert second["settings"] == {"offload": "none"} and "variants" not in first
    spelt = {**data, "variants": [{"settings": {"precision": "fp32"}}, {"settings": {}}]}
    assert [one["settings"] for one in read_variants(spelt)] == [
        first["settings"], second["settings"],
    ]  # fmt: skip
    assert first["seed"] == second["seed"] >= 0
    assert [one["seed"] for one in read_variants([{"seed": 5}, {"seed": 5}])] == [5, 5]


def test_what_is_left_open_is_the_same_for_all(local: Studio) -> None:
    """By itself, the model in bf16 would stay on the card, and the one in fp32 be streamed."""
    variants = [{"precision": "fp32"}, {"precision": "bf16"}, {"offload": "lief"}]
    data = {"model": "wan2.1-t2v-1.3b", "prompt": "a", "card": "rtx-4090", "variants": variants}
    alone = [local.plan(local.parse(one)) for one in read_variants(data)[:2]]
    assert alone[0].settings["offload"] != alone[1].settings["offload"]
    prepared = prepare(read_variants(data), local.parse, local.plan)
    *fit, refused = prepared.variants
    assert isinstance(refused, Refused) and refused.asked == {"offload": "lief"}
    plans = [local.plan(one) for one in fit if isinstance(one, Request)]
    first, second = [
        {name: value for name, value in plan.settings.items() if name != "precision"}
        for plan in plans
    ]
    assert len(plans) == 2 and first == second and all(plan.fits for plan in plans)
    assert "Offload: leaf" in prepared.note.en and prepared.note.zh
    both = prepare(read_variants({**data, "vram_gib": 0.5}), local.parse, local.plan)
    assert all(isinstance(one, Refused) for one in both.variants), "and none stops the others"


def test_what_several_variants_share_is_told_once() -> None:
    gone, cold = (RunFailed(Text(text, text)) for text in ("It is gone.", "It is cold."))
    refused = [
        Refused(asked={"precision": "fp32"}, error=gone),
        Refused(asked={"precision": "bf16"}, error=gone),
        Refused(asked={"offload": "leaf", "vae_tiling": True}, error=cold),
    ]
    told = [error.message.en for error in told_once(refused)]
    assert told == [
        "precision: fp32; precision: bf16: It is gone.",
        "offload: leaf, vae_tiling: true: It is cold.",
    ]


@pytest.mark.parametrize(
    "data",
    [ASKED, [ASKED], [ASKED] * (MOST_RUNS + 1), {"variants": "fp32"}, {"variants": [1, 2]},
     {"variants": [{}]}, {"variants": [{"settings": 1}, {"settings": {}}]}],
)  # fmt: skip
def test_what_is_no_comparison(data: Any) -> None:
    with pytest.raises(BadInput) as caught:
        read_variants(data)
    assert caught.value.field == "variants" and caught.value.hint.zh


def test_the_command_runs_them_and_puts_them_side_by_side(
    on_processor: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUDIO_THREADS", "1")
    file = tmp_path / "compare.yaml"
    variants = [
        {"precision": "fp33"}, {"precision": "fp32"}, {"precision": "fp32", "ffn_chunks": 4},
    ]  # fmt: skip
    file.write_text(json.dumps({**ASKED, "variants": variants}), encoding="utf-8")
    code = main(["compare", str(file), "--home", str(tmp_path / "home"), "--json"])
    (answer,) = json.loads(capsys.readouterr().out)
    assert code == 2
    refused, whole, chunked = answer["runs"]
    assert refused["receipt"] is None and refused["error"]["field"] == "settings.precision"
    assert len({run["receipt"]["request"]["seed"] for run in (whole, chunked)}) == 1
    assert (whole["differs"], chunked["differs"]) == ({"ffn_chunks": 1}, {"ffn_chunks": 4})
    assert whole["difference"] is None and whole["receipt"]["measurement"]["seconds"] > 0
    # A lossless means: the same picture, but for a last bit here and there.
    assert chunked["difference"]["ssim"] > 0.999 and chunked["why"] is None
