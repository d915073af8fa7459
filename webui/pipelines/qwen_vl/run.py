"""A run over pages: some at a time, each batch through vision, prefill and generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from webui.core.pages import PageCard, PageRequest
from webui.documents.answers import read_answer
from webui.pipelines.documents import Pages
from webui.pipelines.generating import write
from webui.pipelines.prompts import Answer, answer_of
from webui.pipelines.qwen_vl.pages import batch_inputs
from webui.pipelines.running import Report
from webui.pipelines.text_model import TextPipeline


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
    numbers = list(pages.numbers)
    size = int(settings["page_batch"])
    total = len(numbers) * request.new_tokens
    torch.manual_seed(max(request.seed, 0))
    for start in range(0, len(numbers), size):
        report.begin("vision")
        opened = [(number, pages.open(number)) for number in numbers[start : start + size]]
        batch = [(number, page) for number, page in opened if page is not None]
        if not batch:
            continue
        inputs = batch_inputs(pipe, request, [page for _, page in batch])

        def on_token(count: int, start: int = start, pages: int = len(batch)) -> None:
            report.step(start * request.new_tokens + count * pages, total)

        written = write(pipe, inputs, request.new_tokens, report, on_token)
        for (number, page), tokens in zip(batch, written, strict=True):
            _keep(pipe, request, pages, number, page, answer_of(pipe, tokens))
        del inputs, opened, batch  # before the next batch's are there


def _keep(
    pipe: TextPipeline,
    request: PageRequest,
    pages: Pages,
    number: int,
    page: Image.Image,
    answer: Answer,
) -> None:
    card: PageCard = pipe.card
    height, width = card.fed_size(page.height, page.width, request.max_pixels)
    blocks = read_answer(answer.text, card.output, card.boxes, (width, height), page.size)
    # An answer that ended by itself is shorter by its last token.
    cut_off = len(answer.tokens) >= request.new_tokens
    pages.done(number, blocks, tokens=len(answer.tokens), cut_off=cut_off)
