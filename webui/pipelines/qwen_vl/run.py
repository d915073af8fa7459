"""A run over pages: some at a time, each batch through vision, prefill and generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.core.pages import PageRequest
from webui.pipelines.generating import write
from webui.pipelines.prompts import Answer, answer_of
from webui.pipelines.qwen_vl.pages import batch_inputs, blank_page, open_page, page_files
from webui.pipelines.running import Report
from webui.pipelines.text_model import TextPipeline


def run(
    pipe: TextPipeline, request: PageRequest, settings: Mapping[str, Any], report: Report
) -> list[Answer]:
    """What stands on each page, in their order.

    With random weights the pages are blank ones of the request's size. The phases come again for
    each batch.

    Raises:
        Cancelled: the report says so, at the next block or token.
        RunFailed: the numbers overflowed.
        BadInput: the input has no such pages.
    """
    files = page_files(request) if pipe.tokenizer is not None else [None] * request.repeats
    size = int(settings["page_batch"])
    total = len(files) * request.new_tokens
    torch.manual_seed(max(request.seed, 0))
    answers: list[Answer] = []
    for start in range(0, len(files), size):
        report.begin("vision")
        names = files[start : start + size]
        pages = [blank_page(request) if name is None else open_page(name) for name in names]
        inputs = batch_inputs(pipe, request, pages)

        def on_token(count: int, start: int = start, pages: int = len(pages)) -> None:
            report.step(start * request.new_tokens + count * pages, total)

        written = write(pipe, inputs, request.new_tokens, report, on_token)
        answers += [answer_of(pipe, tokens) for tokens in written]
        del inputs  # before the next batch's are there
    return answers
