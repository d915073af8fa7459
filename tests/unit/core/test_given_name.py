"""Names of inputs, whatever their bytes are."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.core.given_name import keep_name, kept_name


@pytest.mark.parametrize(
    ("given", "kept"),
    [("clip.mp4", "clip.mp4"), ("视频 1.mkv", "视频 1.mkv"), ("caf\udce9.mp4", "caf?.mp4")],
)
def test_a_name_is_kept(tmp_path: Path, given: str, kept: str) -> None:
    """Bytes that are no UTF-8 come from the file system as lone surrogates."""
    keep_name(tmp_path, given)
    assert kept_name(tmp_path) == kept


def test_where_nobody_said_one_it_is_empty(tmp_path: Path) -> None:
    assert kept_name(tmp_path) == ""
    assert kept_name(tmp_path / "gone") == ""
