"""Two studios on one home folder leave each other's jobs alone."""

import subprocess
import sys
from pathlib import Path

from webui.core.job import JobState
from webui.storage import Ledger, Presence


def test_a_studio_is_alive_until_it_closes(tmp_path: Path) -> None:
    first, second = Presence(tmp_path), Presence(tmp_path)
    assert second.is_alive(first.name)
    assert first.is_alive(second.name)
    first.close()
    assert not second.is_alive(first.name)
    assert not second.is_alive("")


def test_the_end_of_its_process_is_enough(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from webui.storage import Presence; "
        "p = Presence(Path(sys.argv[1])); print(p.name, flush=True); sys.stdin.read(1); os._exit(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        name = other.stdout.readline().strip()
        here = Presence(tmp_path)
        assert here.is_alive(name)
        other.stdin.write("x")
        other.stdin.flush()
        other.wait(30)
        assert not here.is_alive(name)
        assert not (tmp_path / f"studio-{name}.lock").exists()
        here.close()


def test_a_second_studio_takes_over_only_what_a_dead_one_left(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first, second = Presence(tmp_path), Presence(tmp_path)
    theirs, ours = Ledger(path, first.name), Ledger(path, second.name)
    for job_id in ("waits", "runs"):
        theirs.record(job_id, "local", {}, None, job_id)
    theirs.set_state("runs", JobState.RUNNING)

    found = ours.recover(second.is_alive)
    assert found.queued == found.interrupted == ()
    assert ours.get("runs").state is JobState.RUNNING

    first.close()
    found = ours.recover(second.is_alive)
    assert [job.id for job in found.queued] == ["waits"]
    assert [job.id for job in found.interrupted] == ["runs"]
    # They are this studio's now: a third one leaves them.
    third = Presence(tmp_path)
    assert Ledger(path, third.name).recover(third.is_alive).queued == ()
