"""The recorder: what components and blocks take, event by event, on live tensor bytes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from webui.pipelines.placement import Placement, watched
from webui.service.analysis.events import read_events
from webui.worker import recording
from webui.worker.device import Device
from webui.worker.measure import CpuCounter, Meter
from webui.worker.recording import FILE, Recorder, stages
from webui.worker.traces import SNAPSHOT, TRACE, Snapshots, Tracer, fitted

SIDE = 256
WEIGHTS = SIDE * SIDE * 4
ROWS = 1024
VALUES = ROWS * SIDE * 4
"""Bytes of what a block is given, and of each of its results."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(SIDE, SIDE, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        wide = torch.cat([values, values])  # gone when the block is done
        if bool(values[0, 0] > 1e6):
            raise ValueError("broken")
        return self.layer(values) + wide[:ROWS]


class Model(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            values = block(values)
        return values


def place(recorder: Recorder, **makers: Callable[[], nn.Module]) -> list[nn.Module]:
    """Loads modules as a family does: one after the other, told before each."""
    phases = {name: ("denoise",) for name in makers}
    with watched(recorder):
        placement = Placement(dict.fromkeys(makers, "always"), phases, torch.device("cpu"))
        loaded = []
        for name, make in makers.items():
            recorder.component_begins()
            loaded.append(placement.add(name, make()))
    return loaded


def written(recorder: Recorder, folder: Path) -> dict[str, Any]:
    recorder.write(folder, {"ended": "done"})
    return json.loads((folder / FILE).read_text())


@torch.no_grad()
def test_base_and_activation_are_what_the_tensors_take(tmp_path: Path) -> None:
    recorder = Recorder(Device())
    model, other = place(
        recorder, model=lambda: Model(2), other=lambda: nn.Linear(SIDE, SIDE, bias=False)
    )
    meter = Meter(Device(), [model, other])
    recorder.attach(meter.counter)
    recorder.phase_comes("denoise")
    meter.begin("denoise")
    recorder.phase_begins()
    model(torch.zeros(ROWS, SIDE))
    recorder.phase_ends()
    meter.end()
    data = written(recorder, tmp_path)
    assert [(part["name"], part["increment_bytes"]) for part in data["components"]] == [
        ("model", 2 * WEIGHTS),
        ("other", WEIGHTS),
    ]
    assert all(part["storage_bytes"] == part["increment_bytes"] for part in data["components"])
    blocks = [event for event in data["events"] if event["kind"] == "block"]
    assert [block["name"] for block in blocks] == ["model.blocks.0", "model.blocks.1"]
    # The doubled input (2), what the layer makes (1), and their sum (1).
    assert all(block["peak_bytes"] - block["before_bytes"] == 4 * VALUES for block in blocks)
    (forward,) = [event for event in data["events"] if event["kind"] == "forward"]
    assert forward["peak_bytes"] == max(block["peak_bytes"] for block in blocks)
    assert data["peak"]["stage"] == "model.blocks.1" and data["peak"]["phase"] == "denoise"
    # Looking inside the phase takes nothing from the phase's own measurement.
    measured = meter.measurement(0.0)
    assert measured is not None
    assert measured.peak_allocated_bytes == data["peak"]["allocated_bytes"]
    (end,) = [event for event in data["events"] if event["kind"] == "phase_end"]
    assert end["peak_bytes"] == data["peak"]["allocated_bytes"]


@torch.no_grad()
def test_only_every_so_many_steps_are_looked_into(tmp_path: Path) -> None:
    recorder = Recorder(Device(), log_interval=3)
    (model,) = place(recorder, model=lambda: Model(1))
    recorder.attach(CpuCounter([model]))
    recorder.phase_comes("denoise")
    for step in range(8):
        model(torch.zeros(ROWS, SIDE))
        recorder.step(step + 1, 8)
    steps = [e["step"] for e in written(recorder, tmp_path)["events"] if e["kind"] == "block"]
    assert steps == [0, 3, 6, 7]


@torch.no_grad()
def test_a_broken_pass_leaves_nothing_behind(tmp_path: Path) -> None:
    recorder = Recorder(Device())
    (model,) = place(recorder, model=lambda: Model(2))
    recorder.attach(CpuCounter([model]))
    recorder.phase_comes("denoise")
    with pytest.raises(ValueError, match="broken"):
        model(torch.full((ROWS, SIDE), 1e7))
    model(torch.zeros(ROWS, SIDE))
    events = written(recorder, tmp_path)["events"]
    names = [event["name"] for event in events if "before_bytes" in event]
    assert names == ["model.blocks.0", "model", "model.blocks.0", "model.blocks.1", "model"]
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in model.modules())


