"""The files of a finished document: HTML, Markdown, text, JSON, and a ZIP of all of them.

They are written page by page; no more than one page is in memory.
"""

from __future__ import annotations

import json
import zipfile
from contextlib import ExitStack
from html import escape
from pathlib import Path
from typing import IO

from webui.documents.blocks import PageResult
from webui.documents.kept import KeptPages

NAMES = ("document.html", "document.md", "document.txt", "document.json")
ARCHIVE = "document.zip"
_STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1f2328}section{border-top:1px solid #d0d7de;padding-top:1rem;margin-top:2rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #d0d7de;padding:.25rem .5rem}"
    "pre{overflow:auto;background:#f6f8fa;padding:.75rem}.page{color:#656d76;font-size:.85rem}"
    ".figure{border:1px dashed #d0d7de;padding:.5rem;color:#656d76}.error{color:#b42318}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the file may load: nothing."""


def write_bundle(kept: KeptPages, folder: Path) -> list[str]:
    """Puts the pages that are there together.

    Args:
        kept: the run's pages.
        folder: the run's.

    Returns:
        The files' names.

    Raises:
        OSError: the disk is full.
    """
    parts = {name: folder / f".{name}.part" for name in (*NAMES, ARCHIVE)}
    try:
        with ExitStack() as stack:
            files = [
                stack.enter_context(parts[name].open("w", encoding="utf-8", newline="\n"))
                for name in NAMES
            ]
            _write_all(kept, *files)
        with zipfile.ZipFile(parts[ARCHIVE], "w", zipfile.ZIP_DEFLATED) as archive:
            for name in NAMES:
                archive.write(parts[name], name)
            for result in kept.all():
                _add_page(archive, kept, result)
        for name, part in parts.items():
            part.replace(folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return [*NAMES, ARCHIVE]


def page_html(result: PageResult) -> str:
    """A page's blocks, each with its number, kind and place; what is in them is sanitised."""
    parts = []
    for index, block in enumerate(result.blocks):
        place = f' data-box="{",".join(map(str, block.box))}"' if block.box else ""
        parts.append(
            f'<div class="{block.kind}" id="p{result.number}-b{index}" '
            f'data-kind="{block.kind}"{place}>{block.html}</div>'
        )
    if result.error is not None:
        parts.append(f'<p class="error">{escape(result.error.message.en)}</p>')
    if result.cut_off:
        parts.append('<p class="error">The page reached a limit and may go on.</p>')
    return "\n".join(parts)


def _write_all(
    kept: KeptPages, html: IO[str], markdown: IO[str], text: IO[str], data: IO[str]
) -> None:
    html.write(
        '<!doctype html><html><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>document</title><style>{_STYLE}</style></head><body>\n"
    )
    data.write('{"pages": [')
    for index, result in enumerate(kept.all()):
        name = f"{result.document} · {result.page}"
        html.write(
            f'<section id="p{result.number}"><p class="page">{escape(name)}</p>\n'
            f"{page_html(result)}\n</section>\n"
        )
        markdown.write(("\n\n" if index else "") + result.markdown)
        # A form feed is what ends a page in plain text (as pdftotext has it).
        text.write(("\n\f" if index else "") + result.text)
        data.write((",\n" if index else "\n") + json.dumps(result.to_json(), ensure_ascii=False))
    html.write("</body></html>\n")
    markdown.write("\n")
    text.write("\n")
    data.write("\n]}\n")


def _add_page(archive: zipfile.ZipFile, kept: KeptPages, result: PageResult) -> None:
    stem = f"pages/{result.number:05}"
    archive.writestr(f"{stem}.html", page_html(result))
    archive.writestr(f"{stem}.md", result.markdown)
    picture = kept.picture(result.number)
    if picture.is_file():
        archive.write(picture, f"{stem}.jpg", zipfile.ZIP_STORED)
