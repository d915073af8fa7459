"""What stood on a page: blocks in reading order, each with its place, as HTML, Markdown, text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from webui.core.errors import StudioError, error_from_json

KINDS = ("title", "text", "table", "figure", "formula")

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the page's picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One part of a page."""

    kind: str
    """One of KINDS."""
    box: Box | None
    """None where the engine tells no places."""
    text: str
    html: str
    """Sanitised: it holds nothing that runs or loads."""
    markdown: str

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "box": list(self.box) if self.box else None,
            "text": self.text,
            "html": self.html,
            "markdown": self.markdown,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Block:
        left, top, right, bottom = data["box"] or (0, 0, 0, 0)
        return cls(
            kind=str(data["kind"]),
            box=(left, top, right, bottom) if data["box"] else None,
            text=str(data["text"]),
            html=str(data["html"]),
            markdown=str(data["markdown"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageResult:
    """One page, read, or the reason why it was not."""

    number: int
    """In the whole input, from 1."""
    document: str
    """The file that it is of."""
    page: int
    """In that file, from 1."""
    width: int = 0
    height: int = 0
    """Of the page's picture, in pixels: what boxes are told in."""
    blocks: tuple[Block, ...] = ()
    cut_off: bool = False
    """The answer reached a limit, of tokens, lines or regions, so the page may go on."""
    tokens: int = 0
    seconds: float = 0.0
    error: StudioError | None = None

    @property
    def text(self) -> str:
        return "\n\n".join(block.text for block in self.blocks if block.text)

    @property
    def markdown(self) -> str:
        return "\n\n".join(block.markdown for block in self.blocks if block.markdown)

    def failed(self, error: StudioError) -> PageResult:
        """The same page, which could not be read."""
        return replace(self, blocks=(), error=error)

    def to_json(self) -> dict[str, Any]:
        names = ("number", "document", "page", "width", "height", "cut_off", "tokens", "seconds")
        return {
            **{name: getattr(self, name) for name in names},
            "blocks": [block.to_json() for block in self.blocks],
            "error": self.error.to_json() if self.error else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PageResult:
        names = ("number", "document", "page", "width", "height", "cut_off", "tokens", "seconds")
        return cls(
            **{name: data[name] for name in names},
            blocks=tuple(Block.from_json(block) for block in data["blocks"]),
            error=error_from_json(data["error"]) if data["error"] else None,
        )


def page_box(
    box: tuple[float, float, float, float], seen: tuple[float, float], page: tuple[int, int]
) -> Box | None:
    """A box as the engine tells it, in pixels of the page; None where nothing is left of it.

    Args:
        box: left, top, right, bottom, in either order.
        seen: width and height of what the engine means: the picture as fed, or its grid.
        page: the page's width and height in pixels.
    """
    across, down = page[0] / seen[0], page[1] / seen[1]
    xs = sorted(min(max(round(x * across), 0), page[0]) for x in (box[0], box[2]))
    ys = sorted(min(max(round(y * down), 0), page[1]) for y in (box[1], box[3]))
    if xs[0] == xs[1] or ys[0] == ys[1]:
        return None
    return xs[0], ys[0], xs[1], ys[1]
