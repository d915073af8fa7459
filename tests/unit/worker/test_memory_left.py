"""A worker on which memory stays after it ran out gives way to a new process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.client.test_worker import make_job
from tests.unit.worker.test_svd_run import Recorded
from webui.core.units import GIB, MIB
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
