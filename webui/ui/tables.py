"""Tables of the pages: a frame that scrolls, heads in the visitor's language, cells as HTML."""

from __future__ import annotations

from collections.abc import Iterable

from webui.core.text import Text
from webui.ui.language import say


def render_table(heads: Iterable[Text], rows: Iterable[Iterable[str]], language: str) -> str:
    """A table; cells are HTML, and what comes from outside is escaped in them."""
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows
    )
    return frame_rows(heads, body, language)


def frame_rows(heads: Iterable[Text], body: str, language: str) -> str:
    """Rows that have their own attributes, with heads and frame."""
    head = "".join(f'<th scope="col">{say(text, language)}</th>' for text in heads)
    return (
        f'<div class="vs-table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
