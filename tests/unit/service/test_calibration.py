"""What receipts of this machine change, what they do not, and how the plan says so."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from webui.catalogue import find_model
from webui.core.errors import BadInput, OutOfMemory
from webui.core.job import JobState
from webui.core.parse import parse_request
from webui.core.plan import Plan
from webui.core.receipt import Attempt, Measurement, PhaseMeasurement, Receipt, Shortage
from webui.core.request import Request
from webui.core.text import Text
from webui.core.units import GIB, MIB, format_bytes
from webui.estimator.case import Case
from webui.estimator.target import Target
from webui.hardware import DeviceReading, find_card
from webui.hardware.readings import ProcessReading
from webui.service import flow, planner
from webui.service.calibration import (
    LAST_RUNS,
    MOST_SHORT,
    context_of,
    short_shares_of,
    speed_factor,
)
from webui.service.planner import Planner
from webui.service.unsupported import unsupported
from webui.storage import Ledger, Outputs, StudioConfig
from webui.storage.ledger import SpeedSample

CARD = "rtx-3060-12gb"
DEVICE = "NVIDIA GeForce RTX 3060"
TORCH = "2.13.0+cu130"
WAN = {"model": "wan2.1-t2v-1.3b", "frames": 81, "height": 480, "width": 832}


def samples(*ratios: float, estimated_s: float = 100.0) -> list[SpeedSample]:
    return [
        SpeedSample(estimated_s=estimated_s, measured_s=ratio * estimated_s, settings={})
        for ratio in ratios
    ]


def receipt(run_id: str = "a", context_mib: int = 500, **changes: Any) -> Receipt:
    phases = tuple(
        PhaseMeasurement(
            name=name, resident_bytes=1, allocated_bytes=2, reserved_bytes=3, seconds=seconds
        )
        for name, seconds in (("encode", 3.0), ("denoise", 150.0), ("decode", 30.0))
    )
    measured: dict[str, Any] = {
        "phases": phases,
        "peak_allocated_bytes": 4 * GIB,
        "peak_reserved_bytes": 5 * GIB,
        "peak_device_bytes": 5 * GIB + context_mib * MIB,
        "host_bytes": 6 * GIB,
        "seconds": 183.0,
        "load_seconds": 0.0,
        "source": "cuda",
    }
    measured |= {key: value for key, value in changes.items() if key in Measurement.__slots__}
    return Receipt(
        id=run_id,
        request={"model": WAN["model"]},
        plan={"phases": [], "settings": {}},
        measurement=Measurement(**measured),
        outputs=(),
        versions={"torch": changes.get("torch", TORCH)},
        device=DEVICE,
    )


def test_outliers_do_not_poison_the_speed() -> None:
    usual, count = speed_factor(samples(1.2, 1.2, 1.2, 1.2, 1.2))
    assert count == 5 and usual == pytest.approx(1.2, abs=0.01)
    poisoned, _ = speed_factor(samples(1.2, 1.2, 9.0, 1.2, 0.1))
    assert poisoned == pytest.approx(usual, abs=0.01)
    assert speed_factor(samples(100.0, 0.001)) == (1.0, 0)
    assert speed_factor([]) == (1.0, 0)
    short, _ = speed_factor(samples(10.0, estimated_s=0.1))
    assert short < 2  # one short run that paid for warming up says little


def test_the_context_is_the_highest_of_the_usual_ones() -> None:
    seen = [receipt(context_mib=size) for size in (500, 520, 510, 1400)]
    assert context_of(seen, TORCH) == (520 * MIB, 3)
    assert context_of([receipt(torch="2.11.0")], TORCH) == (None, 0)
    assert context_of([receipt(source="cpu", peak_device_bytes=0)], TORCH) == (None, 0)
    assert context_of([receipt(others_bytes=3 * GIB)], TORCH) == (None, 0)
    assert context_of([receipt(context_mib=9)], TORCH) == (None, 0)
    assert context_of([receipt()] * 30, TORCH)[1] == LAST_RUNS


def test_receipts_of_former_versions_can_be_read() -> None:
    data = receipt(others_bytes=5).measurement.to_json()  # type: ignore[union-attr]
    assert Measurement.from_json(data).others_bytes == 5
    del data["others_bytes"]
    assert Measurement.from_json(data).others_bytes == 0


class Machine:
    """A machine with a card, as its driver would report it."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.ledger = Ledger(home / "outputs" / "ledger.sqlite")
        self.outputs = Outputs(home / "outputs")
        self.used_bytes = 0
        self.processes: tuple[ProcessReading, ...] = ()
        patch.setattr(planner, "detected_card", lambda: find_card(CARD))
        patch.setattr(planner, "read_devices", lambda: [self.reading()])
        patch.setattr(planner, "process_device_bytes", self.held_by)

    def reading(self) -> DeviceReading:
        total = find_card(CARD).vram_bytes
        return DeviceReading(
            index=0, name=DEVICE, total_bytes=total, used_bytes=self.used_bytes,
            free_bytes=total - self.used_bytes, utilisation=None, temperature_c=None,
            power_w=None, power_limit_w=None, processes=self.processes,
        )  # fmt: skip

    def held_by(self, pid: int) -> int | None:
        return sum(each.used_bytes or 0 for each in self.processes if each.pid == pid) or None

    def planner(self, calibrate: bool = True) -> Planner:
        return Planner(self.ledger, lambda: StudioConfig(calibration=calibrate))

    def teach(self, count: int = 3, **changes: Any) -> None:
        """Runs of twice the estimated time, with a context of 700 MiB."""
        for number in range(count):
            job = f"run{self.ledger.count(JobState.DONE)}-{number}"
            self.ledger.record(job, "local", WAN, None, job)
            found = receipt(job, context_mib=700, **changes)
            base = {"encode": 1.5, "denoise": 75.0, "decode": 15.0}
            self.ledger.finish(job, JobState.DONE, found, base_seconds=base)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def ask(**changes: Any) -> Request:
    return parse_request({**WAN, **changes}, find_model)


