"""What the upscaling tab shows of runs: the newest frame, a run that has ended, recent ones."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from webui.core.errors import StudioError
from webui.ui import memory_panel, results, upscale_view, work_view
from webui.ui.page import Page, Visit
from webui.ui.upscale_controls import Controls
from webui.ui.words import upscale as words

TASK = "upscale"
RECENT = 8

Updates = dict[Any, Any]


class UpscaleOutput:
    """The column beside the form.

    Args:
        page: the studio.
        controls: of the tab.
    """

    def __init__(self, page: Page, controls: Controls) -> None:
        self.page, self.controls = page, controls

    def newest(self, run_id: str, visit: Visit, seen: str) -> Updates:
        """The newest frame of a run that goes on, before and after, unless it is shown already."""
        pair = self._pair(run_id, visit, seen)
        if not pair:
            return {}
        controls = self.controls
        return {
            **pair,
            controls.frame: gr.update(visible=False),
            controls.result: "",
            controls.shown: None,
        }

    def show(self, run_id: str, visit: Visit) -> Updates:
        """A run that has ended: its video, and a frame of it before and after."""
        controls = self.controls
        try:
            run = self.page.studio.run(run_id, visit.visitor)
        except StudioError as error:
            return {controls.result: memory_panel.render_error(error, visit.language)}
        frames = int(run.request.get("frames") or 1)
        pair = self._pair(run_id, visit, "")
        if pair and frames > 1 and results.made_by(run):
            pair[controls.frame] = gr.update(visible=True, maximum=frames, value=frames)
        return {
            **self.no_pair(),
            **pair,
            **self.controls.replan(),
            controls.result: results.render_result(run, visit.language)
            + work_view.render_work(run.receipt.work if run.receipt else None, visit.language),
            controls.shown: run_id,
        }

    def choose(self, run_id: str, number: int, visit: Visit) -> Updates:
        """Another frame of the shown run, before and after.

        Args:
            run_id: the shown run.
            number: of the frame, from 1.
            visit: who asks.

        Raises:
            StudioError: the run is not the visitor's, or the frame cannot be read.
        """
        compared = self.page.studio.videos.compared
        shown = 1 + compared(run_id, visit.visitor, number - 1, visit.owner)
        version = f"{shown}-{secrets.token_hex(4)}"
        return {
            self.controls.pair: gr.update(
                value=upscale_view.pair_addresses(run_id, "chosen", version), visible=True,
                label=visit.say(words.COMPARED_FRAME, number=shown),
            ),
            self.controls.frame: gr.update() if shown == number else gr.update(value=shown),
        }  # fmt: skip

    def forget(self, run_id: str, shown: str | None, visit: Visit) -> Updates:
        """A run was deleted."""
        controls = self.controls
        updates: Updates = {controls.recent: self.recent(visit)}
        if run_id == shown:
            updates |= {controls.result: self.empty(visit), controls.shown: None, **self.no_pair()}
        return updates

    def no_pair(self) -> Updates:
        """No frame is shown."""
        controls = self.controls
        return {
            controls.pair: gr.update(value=None, visible=False),
            controls.frame: gr.update(visible=False),
            controls.seen: "",
        }

    def recent(self, visit: Visit) -> str:
        """The newest runs as a row of thumbnails."""
        runs = self.page.finished_runs(visit.visitor, RECENT, TASK)
        return results.render_strip(runs, visit.language, words.RECENT)

    def empty(self, visit: Visit) -> str:
        """What stands there before the first run."""
        return f'<p class="vs-empty">{visit.say(words.EMPTY)}</p>'

    def _pair(self, run_id: str, visit: Visit, seen: str) -> Updates:
        try:
            pair = self.page.studio.videos.pair(run_id, visit.visitor)
            version = pair[1].stat().st_mtime_ns if pair else 0
        except (StudioError, OSError):
            return {}
        now = f"{run_id}/{version}"
        if pair is None or now == seen:
            return {}
        return {
            self.controls.pair: gr.update(
                value=upscale_view.pair_addresses(run_id, "newest", version), visible=True,
                label=visit.say(words.NEWEST_FRAME),
            ),
            self.controls.seen: now,
        }  # fmt: skip
