"""OCR on the processor: no memory of the card, some of the host's, seconds by the page's size.

The engine is ONNX Runtime's, so there is no tape to replay; both figures were measured.
"""

from __future__ import annotations

from webui.core.card import Card
from webui.core.documents import ScanCard, ScanRequest
from webui.core.request import Request
from webui.core.settings import Settings
from webui.core.text import Text
from webui.core.units import MIB
from webui.estimator.events import PhaseEvents
from webui.estimator.rules import Rules

MODELS_BYTES = 130 * MIB
"""Resident set of the worker with RapidOCR, OpenCV and both models, above that before."""
LINES_BYTES = 200 * MIB
"""What the lines take that are read side by side, on two cores."""
BYTES_PER_PIXEL = 145
"""Of the page as fed: the finder's layers, the page and its copies."""
BYTES_PER_SQUARE = 12e-6
"""Times the square of the pixels: the arena that keeps the layers grows by doubling. All four from
a process's peaks at 0.6 to 12 million pixels, within 17 % (rapidocr 3.10, onnxruntime 1.32)."""
OPERATIONS_PER_PIXEL = 135_000
"""What reading takes of the processor's plain rate, for a page full of text: the finder's work is
by the pixel, the reader's by the line (`python -m tests.documents_figures`). Receipts of the
machine correct it."""


class ScanMemory:
    """No events: nothing of it is on the card."""

    def __init__(
        self, card: ScanCard, request: ScanRequest, settings: Settings, rules: Rules
    ) -> None:
        height, width = card.fed_size(request.height, request.width, request.max_pixels)
        self.pixels = min(height * width, request.height * request.width)

    def phase_names(self) -> tuple[str, ...]:
        return ("read",)

    def phase(self, name: str) -> PhaseEvents:
        return PhaseEvents([])


def relevant(
    phase: str, model: ScanCard, request: ScanRequest, settings: Settings, rules: Rules
) -> tuple[ScanRequest, Settings]:
    """Request and settings as they are: there are no settings."""
    return request, settings


def notes(settings: Settings) -> tuple[Text, ...]:
    """What its figures are of."""
    return (
        Text(
            "It computes on the processor, whatever the card is: what it needs is memory of this "
            "computer, counted for the whole process.",
            "无论选择哪张显卡，它都在处理器上运行：占用的是本机内存，按整个进程计算。",
        ),
    )


def phase_seconds(name: str, memory: ScanMemory, pages: int, card: Card, host: Card) -> float:
    """Seconds of all pages, on the processor whatever the card is."""
    return pages * memory.pixels * OPERATIONS_PER_PIXEL / host.fp32_flops


def host_bytes(model: ScanCard, request: Request, settings: Settings) -> int:
    """Host memory above that of the process."""
    assert isinstance(request, ScanRequest)
    memory = ScanMemory(model, request, {}, Rules("cpu", (), False, True, True))
    finder_bytes = memory.pixels * (BYTES_PER_PIXEL + memory.pixels * BYTES_PER_SQUARE)
    return MODELS_BYTES + LINES_BYTES + int(finder_bytes)