def test_the_plan_says_what_receipts_corrected(machine: Machine) -> None:
    fresh = machine.planner()
    before = fresh.plan(ask()).estimate
    machine.teach(3)
    after = fresh.plan(ask()).estimate  # the same planner notices the new runs
    assert before.context_bytes == find_card(CARD).context_bytes
    assert after.context_bytes == 700 * MIB
    assert after.phases[1].seconds == pytest.approx(2 * before.phases[1].seconds, rel=0.02)
    said = " ".join(note.en for note in after.notes)
    assert "last 3 runs of this machine" in said and "Denoise x1.9" in said
    assert "CUDA context: 700 MiB, measured in 3 runs" in said and "torch 2.13.0" in said
    assert "450 MiB" in said
    assert "a range until" not in said
    other = fresh.plan(ask(card="rtx-4090")).estimate
    assert not any("this machine:" in note.en for note in other.notes)
    assert other.context_bytes == find_card("rtx-4090").context_bytes


def test_calibration_can_be_switched_off(machine: Machine) -> None:
    machine.teach(3)
    plain = machine.planner(calibrate=False).plan(ask()).estimate
    assert plain.context_bytes == find_card(CARD).context_bytes
    assert not any("runs of this machine" in note.en for note in plain.notes)
    assert machine.planner().estimate(ask(), calibrated=False).estimate.context_bytes == (
        plain.context_bytes
    )


class Answers:
    """A worker that reports a fixed measurement."""

    def __init__(self, measured: Measurement) -> None:
        self.event = {
            "event": "result", "measurement": measured.to_json(), "outputs": [],
            "versions": {"torch": TORCH}, "device": DEVICE,
        }  # fmt: skip

    def send(self, command: Any) -> None:
        raise AssertionError("nothing was claimed")

    def run(self, job: Any, on_event: Any = None) -> Any:
        return self.event


@pytest.mark.parametrize(("others_bytes", "taught"), [(0, True), (8 * GIB, False)])
def test_a_run_that_shared_the_card_teaches_nothing(
    machine: Machine, others_bytes: int, taught: bool
) -> None:
    measured = receipt(others_bytes=others_bytes).measurement
    assert measured is not None
    job = machine.ledger.record("one", "local", WAN, None, machine.outputs.new_folder("one").name)
    parts = flow.Studio(machine.planner(), machine.ledger, machine.outputs)
    flow.run_job(
        parts, job, ask(), lambda _: Answers(measured), {}, lambda *_: None, lambda _: None
    )
    assert machine.ledger.get("one").state is JobState.DONE
    assert bool(machine.ledger.speeds(DEVICE, str(WAN["model"]), "denoise")) == taught
    context = machine.planner().plan(ask()).estimate.context_bytes
    assert (context == 500 * MIB) == taught


