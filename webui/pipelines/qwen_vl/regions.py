"""The regions that a model found on a page: cut out, turned upright, and asked about one by one."""

from __future__ import annotations

import math

from PIL import Image

from webui.core.pages import PageCard, PageRequest
from webui.documents.blocks import Block
from webui.documents.marks import (
    MOST_REGIONS,
    UNREAD,
    Region,
    kind_of,
    read_regions,
    region_block,
)
from webui.pipelines.prompts import Answer
from webui.pipelines.qwen_vl.pages import Question

_MOST_RATIO = 50
"""Longer side over the shorter one up to which nothing is put around a region
(opendatalab/mineru-vl-utils, mineru_client.py, `resize_by_need`)."""


class PageRegions:
    """The regions of one page.

    Args:
        card: the model.
        request: says how large they may be.
        page: the page.
        answer: where the model found them; None with random weights, which find nothing: then the
            whole page is one, as large as a region can be.
    """

    def __init__(
        self, card: PageCard, request: PageRequest, page: Image.Image, answer: str | None
    ) -> None:
        self._card, self._request, self._page = card, request, page
        whole = [Region("text", (0, 0, *page.size), 0)]
        found = whole if answer is None else read_regions(answer, page.size)
        self._regions = found[:MOST_REGIONS]
        self.cut_off = len(found) > MOST_REGIONS
        """Whether the model found more than are read."""
        self.read = [
            place for place, region in enumerate(self._regions) if region.named not in UNREAD
        ]
        """Places of those that are read."""
        self.answers: dict[int, Answer] = {}
        """By their places."""

    def question(self, place: int) -> Question:
        """What is asked about a region."""
        region = self._regions[place]
        picture = _handy(
            _turned(self._page.crop(region.box), region.turn), self._card.size_multiple
        )
        questions = self._card.questions
        prompt = questions.get(kind_of(region), questions["text"])
        size = self._card.fed_size(picture.height, picture.width, self._request.max_pixels)
        return Question(picture, size, prompt)

    def blocks(self) -> list[Block]:
        """What stood on the page, in reading order."""
        said = {place: answer.text for place, answer in self.answers.items()}
        found = [
            region_block(region, said.get(place, "")) for place, region in enumerate(self._regions)
        ]
        return [block for block in found if block.text or block.kind == "figure"]


def _turned(picture: Image.Image, degrees: int) -> Image.Image:
    return picture.rotate(degrees, expand=True) if degrees else picture


def _handy(picture: Image.Image, least: int) -> Image.Image:
    """A picture that is not too narrow, and whose sides have `least` pixels: white is put around
    it, then it is grown."""
    longer = max(picture.size)
    if longer > _MOST_RATIO * min(picture.size):
        wide, high = (max(side, math.ceil(longer / _MOST_RATIO)) for side in picture.size)
        around = Image.new(picture.mode, (wide, high), "white")
        around.paste(picture, ((wide - picture.width) // 2, (high - picture.height) // 2))
        picture = around
    if min(picture.size) < least:
        grow = least / min(picture.size)
        size = (math.ceil(picture.width * grow), math.ceil(picture.height * grow))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return picture
