"""Models of transformers that write text: empty, with random weights, or from a folder; placed.

Both families of such models (documents, language) load through here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, GenerationConfig

from webui.core.errors import BadInput
from webui.core.model import ModelCard
from webui.core.text import Text
from webui.pipelines.checkpoint import damaged, existing_folder, missing_file, reading
from webui.pipelines.modules import DTYPES, OnComponent
from webui.pipelines.placement import Placement
from webui.pipelines.pretrained import empty_model, meta_model, model_class, read_config
from webui.pipelines.quantization import is_quantized, quantize
from webui.pipelines.random_weights import fill_random

COMPONENT = "model"
"""The one configuration that a card of these families has."""
PHASES_OF = {
    "vision": ("vision",),
    "connector": ("prefill",),
    "language": ("vision", "prefill", "generate"),
}
"""The phases that need a part of the model. The table of embeddings, which is the language part's,
is asked before the pictures are looked at; what some models have between tower and language model
(`connector`), after it."""
_LANGUAGE_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
_VISION_KEYS = ("depth", "num_hidden_layers", "hidden_size", "out_hidden_size", "patch_size")
"""Configuration keys that decide what model a folder holds; a model has some of them."""


class TextPipeline:
    """A model that writes text, and where it runs.

    Attributes:
        card: the model's.
        model: the library's, with its head.
        tokenizer: reads and writes its tokens; None with random weights.
        folder: of the weights; None with random weights.
        device: where it computes.
        placement: moves its parts; None on the meta device.
    """

    def __init__(
        self,
        card: Any,
        model: Any,
        device: torch.device,
        placement: Placement | None = None,
        tokenizer: Any = None,
        folder: Path | None = None,
    ) -> None:
        self.card = card
        self.model = model
        self.device = device
        self.placement = placement
        self.tokenizer = tokenizer
        self.folder = folder

    @property
    def vision(self) -> Any:
        """The tower that looks at pictures; None if the model has none."""
        return vision_of(self.model)

    @property
    def input_device(self) -> torch.device:
        """Where the inputs wait: beside the weights.

        The library moves them to where the first weight is before each pass (generation/utils.py,
        `prepare_inputs_for_generation`), and the hooks of streamed weights from there to the card.
        """
        streamed = self.placement is not None and self.placement.modes["language"] == "leaf"
        return torch.device("cpu") if streamed else self.device


def vision_of(model: Any) -> Any:
    """The tower that looks at pictures, as the library finds it; None if a model has none."""
    found = model.get_encoder(modality="image")
    return None if found in (model, model.base_model) else found


def layers_of(module: nn.Module) -> nn.ModuleList:
    """The chain of equal layers that most of a tower or a language model is: its longest list."""
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    return max(lists, key=len)


def parts_of(model: Any) -> dict[str, nn.Module]:
    """The parts that are placed each by itself: the tower, what leads from it to the language
    model where that is a module of its own, and all else within `apart`."""
    return {**_seeing_parts(model), "language": model}


def _seeing_parts(model: Any) -> dict[str, nn.Module]:
    """The parts that only the first pass of a page asks."""
    tower = vision_of(model)
    if tower is None:
        return {}
    others = [
        child
        for child in model.base_model.children()
        if child is not tower and child is not model.get_decoder()
    ]
    if len(others) > 1:
        raise TypeError(f"{type(model).__name__} has more parts than are known")
    return {"vision": tower} | ({"connector": others[0]} if others else {})


@contextmanager
def apart(model: Any) -> Iterator[None]:
    """Inside, the model is without the parts that see.

    Streaming follows the order of the layers, pass after pass; these have a part in the first
    pass of a page only, so that their layers are chains of their own.
    """
    seeing = list(_seeing_parts(model).values())
    base = model.base_model
    names = {name: child for name, child in base.named_children() if child in seeing}
    for name in names:
        setattr(base, name, nn.Identity())
    try:
        yield
    finally:
        for name, child in names.items():
            setattr(base, name, child)


def residency(settings: Mapping[str, Any], kind: str) -> dict[str, str]:
    """How each part lives on a card: `always`, or `leaf`, streamed layer by layer.

    Args:
        settings: complete settings.
        kind: `cuda`, or `cpu` where offloading means nothing.
    """
    offload = str(settings["offload"]) if kind == "cuda" else "none"
    return dict.fromkeys(PHASES_OF, "always" if offload == "none" else offload)


def place(model: Any, placement: Placement) -> None:
    """Puts a loaded model's parts where they live."""
    for name, part in _seeing_parts(model).items():
        placement.add(name, part)
    with apart(model):
        placement.add("language", model)