def test_what_comes_and_goes_is_told(tmp_path: Path) -> None:
    recorder = Recorder(Device())
    modules = {"encoder": nn.Linear(SIDE, SIDE, bias=False), "decoder": nn.Linear(SIDE, SIDE)}
    with watched(recorder):
        placement = Placement(
            dict.fromkeys(modules, "phase"),
            {"encoder": ("encode",), "decoder": ("decode",)},
            torch.device("cpu"),
        )
        for name, module in modules.items():
            placement.add(name, module)
    assert Placement({}, {}, torch.device("cpu")).watch is None
    for phase in ("encode", "encode", "decode"):
        recorder.phase_comes(phase)
        placement.enter_phase(phase)
    placement.leave()
    told = [
        (event["phase"], event["kind"], event["name"])
        for event in written(recorder, tmp_path)["events"]
        if event["kind"] in ("enter", "leave")
    ]
    assert told == [
        ("encode", "enter", "encoder"),
        ("decode", "leave", "encoder"),
        ("decode", "enter", "decoder"),
        ("decode", "leave", "decoder"),
    ]


def test_loading_is_not_held_against_the_job_before(tmp_path: Path) -> None:
    device = Device()
    device.cap(WEIGHTS)
    recorder = Recorder(device)
    try:
        place(recorder, model=lambda: Model(2))
    finally:
        (component,) = written(recorder, tmp_path)["components"]
    assert component["increment_bytes"] == 2 * WEIGHTS


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_EVENTS", 5)
    recorder = Recorder(Device())
    for number in range(20):
        recorder.phase_comes(f"phase-{number}")
        recorder.phase_begins()
        recorder.step(1, 1)
        recorder.phase_ends()
    data = written(recorder, tmp_path)
    kinds = [event["kind"] for event in data["events"]]
    # What grows with the steps is dropped; the sums of phases need the others.
    assert kinds.count("phase") == kinds.count("phase_end") == 20 and kinds[-1] == "end"
    assert kinds.count("step") == 1 and data["dropped_events"] == 19
    found = read_events(tmp_path / FILE)
    assert len(found.phases) == 20 and any("19 events" in note.en for note in found.notes)


def test_a_trace_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / TRACE).mkdir()  # nothing can be written there
    tracer = Tracer(tmp_path, cuda=False, phase="encode")
    tracer.phase_begins("encode", None)
    torch.zeros(8) + 1
    tracer.phase_ends()
    tracer.finish()
    assert [note.en.partition(" was")[0] for note in tracer.notes] == [TRACE]


def test_a_snapshot_that_cannot_be_written_leaves_no_recording_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    state: list[Any] = []
    memory = torch.cuda.memory
    monkeypatch.setattr(memory, "_record_memory_history", lambda **given: state.append(given))
    monkeypatch.setattr(memory, "_dump_snapshot", full)
    snapshots = Snapshots(tmp_path, lambda: 1)
    snapshots.phase_begins()
    snapshots.phase_ends()
    snapshots.finish(out_of_memory=True)
    assert state[0]["enabled"] == "all" and state[-1] == {"enabled": None}
    assert [note.en for note in snapshots.notes] == [
        f"{SNAPSHOT} was not written: No space left on device."
    ]
    assert not (tmp_path / SNAPSHOT).exists()


def test_blocks_are_those_of_the_outermost_lists() -> None:
    model = Model(2)
    model.blocks[0].inner = nn.ModuleList([nn.Linear(2, 2)])
    assert [(name, kind) for name, kind, _ in stages("part", model)] == [
        ("part", "forward"),
        ("part.blocks.0", "block"),
        ("part.blocks.1", "block"),
    ]


@pytest.mark.parametrize(
    ("steps", "wait", "warmup", "active", "expected"),
    [
        (50, None, 1, 3, (46, 1, 3)),
        (50, 10, 1, 3, (10, 1, 3)),
        (3, 10, 1, 3, (0, 0, 3)),
        (2, None, 1, 1, (0, 1, 1)),
        (1, None, 5, 9, (0, 0, 1)),
    ],
)
def test_a_schedule_fits_the_steps(steps, wait, warmup, active, expected) -> None:
    assert fitted(steps, wait, warmup, active) == expected
