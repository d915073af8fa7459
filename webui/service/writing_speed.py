"""Tokens a second of runs of `verify` that wrote text: by how many were written at a time.

Random weights end no answer early, so a run wrote all the tokens that it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from webui.catalogue import find_model
from webui.core.language import TextRequest
from webui.core.pages import PageRequest
from webui.core.parse import parse_request
from webui.core.receipt import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingSpeed:
    """The fastest run of one model, size, cap and number at a time."""

    model: str
    size: str
    """Of a page or prompt, and the new tokens, e.g. `861x1218 +256`."""
    cap_gib: float | None
    together: int
    """Pages or answers at a time."""
    answers: int
    """In all."""
    tokens_per_s: float
    """Over the whole run: reading the pages or prompts is in it, loading the model is not."""
    times_one: float | None = None
    """Over that of one at a time; None where no such run is there, and for itself."""


def writing_speeds(receipts: Iterable[Receipt]) -> list[WritingSpeed]:
    """The speeds of all runs that wrote text, in the order in which they come first."""
    found: dict[tuple[str, str, float | None, int], tuple[float, int]] = {}
    for receipt in receipts:
        if receipt.measurement is None or receipt.error or "new_tokens" not in receipt.request:
            continue
        request = parse_request(receipt.request, find_model)
        if isinstance(request, PageRequest):
            answers = request.repeats
            together = min(int(receipt.plan["settings"]["page_batch"]), answers)
            size = request.size_text
        elif isinstance(request, TextRequest):
            answers = together = request.batch
            size = f"{request.prompt_tokens} +{request.new_tokens}"
        else:
            continue
        rate = answers * request.new_tokens / receipt.measurement.seconds
        key = (request.model, size, request.vram_gib, together)
        found[key] = max(found.get(key, (0.0, 0)), (rate, answers))
    return [
        WritingSpeed(
            model=model,
            size=size,
            cap_gib=cap,
            together=together,
            answers=answers,
            tokens_per_s=rate,
            times_one=rate / found[(model, size, cap, 1)][0]
            if together > 1 and (model, size, cap, 1) in found
            else None,
        )
        for (model, size, cap, together), (rate, answers) in found.items()
    ]


def speed_table(speeds: Iterable[WritingSpeed]) -> str:
    """For a terminal, a line a speed."""
    lines = [
        f"{f'{speed.model} {speed.size}':<42.42} "
        f"{f'{speed.cap_gib:g} GiB' if speed.cap_gib else '':>8} {speed.together:>8} "
        f"{speed.answers:>7} {speed.tokens_per_s:>11.1f} "
        f"{f'{speed.times_one:.1f}x' if speed.times_one else '':>13}".rstrip()
        for speed in speeds
    ]
    head = f"{'request':<42} {'cap':>8} {'together':>8} {'answers':>7} {'tokens/s':>11}"
    return "\n".join([f"{head} {'of one alone':>13}", *lines])
