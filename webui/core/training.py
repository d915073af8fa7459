"""Fine-tuning (task `train`): steps of a vision-language model on pictures with their text."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from webui.core.errors import BadInput
from webui.core.fields import MAX_BATCH, read_text, read_whole
from webui.core.model import ModelCard
from webui.core.request import Given, Request
from webui.core.text import Text

MAX_ACCUMULATION = 1024
MAX_RANK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainDefaults:
    """The authors' values for what a request leaves out."""

    image_size: int
    sequence_length: int
    batch: int
    gradient_accumulation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainCard(ModelCard):
    """A model that can be fine-tuned."""

    defaults: TrainDefaults
    size_multiple: int
    """The model's processor resizes a picture's side to the nearest multiple of this, in pixels."""
    min_image_size: int
    max_image_size: int
    max_positions: int
    """Tokens of a sample, the picture's included."""

    def fed_size(self, image_size_px: int) -> int:
        """Side of a square picture as the model is fed with it: 392 for 384, 0 without one.

        As `smart_resize` of the library rounds (transformers,
        models/qwen2_vl/image_processing_qwen2_vl.py).
        """
        return round(image_size_px / self.size_multiple) * self.size_multiple

    def image_tokens(self, image_size_px: int) -> int:
        """Tokens that a square picture becomes; none without a picture."""
        return (self.fed_size(image_size_px) // self.size_multiple) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest(Request):
    """Steps of the optimizer on samples of one size; time is that of one step."""

    data: str = ""
    """Name of a data set; a path only on the command line."""
    image_size: int
    """Side of each sample's picture in pixels; 0 for text alone."""
    sequence_length: int
    """Tokens of a sample, the picture's included."""
    batch: int
    """Samples of one forward pass, on each GPU."""
    gradient_accumulation: int
    """Forward and backward passes for one step of the optimizer."""
    lora_rank: int = 0
    """0 trains all weights; else low-rank adapters of this rank beside the frozen ones."""

    @property
    def shape(self) -> tuple[Hashable, ...]:
        several = self.gradient_accumulation > 1
        return (self.image_size, self.sequence_length, self.batch, several, self.lora_rank)

    @property
    def repeats(self) -> int:
        return self.gradient_accumulation

    @property
    def size_text(self) -> str:
        rank = f" r{self.lora_rank}" if self.lora_rank else ""
        return f"{self.batch}x{self.sequence_length} {self.image_size}px{rank}"


def read_training(given: Given, model: TrainCard, common: Mapping[str, Any]) -> TrainRequest:
    """The request for fine-tuning, with the authors' values for what is left out.

    Args:
        given: the keys.
        model: takes them.
        common: the values of the keys that all tasks have.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    defaults = model.defaults
    image_size = _read_image_size(given, model)
    length = read_whole(given, "sequence_length", defaults.sequence_length, 1, model.max_positions)
    picture = model.image_tokens(image_size)
    if picture >= length:
        raise BadInput(
            "sequence_length",
            Text(
                f"A picture of {image_size} px takes {picture} tokens, and a sample has {length}.",
                f"{image_size} 像素的图片占 {picture} 个词元，而每个样本只有 {length} 个。",
            ),
            Text(
                f"Use more than {picture}, or a smaller image_size.",
                f"请用大于 {picture} 的值，或减小 image_size。",
            ),
        )
    return TrainRequest(
        data=read_text(given, "data", ""),
        image_size=image_size,
        sequence_length=length,
        batch=read_whole(given, "batch", defaults.batch, 1, MAX_BATCH),
        gradient_accumulation=read_whole(
            given, "gradient_accumulation", defaults.gradient_accumulation, 1, MAX_ACCUMULATION
        ),
        lora_rank=read_whole(given, "lora_rank", 0, 0, MAX_RANK),
        **common,
    )


def _read_image_size(given: Given, model: TrainCard) -> int:
    """0 for text alone, or a side that the model's processor leaves about as it is."""
    low, high = model.min_image_size, model.max_image_size
    size = read_whole(given, "image_size", model.defaults.image_size, 0, high)
    if 0 < size < low:
        raise BadInput(
            "image_size",
            Text(
                f"A picture of {size} px is smaller than the model takes.",
                f"{size} 像素的图片小于模型可接受的尺寸。",
            ),
            Text(
                f"Use {low} to {high}, or 0 for text without a picture.",
                f"请用 {low} 到 {high}，或用 0 表示只有文字。",
            ),
        )
    return size
