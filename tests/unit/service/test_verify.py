"""The table of estimated beside measured, for receipts of every task."""

from __future__ import annotations

from typing import Any

from webui.core.receipt import Receipt
from webui.service.verify import accuracy_table
from webui.service.writing_speed import speed_table, writing_speeds


def receipt(request: dict[str, Any], phase: str) -> Receipt:
    figures = {"allocated_bytes": 1000, "reserved_bytes": 2000, "seconds": 1.0}
    return Receipt.from_json(
        {
            "id": "a",
            "request": request,
            "plan": {"settings": {}, "phases": [{"name": phase, **figures}]},
            "measurement": {
                "phases": [{"name": phase, "resident_bytes": 0, **figures}],
                "peak_allocated_bytes": 1000,
                "peak_reserved_bytes": 2000,
                "peak_device_bytes": 2000,
                "host_bytes": 0,
                "seconds": 1.0,
                "load_seconds": 0.0,
                "source": "cuda",
            },
            "outputs": [],
        }
    )


def test_rows_say_what_was_run() -> None:
    clip = {"model": "demo", "frames": 17, "height": 128, "width": 96}
    training = {
        "model": "qwen2.5-vl-3b",
        "image_size": 336,
        "sequence_length": 1024,
        "batch": 2,
        "gradient_accumulation": 4,
        "lora_rank": 16,
        "vram_gib": 16,
    }
    table = accuracy_table([receipt(clip, "decode"), receipt(training, "backward")])
    rows = table.splitlines()
    assert rows[1].startswith("demo 96x128x17") and "decode" in rows[1]
    assert rows[2].startswith("qwen2.5-vl-3b 2x4x1024 336px r16") and "16G" in rows[2]
    assert "+0.00%" in rows[2] and "allocated: 2 phases, mean 0.00%" in table


def test_tokens_a_second_count_the_fastest_run_and_are_told_against_one_at_a_time() -> None:
    def run(pages: int, together: int, seconds: float, **more: Any) -> Receipt:
        page = {"task": "parse", "model": "logics-parsing-v2", "new_tokens": 100, "vram_gib": 40}
        data = receipt({**page, "pages": pages, **more}, "generate").to_json()
        data["plan"]["settings"] = {"page_batch": together}
        data["measurement"]["seconds"] = seconds
        return Receipt.from_json(data)

    failed = Receipt.from_json({**run(1, 1, 1).to_json(), "error": {"message": {}}})
    clip = receipt({"model": "demo", "frames": 17, "height": 128, "width": 96}, "decode")
    speeds = writing_speeds(
        [run(1, 1, 10), run(24, 16, 8), run(1, 1, 5), run(8, 8, 4, vram_gib=24), failed, clip]
    )
    assert [(one.together, one.tokens_per_s, one.times_one) for one in speeds] == [
        (1, 20, None),
        (16, 300, 15),
        (8, 200, None),  # of another cap
    ]
    lines = speed_table(speeds).splitlines()
    assert "300.0" in lines[2] and lines[2].endswith("15.0x") and lines[1].endswith("20.0")
