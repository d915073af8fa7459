"""Loads RapidOCR with the models that its package brings: nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from webui.core.documents import ScanCard
from webui.pipelines.modules import OnComponent
from webui.pipelines.placement import Placement

if TYPE_CHECKING:
    from webui.pipelines.ocr.engine import LineReader


class OcrPipeline:
    """The loaded engine.

    Attributes:
        card: the model's.
        engine: finds and reads lines.
        placement: holds nothing: the models stay on the processor.
    """

    def __init__(self, card: ScanCard, engine: LineReader, placement: Placement) -> None:
        self.card = card
        self.engine = engine
        self.placement = placement


def load(
    card: ScanCard,
    _settings: Mapping[str, Any],
    _weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> OcrPipeline:
    """The engine; it computes on the processor whatever the device is."""
    if on_component:
        on_component(0, 1)
    from webui.pipelines.ocr.engine import LineReader

    return OcrPipeline(card, LineReader(), Placement({}, {}, torch.device(device)))
