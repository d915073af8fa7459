"""Who did what of a run that several GPUs share, as HTML; what the models waited for, and what
the user should know of the input."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from webui.core.job import JobView
from webui.core.text import Text
from webui.core.work import WorkerRecord, WorkRecord
from webui.ui.language import say
from webui.ui.phase_bars import seconds_text
from webui.ui.tables import render_table
from webui.ui.words import upscale as words

NOTHING = "–"


def render_work(work: WorkRecord | None, language: str) -> str:
    """A table with a row for each GPU where there is more than one, or one that was lost.

    Args:
        work: of a run; None where it did not come in pieces.
        language: of the visitor.
    """
    if work is None:
        return ""
    table = ""
    if work.shared:
        again = any(worker.lost for worker in work.workers)
        heads = (*words.WORK_HEADS, words.DONE_AGAIN) if again else words.WORK_HEADS
        rows = [
            _row(number, worker, again, language) for number, worker in enumerate(work.workers, 1)
        ]
        table = f'<h4 class="vs-title">{say(words.WORK, language)}</h4>' + render_table(
            heads, rows, language
        )
    told = (*work.notes, *work.waits)
    return table + "".join(f'<p class="vs-fine">{say(text, language)}</p>' for text in told)


def render_work_of(jobs: Sequence[JobView], language: str) -> str:
    """The same of the job that runs."""
    return "".join(render_work(job.work, language) for job in jobs)


def _row(number: int, worker: WorkerRecord, again: bool, language: str) -> list[str]:
    name = f" · {escape(worker.device)}" if worker.device else ""
    cells = [
        say(words.GPU, language, number=number) + name,
        str(worker.pieces),
        str(worker.units),
        NOTHING if worker.rate is None else f"{worker.rate:.3g}",
        seconds_text(worker.work_s, language),
        seconds_text(worker.load_s, language),
    ]
    return [*cells, _again(worker, language)] if again else cells


def _again(worker: WorkerRecord, language: str) -> str:
    if not worker.lost:
        return NOTHING
    told: Text = words.LOST_ONCE if worker.lost == 1 else words.LOST_OFTEN
    return say(told, language, count=worker.lost, frames=worker.lost_units)
