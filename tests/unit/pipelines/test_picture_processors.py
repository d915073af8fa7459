"""Pictures as the library's processors cut them, at the size that the plan has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import Glm46VImageProcessorPil, PaddleOCRVLImageProcessorPil
from transformers import Qwen2VLImageProcessorPil as QwenProcessor

from tests.unit.pipelines.text_cards import tiny_qwen25
from webui.catalogue import models_of
from webui.core.errors import BadInput
from webui.core.pages import PageCard
from webui.pipelines.picture_processors import picture_processor

FRAMES = {"glm-ocr": 2}
"""Of a picture, where the processor's limits are for all frames together."""
KINDS = {
    "glm-ocr": Glm46VImageProcessorPil,
    "paddleocr-vl-1.5": PaddleOCRVLImageProcessorPil,
    "paddleocr-vl-1.5-lines": PaddleOCRVLImageProcessorPil,
    "mineru2.5": QwenProcessor,
    "olmocr-2-7b": QwenProcessor,
    "logics-parsing-v2": QwenProcessor,
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(620, 900), (1754, 1240), (35, 400)])
def test_the_authors_resizing_is_ours(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    """The processor with its own rule for sizes, and with ours, makes the same patches."""
    card = models_of(PageCard)[name]
    ours = picture_processor(card, None)
    assert type(ours) is KINDS[name]
    height, width = card.fed_size(*size, 900_000)
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    page = Image.fromarray(pixels)
    found = ours(images=[page.resize((width, height), ours.resample)], do_resize=False)
    frames = FRAMES.get(name, 1)
    limits = {"shortest_edge": card.min_pixels * frames, "longest_edge": 900_000 * frames}
    theirs = ours(images=[page], size=limits)
    assert np.array_equal(found["image_grid_thw"], theirs["image_grid_thw"])
    assert np.array_equal(found["pixel_values"], theirs["pixel_values"])


@pytest.mark.parametrize("named", ["", "Fast"])
def test_a_checkpoint_names_its_own(named: str, tmp_path: Path) -> None:
    """Also by the name of the kind that works on a GPU, which is not here."""
    card = models_of(PageCard)["glm-ocr"]
    Glm46VImageProcessorPil(image_mean=[0.1, 0.2, 0.3]).save_pretrained(str(tmp_path))
    file = tmp_path / "preprocessor_config.json"
    text = file.read_text().replace("Glm46VImageProcessorPil", f"Glm46VImageProcessor{named}")
    file.write_text(text)
    found = picture_processor(card, tmp_path)
    assert type(found) is Glm46VImageProcessorPil and list(found.image_mean) == [0.1, 0.2, 0.3]
    assert (found.patch_size, found.merge_size) == (14, 2)


def test_a_class_without_one_says_what_to_name() -> None:
    card = tiny_qwen25()
    config = card.configs["model"] | {"model_type": "chatglm"}
    with pytest.raises(BadInput, match="no picture processor") as caught:
        picture_processor(replace(card, configs={"model": config}), None)
    assert "image_processor_type" in caught.value.hint.en
