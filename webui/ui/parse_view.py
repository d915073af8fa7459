"""A document as HTML: one page's picture with boxes beside its text, and the way to the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from webui.core.job import JobState
from webui.core.text import Text
from webui.documents.blocks import KINDS, Block, PageResult
from webui.documents.marks import MOST_LINES, MOST_REGIONS
from webui.documents.markup import harmless
from webui.documents.pictures import COLOURS
from webui.service.documents import CUT_OFF, FAILED, MOST_FOUND, Found
from webui.ui import results
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.results import button
from webui.ui.web import file_address, page_address
from webui.ui.words import common
from webui.ui.words import parse as words

if TYPE_CHECKING:
    from webui.service import RunSummary

READER = """
const same = number => element.querySelectorAll(`[data-block="${number}"]`);
let pinned = null, lit = null, key = null;
const light = number => {
  if (lit !== null) same(lit).forEach(part => part.classList.remove('vs-lit'));
  lit = number;
  if (lit !== null) same(lit).forEach(part => part.classList.add('vs-lit'));
};
const number_of = target => target.closest?.('[data-block]')?.dataset.block ?? null;
const pin = (number, from) => {
  pinned = number;
  light(number);
  for (const part of same(number))
    if (part !== from) part.scrollIntoView({block: 'nearest', inline: 'nearest'});
};
element.addEventListener('click', event => {
  const button = event.target.closest('[data-action]');
  if (button) {
    if (!button.disabled) trigger('click', {...button.dataset});
    return;
  }
  const block = event.target.closest('[data-block]');
  if (block) pin(block.dataset.block, block);
});
element.addEventListener('change', event => {
  const field = event.target.closest('[data-change]');
  if (field) trigger('click', {action: field.dataset.change, page: field.value});
});
element.addEventListener('keydown', event => {
  if (event.key === 'Escape') { pinned = null; light(null); }
  if (event.key === 'Enter' && event.target.matches('.vs-block'))
    pin(event.target.dataset.block, event.target);
});
element.addEventListener('mouseover', event => light(number_of(event.target) ?? pinned));
element.addEventListener('mouseleave', () => light(pinned));
element.addEventListener('focusin', event => light(number_of(event.target) ?? pinned));
element.addEventListener('focusout', () => light(pinned));
const settle = () => {
  const reader = element.querySelector('.vs-reader');
  if (!reader || reader.dataset.key === key) return;
  key = reader.dataset.key;
  lit = pinned = null;
  element.querySelectorAll('.vs-lit').forEach(part => part.classList.remove('vs-lit'));
  element.querySelectorAll('.vs-sheet, .vs-read').forEach(part => part.scrollTop = 0);
  if (reader.dataset.marked !== undefined) pin(reader.dataset.marked, null);
};
new MutationObserver(settle).observe(element, {childList: true, subtree: true, attributes: true,
  attributeFilter: ['data-key']});
