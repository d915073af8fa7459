"""A worker on which memory stays after it ran out gives way to a new process."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tests.unit.client.test_worker import make_job
from tests.unit.worker.test_svd_run import Recorded
from webui.core.errors import BadInput
from webui.core.text import Text
from webui.core.units import GIB, MIB
from webui.worker import runner
from webui.worker.device import Device
from webui.worker.runner import LEFT_BYTES, Runner


class Leaky(Device):
    left_bytes = LEFT_BYTES

    def held_bytes(self) -> int:
        return self.left_bytes


@pytest.mark.parametrize(("left_bytes", "goes_on"), [(LEFT_BYTES, True), (GIB, False)])
def test_after_running_out_what_is_left_decides(
    tmp_path: Path, left_bytes: int, goes_on: bool
) -> None:
    device, channel = Leaky(), Recorded()
    device.left_bytes = left_bytes
    job = {**make_job(tmp_path), "limit_bytes": 30 * MIB}  # less than the weights
    assert Runner(device, channel).run(job) is goes_on
    event, told = channel.events[-1]
    assert event == "failed" and told["error"]["type"] == "OutOfMemory"
    assert told["ends"] is not goes_on
    shortage = told["shortage"]
    assert shortage["limit_bytes"] == 30 * MIB and not shortage["on_host"]
    assert shortage["in_use_bytes"] + shortage["wanted_bytes"] > 30 * MIB


def test_a_run_that_never_began_leaves_nothing_out_of_collections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {"task": "upscale", "model": "swin2sr-demo", "frames": 1, "height": 64, "width": 64}

    def unreadable(_: object) -> None:
        raise BadInput("input", Text("It cannot be read.", "无法读取。"))

    monkeypatch.setattr(runner, "BlankFootage", unreadable)
    gc.freeze()
    channel = Recorded()
    job = {
        **make_job(tmp_path),
        "request": request,
        "settings": {"precision": "fp32"},
        "weights": {"kind": "random"},
    }
    assert Runner(Device(), channel).run(job)
    assert channel.events[-1][1]["error"]["field"] == "input"
    assert gc.get_freeze_count() == 0
