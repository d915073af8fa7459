"""What the editor of presets and settings shows: choices, mistakes, differences; all escaped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from html import escape

from webui.core.errors import Conflict
from webui.core.units import format_bytes
from webui.service.editing import SETTINGS, Entry, Problem
from webui.storage.history import Version
from webui.ui.language import say
from webui.ui.memory_panel import render_error
from webui.ui.page import Visit
from webui.ui.results import button
from webui.ui.words import config_editor as words

MARKED_LINES = 60
"""The code editor draws only the lines in sight of longer texts, so those are not counted."""
MOST_DIFF_LINES = 400
MOST_COMPARED_LINES = 1500
"""Comparing takes the square of it; a preset has twenty."""


def document_choices(entries: Iterable[Entry], visit: Visit) -> list[tuple[str, str]]:
    """Label and name of each document."""
    return [(_label(entry, visit), entry.name) for entry in entries]


def _label(entry: Entry, visit: Visit) -> str:
    parts = [visit.say(words.GROUPS[entry.group])]
    if entry.memory_gb is not None:
        parts.append(visit.say(words.GIGABYTES, count=entry.memory_gb))
    about = entry.about.in_language(visit.language)
    named = about == entry.name or entry.name == SETTINGS
    parts.append(about if named else f"{about} ({entry.name})")
    return " · ".join(parts)


NO_PLAN = '<span class="vs-no-plan"></span>'
"""In place of an estimate: settings take no memory, and the page hides what belongs to one."""


def version_choices(versions: Iterable[Version], visit: Visit) -> list[tuple[str, str]]:
    """Label and id of each former version, the newest first."""
    return [
        (
            visit.say(
                words.VERSION,
                when=f"{version.replaced:%Y-%m-%d %H:%M:%S}",
                size=format_bytes(version.size_bytes),
            ),
            version.id,
        )
        for version in versions
    ]


def render_status(changed: bool, new: bool, visit: Visit) -> str:
    """One line above the editor."""
    text = words.NEW if new else words.CHANGED if changed else words.UNCHANGED
    if not visit.owner:
        text = words.READ_ONLY
    # The browser asks before such a page is left.
    state = " data-changed" if changed and visit.owner else ""
    return f'<p class="vs-hint" role="status"{state}>{say(text, visit.language)}</p>'


def render_problems(problems: Sequence[Problem], text: str, visit: Visit) -> str:
    """Every mistake with its line; the lines are marked in the editor too."""
    if not problems:
        return f'<p class="vs-hint vs-right">{say(words.NO_PROBLEM, visit.language)}</p>'
    items = "".join(_item(problem, visit) for problem in sorted(problems, key=_line))
    title = say(words.PROBLEMS, visit.language)
    return (
        f'<div class="vs-alert vs-problems" role="alert"><strong>{title}</strong><ul>{items}</ul>'
        f"</div>{_marks(problems, text)}"
    )


def _line(problem: Problem) -> int:
    return problem.line


def _item(problem: Problem, visit: Visit) -> str:
    where = [say(words.LINE, visit.language, line=problem.line)] if problem.line else []
    if problem.field:
        where.append(f"<code>{escape(problem.field)}</code>")
    hint = problem.hint.in_language(visit.language)
    return (
        f'<li data-line="{problem.line}"><b>{" · ".join(where)}</b> '
        f"{escape(problem.message.in_language(visit.language))}"
        + (f" <span>{escape(hint)}</span>" if hint else "")
        + "</li>"
    )


def _marks(problems: Sequence[Problem], text: str) -> str:
    """A style for the lines of the editor: its own elements must not be touched."""
    if text.count("\n") >= MARKED_LINES:
        return ""
    lines = sorted({problem.line for problem in problems if problem.line})
    chosen = ",".join(f"#config-editor .cm-line:nth-child({line})" for line in lines)
    return f"<style>{chosen}{{background:var(--vs-mark)}}</style>" if lines else ""


def render_diff(before: str, after: str, visit: Visit, title: str = "") -> str:
    """Two texts line by line, what was removed and what was added."""
    if max(before.count("\n"), after.count("\n")) > MOST_COMPARED_LINES:
        return f'<p class="vs-hint">{say(words.TOO_LONG, visit.language)}</p>'
    lines = list(
        difflib.unified_diff(
            before.strip().splitlines(), after.strip().splitlines(), lineterm="", n=2
        )
    )[2 : MOST_DIFF_LINES + 2]
    if not lines:
        return ""
    shown = "\n".join(_diff_line(line) for line in lines)
    heading = title or say(words.CHANGES, visit.language)
    return (
        f'<section class="vs-diff"><h3 class="vs-title">{heading}</h3>'
        f'<pre tabindex="0">{shown}</pre></section>'
    )


def _diff_line(line: str) -> str:
    kind = {"+": "ins", "-": "del"}.get(line[:1], "span")
    return f"<{kind}>{escape(line)}</{kind}>"


def render_conflict(error: Conflict, name: str, text: str, visit: Visit) -> str:
    """Both ways out, and what differs."""
    overwrite = button(
        "overwrite", words.OVERWRITE, visit.language, kind="vs-danger", seen=error.seen, name=name
    )
    title = say(words.THEIRS, visit.language)
    return (
        render_error(error, visit.language)
        + f'<div class="vs-actions">{overwrite}</div>'
        + render_diff(error.text, text, visit, title)
    )


def render_actions(name: str, there: bool, changed: bool, visit: Visit) -> str:
    """The buttons for a document.

    Args:
        name: of the document.
        there: whether its file is there.
        changed: whether there is something to lose.
        visit: who asks.
    """
    preset, language = name != SETTINGS, visit.language
    shown = []
    if preset:
        shown.append(button("use", words.USE, language, kind="vs-primary"))
    if visit.owner:
        shown.append(button("save", words.SAVE, language, kind="vs-primary"))
        confirm = words.CONFIRM_REVERT if changed else None
        shown.append(button("revert", words.REVERT, language, kind="vs-quiet", confirm=confirm))
    if visit.owner and preset and there:
        shown.append(button("duplicate", words.DUPLICATE, language, kind="vs-quiet"))
        shown.append(
            button(
                "delete", words.DELETE, language, kind="vs-quiet vs-danger",
                confirm=words.CONFIRM_DELETE,
            )
        )  # fmt: skip
    return f'<div class="vs-actions">{"".join(shown)}</div>'


def render_name_actions(visit: Visit) -> str:
    """Beside the field for another name."""
    return f'<div class="vs-actions">{button("save-as", words.SAVE_AS, visit.language)}</div>'


def render_version_actions(visit: Visit) -> str:
    """Beside the list of versions."""
    return f'<div class="vs-actions">{button("restore", words.RESTORE, visit.language)}</div>'


def render_back(visit: Visit) -> str:
    """Brings back what was in the editor before another text was put there."""
    return f'<div class="vs-actions">{button("back", words.BACK_BUTTON, visit.language)}</div>'
