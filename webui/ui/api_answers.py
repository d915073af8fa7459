"""What the API answers: errors, progress, files and runs, in the form that clients get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from webui.core.errors import StudioError
from webui.core.job import JobState, JobView
from webui.core.phases import title_of
from webui.core.text import Text
from webui.storage.files import check_free
from webui.ui.form import PICTURE
from webui.ui.page import Visit
from webui.ui.uploads import received_file
from webui.ui.words import common as words

_UNITS = {"upscale": "frames", "parse": "pages"}
"""What a job's progress counts, by its task; of others it is steps."""


def named(pictures: dict[str, Any]) -> dict[str, str]:
    """Uploaded pictures as the request names them: a plan needs to know only that they are there.

    Raises:
        BadInput: one is no uploaded file.
    """
    return {key: PICTURE for key, value in pictures.items() if received_file(value, key)}


def given(keys: dict[str, Any]) -> dict[str, Any]:
    """The request's keys that were not left out."""
    return {key: value for key, value in keys.items() if value is not None}


def downloaded_file(path: str) -> dict[str, Any]:
    """What gradio turns into a file that the client downloads.

    Copied to gradio's cache first: gradio refuses paths outside the working directory, and the
    home folder may be anywhere. Takes a while for a long video.

    Raises:
        NotEnoughDisk: there is no room for the copy.
    """
    check_free(Path(get_upload_folder()), Path(path).stat().st_size)
    path = save_file_to_cache(path, cache_dir=get_upload_folder())
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def report(progress: gr.Progress, job: JobView, visit: Visit) -> None:
    """How far a job is, for `job.status().progress_data` of clients."""
    if job.state is JobState.QUEUED:
        progress(0, desc=visit.say(words.AHEAD, count=job.place), unit="jobs")
        return
    phase = title_of(job.phase)
    if job.steps:
        unit = _UNITS.get(str((job.request or {}).get("task")), "steps")
        progress((job.step, job.steps), desc=visit.say(phase), unit=unit)
    else:
        progress(job.fraction, desc=visit.say(phase))


def refusal(error: StudioError, language: str) -> gr.Error:
    """Message and hint in one, without a traceback in the log: the user did nothing strange."""
    sentence = error.message.in_language(language)
    hint = error.hint.in_language(language)
    return gr.Error(f"{sentence} {hint}".strip(), print_exception=False)


def ended(job: JobView) -> StudioError:
    """That a job ended otherwise than well, where it has no error that says so."""
    state, text = words.STATES[job.state], words.JOB_ENDED
    return StudioError(Text(text.en.format(state=state.en), text.zh.format(state=state.zh)))


def entry(run: Any) -> dict[str, Any]:
    """A run in the list of `/runs`."""
    receipt = run.receipt.to_json() if run.receipt else {}
    return {
        "request": run.request,
        "plan": {},
        "measurement": None,
        "outputs": [],
        **receipt,
        "id": run.id,
        "created": run.created,
        "state": str(run.state),
        "error": run.error.to_json() if run.error else None,
    }


def without_processes(devices: dict[str, Any]) -> dict[str, Any]:
    """Process names belong to the owner of the machine."""
    readings = [
        {key: value for key, value in reading.items() if key != "processes"}
        for reading in devices.get("readings", ())
        if isinstance(reading, dict)
    ]
    worker = devices.get("worker")
    if isinstance(worker, dict):
        worker = {key: value for key, value in worker.items() if key != "pid"}
    return {**devices, "readings": readings, "worker": worker}
