"""What a model wrote about a page, as blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape
from html.parser import HTMLParser

from markdown_it import MarkdownIt

from webui.documents import markup
from webui.documents.blocks import Block, Box, page_box

_BOX = re.compile(r"\s*(-?\d+(?:\.\d+)?)" + r"[\s,]+(-?\d+(?:\.\d+)?)" * 3 + r"\s*")
_BY_CLASS = {
    "title": "title",
    "image": "figure",
    "figure": "figure",
    "chart": "figure",
    "music": "figure",
    "table": "table",
    "formula": "formula",
    "chemistry": "formula",
}
"""Kinds by the first word of a block's class (alibaba/Logics-Parsing, inference_v2.py)."""
_CODE = ("code", "pseudocode", "chart", "music")
"""Classes of blocks whose lines stay as they are."""
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_VOID = ("br", "img", "hr", "input", "meta", "link")
_FRONT_MATTER = re.compile(r"\A\s*---\s*\n.*?\n---\s*(?:\n|\Z)", re.DOTALL)
_FENCE = re.compile(r"^\s*(```|~~~)")
MAX_GRID = 1000
"""Boxes in thousandths go from 0 to this."""


def read_answer(
    answer: str,
    output: str,
    boxes: str = "none",
    fed: tuple[int, int] = (1, 1),
    page: tuple[int, int] = (1, 1),
) -> list[Block]:
    """The blocks of an answer, whatever its state: cut off, nested wrongly, or hostile.

    Args:
        answer: what the model wrote.
        output: html, markdown or text.
        boxes: what `data-bbox` means: `resized`, `thousandths` or `none`.
        fed: width and height of the picture that the model saw.
        page: those of the page.
    """
    if output == "html":
        seen = (MAX_GRID, MAX_GRID) if boxes == "thousandths" else fed
        reader = _Blocks()
        reader.feed(markup.whole(_without_fence(answer)))
        reader.close()
        reader.leave()
        found = [
            _html_block(raw.tag, raw.kind, "".join(raw.inner), _box_of(raw.box, seen, page, boxes))
            for raw in reader.found
            if raw.tag not in markup.GONE
        ]
    elif output == "markdown":
        found = [_markdown_block(part) for part in _parts(_without_fence(answer))]
    else:
        found = [text_block(part) for part in re.split(r"\n\s*\n", answer)]
    return [block for block in found if block.text or block.kind == "figure"]


def text_block(text: str, kind: str = "text", box: Box | None = None) -> Block:
    """A block of plain text."""
    text = text.strip()
    tag = "h2" if kind == "title" else "p"
    shown = markup.escaped(text)
    return Block(
        kind=kind,
        box=box,
        text=text,
        html=f"<{tag}>{escape(text, quote=False).replace(chr(10), '<br>')}</{tag}>",
        markdown=f"## {shown}" if kind == "title" else shown.replace("\n", "  \n"),
    )


def table_block(rows: list[list[str]], box: Box | None) -> Block:
    """A block of cells."""
    cells = ["".join(f"<td>{escape(cell, quote=False)}</td>" for cell in row) for row in rows]
    table = "<table><tbody>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</tbody></table>"
    return Block(
        kind="table",
        box=box,
        text="\n".join("\t".join(row) for row in rows),
        html=table,
        markdown=markup.table_markdown(table),
    )


def named_block(kind: str, answer: str, box: Box | None) -> Block:
    """A block whose kind is known before it is read.

    Args:
        kind: one of KINDS, or `code`.
        answer: what was written about it: LaTeX of a formula, HTML of a table, else text, which may
            hold formulas.
        box: its place.
    """
    if kind == "formula":
        return _formula_block(escape(answer), box)
    if kind == "code":
        return _code_block(escape(answer), "text", box)
    if kind == "table":
        return _html_block("div", "", markup.whole(answer), box)
    tag = {"title": "h2", "figure": "img"}.get(kind, "p")
    return _html_block(tag, "", escape(answer.strip(), quote=False), box)


class _Raw:
    """A block as it is read."""

    def __init__(self, tag: str, kind: str, box: str) -> None:
        self.tag, self.kind, self.box = tag, kind, box
        self.inner: list[str] = []
        self.depth = 1


