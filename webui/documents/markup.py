"""HTML of models and strangers made harmless, and as text and Markdown.

What may stay is a short list of tags for text, tables and formulas; there is no address, no style
and no script in it. Broken nesting and cut tags come out whole (nh3, the sanitiser of the Rust
library ammonia).
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import nh3
from latex2mathml.converter import convert as to_mathml

_TEXT_TAGS = frozenset(
    [
        *("p", "br", "b", "strong", "i", "em", "u", "s", "sub", "sup", "code", "pre", "blockquote"),
        *("ul", "ol", "li", "dl", "dt", "dd", "span", "div", "hr"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
    ]
)
_TABLE_TAGS = frozenset(("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"))
_MATH_TAGS = frozenset(
    [
        *("math", "mrow", "mi", "mo", "mn", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot"),
        *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts"),
        *("mprescripts", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose"),
    ]
)
_ATTRIBUTES = {
    **{cell: {"colspan", "rowspan"} for cell in ("td", "th")},
    "math": {"display"},
    "mi": {"mathvariant"},
    "mo": {"stretchy", "fence", "separator"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "mfrac": {"linethickness"},
    "menclose": {"notation"},
    "mtd": {"columnalign"},
}
GONE = frozenset(
    [
        *("script", "style", "template", "iframe", "object", "embed", "svg", "title", "head"),
        *("noscript", "textarea"),
    ]
)
"""Tags that go with what stands in them."""
_FORMULA = re.compile(
    r"\$\$(?P<block>.+?)\$\$|\\\[(?P<bracket>.+?)\\\]|\\\((?P<round>.+?)\\\)"
    r"|(?<![\\$\w])\$(?P<inline>[^$\n]{1,500}?)\$(?![\w$])",
    re.DOTALL,
)
_TAG = re.compile(r"(<[^>]*>)")
_CUT_TAG = re.compile(r"<(?:[a-zA-Z/!][^<>]*)?$")
_BREAKS = frozenset(
    [
        *("p", "div", "br", "tr", "table", "ul", "ol", "li", "pre", "blockquote", "caption"),
        *("h1", "h2", "h3", "h4", "h5", "h6", "dt", "dd", "hr"),
    ]
)
MAX_FORMULA_CHARACTERS = 4000


def whole(markup: str) -> str:
    """The markup without a tag that was cut off at its end."""
    return _CUT_TAG.sub("", markup)


def clean(markup: str) -> str:
    """HTML that can be shown: formulas as MathML, nothing that runs or loads."""
    left = harmless(markup)
    if "$" not in left and "\\" not in left:
        return left
    parts = _TAG.split(left)
    # Once more: the formulas' converter does not escape what stands in them.
    return harmless("".join(p if p.startswith("<") else _with_formulas(p) for p in parts))


def formula(latex: str) -> str:
    """A formula as MathML; as it was written where it is no LaTeX that the converter knows."""
    return harmless(_mathml(latex, block=True))


def harmless(markup: str) -> str:
    """HTML without what runs or loads; formulas stay as they were written."""
    cleaned: str = nh3.clean(
        markup,
        tags=set(_TEXT_TAGS | _TABLE_TAGS | _MATH_TAGS),
        attributes=_ATTRIBUTES,
        clean_content_tags=set(GONE),
        url_schemes=set(),
        link_rel=None,
    )
    return cleaned


def _with_formulas(escaped: str) -> str:
    return _FORMULA.sub(_replaced, escaped)


def _replaced(match: re.Match[str]) -> str:
    block = match["block"] or match["bracket"]
    latex = block or match["round"] or match["inline"]
    return _mathml(html.unescape(latex), block=bool(block))


def _mathml(latex: str, block: bool) -> str:
    latex = latex.strip()
    shown = f"<code>{html.escape(latex)}</code>"
    if not latex or len(latex) > MAX_FORMULA_CHARACTERS:
        return shown
    try:
        return str(to_mathml(latex, display="block" if block else "inline"))
    # It raises errors of its own and those of whatever went wrong within it.
    except Exception:
        return shown


class _Reader(HTMLParser):
    """Collects the text; cells of a table end with a tab, other parts with a line."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._tables = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "table":
            self._tables += 1
        if tag in _BREAKS:
            self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.parts.append("\t")
        elif tag == "tr":
            self.parts.append("\n")
        elif tag in _BREAKS:
            if tag == "table":
                self._tables = max(0, self._tables - 1)
            self._break(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(data.replace("\n", " ") if self._tables else data)

    def _break(self, tag: str) -> None:
        """Within a table only rows end a line."""
        if self._tables == 0 or (tag == "table" and self._tables == 1):
            self.parts.append("\n")
        elif tag != "tr":
            self.parts.append(" ")


def plain_text(markup: str) -> str:
    """What a reader sees of sanitised HTML."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    lines = "".join(reader.parts).split("\n")
    spaced = (re.sub(r"[ \xa0]+", " ", line).strip(" \t") for line in lines)
    kept = (re.sub(r" ?\t ?", "\t", line) for line in spaced)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


class _Table(HTMLParser):
    """The cells of a sanitised table."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.simple = True
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.simple &= not attrs
            self._in_cell = True
            if not self.rows:
                self.rows.append([])
            self.rows[-1].append("")
        elif tag == "br" and self._in_cell:
            self.handle_data(" ")
        elif self._in_cell:
            self.simple &= tag in ("b", "i", "em", "strong", "span", "p")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data


def table_markdown(markup: str) -> str:
    """A sanitised table as Markdown; as HTML where its cells span others."""
    reader = _Table()
    reader.feed(markup)
    reader.close()
    rows = [row for row in reader.rows if row]
    if not rows or not reader.simple:
        return markup
    width = max(map(len, rows))
    lines = [_row(row + [""] * (width - len(row))) for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(escaped(" ".join(c.split())).replace("|", "\\|") for c in cells) + " |"


def escaped(text: str) -> str:
    """Text for Markdown, in which nothing becomes a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