def build_meta(card: ModelCard, settings: Mapping[str, Any]) -> TextPipeline:
    """The pipeline with every tensor on the meta device, for the tracer."""
    dtype = DTYPES[str(settings["precision"])]
    model = meta_model(card.configs[COMPONENT], dtype, str(settings["attention"]))
    if is_quantized(settings):
        quantize(model, settings, torch.device("meta"))
    return TextPipeline(card, _finished(model, to_the_end=True), torch.device("meta"))


def build_random(
    card: ModelCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> TextPipeline:
    """The pipeline at full size with random weights: the true memory without a download."""
    device = torch.device(device)
    placement = Placement(residency(settings, device.type), PHASES_OF, device)
    if on_component:
        on_component(0, 1)
    dtype = DTYPES[str(settings["precision"])]
    model = empty_model(card.configs[COMPONENT], dtype, str(settings["attention"]))
    stays = placement.modes["language"] == "always" and not is_quantized(settings)
    fill_random(model, device if stays else torch.device("cpu"))
    if is_quantized(settings):
        quantize(model, settings, device)
    place(_finished(model, to_the_end=True), placement)
    return TextPipeline(card, model, device, placement)


def load(
    card: ModelCard,
    settings: Mapping[str, Any],
    weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> TextPipeline:
    """The pipeline, placed, from wherever the weights are.

    Args:
        card: the model.
        settings: complete settings.
        weights: `kind` (transformers, random) and `folder`, in the library's layout.
        device: where it runs.
        on_component: progress.

    Raises:
        MissingWeights: files are not there.
        BadInput: the folder holds something else, or a file is damaged.
    """
    if weights.get("kind") == "random":
        return build_random(card, settings, device, on_component)
    folder = existing_folder(str(weights.get("folder", "")))
    _check_folder(folder, card)
    if on_component:
        on_component(0, 1)
    device = torch.device(device)
    placement = Placement(residency(settings, device.type), PHASES_OF, device)
    tokenizer = reading("tokenizer", lambda: _tokenizer(folder))
    model = reading(COMPONENT, lambda: _read(folder, card, settings))
    if is_quantized(settings):
        quantize(model, settings, device)
    place(_finished(model), placement)
    return TextPipeline(card, model, device, placement, tokenizer, folder)


def _tokenizer(folder: Path) -> Any:
    found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, padding_side="left")
    frame = folder / "chat_template.json"
    # Older checkpoints have it where only the library's processors look.
    if found.chat_template is None and frame.is_file():
        found.chat_template = json.loads(frame.read_text(encoding="utf-8"))["chat_template"]
    return found


def _read(folder: Path, card: ModelCard, settings: Mapping[str, Any]) -> Any:
    model, info = model_class(card.configs[COMPONENT]).from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        dtype=DTYPES[str(settings["precision"])],
        attn_implementation=str(settings["attention"]),
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise damaged(f"{COMPONENT}: {missing[0]} is missing")
    return model


def _finished(model: Any, to_the_end: bool = False) -> Any:
    """What every model needs before it runs.

    Args:
        model: the library's.
        to_the_end: no token ends an answer: what random weights write means nothing, and a run
            for its memory and its time is as long as it was asked for.
    """
    if to_the_end:
        model.generation_config = GenerationConfig(do_sample=False, use_cache=True)
    return model.eval().requires_grad_(False)


def _check_folder(folder: Path, card: ModelCard) -> None:
    """The folder is complete and holds the card's model."""
    path = folder / "config.json"
    if not path.is_file():
        raise missing_file(path)
    if not any(folder.glob("*.safetensors")):
        raise missing_file(folder / "model.safetensors")
    found = reading("config.json", lambda: json.loads(path.read_text(encoding="utf-8")))
    wanted = card.configs[COMPONENT]
    if found.get("model_type") != wanted["model_type"]:
        raise _another(folder, card, "model_type", found.get("model_type"), wanted["model_type"])
    theirs, ours = reading("config.json", lambda: read_config(found)), read_config(wanted)
    _compare(folder, card, theirs.get_text_config(), ours.get_text_config(), _LANGUAGE_KEYS)
    if hasattr(ours, "vision_config"):
        _compare(folder, card, theirs.vision_config, ours.vision_config, _VISION_KEYS)


def _compare(folder: Path, card: ModelCard, has: Any, needs: Any, keys: tuple[str, ...]) -> None:
    for key in keys:
        found, wanted = getattr(has, key, None), getattr(needs, key, None)
        if found != wanted:
            raise _another(folder, card, key, found, wanted)


def _another(folder: Path, card: ModelCard, key: str, found: Any, wanted: Any) -> BadInput:
    return BadInput(
        "model",
        Text(
            f"'{folder.name}' holds another model than {card.title}: its {key} is {found} instead "
            f"of {wanted}.",
            f"“{folder.name}”中不是 {card.title}：{key} 是 {found}，应为 {wanted}。",
        ),
        Text("Choose the model that the folder holds.", "请选择与文件夹对应的模型。"),
    )
