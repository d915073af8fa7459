"""Where the weights of a model are, and their download, as the page shows it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from webui.core.errors import NotAllowed
from webui.core.model import ModelCard
from webui.core.text import Text
from webui.core.units import format_bytes
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.page import Page, Visit
from webui.ui.phase_bars import seconds_text
from webui.ui.results import button
from webui.ui.words import common
from webui.ui.words import generate as words

if TYPE_CHECKING:
    from webui.service import WeightsState


def change_download(page: Page, visit: Visit, model: str, *, start: bool) -> None:
    """Starts or stops a download.

    Raises:
        NotAllowed: the visitor does not own the machine.
    """
    if not visit.owner:
        raise NotAllowed(words.OWNER_DOWNLOADS, words.ASK_OWNER)
    if start:
        page.studio.downloads.start(model)
    else:
        page.studio.downloads.cancel(model)


def weights_of(page: Page, model: ModelCard, visit: Visit) -> str:
    """`render_weights` as things stand now, for whoever looks."""
    state = page.studio.downloads.state(model.name)
    return render_weights(model, state, visit.language, owner=visit.owner)


def render_weights(model: ModelCard, state: WeightsState, language: str, *, owner: bool) -> str:
    """What the model can do, whether its weights are here, and how to get them."""
    about = (
        f'<details class="vs-note"><summary>{say(words.ABOUT_MODEL, language)} · '
        f"{escape(model.licence)}</summary><p>{say(model.about, language)}</p></details>"
    )
    progress = state.progress
    if is_running(state):
        return _progress(state, language, owner=owner) + about
    if state.available:
        source = state.source.in_language(language)
        line = say(words.WEIGHTS_HERE, language, source=source)
        return f'<p class="vs-hint">{line}</p>{about}'
    size = format_bytes(state.download_bytes)
    missing = say(words.WEIGHTS_MISSING, language, size=size)
    offer = Text(words.DOWNLOAD.en.format(size=size), words.DOWNLOAD.zh.format(size=size))
    download = button("download", offer, language) if owner else ""
    # The reason names folders of this machine: the owner's business.
    failed = render_error(progress.error, language) if owner and progress and progress.error else ""
    return f'<p class="vs-hint vs-missing">{missing}</p>{failed}{download}{about}'


def is_running(state: WeightsState) -> bool:
    """Whether a download is under way."""
    return state.progress is not None and state.progress.state == "running"


def _progress(state: WeightsState, language: str, *, owner: bool) -> str:
    progress = state.progress
    assert progress is not None
    done, total = progress.done_bytes, max(1, progress.total_bytes or state.download_bytes)
    text = say(words.DOWNLOADING, language, done=format_bytes(done), total=format_bytes(total))
    if progress.seconds_left is not None:
        text += " · " + say(
            common.TIME_LEFT, language, time=seconds_text(float(progress.seconds_left), language)
        )
    percent = min(100.0, 100 * done / total)
    stop = button("stop-download", words.STOP_DOWNLOAD, language, kind="vs-quiet") if owner else ""
    return (
        f'<div class="vs-job-head"><span class="vs-hint">{text}</span>{stop}</div>'
        '<div class="vs-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><b style="width:{percent:.1f}%"></b></div>'
    )
