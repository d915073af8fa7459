"""The API: named endpoints with the request's keys as parameters, for gradio_client and scripts.

A question (`/plan`, `/estimate`) about bad input is answered with the contract's error element;
an action (`/generate`, `/cancel`) that cannot be done raises `gr.Error` with message and hint.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio.to_thread
import gradio as gr

from webui.core.clip import PICTURES
from webui.core.errors import BadInput, StudioError
from webui.core.job import JobState
from webui.service.resuming import resume
from webui.ui.api_answers import (
    downloaded_file,
    ended,
    entry,
    given,
    named,
    refusal,
    report,
    without_processes,
)
from webui.ui.page import Page, Visit
from webui.ui.parameters import with_request_keys
from webui.ui.results import made_by
from webui.ui.uploads import received_file, with_pictures

POLL_S = 0.25
MAX_RUNS = 200
PAGES_TOLD = 50
"""Pages in one answer at most."""
_NO_KEYS = ("self", "request")
"""Parameters of actions that are no keys of a request."""


def build_api(page: Page) -> None:
    """Adds the endpoints to the current `gr.Blocks`."""
    endpoints = Endpoints(page)
    # Waiting calls hold no thread and no slot: the service's queue alone decides what runs.
    for name, question in (("plan", endpoints.plan), ("estimate", endpoints.estimate)):
        gr.api(with_request_keys(question), api_name=name, concurrency_limit=None)
    for name, function in (
        ("generate", endpoints.generate),
        ("upscale", endpoints.upscale),
        ("parse", endpoints.parse),
        ("resume", endpoints.resume),
        ("devices", endpoints.devices),
        ("runs", endpoints.runs),
        ("cancel", endpoints.cancel),
    ):
        gr.api(function, api_name=name, concurrency_limit=None)


class Endpoints:
    """One method an endpoint; parameters left out take the model's defaults.

    The questions' `keys` become a parameter for each key of a request (`with_request_keys`).
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def plan(
        self,
        *,
        most: str | None = None,
        smallest: str | None = None,
        explain: bool = False,
        frontier: bool = False,
        request: gr.Request = None,  # type: ignore[assignment]
        **keys: Any,
    ) -> dict[str, Any]:
        """Chooses the fastest settings that fit, and says what they take and why.

        `most` ("frames", "size") and `smallest` ("card") ask backwards: the plan is that of the
        request that was found, and `answer` says what it is. `explain` and `frontier` add what
        the command line's options of that name print.
        """
        asked = partial(
            self.page.studio.questions.ask,
            most=most,
            smallest=smallest,
            explain=explain,
            frontier=frontier,
            **self._who(request),
        )
        return self._answer(given(keys), asked)

    def estimate(self, **keys: Any) -> dict[str, Any]:
        """Memory and time of the given settings; what is left out takes its default."""
        return self._answer(given(keys), self.page.studio.estimate)

    async def generate(
        self,
        prompt: str | None = None,
        model: str | None = None,
        negative_prompt: str | None = None,
        image: dict[str, Any] | None = None,
        last_image: dict[str, Any] | None = None,
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        flow_shift: float | None = None,
        solver: str | None = None,
        fps: int | None = None,
        seed: int | None = None,
        card: str | None = None,
        vram_gib: float | None = None,
        platform: str | None = None,
        settings: dict[str, Any] | None = None,
        task: str | None = None,
        batch: int | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> AsyncIterator[dict[str, Any]]:
        """Plans, runs and measures.

        `image` and `last_image` are files (`gradio_client.handle_file`), for models that start
        from a picture or end with one.
        The first answers carry the job's id and state; the last one is
        `{"id", "state", "video": file, "outputs": [files], "receipt": {...}}`; with `batch` clips
        `outputs` has each and `video` is the first. Progress is in
        `job.status().progress_data`. Cancelling the call cancels the job.
        """
        keys = given({key: value for key, value in locals().items() if key not in _NO_KEYS})
        studio, visit = self.page.studio, self._visit(request)
        try:
            pictures = {key: keys.pop(key) for key in PICTURES if key in keys}
            parsed = with_pictures(studio.parse(keys | named(pictures)), pictures)
            job_id = await anyio.to_thread.run_sync(studio.submit, parsed, visit.visitor)
        except StudioError as error:
            raise refusal(error, visit.language) from error
        async for answer in self._follow(job_id, visit, gr.Progress()):
            yield answer

    async def upscale(
        self,
        input: dict[str, Any],
        model: str = "swin2sr-demo",
        scale: int | None = None,
        overlap: int | None = None,
        segment_frames: int | None = None,
        colour: str | None = None,
        quality: str | None = None,
        seed: int | None = None,
        card: str | None = None,
        vram_gib: float | None = None,
        platform: str | None = None,
        settings: dict[str, Any] | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> AsyncIterator[dict[str, Any]]:
        """Makes the frames of a video or of a picture larger.

        `input` is a file (`gradio_client.handle_file`). The first answers carry the job's id, state
        and place; the last one is
        `{"id", "state", "video": file, "outputs": [files], "receipt": {...}}`. Progress, in frames,
        is in `job.status().progress_data`. Cancelling the call cancels the job; what was finished
        is kept, and `/resume` goes on with it.
        """
        keys = given({key: value for key, value in locals().items() if key not in _NO_KEYS})
        studio, visit = self.page.studio, self._visit(request)
        try:
            path = received_file(keys.pop("input", None), "input")
            parsed = studio.parse(keys | {"task": "upscale", "input": path})
            job_id = await anyio.to_thread.run_sync(studio.submit, parsed, visit.visitor)
        except StudioError as error:
            raise refusal(error, visit.language) from error
        async for answer in self._follow(job_id, visit, gr.Progress()):
            yield answer

    async def parse(
        self,
        input: dict[str, Any],
        model: str = "ocr",
        pages: int | str | None = None,
        dpi: int | None = None,
        max_pixels: int | str | None = None,
        new_tokens: int | None = None,
        seed: int | None = None,
        card: str | None = None,
        vram_gib: float | None = None,
        platform: str | None = None,
        settings: dict[str, Any] | None = None,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> AsyncIterator[dict[str, Any]]:
        """Reads the pages of a document: a picture, a PDF, or a ZIP file of those.

        `input` is a file (`gradio_client.handle_file`). Answers come as pages are read:
        `{"id", "state", "place"}` at first, then `{"id", "state", "pages": [...]}` with the pages
        that are new, each with its blocks; the last one is
        `{"id", "state", "outputs": [files], "pages_failed": [numbers], "receipt": {...}}`.
        Cancelling the call cancels the job.
        """
        keys = given({key: value for key, value in locals().items() if key not in _NO_KEYS})
        studio, visit = self.page.studio, self._visit(request)
        try:
            path = received_file(keys.pop("input", None), "input")
            parsed = studio.parse(keys | {"task": "parse", "input": path})
            job_id = await anyio.to_thread.run_sync(studio.submit, parsed, visit.visitor)
        except StudioError as error:
            raise refusal(error, visit.language) from error
        async for answer in self._follow(job_id, visit, gr.Progress(), pages=True):
            yield answer

    async def resume(
        self,
        id: str,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> AsyncIterator[dict[str, Any]]:
        """Goes on with a run of this visitor that ended early: a video, or a document.

        Segments and pages that are finished stay as they are, pages that failed are tried again.
        The answers are those of `/upscale` or `/parse`; pages that were read before come first.
        """
        studio, visit = self.page.studio, self._visit(request)
        limits = self.page.limits(visit)
        try:
            task = await anyio.to_thread.run_sync(resume, studio, str(id), visit.visitor, limits)
        except StudioError as error:
            raise refusal(error, visit.language) from error
        async for answer in self._follow(str(id), visit, gr.Progress(), pages=task == "parse"):
            yield answer

    async def _follow(
        self, job_id: str, visit: Visit, progress: gr.Progress, pages: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """Answers about a job until it has ended, its result included."""
        studio, told = self.page.studio, _ToldPages(self.page, job_id, visit)
        try:
            seen: tuple[Any, ...] = ()
            while True:
                job = studio.view(job_id, visit.visitor)
                # The disk is read and written in a thread: other visitors' events go on.
                while pages and (new := await anyio.to_thread.run_sync(told.new)):
                    yield {"id": job_id, "state": str(job.state), "pages": new}
                if job.state.final:
                    break
                report(progress, job, visit)
                if seen != (job.state, job.place):
                    seen = (job.state, job.place)
                    yield {"id": job_id, "state": str(job.state), "place": job.place}
                await asyncio.sleep(POLL_S)
        except asyncio.CancelledError:
            # The client's own cancel() arrives here; a client that merely goes away does not,
            # and its job goes on.
            studio.cancel(job_id, visit.visitor)
            raise
        except StudioError as error:
            raise refusal(error, visit.language) from error
        if job.state is not JobState.DONE:
            raise refusal(job.error or ended(job), visit.language)
        try:
            result = await anyio.to_thread.run_sync(self._result, job_id, visit)
        except StudioError as error:
            raise refusal(error, visit.language) from error
        if pages:
            del result["video"]
            result["pages_failed"] = told.failed
        yield result

    def devices(self, request: gr.Request = None) -> dict[str, Any]:  # type: ignore[assignment]
        """The card, its live readings, and the worker."""
        visit = self._visit(request)
        devices = self.page.studio.devices()
        return devices if visit.owner else without_processes(devices)

    def runs(
        self,
        limit: int = 50,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> list[dict[str, Any]]:
        """This visitor's runs, the newest first, each with its receipt."""
        visit = self._visit(request)
        count = max(1, min(int(limit), MAX_RUNS))
        return [entry(run) for run in self.page.studio.runs(visit.visitor, limit=count)]

    def cancel(
        self,
        id: str,
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> dict[str, Any]:
        """Cancels a job of this visitor by its id."""
        visit = self._visit(request)
        try:
            self.page.studio.cancel(str(id), visit.visitor)
            job = self.page.studio.view(str(id), visit.visitor)
        except StudioError as error:
            raise refusal(error, visit.language) from error
        return {"id": job.id, "state": str(job.state)}

    def _who(self, request: gr.Request) -> dict[str, Any]:
        """Who asks; whom nothing identifies may ask for plans as a visitor does."""
        try:
            visit = self.page.visit(request)
        except StudioError:
            return {"owner": False}
        return {"owner": visit.owner, "visitor": visit.visitor}

    def _visit(self, request: gr.Request) -> Visit:
        try:
            return self.page.visit(request)
        except StudioError as error:
            raise refusal(error, "en") from error

    def _answer(self, keys: dict[str, Any], ask: Callable[[Any], Any]) -> dict[str, Any]:
        try:
            pictures = {key: keys[key] for key in PICTURES if key in keys}
            parsed = self.page.studio.parse(keys | named(pictures))
            answer: dict[str, Any] = ask(parsed).to_json()
        except BadInput as error:
            return {"error": error.to_contract()}
        except StudioError as error:
            raise refusal(error, "en") from error
        return answer

    def _result(self, job_id: str, visit: Visit) -> dict[str, Any]:
        run = self.page.studio.run(job_id, visit.visitor)
        files = [downloaded_file(str(path)) for path in made_by(run)]
        return {
            "id": job_id,
            "state": str(run.state),
            "video": files[0] if files else None,
            "outputs": files,
            "receipt": run.receipt.to_json() if run.receipt else None,
        }


class _ToldPages:
    """Pages of a run that a client was told, each once."""

    def __init__(self, page: Page, job_id: str, visit: Visit) -> None:
        self._documents, self._job_id, self._visitor = page.studio.documents, job_id, visit.visitor
        self._told: set[int] = set()
        self.failed: list[int] = []

    def new(self) -> list[dict[str, Any]]:
        """Pages that came since the last call, the first of them where there are many."""
        done = self._documents.done(self._job_id, self._visitor)
        numbers = [number for number in done if number not in self._told][:PAGES_TOLD]
        found = [self._documents.page(self._job_id, self._visitor, number) for number in numbers]
        self._told.update(numbers)
        self.failed += [page.number for page in found if page.error is not None]
        return [page.to_json() for page in found]