@pytest.mark.parametrize(
    ("settings", "taught"),
    [
        ({"step_cache": "first-block"}, False),
        ({"step_cache": "first-block", "step_cache_threshold": 0}, True),
        ({"step_cache": "taylorseer"}, True),
    ],
)
def test_work_that_a_run_may_leave_out_teaches_nothing(
    machine: Machine, settings: dict[str, Any], taught: bool
) -> None:
    measured = receipt().measurement
    assert measured is not None
    job = machine.ledger.record("one", "local", WAN, None, machine.outputs.new_folder("one").name)
    parts = flow.Studio(machine.planner(), machine.ledger, machine.outputs)
    asked = ask(settings=settings)
    flow.run_job(
        parts, job, asked, lambda _: Answers(measured), {}, lambda *_: None, lambda _: None
    )
    model = str(WAN["model"])
    assert bool(machine.ledger.speeds(DEVICE, model, "denoise")) == taught
    assert machine.ledger.speeds(DEVICE, model, "decode"), "the other phases do"


@pytest.mark.parametrize(
    ("card", "attention", "refused"),
    [
        ("cpu", "xformers", True),
        ("cpu", "sdpa", False),
        ("rtx-2060-12gb", "flash", True),
        ("rtx-2060-12gb", "xformers", False),
        ("rtx-3060-12gb", "sage", False),
    ],
)
def test_attention_that_a_card_cannot_do(card: str, attention: str, refused: bool) -> None:
    found = unsupported(ask(settings={"attention": attention}), find_card(card))
    assert (found is not None) == refused
    if found is not None:
        assert found.field == "settings.attention" and "sdpa" in found.hint.en and found.hint.zh


def test_what_others_hold_is_not_free_and_only_the_owner_is_told_who(machine: Machine) -> None:
    whole = machine.planner().plan(ask()).estimate
    machine.used_bytes = 5 * GIB
    machine.processes = (
        ProcessReading(pid=11, name="game.exe", used_bytes=3 * GIB),
        ProcessReading(pid=12, name="", used_bytes=GIB),
        ProcessReading(pid=13, name="python", used_bytes=GIB),
    )
    mine = machine.planner()
    mine.worker_pid = lambda: 13
    for names in (False, True):
        found = mine.plan(ask(), names).estimate
        assert found.limit_bytes == whole.limit_bytes - 4 * GIB
        note = next(note for note in found.notes if "Other programs" in note.en)
        assert "4.00 GiB" in note.en and "4.00 GiB" in note.zh
        assert ("game.exe" in note.en) == ("game.exe" in note.zh) == names
        assert "python" not in note.en
    # A cap is held against what is free, too; a question about a larger card is not.
    for cap_gib, limit_bytes in ((6, 6 * GIB), (8, whole.limit_bytes - 4 * GIB), (16, 16 * GIB)):
        capped = mine.plan(ask(vram_gib=cap_gib)).estimate
        assert capped.limit_bytes == limit_bytes
        told = any("Other programs" in note.en for note in capped.notes)
        assert told == (cap_gib == 8)


@pytest.mark.parametrize(
    ("changes", "field", "near"),
    [
        ({"card": "rtx-2080-ti", "settings": {"precision": "bf16"}}, "settings.precision", "fp16"),
        (
            {"card": "gtx-1080", "settings": {"vae_precision": "bf16"}},
            "settings.vae_precision",
            "fp16",
        ),
        (
            {"platform": "windows", "settings": {"allocator": "expandable"}},
            "settings.allocator",
            "default",
        ),
        ({"card": "rtx-2080ti"}, "card", "rtx-2080-ti"),
        (
            {"model": "wan2.1-t2v-1.3b", "card": "v100-16gb", "settings": {"quantization": "int8"}},
            "settings.quantization",
            "nf4",
        ),
    ],
)
def test_what_a_card_cannot_do_is_refused(
    machine: Machine, changes: dict[str, Any], field: str, near: str
) -> None:
    for call in (machine.planner().plan, machine.planner().estimate):
        with pytest.raises(BadInput) as caught:
            call(ask(**changes))
        assert caught.value.field == field and near in caught.value.hint.en
        assert caught.value.message.zh and caught.value.hint.zh


