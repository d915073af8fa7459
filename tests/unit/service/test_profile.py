"""Matrices that run: real rows of the demo model on a real worker, and what they leave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from webui.__main__ import main
from webui.core.errors import NotAllowed, NotEnoughDisk, NotFound
from webui.core.receipt import Receipt
from webui.hardware.readings import DeviceReading, ProcessReading
from webui.service import Access, Studio
from webui.service.access import LOCAL
from webui.service.analysis import analyse
from webui.service.profile import Outcome
from webui.service.profile.overhead import measure_overhead
from webui.service.profile.results import finished
from webui.service.profile.surroundings import others_lines, others_on
from webui.service.profile.switching import model_switches
from webui.service.profile.warming import warm_up, warm_up_line
from webui.storage import StudioConfig
from webui.storage.profiles import EVENTS, RECEIPT, REPORT, TRACE, Profiles

MATRIX = """
- name: traced
  model: demo
  prompt: a red circle moves up
  frames: 1
  height: 64
  width: 64
  steps: 2
  settings: {precision: fp32, text_encoder: gpu, vae_tiling: false}
  logging: {log_interval: 1, trace: true, snapshot: true, active: 1}
- {model: demo, settings: {offload: leef}}
- name: guide
  request: {model: demo, prompt: a red circle, frames: 1, height: 64, width: 64, steps: 2}
  model_config: {load_strategy: full, precision: bf16, device: cpu}
  optimization: {attention_slicing: true}
