"""The worker's log cannot fill the disk and never fails a run."""

from __future__ import annotations

from pathlib import Path

from webui.client.log import LimitedLog


def test_limited(tmp_path: Path) -> None:
    path = tmp_path / "logs/worker.log"
    with LimitedLog(path, max_bytes=1000) as log:
        for number in range(100):
            log.write(b"line %03d ......................................\n" % number)
    assert path.stat().st_size <= 1000
    assert path.with_name("worker.log.1").stat().st_size <= 1000
    assert sorted(item.name for item in path.parent.iterdir()) == ["worker.log", "worker.log.1"]
    assert log.last_lines()[-1].startswith("line 099")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with LimitedLog(tmp_path / "file/worker.log") as log:
        log.write(b"still heard\n")
    assert log.last_lines() == ["still heard"]
