"""Studios on temporary home folders, with the real worker process on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.service.following import WAN, WAN_FILES
from webui.service import Access, Studio
from webui.storage import Limits, StudioConfig


@pytest.fixture(scope="session")
def on_processor() -> Iterator[None]:
    """Workers and plans use the processor, whatever this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_DEVICE", "cpu")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="session")
def damaged_wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has all of a model's files, and nonsense in them."""
    folder = tmp_path_factory.mktemp("damaged")
    for name in WAN_FILES:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}" if name.endswith(".json") else b"nonsense " * 100)
    return folder


@pytest.fixture(scope="module")
def hosted(
    on_processor: None, tmp_path_factory: pytest.TempPathFactory, damaged_wan: Path
) -> Iterator[Studio]:
    """A public studio; its worker is started by the first job that runs."""
    limits = Limits(
        max_queued=3,
        max_queued_per_user=2,
        max_pixel_frames=64 * 64 * 17,
        max_steps=30,
        max_prompt_characters=100,
    )
    studio = Studio(
        tmp_path_factory.mktemp("home"),
        access=Access(loopback=False, owner_user="boss"),
        config=StudioConfig(limits=limits, models={WAN: damaged_wan}),
    )
    yield studio
    studio.close()


@pytest.fixture
def local(on_processor: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio on loopback that runs nothing."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-hub"))
    studio = Studio(tmp_path / "home", access=Access(), config=StudioConfig(), resume=False)
    yield studio
    studio.close()