"""
PUBLIC = "browser:0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def studio(on_processor: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        # Clips this small take longer with more: threads wait for each other.
        patch.setenv("STUDIO_THREADS", "1")
        studio = Studio(home, access=Access(), config=StudioConfig(), resume=False)
        yield studio
        studio.close()


@pytest.fixture(scope="module")
def done(studio: Studio) -> Outcome:
    profiler = studio.profiler
    return profiler.run(profiler.read(MATRIX), "my matrix", MATRIX, LOCAL)


def test_rows_fail_by_themselves(done: Outcome) -> None:
    states = [row["state"] for row in done.summary["rows"]]
    assert states == ["done", "refused", "done"]
    assert done.summary["rows"][1]["error"]["field"] == "settings.offload"
    assert done.summary["environment"]["versions"]["torch"]
    assert done.folder.name.startswith("my-matrix-20")


def test_a_row_leaves_its_files_and_a_receipt_in_the_ledger(studio: Studio, done: Outcome) -> None:
    row = done.summary["rows"][0]
    assert row["files"] == [EVENTS, TRACE, RECEIPT, REPORT]
    receipt = Receipt.from_json(json.loads((done.folder / "traced" / RECEIPT).read_text()))
    assert studio.run(receipt.id, LOCAL).receipt == receipt
    report = (done.folder / "traced" / REPORT).read_text()
    assert "Base memory" in report and "Architecture of Demo" in report and "num_layers" in report
    assert studio.profiler.profiles.summary(done.name)["rows"] == done.summary["rows"]


def test_a_change_of_models_shows_what_was_left(done: Outcome) -> None:
    first, _, last = done.summary["rows"]
    one, _, two = done.receipts
    assert one is not None and two is not None and one.measurement is not None
    assert done.summary["model_switches"] == []  # one model
    other = replace(two, request={**two.request, "model": "other"})
    (switch,) = model_switches(done.summary["rows"], (one, None, other))
    assert (switch["from_row"], switch["to_row"]) == ("traced", "guide")
    weights = sum(part["storage_bytes"] for part in first["memory"]["base"])
    assert switch["before_unload_bytes"] == pytest.approx(weights, rel=0.1)
    assert switch["after_unload_bytes"] < 0.1 * weights
    halves = sum(part["storage_bytes"] for part in last["memory"]["base"])
    assert switch["after_load_bytes"] == pytest.approx(halves, rel=0.1)


def test_a_mistake_of_our_own_ends_one_row_only(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiler = studio.profiler
    text = "[{name: broken, model: demo}, {name: other, model: demo, settings: {offload: x}}]"

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(profiler, "profile_of", broken)
    rows = profiler.run(profiler.read(text), "m", text, LOCAL).summary["rows"]
    assert [row["state"] for row in rows] == ["refused", "refused"]
    assert "ZeroDivisionError" in rows[0]["error"]["message"]["en"]
    assert "offload" in rows[1]["error"]["field"]


def test_a_file_that_cannot_be_written_fails_no_run(studio: Studio, tmp_path: Path) -> None:
    profiler = studio.profiler
    (row,) = profiler.read(
        "{model: demo, prompt: x, frames: 1, height: 64, width: 64, steps: 2, "
        "logging: {trace: true, trace_phase: denoise}}"
    )
    request = profiler.request_of(row)
    for name in (TRACE, EVENTS):
        (tmp_path / name / "taken").mkdir(parents=True)
    receipt = profiler.run_row(
        request, profiler.profile_of(row, request, tmp_path), LOCAL, lambda view: None
    )
    assert receipt.error is None
    result = finished(row, receipt, tmp_path)
    assert result["state"] == "done"
    assert any(f"no {EVENTS}" in note["en"] for note in result["notes"])


def test_each_model_is_warmed_up_once(studio: Studio) -> None:
    profiler = studio.profiler
    small = "model: demo, prompt: x, frames: 1, height: 64, width: 64, steps: 3"
    rows = profiler.read(
        f"[{{{small}}}, {{{small}}}, {{model: qwen3-4b, prompt: x, random_weights: true}}, "
        "{model: wan2.1-t2v-1.3b, prompt: x}]"
    )
    before = len(studio.runs(LOCAL))
    views: list[Any] = []
    warm = warm_up(profiler, rows, LOCAL, views.append, lambda: False)
    assert [(item["model"], item["state"]) for item in warm] == [
        ("demo", "done"), ("qwen3-4b", "not possible"), ("wan2.1-t2v-1.3b", "failed")
    ]  # fmt: skip
    assert warm[2]["reason"]["en"] and len({view.id for view in views}) == 1
    assert len(studio.runs(LOCAL)) == before  # thrown away
    line = warm_up_line({"kind": "cuda", "warm_up": warm})
    assert "demo: a short run" in line and "wan2.1-t2v-1.3b: failed: " in line
    assert warm_up(profiler, rows, LOCAL, views.append, lambda: True) == []


def test_the_traced_phase_is_the_plans(studio: Studio, tmp_path: Path) -> None:
    profiler = studio.profiler
    (row,) = profiler.read(
        "{model: wan2.1-t2v-1.3b, prompt: x, card: rtx-4090, vram_gib: 12, logging: {trace: true}}"
    )
    request = profiler.request_of(row)
    largest = {
        name: max(found.estimate.phases, key=lambda phase: phase.allocated_bytes).name
        for name, found in (("plan", studio.plan(request)), ("all", studio.estimate(request)))
    }
    assert largest["plan"] != largest["all"]
    assert profiler.profile_of(row, request, tmp_path)["trace_phase"] == largest["plan"]


def test_other_processes_are_named_on_all_cards() -> None:
    nothing = dict.fromkeys(("utilisation", "temperature_c", "power_w", "power_limit_w"))
    cards = [
        DeviceReading(
            index=index, name="x", total_bytes=9, used_bytes=5, free_bytes=4, **nothing,
            processes=(ProcessReading(pid=pid, name="game", used_bytes=2**30),),
        )
        for index, pid in ((0, 10), (1, 11))
    ]  # fmt: skip
    assert list(others_lines({"processes": others_on(cards, 10)})) == [
        "also on card 1: game (11), 1.00 GiB"
    ]


def test_profiles_are_bounded_and_the_owner_deletes_them(
    studio: Studio, tmp_path: Path, done: Outcome
) -> None:
    profiles = Profiles(tmp_path, max_bytes=100)
    folder = profiles.new("one")
    (folder / "summary.json").write_text('{"rows": []}' + 100 * " ")
    with pytest.raises(NotEnoughDisk) as refused:
        profiles.new("two")
    assert "Delete earlier profiles" in refused.value.hint.en
    for name in ("..", "", "nothing"):
        with pytest.raises(NotFound):
            profiles.delete(name)
    profiles.delete(folder.name)
    assert not folder.exists() and profiles.new("two").is_dir()
    with pytest.raises(NotAllowed):
        studio.profiler.delete(done.name, PUBLIC)
    assert done.folder.is_dir()


def test_each_components_growth_is_its_storages(done: Outcome) -> None:
    base = done.summary["rows"][0]["memory"]["base"]
    assert {part["name"] for part in base} == {"text_encoder", "transformer", "vae"}
    for part in base:
        assert part["increment_bytes"] == pytest.approx(part["storage_bytes"], rel=0.01)


def test_the_peak_is_the_receipts_and_has_its_place(done: Outcome) -> None:
    row, receipt = done.summary["rows"][0], done.receipts[0]
    memory = row["memory"]
    assert receipt is not None and receipt.measurement is not None
    assert memory["peak"]["allocated_bytes"] == receipt.measurement.peak_allocated_bytes
    assert memory["peak"]["phase"] == "decode" and "vae.decoder" in memory["peak"]["stage"]
    assert memory["fragmentation"] is None
    measured = {phase.name: phase.allocated_bytes for phase in receipt.measurement.phases}
    assert {phase["name"]: phase["peak_bytes"] for phase in memory["phases"]} == measured
    blocks = {item["stage"]: item for item in memory["activations"]}["transformer.blocks"]
    assert blocks["phase"] == "denoise" and blocks["calls"] % 6 == 0
    assert 0 < blocks["activation_bytes"] < memory["peak"]["allocated_bytes"]


def test_a_trace_names_the_code_at_the_peak(done: Outcome) -> None:
    found = analyse(done.folder / "traced")
    assert found.peak is not None and 1 <= len(found.peak.holders) <= 10
    # The plan expects the decoder to take the most, so that is what was traced.
    assert "autoencoder_kl_wan.py" in found.peak.holders[0].line
    assert found.peak.holders[0].operation.startswith("aten::")
    assert any("snapshot" in note["en"] for note in done.summary["rows"][0]["notes"])


def test_what_has_no_effect_says_so_and_two_rows_compare(done: Outcome) -> None:
    assert any("attention_slicing" in note["en"] for note in done.summary["rows"][2]["notes"])
    found = analyse(done.folder / "traced", done.folder / "guide").comparison
    assert found is not None
    weights = {item.name: item for item in found.differences if item.kind == "base"}
    # bf16 takes half of fp32, but for the norms that stay.
    half = weights["transformer"]
    assert half.second_bytes == pytest.approx(half.first_bytes / 2, rel=0.1)
    assert weights["vae"].change_bytes == 0


def test_a_profile_teaches_no_speed(studio: Studio, done: Outcome) -> None:
    assert not studio._ledger.speeds("cpu", "demo", "decode")


def test_recording_is_measured_beside_runs_without_it(studio: Studio) -> None:
    rows = studio.profiler.read(
        "{model: demo, prompt: x, frames: 1, height: 64, width: 64, steps: 1, "
        "logging: {trace: true}}"
    )
    (found,) = measure_overhead(studio.profiler, rows, LOCAL, pairs=1)
    assert len(found.bare_s) == len(found.recorded_s) == 1
    assert found.best == found.recorded_s[0] / found.bare_s[0] - 1


def test_the_page_starts_and_stops_it_for_the_owner_only(studio: Studio) -> None:
    profiler = studio.profiler
    with pytest.raises(NotAllowed):
        profiler.start(MATRIX, PUBLIC)
    with pytest.raises(NotAllowed):
        profiler.cancel(PUBLIC)
    long = "{model: demo, prompt: x, frames: 17, height: 96, width: 96, steps: 200}"
    run = profiler.start(f"[{long}, {long}, {{model: demo, image: /etc/passwd}}]", LOCAL)
    with pytest.raises(NotAllowed):
        profiler.start(MATRIX, LOCAL)
    while run.view is None or run.view.phase != "denoise":
        assert not run.ended
        studio._queue.wait(0.2)
    profiler.cancel(LOCAL)
    while not run.ended:
        studio._queue.wait(0.2)
    assert [result["state"] for result in run.results] == ["cancelled", "cancelled", "cancelled"]
    events = json.loads((run.folder / "row-1" / EVENTS).read_text())
    assert events["ended"] == "cancelled" and events["components"]


def test_names_are_never_paths(studio: Studio, done: Outcome) -> None:
    profiles = studio.profiler.profiles
    assert profiles.file(done.name, "traced", TRACE).is_file()
    for name, row, file in (
        ("..", "", "ledger.sqlite"), (done.name, "..", "summary.json"),
        (done.name, "traced", "../summary.json"), (done.name, "traced", "other.txt"),
        ("", "", "summary.json"), (done.name, "", TRACE),
    ):  # fmt: skip
        with pytest.raises(NotFound):
            profiles.file(name, row, file)


def test_the_command_line(
    on_processor: None, tmp_path: Path, done: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: str) -> tuple[int, Any]:
        code = main(["profile", *arguments, "--home", str(tmp_path), "--json"])
        return code, json.loads(capsys.readouterr().out)

    matrix = tmp_path / "bad.yaml"
    matrix.write_text("[{optimization: {parallel_degree: 4}}, {model: nope}]")
    code, answers = call(str(matrix), "--output", str(tmp_path / "there"))
    assert code == 2 and [answer["error"]["field"] for answer in answers] == [
        "optimization.parallel_degree", "model"
    ]  # fmt: skip
    assert Path(answers[0]["profile"]["folder"]).parent.parent == tmp_path / "there"
    code, (found,) = call("--analyse", str(done.folder / "guide"))
    assert code == 0 and "decode" in found["bottleneck"]["en"]
    code, both = call("--analyse", str(done.folder))
    assert code == 0 and [item["name"] for item in both] == ["guide", "traced"]
    for arguments in (["--analyse", "nothing"], [], [str(tmp_path / "no.yaml")]):
        code, (answer,) = call(*arguments)
        assert code == 2 and answer["error"]["message"]
