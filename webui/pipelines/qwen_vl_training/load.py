"""Loads the model to train: random weights, or a folder as `save_pretrained` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from webui.core.errors import BadInput
from webui.core.text import Text
from webui.core.training import TrainCard
from webui.pipelines.checkpoint import damaged, existing_folder, find_files, missing_file, reading
from webui.pipelines.modules import DTYPES, OnComponent
from webui.pipelines.pretrained import model_class
from webui.pipelines.qwen_vl_training.build import build_random
from webui.pipelines.qwen_vl_training.components import Trainee, new_placement
from webui.pipelines.qwen_vl_training.refusals import refuse_several_gpus

_TEXT_KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads")
_VISION_KEYS = ("depth", "hidden_size", "intermediate_size")
"""Configuration keys that decide what model a folder holds."""


def load(
    card: TrainCard,
    settings: Mapping[str, Any],
    weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Trainee:
    """The model, placed, from wherever the weights are.

    A folder may hold the base of a model with more words (OmniSVG starts from Qwen2.5-VL): its
    embeddings are then made larger, as the library does it.

    Args:
        card: the model.
        settings: complete settings.
        weights: `kind` (random, or another with a folder) and `folder`.
        device: where it runs.
        on_component: progress.

    Raises:
        MissingWeights: files are not there.
        BadInput: the folder holds something else, a file is damaged, or several GPUs are asked.
    """
    refuse_several_gpus(settings)
    if weights.get("kind") == "random":
        return build_random(card, settings, device, on_component)
    folder = existing_folder(str(weights.get("folder", "")))
    _check_folder(folder, card)
    if on_component:
        on_component(0, 1)
    device = torch.device(device)
    placement = new_placement(device)
    model = reading("model", partial(_read, folder, card, settings))
    words = int(card.configs["model"]["vocab_size"])
    if model.get_input_embeddings().num_embeddings != words:
        model.resize_token_embeddings(words, mean_resizing=False)
    placement.add("model", model.requires_grad_(False))
    return Trainee(card, model, placement, device)


def _read(folder: Path, card: TrainCard, settings: Mapping[str, Any]) -> Any:
    model, info = model_class(card.configs["model"]).from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        dtype=DTYPES[str(settings["precision"])],
        attn_implementation="sdpa",
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise damaged(f"model: {missing[0]} is missing")
    return model


def _check_folder(folder: Path, card: TrainCard) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise missing_file(path)
    find_files(folder, "*.safetensors")
    found = reading("config.json", lambda: dict(json.loads(path.read_text("utf-8"))))
    expected = card.configs["model"]
    # The library writes what belongs to the language model apart; the authors do not.
    text = found.get("text_config") or found
    vision = found.get("vision_config") or {}
    pairs = (
        *((key, text.get(key), expected[key]) for key in _TEXT_KEYS),
        *((key, vision.get(key), expected["vision_config"][key]) for key in _VISION_KEYS),
    )
    for key, its, ours in pairs:
        if its != ours:
            raise BadInput(
                "model",
                Text(
                    f"'{folder.name}' holds another model than {card.title}: its {key} is "
                    f"{its} instead of {ours}.",
                    f"“{folder.name}”中不是 {card.title}：{key} 是 {its}，应为 {ours}。",
                ),
                Text("Choose the model that the folder holds.", "请选择与文件夹对应的模型。"),
            )
