"""What `submit` refuses is refused in words, and nothing of it is recorded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.service.following import WAN, ask
from webui.core.errors import (
    BadInput,
    DoesNotFit,
    MissingWeights,
    NotEnoughDisk,
    NotFound,
    StudioError,
)
from webui.core.units import GIB, format_bytes
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.storage import StudioConfig, files


def nothing_recorded(studio: Studio) -> bool:
    folders = [path for path in (studio.home / "outputs").iterdir() if path.is_dir()]
    return not studio.runs(LOCAL) and not folders and studio.devices()["worker"] is None


def refused(studio: Studio, **changes: Any) -> StudioError:
    with pytest.raises(StudioError) as caught:
        studio.submit(ask(studio, **changes), LOCAL)
    assert caught.value.message.en and caught.value.message.zh
    assert nothing_recorded(studio)
    return caught.value


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_an_empty_prompt(local: Studio, prompt: str) -> None:
    error = refused(local, prompt=prompt)
    assert isinstance(error, BadInput) and error.field == "prompt" and error.hint.zh
    assert local.plan(ask(local, prompt=prompt)).fits  # a plan needs none


def test_a_run_without_text_encoder(local: Studio) -> None:
    error = refused(local, settings={"text_encoder": "absent"})
    assert isinstance(error, BadInput) and error.field == "settings.text_encoder"


def test_a_card_that_is_not_here(local: Studio) -> None:
    error = refused(local, card="rtx-4090")
    assert isinstance(error, BadInput) and error.field == "card"
    assert "RTX 4090" in error.message.en and "detected" in error.hint.en
    assert local.plan(ask(local, card="rtx-4090")).fits
    unknown = refused(local, card="rtx-4091")
    assert isinstance(unknown, BadInput) and unknown.field == "card"
    assert "rtx-4090" in unknown.hint.en


def test_more_memory_than_there_is(local: Studio) -> None:
    error = refused(local, vram_gib=4000)
    assert isinstance(error, BadInput) and error.field == "vram_gib"


def test_what_does_not_fit(local: Studio) -> None:
    settings = {"precision": "fp32", "text_encoder": "gpu"}
    if local.detected().vram_bytes > 64 * GIB:
        pytest.skip("this machine could hold it")
    error = refused(local, model="wan2.1-t2v-14b", height=480, width=832, settings=settings)
    assert isinstance(error, DoesNotFit) and error.exit_code == 3
    have = format_bytes(local.detected().vram_bytes)
    assert have in error.message.en and have in error.message.zh
    assert "Fits" in error.hint.en and "放下" in error.hint.zh


def test_vram_gib_without_a_gpu_is_for_plans_only(local: Studio) -> None:
    error = refused(local, vram_gib=8)
    assert isinstance(error, BadInput) and error.field == "vram_gib" and error.hint.zh
    assert local.plan(ask(local, vram_gib=8)).estimate.limit_bytes == 8 * GIB


def test_missing_weights(local: Studio) -> None:
    error = refused(local, model=WAN)
    if isinstance(error, DoesNotFit):
        pytest.skip("not enough host memory to get that far")
    assert isinstance(error, MissingWeights) and error.field == "model"
    assert "Wan-AI/" in error.hint.en and "GiB" in error.hint.en and "studio.yaml" in error.hint.zh
    state = local.downloads.state(WAN)
    assert not state.available and state.download_bytes > 1e9 and state.folder == ""
    assert local.downloads.state("demo").available


def test_an_incomplete_folder_of_the_configuration(
    on_processor: None, tmp_path: Path, damaged_wan: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "not-there"):
        studio = Studio(
            tmp_path / folder.name / "home",
            access=Access(),
            config=StudioConfig(models={WAN: folder}),
        )
        try:
            request = ask(studio, model=WAN)
            if not studio.plan(request).fits:
                pytest.skip("not enough host memory")
            with pytest.raises(MissingWeights) as caught:
                studio.submit(request, LOCAL)
            assert caught.value.message.zh
            state = studio.downloads.state(WAN)
            assert not state.available and state.source.en == caught.value.message.en
            assert studio.downloads.state("demo").available
            assert nothing_recorded(studio)
        finally:
            studio.close()


def test_no_room_on_the_disk(local: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 3 * 2**20)
    error = refused(local)
    assert isinstance(error, NotEnoughDisk)
    assert "3.0 MiB" in error.message.en and "3.0 MiB" in error.message.zh and error.hint.zh


def test_no_room_on_a_real_small_disk(on_processor: None, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("file systems cannot be mounted here")
    try:
        studio = Studio(disk / "home", access=Access(), config=StudioConfig())
        error = refused(studio)
        studio.close()
        assert isinstance(error, NotEnoughDisk)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_unknown_runs(local: Studio) -> None:
    for act in (local.view, local.run, local.cancel, local.delete):
        for name in ("abc", "", "../../etc/passwd", "x" * 500):
            with pytest.raises(NotFound) as caught:
                act(name, LOCAL)
            assert len(caught.value.message.en) < 200


def test_who_owns_the_machine() -> None:
    at_home = Access()
    assert at_home.is_owner(LOCAL) and not at_home.is_owner("visitor")
    public = Access(loopback=False)
    assert not public.is_owner(LOCAL) and not public.is_owner("") and not public.is_owner("user:")
    signed = Access(loopback=False, owner_user="boss")
    assert signed.is_owner("user:boss")
    assert not any(signed.is_owner(name) for name in ("boss", "user:", "user:bos", LOCAL, ""))


def test_unload_without_a_worker(local: Studio) -> None:
    local.unload()
    local.end_worker()
    assert local.devices()["worker"] is None


def test_the_service_imports_no_torch() -> None:
    import sys

    code = "import sys, webui.service, webui.__main__; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=root, env=dict(os.environ)).returncode == 0
    )
