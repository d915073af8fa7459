"""A run of a language model: one prompt, some answers at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from webui.core.language import TextRequest
from webui.pipelines.generating import write
from webui.pipelines.prompts import (
    Answer,
    answer_of,
    batch_tokens,
    conversation_tokens,
    plain_tokens,
)
from webui.pipelines.running import Report
from webui.pipelines.text_model import TextPipeline


def run(
    pipe: TextPipeline, request: TextRequest, _settings: Mapping[str, Any], report: Report
) -> list[Answer]:
    """Prompt to `batch` answers.

    Raises:
        Cancelled: the report says so, at the next block or token.
        RunFailed: the numbers overflowed.
    """
    report.begin("prefill")
    torch.manual_seed(max(request.seed, 0))
    written = write(
        pipe,
        batch_tokens(pipe, [prompt_tokens(pipe, request)] * request.batch),
        request.new_tokens,
        report,
        lambda count: report.step(count, request.new_tokens),
    )
    return [answer_of(pipe, tokens) for tokens in written]


def prompt_tokens(pipe: TextPipeline, request: TextRequest) -> list[int]:
    """The prompt as tokens."""
    if pipe.tokenizer is None:
        return plain_tokens(request.prompt_tokens)
    return conversation_tokens(pipe, request.prompt, ("", ""))