settle();
"""
"""For `gr.HTML(js_on_load=...)`: marks what belongs together on a page, and sends the buttons."""
VIEWS = tuple(words.VIEWS)
MOST_LISTED = 12
"""Pages of one kind that are listed by number."""


def render_document(
    run: RunSummary, name: str, expected: Sequence[int], outcomes: Mapping[int, str], language: str
) -> str:
    """What is known of a document, and what can be done with it.

    Args:
        run: that reads it, or has read it.
        name: of the file.
        expected: numbers of all of its pages.
        outcomes: how those that are read came out.
        language: of the visitor.
    """
    state = say(common.STATES[run.state], language)
    error = render_error(run.error, language) if run.error else ""
    failed = [number for number, outcome in outcomes.items() if outcome == FAILED]
    cut_off = [number for number, outcome in outcomes.items() if outcome == CUT_OFF]
    read = len(outcomes) - len(failed)
    count = say(words.READ_SO_FAR, language, read=read, count=len(expected))
    listed = _listed(words.FAILED_PAGES, failed, language) + _listed(
        words.CUT_OFF_PAGES, cut_off, language
    )
    memory = results.memory_text(run, language)
    return (
        f'<section class="vs-document" data-run="{escape(run.id)}">'
        f'<div class="vs-job-head"><h3 title="{escape(name)}">'
        f"{escape(name) or say(common.DOCUMENT, language)}</h3>"
        f'<span class="vs-figure" role="status">{state} · {count}</span></div>'
        f'<p class="vs-fine">{results.describe(run, language)}</p>'
        + (f'<p class="vs-fine">{memory}</p>' if memory else "")
        + error
        + listed
        + f'<div class="vs-actions">{_actions(run, expected, outcomes, language)}</div></section>'
    )


def may_resume(run: RunSummary, expected: Sequence[int], outcomes: Mapping[int, str]) -> bool:
    """Whether pages are left to read."""
    read = [number for number, outcome in outcomes.items() if outcome != FAILED]
    return run.state.final and not (run.state is JobState.DONE and set(read) >= set(expected))


def render_pager(expected: Sequence[int], number: int, language: str) -> str:
    """From page to page: buttons, and a field for a number."""
    if len(expected) < 2:
        return ""
    place = expected.index(number) if number in expected else 0
    before = expected[place - 1] if place else None
    after = expected[place + 1] if place + 1 < len(expected) else None
    whole = expected[-1] == len(expected)
    counted = words.OF_PAGES if whole else words.PLACE_OF_PAGES
    return (
        f'<nav class="vs-pager" aria-label="{say(words.PAGER_LABEL, language)}">'
        + _step(before, "‹", "previous", language)
        + f'<input type="number" data-change="page" min="{expected[0]}" max="{expected[-1]}" '
        f'value="{number}" aria-label="{say(words.PAGE_NUMBER, language)}">'
        f"<span>{say(counted, language, place=place + 1, count=len(expected))}</span>"
        + _step(after, "›", "next", language)
        + "</nav>"
    )


def render_page(run_id: str, page: PageResult, view: str, marked: int | None, language: str) -> str:
    """A page that is read: its picture with boxes, and what stands on it.

    Args:
        run_id: the document's.
        page: with its blocks.
        view: one of VIEWS.
        marked: the block that is marked from the start, by its place.
        language: of the visitor.
    """
    views = "".join(
        f'<button type="button" class="vs-button vs-chip" data-action="view" data-view="{name}" '
        f'aria-pressed="{str(name == view).lower()}">{say(text, language)}</button>'
        for name, text in words.VIEWS.items()
    )
    mark = "" if marked is None else f' data-marked="{marked}"'
    return (
        f'<div class="vs-reader" data-key="{escape(run_id)}/{page.number}/{view}/{marked}"{mark}>'
        f"{_sheet(run_id, page, language)}"
        '<div class="vs-side"><div class="vs-chips" role="group" '
        f'aria-label="{say(words.VIEWS_LABEL, language)}">{views}</div>'
        f"{_notes(page, language)}{_content(page, view, language)}</div></div>"
    )


def render_waiting(number: int, running: bool, language: str) -> str:
    """A page that is not there."""
    text = words.WAITING if running else words.NOT_THERE
    return f'<p class="vs-empty vs-low">{say(text, language, number=number)}</p>'


def render_found(text: str, found: Sequence[Found], language: str) -> str:
    """Where a text stands, each place with what is around it."""
    if not found:
        return f'<p class="vs-hint">{say(words.FOUND_NOTHING, language, wanted=text)}</p>'
    counted = words.FOUND_MOST if len(found) == MOST_FOUND else words.FOUND
    hits = "".join(
        f'<button type="button" class="vs-hit" data-action="hit" data-page="{hit.page}" '
        f'data-place="{hit.block}"><b>{say(words.HIT, language, number=hit.page)}</b> '
        f"{escape(hit.before)}<mark>{escape(hit.text)}</mark>{escape(hit.after)}</button>"
        for hit in found
    )
    total = say(counted, language, count=len(found))
    return f'<div class="vs-hits"><p class="vs-hint">{total}</p>{hits}</div>'


def _actions(
    run: RunSummary, expected: Sequence[int], outcomes: Mapping[int, str], language: str
) -> str:
    parts = ""
    if run.state.final and any(path.name == "document.zip" for path in run.outputs):
        address = escape(file_address(run.id, "document.zip", download=True))
        parts += (
            f'<a class="vs-button vs-primary" id="parse-download" href="{address}" download>'
            f"{say(words.DOWNLOAD_ALL, language)}</a>"
        )
    if may_resume(run, expected, outcomes):
        parts += button("resume", words.RESUME, language, run=run.id)
    if run.state.final:
        parts += button("again", common.USE_AGAIN, language, run=run.id)
        parts += button(
            "delete", common.DELETE, language, kind="vs-danger", run=run.id,
            confirm=common.CONFIRM_DELETE,
        )  # fmt: skip
    return parts


def _listed(title: Text, numbers: Sequence[int], language: str) -> str:
    """Pages by number, each a way to it."""
    if not numbers:
        return ""
    chips = "".join(
        f'<button type="button" class="vs-button vs-chip" data-action="page" '
        f'data-page="{number}">{number}</button>'
        for number in numbers[:MOST_LISTED]
    )
    rest = len(numbers) - MOST_LISTED
    more = f"<span>{say(words.AND_MORE, language, count=rest)}</span>" if rest > 0 else ""
    return f'<div class="vs-chips"><span>{say(title, language)}</span>{chips}{more}</div>'


def _step(number: int | None, sign: str, name: str, language: str) -> str:
    label = say(words.PREVIOUS if name == "previous" else words.NEXT, language)
    off = " disabled" if number is None else ""
    return (
        f'<button type="button" class="vs-button" data-action="page" data-page="{number}" '
        f'id="parse-{name}" aria-label="{label}" title="{label}"{off}>{sign}</button>'
    )


def _sheet(run_id: str, page: PageResult, language: str) -> str:
    """The picture with a box for each block, and what the colours mean."""
    if not page.width or not page.height:
        return ""
    picture = (
        f'<img src="{escape(page_address(run_id, page.number))}" width="{page.width}" '
        f'height="{page.height}" alt="{say(words.PAGE_PICTURE, language, number=page.number)}">'
    )
    boxes = "".join(_box(place, block, page, language) for place, block in enumerate(page.blocks))
    counts = {kind: sum(block.kind == kind for block in page.blocks) for kind in KINDS}
    legend = "".join(
        f'<span><b style="background:{COLOURS[kind]}" aria-hidden="true"></b>'
        f"{say(words.KINDS[kind], language)} {count}</span>"
        for kind, count in counts.items()
        if count
    )
    about = words.HOW_TO_LINK if boxes else words.NO_PLACES
    told = f'<p class="vs-fine">{say(about, language)}</p>' if page.blocks else ""
    return (
        f'<figure class="vs-page"><div class="vs-sheet"><div class="vs-paper">{picture}{boxes}'
        f'</div></div><figcaption><div class="vs-legend">{legend}</div>{told}</figcaption></figure>'
    )


def _box(place: int, block: Block, page: PageResult, language: str) -> str:
    if block.box is None:
        return ""
    left, top, right, bottom = block.box
    across, down = 100 / page.width, 100 / page.height
    # Smaller boxes lie above those that surround them.
    share = (right - left) * (bottom - top) / (page.width * page.height)
    label = f"{say(words.KINDS[block.kind], language)}: {escape(block.text[:80])}"
    return (
        f'<button type="button" class="vs-box" data-block="{place}" data-kind="{block.kind}" '
        f'aria-label="{label}" style="--vs-kind:{COLOURS[block.kind]};left:{left * across:.3f}%;'
        f"top:{top * down:.3f}%;width:{(right - left) * across:.3f}%;"
        f'height:{(bottom - top) * down:.3f}%;z-index:{1 + round(99 * (1 - share))}"></button>'
    )


def _notes(page: PageResult, language: str) -> str:
    if page.error is not None:
        return render_error(page.error, language)
    if page.cut_off:
        return (
            '<div class="vs-alert vs-cut-off" role="note"><strong>'
            f"{say(words.CUT_OFF, language, tokens=page.tokens)}</strong>"
            f"<span>{say(words.CUT_OFF_HINT, language, lines=MOST_LINES, regions=MOST_REGIONS)}"
            "</span></div>"
        )
    return ""


def _content(page: PageResult, view: str, language: str) -> str:
    if view == "markdown":
        return _source(page.markdown)
    if view == "text":
        return _source(page.text)
    if view == "json":
        return _source(json.dumps(page.to_json(), ensure_ascii=False, indent=1))
    if not page.blocks:
        empty = "" if page.error else say(words.NOT_FOUND_ON_PAGE, language)
        return f'<p class="vs-hint">{empty}</p>' if empty else ""
    # What is kept is clean already; it is cleaned again where it becomes part of this site.
    blocks = "".join(
        f'<div class="vs-block" data-block="{place}" data-kind="{block.kind}" '
        f'style="--vs-kind:{COLOURS[block.kind]}"{" tabindex=0" if block.box else ""}>'
        f"{harmless(block.html)}</div>"
        for place, block in enumerate(page.blocks)
    )
    return f'<div class="vs-read">{blocks}</div>'


def _source(text: str) -> str:
    return f'<pre class="vs-read vs-source" tabindex="0">{escape(text)}</pre>'
