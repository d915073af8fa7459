"""Errors, texts, units and receipts: what goes over the wire comes back the same."""

from __future__ import annotations

import json

import pytest

from webui.core import errors
from webui.core.errors import BadInput, Cancelled, StudioError, error_from_json
from webui.core.job import JobState
from webui.core.mapping import check_keys
from webui.core.receipt import Measurement, PhaseMeasurement, Receipt
from webui.core.text import Text
from webui.core.units import GIB, KIB, MIB, format_bytes, format_seconds

KINDS = [StudioError, *StudioError.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_from_json(kind: type[StudioError]) -> None:
    message, hint = Text("It broke.", "坏了。"), Text("Mend it.", "修好它。")
    error = BadInput("frames", message, hint) if kind is BadInput else kind(message, hint, "frames")
    back = error_from_json(json.loads(json.dumps(error.to_json(), ensure_ascii=False)))
    assert type(back) is kind
    assert (back.message, back.hint, back.field) == (message, hint, "frames")
    assert str(back) == "It broke." and back.exit_code == error.exit_code
    assert back.to_contract() == {"field": "frames", "message": "It broke.", "hint": "Mend it."}


def test_an_unknown_error_is_a_failed_run() -> None:
    assert type(error_from_json({"type": "Strange", "message": "x"})) is errors.RunFailed
    assert type(error_from_json({"message": {"en": "x", "zh": "y"}})) is errors.RunFailed


def test_cancelled_says_so_by_itself() -> None:
    assert Cancelled().message.en and Cancelled().message.zh


def test_exit_codes() -> None:
    codes = {kind.__name__: kind.exit_code for kind in KINDS}
    assert (codes.pop("BadInput"), codes.pop("DoesNotFit")) == (2, 3)
    assert set(codes.values()) == {1}


def test_text() -> None:
    text = Text("frames", "帧")
    assert str(text) == "frames"
    assert [text.in_language(name) for name in ("en", "zh", "zh-CN", "ZH-tw", "de", "")] == [
        "frames", "帧", "帧", "帧", "frames", "frames",
    ]  # fmt: skip
    assert Text.from_json(text.to_json()) == text
    assert Text.from_json("x") == Text("x", "x")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KIB, "1 KiB"),
        (MIB, "1.0 MiB"),
        (99.9 * MIB, "99.9 MiB"),
        (512 * MIB, "512 MiB"),
        (GIB, "1.00 GiB"),
        (5.43 * GIB, "5.43 GiB"),
        (-1.5 * GIB, "-1.50 GiB"),
        (-3 * MIB, "-3.0 MiB"),
    ],
)
def test_bytes_for_people(size: float, shown: str) -> None:
    assert format_bytes(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (172_799, "47 h 59 min"),
        (663_960, "7 d 16 h"),
    ],
)
def test_seconds_for_people(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.44, "0.4 秒"),
        (12.4, "12 秒"),
        (200, "3 分 20 秒"),
        (7500, "2 小时 05 分"),
        (360_000, "4 天 04 小时"),
    ],
)
def test_seconds_for_people_in_chinese(seconds: float, shown: str) -> None:
    assert format_seconds(seconds, "zh") == shown


def test_final_states() -> None:
    assert [state.value for state in JobState if not state.final] == ["queued", "running"]


def test_receipts_come_back_from_json() -> None:
    phase = PhaseMeasurement(
        name="decode", resident_bytes=1, allocated_bytes=2, reserved_bytes=3, seconds=0.5
    )
    measurement = Measurement(
        phases=(phase,),
        peak_allocated_bytes=2,
        peak_reserved_bytes=3,
        peak_device_bytes=4,
        host_bytes=5,
        seconds=0.5,
        load_seconds=0.1,
        source="cuda",
    )
    for measured in (measurement, None):
        receipt = Receipt(
            id="a",
            request={"prompt": "猫"},
            plan={},
            measurement=measured,
            outputs=("outputs/a/clip.mp4",),
            error=None if measured else Cancelled().to_json(),
        )
        assert Receipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt


def test_mappings_of_files_name_what_is_wrong() -> None:
    good = {"name": 1, "size": 2}
    assert check_keys(good, where="f.yaml", required=("name",), optional=("size",)) is good
    with pytest.raises(BadInput, match=r"f.yaml: there is no key 'sise'") as caught:
        check_keys({"name": 1, "sise": 2}, where="f.yaml", required=("name",), optional=("size",))
    assert "size" in caught.value.hint.en
    with pytest.raises(BadInput, match="'name' is missing"):
        check_keys({"size": 2}, where="f.yaml", required=("name",), optional=("size",))
    for wrong in ([], "x", None, 3):
        with pytest.raises(BadInput, match="not a mapping"):
            check_keys(wrong, where="f.yaml", required=("name",))