def test_offered_cards_can_do_what_is_fixed(machine: Machine) -> None:
    mine = machine.planner()
    fixed = ask(settings={"precision": "bf16", "offload": "none", "text_encoder": "gpu"})
    refused = mine.plan(fixed)
    assert not refused.fits
    offered = next(o.changes["card"] for o in refused.alternatives if "card" in o.changes)
    assert find_card(offered).bf16
    assert all(card.bf16 for card, _ in mine.cards_for(fixed))
    assert any(not card.bf16 for card, _ in mine.cards_for(replace(fixed, settings={})))


def ran_out(planned: Plan, estimated_bytes: int, short_bytes: int) -> Receipt:
    """The receipt of a run that ran out of memory while decoding."""
    shortage = Shortage(
        phase="decode", in_use_bytes=GIB, reserved_bytes=GIB, wanted_bytes=0, limit_bytes=None
    )
    error = OutOfMemory(Text("It ran out.", "内存不足。")).to_json()
    attempt = Attempt(
        settings=dict(planned.settings), error=error, shortage=shortage, measurement=None,
        phase="decode", estimated_bytes=estimated_bytes, short_bytes=short_bytes,
    )  # fmt: skip
    return replace(receipt("failed"), attempts=(attempt,), measurement=None, error=error)


def went_well(estimated_bytes: int, taken: float) -> Receipt:
    """The receipt of a run whose decoding took that share of its estimate."""
    size = int(estimated_bytes * taken)
    phase = PhaseMeasurement(
        name="decode", resident_bytes=1, allocated_bytes=size, reserved_bytes=size, seconds=9.0
    )
    expected = {"name": "decode", "seconds": 9.0}
    expected |= dict.fromkeys(("allocated_bytes", "reserved_bytes"), estimated_bytes)
    return replace(receipt("well", phases=(phase,)), plan={"phases": [expected], "settings": {}})


def instead(target: Target, _: Target) -> Target:
    return target


def test_running_out_of_memory_teaches_the_next_plan(tmp_path: Path) -> None:
    """The phase that was short keeps a share more free, for this model and at any size."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    known = planner.Planner(ledger)
    request = parse_request({**WAN, "card": CARD, "settings": {"vae_tiling": False}}, find_model)
    before = known.plan(request)
    took = before.estimate.phases[-1].allocated_bytes
    failed = ran_out(before, took, took // 5)
    ledger.record("failed", "me", failed.request, None, "folder")
    ledger.finish("failed", JobState.FAILED, failed)
    found = known._calibration.of({DEVICE}, str(WAN["model"]), ())
    assert found.short_shares == {"decode": pytest.approx(0.2)}
    assert "Decode 20 %" in found.notes(0)[-1].en and "20 %" in found.notes(0)[-1].zh
    assert not known._calibration.of({DEVICE}, "wan2.1-t2v-14b", ()).short_shares
    # Just enough without the lesson is too little with it, and the sentence adds up.
    here = known.target(request)
    limits = [replace(here, limit_bytes=size) for size in range(0, here.limit_bytes, GIB // 2)]
    tight = next(one for one in limits if known.plan(request, narrow=partial(instead, one)).fits)
    taught = replace(tight, short_shares=found.short_shares)
    refused = known.plan(request, narrow=lambda _: taught)
    kept = Case(find_model(request.model), request, refused.settings, taught).kept_bytes("decode")
    decode, said = refused.estimate.phases[-1], refused.reasons[0]
    needed = decode.reserved_bytes + kept + here.card.context_bytes + refused.estimate.margin_bytes
    assert not refused.fits and needed > taught.limit_bytes
    for words in (said.en, said.zh):
        assert format_bytes(needed) in words and format_bytes(kept) in words
    # A quarter of the size has a quarter of the lesson.
    small = parse_request({**WAN, "card": CARD, "height": 240, "width": 416}, find_model)
    assert known.plan(small, narrow=lambda _: taught).fits
    ledger.close()


def test_a_lesson_is_bounded_and_a_later_run_takes_it_back(machine: Machine) -> None:
    plan = machine.planner().plan(ask())
    lesson = ran_out(plan, 4 * GIB, 40 * GIB)
    assert short_shares_of([lesson]) == {"decode": MOST_SHORT}
    assert short_shares_of([went_well(4 * GIB, 1.1), lesson]) == {}
    # Not one that was smaller, took as much more as the lesson says, or came before.
    for newer in (went_well(3 * GIB, 1.0), went_well(4 * GIB, 1.3)):
        assert short_shares_of([newer, lesson]) == {"decode": MOST_SHORT}
    assert short_shares_of([lesson, went_well(8 * GIB, 1.0)]) == {"decode": MOST_SHORT}
