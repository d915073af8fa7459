"""Small models of the real classes that write text, for the tests of several packages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from webui.catalogue import models_of
from webui.core.language import TextCard, TextDefaults
from webui.core.pages import PageCard, PageDefaults

_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}
_VISION = {"depth": 4, "hidden_size": 64, "num_heads": 4, "intermediate_size": 112}
_TOKENS = {"image_token_id": 200, "video_token_id": 201, "vision_start_token_id": 202}
_TOKENS |= {"vision_end_token_id": 203, "bos_token_id": 204, "eos_token_id": 205}


def tiny_qwen25(name: str = "qwen2.5-vl-7b") -> PageCard:
    """Windows and full attention in the tower, and a head of its own."""
    card = models_of(PageCard)[name]
    config = dict(card.configs["model"])
    vision = config["vision_config"] | _VISION | {"out_hidden_size": 64}
    vision["fullatt_block_indexes"] = [1, 3]
    scaling = {"type": "mrope", "mrope_section": [2, 3, 3]}
    changed = {**config, **_TEXT, **_TOKENS, "vision_config": vision, "rope_scaling": scaling}
    return _small_pages(card, changed)


def tiny_qwen3(name: str = "logics-parsing-v2") -> PageCard:
    """Features of the tower's layers that go into the first layers of the language model; a head
    that is the table of embeddings."""
    card = models_of(PageCard)[name]
    config = dict(card.configs["model"])
    vision = config["vision_config"] | _VISION | {"out_hidden_size": 64}
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    text = config["text_config"] | _TEXT | {"head_dim": 16}
    text["rope_scaling"] = text["rope_scaling"] | {"mrope_section": [2, 3, 3]}
    text |= {"bos_token_id": 204, "eos_token_id": 205}
    changed = {**config, **_TOKENS, "vision_config": vision, "text_config": text}
    return _small_pages(card, changed)


def tiny_glm_ocr() -> PageCard:
    """Patches merged by a convolution, and norms of queries and keys in the tower."""
    text = _TEXT | {"head_dim": 16, "eos_token_id": 205, "pad_token_id": 206}
    text["rope_parameters"] = {
        "mrope_section": [2, 3, 3],
        "rope_theta": 1e4,
        "rope_type": "default",
    }
    return _small("glm-ocr", text, _VISION | {"out_hidden_size": 64})


def tiny_paddleocr(name: str = "paddleocr-vl-1.5") -> PageCard:
    """Patches in four axes, and what merges them is a module of its own."""
    text = _TEXT | {"head_dim": 16, "eos_token_id": 205}
    text["rope_parameters"] = {
        "mrope_section": [2, 3, 3],
        "rope_theta": 1e4,
        "rope_type": "default",
    }
    vision = {"num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 56}
    return _small(name, text, vision | {"hidden_size": 64, "intermediate_size": 112})


def tiny_mineru() -> PageCard:
    """No windows in the tower, a head that is the table of embeddings, and pages read in two steps:
    regions first."""
    text = _TEXT | {"eos_token_id": 205, "bos_token_id": 204, "max_window_layers": 3}
    text["rope_parameters"] = {
        "mrope_section": [2, 3, 3],
        "rope_theta": 1e4,
        "rope_type": "default",
    }
    card = _small(
        "mineru2.5", text, {"depth": 4, "embed_dim": 64, "hidden_size": 64, "num_heads": 4}
    )
    return replace(card, layout_size=224)


def _small(name: str, text: dict[str, Any], vision: dict[str, Any]) -> PageCard:
    card = models_of(PageCard)[name]
    config = dict(card.configs["model"])
    nested = {
        "text_config": config["text_config"] | text,
        "vision_config": config["vision_config"] | vision,
    }
    return _small_pages(card, config | {"image_token_id": 200, "video_token_id": 201} | nested)


def _small_pages(card: PageCard, config: dict[str, Any]) -> PageCard:
    defaults = PageDefaults(max_pixels=50_176, new_tokens=8)
    return replace(
        card,
        name=f"{card.name}-tiny",
        configs={"model": config},
        defaults=defaults,
        prompt_tokens=7,
        min_pixels=3136,
        max_positions=4096,
    )


def tiny_language(name: str) -> TextCard:
    """A catalogue's language model, small: its ties and its class stay."""
    card = models_of(TextCard)[name]
    config = dict(card.configs["model"]) | _TEXT | {"head_dim": 16, "eos_token_id": 205}
    if "pad_token_id" in config:
        config["pad_token_id"] = 206
    defaults = TextDefaults(prompt_tokens=24, new_tokens=8)
    return replace(
        card,
        name=f"{name}-tiny",
        configs={"model": config},
        defaults=defaults,
        max_positions=4096,
    )
