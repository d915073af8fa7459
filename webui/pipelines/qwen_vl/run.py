"""A run over pages: some at a time, each batch through vision, prefill and generate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from webui.core.pages import PageCard, PageRequest
from webui.documents.answers import read_answer
from webui.documents.blocks import Block
from webui.documents.marks import has_too_many_lines, line_blocks
from webui.pipelines.documents import Pages
from webui.pipelines.generating import write
from webui.pipelines.prompts import Answer, answer_of
from webui.pipelines.qwen_vl.pages import Question, page_question, question_inputs
from webui.pipelines.qwen_vl.regions import PageRegions
from webui.pipelines.running import Report
from webui.pipelines.text_model import TextPipeline

_MARKED = ("lines", "regions")
"""Forms of an answer in which words that are no text are what it says."""


def run(
    pipe: TextPipeline,
    request: PageRequest,
    settings: Mapping[str, Any],
    report: Report,
    pages: Pages,
) -> None:
    """Reads the pages, as many at a time as the settings say. The phases come again for each batch.

    Raises:
        Cancelled: the report says so, at the next block or token.
        RunFailed: the numbers overflowed.
    """
    card: PageCard = pipe.card
    numbers = list(pages.numbers)
    size = int(settings["page_batch"])
    passes = 2 if card.output == "regions" else 1
    progress = _Progress(report, len(numbers) * request.new_tokens * passes)
    torch.manual_seed(max(request.seed, 0))
    for start in range(0, len(numbers), size):
        report.begin("vision")
        opened = [(number, pages.open(number)) for number in numbers[start : start + size]]
        batch = [(number, page) for number, page in opened if page is not None]
        progress.done = start * request.new_tokens * passes
        if not batch:
            continue
        asked = [page_question(card, request, page) for _, page in batch]
        answers = _ask(pipe, request, report, asked, progress, len(batch) * request.new_tokens)
        if passes == 1:
            for (number, page), answer in zip(batch, answers, strict=True):
                blocks = _blocks(card, request, page, answer)
                more = card.output == "lines" and has_too_many_lines(answer.text)
                _keep(request, pages, number, blocks, [answer], more)
        else:
            found = dict(zip((number for number, _ in batch), answers, strict=True))
            _read_regions(pipe, request, size, report, pages, dict(batch), found, progress)
        del asked, opened, batch  # before the next batch's are there


class _Progress:
    """Tokens that are written, of those that may be."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total, self.done = report, total, 0

    def told(self, share: float) -> None:
        """So many more than when the batch began."""
        self.report.step(self.done + round(share), self.total)


def _ask(
    pipe: TextPipeline,
    request: PageRequest,
    report: Report,
    asked: Sequence[Question],
    progress: _Progress,
    worth: float,
) -> list[Answer]:
    """The answers to some questions at a time; the phase `vision` has begun.

    Args:
        pipe: the model.
        request: says how long they may be.
        report: told of the phases.
        asked: the questions.
        progress: told of the tokens.
        worth: how many of its tokens all of these are.
    """

    def on_token(count: int) -> None:
        progress.told(worth * count / request.new_tokens)

    written = write(pipe, question_inputs(pipe, asked), request.new_tokens, report, on_token)
    progress.done += round(worth)
    marks = pipe.card.output in _MARKED
    return [answer_of(pipe, tokens, marks) for tokens in written]


def _read_regions(
    pipe: TextPipeline,
    request: PageRequest,
    size: int,
    report: Report,
    pages: Pages,
    batch: Mapping[int, Image.Image],
    found: Mapping[int, Answer],
    progress: _Progress,
) -> None:
    """Reads what was found on pages, as many regions at a time as there may be pages."""
    told = {number: answer.text if pipe.tokenizer else None for number, answer in found.items()}
    on_page = {
        number: PageRegions(pipe.card, request, page, told[number])
        for number, page in batch.items()
    }
    waiting = [(regions, place) for regions in on_page.values() for place in regions.read]
    for start in range(0, len(waiting), size):
        report.begin("vision")
        part = waiting[start : start + size]
        asked = [regions.question(place) for regions, place in part]
        worth = len(batch) * request.new_tokens * len(part) / len(waiting)
        answers = _ask(pipe, request, report, asked, progress, worth)
        for (regions, place), answer in zip(part, answers, strict=True):
            regions.answers[place] = answer
    for number, regions in on_page.items():
        answers = [found[number], *regions.answers.values()]
        _keep(request, pages, number, regions.blocks(), answers, regions.cut_off)


def _blocks(card: PageCard, request: PageRequest, page: Image.Image, answer: Answer) -> list[Block]:
    if card.output == "lines":
        return line_blocks(answer.text, page.size)
    height, width = card.fed_size(page.height, page.width, request.max_pixels)
    return read_answer(answer.text, card.output, card.boxes, (width, height), page.size)


def _keep(
    request: PageRequest,
    pages: Pages,
    number: int,
    blocks: Sequence[Block],
    answers: Sequence[Answer],
    more: bool,
) -> None:
    """Hands a page over; `more` says that not all that was found on it is there."""
    tokens = [len(answer.tokens) for answer in answers]
    # An answer that ended by itself is shorter by its last token.
    cut_off = more or max(tokens) >= request.new_tokens
    pages.done(number, blocks, tokens=sum(tokens), cut_off=cut_off)
