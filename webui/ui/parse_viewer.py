"""The document beside the form: one page at a time, followed while it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from webui.core.errors import NotFound, StudioError
from webui.documents.blocks import PageResult
from webui.service.documents import FAILED, MOST_SEARCHED
from webui.ui import parse_view as view
from webui.ui import results
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.page import Page, Visit
from webui.ui.parse_controls import Controls
from webui.ui.words import parse as words

RECENT = 8
TASK = "parse"

Updates = dict[Any, Any]
Shown = Mapping[str, Any]
"""`run`, `page`, `view`, `mark` (a block's place), and `there`: whether the page was when it was
drawn."""
Known = Mapping[str, Any]
"""`run`, `outcomes` of its pages that are read: those are not opened again; and `final`: whether it
had ended."""


class DocumentViewer:
    """Draws the document that the page shows.

    Args:
        page: the studio and who asks.
        controls: of the tab.
    """

    def __init__(self, page: Page, controls: Controls) -> None:
        self.page, self.controls = page, controls
        self._documents = page.studio.documents

    def empty(self, visit: Visit) -> Updates:
        """Nothing is shown."""
        controls = self.controls
        return {
            controls.reader: f'<p class="vs-empty">{say(words.EMPTY, visit.language)}</p>',
            controls.search: "",
            controls.ways: gr.update(visible=False),
            **dict.fromkeys((controls.document, controls.pager, controls.found), ""),
            controls.shown: {},
        }

    def recent(self, visit: Visit) -> str:
        runs = self.page.finished_runs(visit.visitor, RECENT, TASK)
        return results.render_strip(runs, visit.language, words.RECENT)

    def show(
        self,
        run_id: str,
        visit: Visit,
        shown: Shown,
        number: int = 0,
        mark: int | None = None,
        known: Known | None = None,
    ) -> Updates:
        """Draws a page of a document.

        Args:
            run_id: the document's.
            visit: who asks.
            shown: what is shown until now; how it is shown stays.
            number: the page; the first that is read when left out.
            mark: the block that is marked.
            known: what is known of a document's pages.
        """
        try:
            same = shown.get("run") == run_id
            run = self.page.studio.run(run_id, visit.visitor)
            expected = self._documents.expected(run_id, visit.visitor)
            before = _still_known(known, run_id, run.state.final)
            outcomes = self._documents.outcomes(run_id, visit.visitor, before)
            if number not in expected:
                number = next(iter(outcomes), expected[0] if expected else 1)
            result = self._read(run_id, visit, number)
        except StudioError as error:
            return {self.controls.document: render_error(error, visit.language)}
        chosen = shown.get("view", view.VIEWS[0])
        language = visit.language
        controls = self.controls
        updates: Updates = {
            controls.document: view.render_document(
                run, result.document if result else "", expected, outcomes, language
            ),
            controls.pager: view.render_pager(expected, number, language),
            controls.reader: view.render_page(run_id, result, chosen, mark, language)
            if result
            else view.render_waiting(number, not run.state.final, language),
            controls.shown: {
                "run": run_id,
                "page": number,
                "view": chosen,
                "mark": mark,
                "there": result is not None,
            },
            controls.known: {"run": run_id, "outcomes": outcomes, "final": run.state.final},
        }
        if not same:
            updates |= {controls.search: "", controls.found: ""}
            updates[controls.ways] = gr.update(visible=True)
        return updates

    def follow(self, run_id: str, visit: Visit, shown: Shown, known: Known) -> Updates:
        """What is new of a document that is being read; the page that is looked at stays."""
        if shown.get("run") != run_id:
            return self.show(run_id, visit, shown, known=known)
        page, mark = int(shown.get("page") or 0), shown.get("mark")
        updates = self.show(run_id, visit, shown, page, mark, known)
        if shown.get("there"):
            # Not even the state: another page may have been chosen in the meantime.
            for part in (self.controls.reader, self.controls.pager, self.controls.shown):
                updates.pop(part, None)
        return updates

    def act(
        self, asked: Mapping[str, str], visit: Visit, shown: Shown, known: Known | None = None
    ) -> Updates:
        """A button of the document.

        Raises:
            StudioError: what the service refuses.
        """
        run_id = str(shown.get("run") or "")
        number = int(shown.get("page") or 0)
        match asked.get("action"):
            case "page":
                return self.show(
                    run_id, visit, shown, _whole(asked.get("page"), number), known=known
                )
            case "hit":
                place, page = _whole(asked.get("place"), 0), _whole(asked.get("page"), number)
                read = {**shown, "view": view.VIEWS[0]}
                return self.show(run_id, visit, read, page, place, known)
            case "view":
                if asked.get("view") not in view.VIEWS:
                    return {}
                chosen = {**shown, "view": asked["view"]}
                return self.show(run_id, visit, chosen, number, shown.get("mark"), known)
            case "show" | "read":
                return self.show(asked.get("run", ""), visit, shown, known=known)
        return {}

    def find(self, text: str, visit: Visit, shown: Shown) -> Updates:
        """Looks for a text in all pages that are read."""
        text = text.strip()[:MOST_SEARCHED]
        if not text or not shown.get("run"):
            return {self.controls.found: ""}
        try:
            found = self._documents.find(str(shown["run"]), visit.visitor, text)
        except StudioError as error:
            return {self.controls.found: render_error(error, visit.language)}
        return {self.controls.found: view.render_found(text, found, visit.language)}

    def _read(self, run_id: str, visit: Visit, number: int) -> PageResult | None:
        try:
            return self._documents.page(run_id, visit.visitor, number)
        except NotFound:
            return None


def _still_known(known: Known | None, run_id: str, final: bool) -> dict[int, str]:
    """Outcomes of pages that need not be opened again; those that failed may be tried again."""
    if not known or known.get("run") != run_id or (final and not known.get("final")):
        return {}
    return {page: out for page, out in known["outcomes"].items() if out != FAILED}


def _whole(text: str | None, otherwise: int) -> int:
    """A whole number of a few digits, or the other one."""
    return int(text) if text and text.isdecimal() and len(text) < 8 else otherwise