class _Blocks(HTMLParser):
    """Cuts a page's HTML where an element with a place, or one of text on its own, begins.

    Blocks do not lie in each other: where one begins, the one before it ends, closed or not.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[_Raw] = []
        self._block: _Raw | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        words = named.get("class", "").split()
        kind = words[0].lower() if words else ""
        if "data-bbox" in named and not (tag == "img" and self._block is not None):
            self.leave()
            self._block = _Raw(tag, kind or ("image" if tag == "img" else ""), named["data-bbox"])
            if tag in _VOID:
                self.leave()
            return
        if self._block is None:
            if tag in ("html", "body", "head", "img", "br", "div", "section", "article"):
                return
            self._block = _Raw(tag, kind, "")
            return
        if tag == self._block.tag and tag not in _VOID:
            self._block.depth += 1
        self._block.inner.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        block = self._block
        if block is None:
            return
        if tag == block.tag:
            block.depth -= 1
            if not block.depth:
                self.leave()
                return
        block.inner.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self._block is None:
            if not data.strip():
                return
            self._block = _Raw("p", "", "")
        self._block.inner.append(data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")

    def leave(self) -> None:
        """The block is over."""
        if self._block is not None:
            self.found.append(self._block)
        self._block = None


def _box_of(told: str, seen: tuple[int, int], page: tuple[int, int], boxes: str) -> Box | None:
    match = _BOX.fullmatch(told)
    if match is None or boxes == "none":
        return None
    left, top, right, bottom = (float(match[index]) for index in range(1, 5))
    return page_box((left, top, right, bottom), seen, page)


def _html_block(tag: str, named: str, inner: str, box: Box | None) -> Block:
    kind = "title" if tag in _HEADINGS else _BY_CLASS.get(named, "text")
    if tag == "table":
        kind, inner = "table", f"<table>{inner}</table>"
    elif tag == "img":
        kind = "figure"
    if kind == "text" and "<table" in inner.lower():
        kind = "table"
    if named in _CODE or tag == "pre":
        return _code_block(inner, kind, box)
    if kind == "formula":
        return _formula_block(inner, box)
    shown = markup.clean(inner)
    text = markup.plain_text(markup.harmless(inner))
    level = tag if tag in _HEADINGS else "h2"
    wrapped = {"title": f"<{level}>{shown}</{level}>", "table": shown}.get(kind, f"<p>{shown}</p>")
    plain = markup.escaped(text)
    written = {
        "title": "#" * int(level[1]) + " " + " ".join(plain.split()),
        "table": markup.table_markdown(shown),
        "figure": f"*{plain}*" if plain else "",
    }.get(kind, plain.replace("\n", "  \n"))
    return Block(kind=kind, box=box, text=text, html=markup.clean(wrapped), markdown=written)


def _code_block(inner: str, kind: str, box: Box | None) -> Block:
    """Lines that stay as they are: code, a chart's or a score's description."""
    text = unescape(re.sub(r"</?(?:pre|code)[^>]*>", "", inner, flags=re.IGNORECASE))
    text = re.sub(r"<br\s*/?>", "\n", text, flags=re.IGNORECASE).replace("```", "").strip("\n")
    return Block(
        kind=kind,
        box=box,
        text=text.strip(),
        html=f"<pre><code>{escape(text, quote=False)}</code></pre>",
        markdown=f"```\n{text}\n```",
    )


def _formula_block(inner: str, box: Box | None) -> Block:
    latex = markup.plain_text(inner).strip()
    for start, end in (("$$", "$$"), ("\\[", "\\]"), ("$", "$")):
        if latex.startswith(start) and latex.endswith(end) and len(latex) > len(start + end):
            latex = latex[len(start) : -len(end)].strip()
    shown = f"<p>{markup.formula(latex)}</p>" if latex else ""
    written = f"$$\n{markup.escaped(latex)}\n$$" if latex else ""
    return Block(kind="formula", box=box, text=latex, html=shown, markdown=written)


def _markdown_block(part: str) -> Block:
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(part)
    shown = markup.clean(rendered)
    text = markup.plain_text(markup.harmless(rendered))
    stripped = part.lstrip()
    kind = "text"
    if stripped.startswith("#"):
        kind = "title"
    elif "<table" in shown:
        kind = "table"
    elif stripped.startswith(("$$", "\\[")):
        return _formula_block(escape(part), None)
    elif stripped.startswith("!["):
        kind = "figure"
    written = markup.table_markdown(shown) if kind == "table" else _harmless_markdown(part)
    return Block(kind=kind, box=None, text=text, html=shown, markdown=written)


def _harmless_markdown(part: str) -> str:
    """Markdown in which no tag and no address is left."""
    part = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", part)
    return part.strip().replace("<", "&lt;")


def _parts(answer: str) -> Iterator[str]:
    """A text in Markdown, cut at empty lines outside of code and tables."""
    lines: list[str] = []
    fenced = False
    for line in [*_FRONT_MATTER.sub("", answer).split("\n"), ""]:
        if _FENCE.match(line):
            fenced = not fenced
        inside = fenced or "\n".join(lines).lower().count("<table") > "\n".join(
            lines
        ).lower().count("</table")
        if line.strip() or inside:
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


def _without_fence(answer: str) -> str:
    """An answer that a model put into a code block, without it."""
    match = re.fullmatch(r"\s*```[a-z]*\n(.*?)(?:\n```\s*)?", answer, re.DOTALL)
    return match[1] if match else answer
