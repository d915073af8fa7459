"""The library's picture processors, which cut a page into a model's patches.

Those that work on a processor with PIL: torchvision, which the others need, is no dependency. A
whole `AutoProcessor` cannot be made without it, because many have a part for videos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoImageProcessor
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

from webui.core.errors import BadInput
from webui.core.model import ModelCard
from webui.core.text import Text
from webui.pipelines.checkpoint import reading
from webui.pipelines.pretrained import PROCESSOR_KEY

_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where a checkpoint says how pictures are prepared."""


def picture_processor(card: ModelCard, folder: Path | None) -> Any:
    """The processor of a checkpoint; without one, that of the model's class.

    Patches have the sizes of the model's configuration in any case.

    Args:
        card: the model.
        folder: of the checkpoint; None with random weights.

    Raises:
        BadInput: the library has none that works with PIL.
    """
    config = card.configs["model"]
    vision = config["vision_config"]
    own = {
        "patch_size": int(vision.get("patch_size", 14)),
        "merge_size": int(vision.get("spatial_merge_size", 2)),
    }
    file = next((name for name in _FILES if folder and (folder / name).is_file()), None)
    if file is not None:
        return reading(
            file,
            lambda: AutoImageProcessor.from_pretrained(
                str(folder), local_files_only=True, backend="pil", **own
            ),
        )
    kinds = IMAGE_PROCESSOR_MAPPING_NAMES.get(str(config["model_type"]), {})
    named = config.get(PROCESSOR_KEY)
    name = f"{named}Pil" if named else kinds.get("pil")
    found = getattr(transformers, str(name), None)
    if found is None:
        raise BadInput(
            "model",
            Text(
                f"transformers has no picture processor for {card.title} that works with PIL.",
                f"transformers 没有适用于 {card.title} 的 PIL 图片处理器。",
            ),
            Text(
                f"Name one in the model's configuration as {PROCESSOR_KEY}.",
                f"请在模型配置中用 {PROCESSOR_KEY} 指定。",
            ),
        )
    return found(**own)
