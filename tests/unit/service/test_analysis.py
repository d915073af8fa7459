"""Traces and snapshots of any make: the holders at the peak, or one clear sentence."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from webui.core.errors import BadInput
from webui.service.analysis import analyse
from webui.service.analysis.apart import peak_apart
from webui.service.analysis.events import summed

FRAMES = {
    "load": [
        {"filename": "/x/site-packages/torch/nn/modules/module.py", "line": 9, "name": "to"},
        {"filename": "/home/me/webui/pipelines/placement.py", "line": 88, "name": "to_device"},
    ],
    "attend": [{"filename": "/x/site-packages/diffusers/attention.py", "line": 40, "name": "call"}],
}


def entry(action: str, address: int, size: int, frames: str = "") -> dict[str, Any]:
    return {"action": action, "addr": address, "size": size, "frames": FRAMES.get(frames, [])}


def snapshot(path: Path, **changes: Any) -> Path:
    """As torch.cuda.memory._snapshot() gives it: 100 B from before, 40 + 60 B alive at the peak."""
    history = [
        entry("alloc", 1000, 40, "load"),
        entry("alloc", 2000, 60, "attend"),
        entry("free_requested", 2000, 60),
        entry("free_completed", 2000, 60),
        entry("alloc", 3000, 10, "attend"),
    ]
    blocks = [
        {"size": 100, "state": "active_allocated", "address": 0, "frames": []},
        {"size": 40, "state": "active_allocated", "address": 1000, "frames": FRAMES["load"]},
        {"size": 10, "state": "active_allocated", "address": 3000, "frames": FRAMES["attend"]},
        {"size": 500, "state": "inactive", "address": 4000, "frames": []},
    ]
    data = {
        "segments": [{"address": 0, "device": 0, "blocks": blocks}],
        "device_traces": [history, []],
        **changes,
    }
    path.write_bytes(pickle.dumps(data))
    return path


def test_a_snapshot_names_who_held_its_peak(tmp_path: Path) -> None:
    peak = analyse(snapshot(tmp_path / "snapshot.pickle")).peak
    assert peak is not None
    assert (peak.total_bytes, peak.unnamed_bytes) == (200, 100)
    assert [(item.line, item.size_bytes) for item in peak.holders] == [
        ("diffusers/attention.py(40): call", 60),
        ("webui/pipelines/placement.py(88): to_device", 40),
    ]


def test_a_snapshot_that_ran_out_says_for_what(tmp_path: Path) -> None:
    ran_out = [entry("alloc", 1000, 40, "load"), entry("oom", 0, 7 * 2**20)]
    path = snapshot(tmp_path / "s.pickle", device_traces=[ran_out])
    peak = analyse(path).peak
    assert peak is not None and "7.0 MiB more were asked for" in peak.at


class Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("open('stolen', 'w')",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickle.dumps(Exploit()), "more than plain data"),
        (pickle.dumps({"segments": [Path("x")], "device_traces": []}), "more than plain data"),
        (pickle.dumps({"segments": []}), "another version of torch"),
        (pickle.dumps([{"address": 0}]), "another version of torch"),
        (pickle.dumps({"a": list(range(5000))})[:-40], "cut off"),
        (b"", "cut off"),
        (b"no pickle at all", "cut off"),
    ],
)
def test_other_pickles_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=says):
        analyse(path)
    assert not (tmp_path / "stolen").exists()


def trace(events: list[dict[str, Any]]) -> str:
    return json.dumps({"schemaVersion": 1, "traceEvents": events, "traceName": "x"}, indent=1)


def memory(ts: float, address: int, size: int, total: int) -> dict[str, Any]:
    args = {"Addr": address, "Bytes": size, "Total Allocated": total, "Device Type": 1}
    return {"ph": "i", "name": "[memory]", "tid": 7, "ts": ts, "args": args}


def call(name: str, ts: float, dur: float, cat: str = "python_function") -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "tid": 7, "ts": ts, "dur": dur}


EVENTS = [
    call("webui/pipelines/wan/phases.py(300): decode", 0, 100),
    call("/x/site-packages/diffusers/vae.py(170): forward", 10, 30),
    call("torch/nn/modules/conv.py(5): forward", 11, 20),
    call("aten::conv3d", 12, 15, "cpu_op"),
    call("aten::empty", 13, 1, "cpu_op"),
    memory(5, 1, 100, 1100),
    memory(13.5, 2, 400, 1500),
    memory(50, 2, -400, 1100),
    memory(60, 3, 50, 1150),
]


def test_a_trace_of_too_many_memory_events_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webui.service.analysis.trace.MAX_MEMORY_EVENTS", 3)
    path = tmp_path / "trace.json"
    path.write_text(trace(EVENTS))
    with pytest.raises(BadInput, match="more than 3 memory events"):
        analyse(path)


def test_a_process_of_its_own_reads_the_same_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(trace(EVENTS))
    assert peak_apart(path) == analyse(path).peak
    path.write_text(trace(EVENTS)[:200])
    with pytest.raises(BadInput, match="cut off or damaged") as refused:
        peak_apart(path)
    assert "损坏" in refused.value.message.zh
    with pytest.raises(BadInput, match="took longer"):
        peak_apart(path, timeout_s=1e-6)


def test_a_file_has_the_name_that_it_was_given_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stored").write_text(trace(EVENTS))
    (tmp_path / "trace.json").symlink_to("stored")
    monkeypatch.chdir(tmp_path)
    assert peak_apart(Path("trace.json")) == analyse(Path("trace.json")).peak


def test_a_trace_names_line_and_operation(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(trace(EVENTS).encode()))
    peak = analyse(path).peak
    assert peak is not None
    # 1000 B were there before the trace began.
    assert (peak.total_bytes, peak.unnamed_bytes) == (1500, 1000)
    assert [(item.line, item.operation, item.size_bytes) for item in peak.holders] == [
        ("diffusers/vae.py(170): forward", "aten::conv3d", 400),
        ("webui/pipelines/wan/phases.py(300): decode", "", 100),
    ]


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_trace_that_is_cut_off_is_one_sentence(tmp_path: Path, share: float) -> None:
    text = trace(EVENTS * 50)
    plain, packed = tmp_path / "trace.json", tmp_path / "trace.json.gz"
    plain.write_text(text[: int(share * (len(text) - 20))])
    whole = gzip.compress(text.encode())
    packed.write_bytes(whole[: int(share * len(whole))])
    for path in (plain, packed):
        with pytest.raises(BadInput, match="cut off or damaged"):
            analyse(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("trace.json", "{}", "no trace"),
        ("trace.json", trace([call("f", 0, 1)]), "no memory events"),
        ("trace.json.gz", "not packed", "cut off or damaged"),
        ("memory_events.json", '{"schema": "vram-studio/memory-events", "ver', "cut off"),
        ("memory_events.json", '{"traceEvents": []}', "no memory events"),
        ("memory_events.json", '{"schema": "vram-studio/memory-events", "version": 9}', "version"),
        ("memory_events.json", '{"schema": "vram-studio/memory-events", "version": 1}', "missing"),
        ("notes.txt", "hello", "none of a profile's files"),
    ],
)
def test_other_files_are_one_sentence(tmp_path: Path, name: str, content: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(BadInput, match=says):
        analyse(path)


def test_parts_that_were_loaded_as_one_are_one_entry() -> None:
    def part(name: str, arrival: int, storage: int, increment: int | None) -> dict[str, Any]:
        return {"name": name, "mode": "always", "parameters": 1, "storage_bytes": storage,
                "increment_bytes": increment, "arrival": arrival}  # fmt: skip

    found = summed(
        {
            "source": "cuda", "device": "x", "ended": "done", "events": [],
            "components": [part("vision", 1, 30, 100), part("language", 1, 70, 0),
                           part("vae", 2, 50, 50), part("streamed", 3, 50, None)],
            "peak": {"allocated_bytes": 0, "reserved_bytes": 0, "phase": "", "stage": "", "t_s": 9},
        }
    )  # fmt: skip
    assert [(base.name, base.increment_bytes, base.error) for base in found.base] == [
        ("vision + language", 100, 0.0),
        ("vae", 50, 0.0),
        ("streamed", None, None),
    ]


def test_fragmentation_and_its_swing() -> None:
    def event(allocated: int, reserved: int) -> dict[str, Any]:
        return {"t_s": 1, "kind": "step", "name": "", "phase": "denoise", "step": 0,
                "allocated_bytes": allocated, "reserved_bytes": reserved}  # fmt: skip

    found = summed(
        {
            "source": "cuda", "device": "x", "ended": "done", "components": [],
            "events": [event(0, 0), event(90, 100), event(60, 100)],
            "peak": {"allocated_bytes": 95, "reserved_bytes": 100, "phase": "", "stage": "",
                     "t_s": 9},
        }
    ).fragmentation  # fmt: skip
    assert found is not None
    figures = (found.lowest, found.highest, found.swing, found.at_peak)
    assert figures == pytest.approx((0.1, 0.4, 0.3, 0.05))
