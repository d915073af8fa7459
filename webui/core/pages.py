"""Documents that a vision-language model reads: it answers with what stands on the page."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from webui.core.documents import DocumentCard, DocumentRequest, read_document
from webui.core.errors import BadInput
from webui.core.fields import read_whole
from webui.core.request import Given
from webui.core.text import Text

OUTPUTS = ("markdown", "html", "text", "lines", "regions")
"""In what a model may answer: of its own marks there are `lines`, each with its corners, and
`regions`, the blocks of a page, which are then cut out and read each by itself."""
QUESTIONS = ("text", "table", "formula")
"""Kinds of regions that are asked about in words of their own."""
BOXES = ("none", "resized", "thousandths")
"""What the `data-bbox` of its blocks means: pixels of the page as it was fed, or a thousandth of
each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDefaults:
    """The authors' values for what a request leaves out."""

    max_pixels: int
    """What a page is shrunk to, where its size is left out."""
    new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCard(DocumentCard):
    """A model that reads pages."""

    defaults: PageDefaults
    prompt: str
    """What the model is asked with each page."""
    prompt_tokens: int
    """Text tokens around the picture's: the prompt and the conversation's frame."""
    max_positions: int
    """Tokens of a page, its text and its answer together."""
    output: str = "markdown"
    """One of OUTPUTS."""
    boxes: str = "none"
    """One of BOXES."""
    layout_size: int = 0
    """Side in pixels of the square that a page is brought to when its regions are looked for."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """What is asked with a region that is cut out, for each of QUESTIONS."""

    def image_tokens(self, request: PageRequest) -> int:
        """Most tokens that a picture becomes: a page, or what its regions are looked for on."""
        return max(self.page_tokens(request), self.layout_size**2 // self.size_multiple**2)

    def page_tokens(self, request: PageRequest) -> int:
        """Tokens that a page becomes, or a region as large: one for each place of the grid."""
        height, width = self.fed_size(request.height, request.width, request.max_pixels)
        return height * width // self.size_multiple**2


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest(DocumentRequest):
    """Pages, read one after the other or some at a time (`page_batch`)."""

    new_tokens: int
    """Most tokens that a page's answer may have."""

    @property
    def shape(self) -> tuple[Hashable, ...]:
        size = (self.height, self.width, self.max_pixels, self.new_tokens)
        return (*size, self.repeats, bool(self.input))

    @property
    def size_text(self) -> str:
        return f"{self.width}x{self.height} +{self.new_tokens}"


def read_pages(given: Given, model: PageCard, common: Mapping[str, Any]) -> PageRequest:
    """The request for pages, with the authors' values for what is left out.

    Args:
        given: the keys.
        model: takes them.
        common: the values of the keys that all tasks have.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    request = PageRequest(
        **read_document(given, model, model.defaults.max_pixels, common),
        new_tokens=read_whole(
            given, "new_tokens", model.defaults.new_tokens, 1, model.max_positions
        ),
    )
    tokens = model.image_tokens(request) + model.prompt_tokens + request.new_tokens
    if tokens > model.max_positions:
        raise BadInput(
            "new_tokens",
            Text(
                f"A page and its answer would be {tokens} tokens; {model.title} takes "
                f"{model.max_positions}.",
                f"一页及其结果共 {tokens} 个词元；{model.title} 最多 {model.max_positions} 个。",
            ),
            Text("Use fewer new_tokens or fewer pixels.", "请减少 new_tokens 或像素数。"),
        )
    return request
