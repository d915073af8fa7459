"""The verified card table holds only plans that ran under a cap, each once."""

from dataclasses import replace

from webui.estimator.verified import read_receipts, verified_runs


def test_every_row_stayed_under_its_cap() -> None:
    runs = verified_runs()
    assert len(runs) >= 60
    assert all(run.measured_bytes <= run.cap_gib * 2**30 for run in runs)
    keys = [(run.model, run.size, run.cap_gib) for run in runs]
    assert len(set(keys)) == len(keys)


def test_the_newest_run_stands_and_failed_ones_do_not() -> None:
    capped = next(r for r in read_receipts() if r.request.get("vram_gib"))
    newer = replace(capped, created="2099-01-01T00:00:00+00:00")
    failed = replace(newer, created="2099-01-02T00:00:00+00:00", error={"message": {}})
    (run,) = verified_runs((newer, capped, failed))
    assert run.date == "2099-01-01"
    assert run.difference == run.measured_bytes / run.estimated_bytes - 1


def test_runs_without_a_cap_are_left_out() -> None:
    uncapped = [r for r in read_receipts() if not r.request.get("vram_gib")]
    assert uncapped
    assert verified_runs(tuple(uncapped)) == []
