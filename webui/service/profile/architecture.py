"""The architecture card of a model: parameters, dimensions and bytes by component."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from webui.core.clip import ClipCard
from webui.core.errors import StudioError
from webui.core.model import ModelCard
from webui.core.settings import Settings
from webui.core.units import format_bytes
from webui.estimator.estimate import weights_bytes
from webui.service.analysis.events import MemoryProfile

_FP32_BYTES = 4
_LONGEST = 8
"""Values of a list that is shown; longer ones are tables, not dimensions."""
_OURS = {"text": "text_encoder", "image": "image_encoder"}
"""The estimator's names of components."""
_SILENT = ("dropout", "dropout_rate", "classifier_dropout", "initializer_factor", "pad_token_id",
           "eos_token_id", "bos_token_id", "decoder_start_token_id", "output_past", "use_cache",
           "torch_dtype", "architectures")  # fmt: skip


def architecture(
    model: ModelCard, settings: Settings, memory: MemoryProfile | None = None
) -> dict[str, Any]:
    """The card of a model under settings.

    Args:
        model: the model.
        settings: complete settings of the row.
        memory: what was measured; its parameters and bytes are the true ones.

    Returns:
        `model`, `defaults`, and `components`: for each its `class`, `parameters`, `bytes` and
        `dimensions`.
    """
    planned = _planned(model, settings)
    wide = _planned(model, settings | _all_wide(settings))
    measured = {part.name: part for part in memory.base} if memory else {}
    components: dict[str, dict[str, Any]] = {}
    for name, config in model.configs.items():
        part = measured.get(name)
        count = part.parameters if part else wide.get(name, 0) // _FP32_BYTES
        size = part.storage_bytes if part else planned.get(name, 0)
        components[name] = {
            "class": str(config.get("_class_name") or config.get("model_type") or ""),
            **({"parameters": count} if count else {}),
            **({"bytes": size} if size else {}),
            "dimensions": _dimensions(config),
        }
    card: dict[str, Any] = {"model": model.name, "title": model.title, "components": components}
    if isinstance(model, ClipCard):
        own = model.defaults
        card["defaults"] = {
            "frames": own.frames, "height": own.height, "width": own.width, "steps": own.steps,
            "guidance": own.guidance, "flow_shift": own.flow_shift, "solver": own.solver,
            "fps": own.fps, "text_tokens": model.max_sequence_length,
            "negative_prompt": own.negative_prompt,
        }  # fmt: skip
    return card


def architecture_lines(card: Mapping[str, Any]) -> Iterator[str]:
    """The card as markdown."""
    yield f"### Architecture of {card['title']}"
    yield ""
    for name, part in card["components"].items():
        head = f"- **{name}** ({part['class']})" if part["class"] else f"- **{name}**"
        if "parameters" in part:
            head += f": {part['parameters']:,} parameters"
        if "bytes" in part:
            head += f", {format_bytes(part['bytes'])}"
        yield head
        if part["dimensions"]:
            listed = ", ".join(f"{key} {value}" for key, value in part["dimensions"].items())
            yield f"  - {listed}"
    if "defaults" in card:
        listed = ", ".join(
            f"{key} {value}" for key, value in card["defaults"].items() if key != "negative_prompt"
        )
        yield f"- **the authors' defaults**: {listed}"
    yield ""


def _dimensions(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    heads, width = config.get("num_attention_heads"), config.get("attention_head_dim")
    if isinstance(heads, int) and isinstance(width, int):
        found["dim"] = heads * width
    if "scale_factor_temporal" in config and "scale_factor_spatial" in config:
        side = config["scale_factor_spatial"]
        found["stride"] = [config["scale_factor_temporal"], side, side]
    for key, value in config.items():
        plain = isinstance(value, int | float | str) and value != ""
        short = (
            isinstance(value, list)
            and 0 < len(value) <= _LONGEST
            and all(isinstance(item, int | float | str) for item in value)
        )
        if (plain or short) and not key.startswith("_") and key not in _SILENT:
            found[key] = value
    return found


def _all_wide(settings: Settings) -> Settings:
    wide: Settings = {name: "fp32" for name in ("precision", "vae_precision") if name in settings}
    if "quantization" in settings:
        wide["quantization"] = "none"
    if settings.get("text_encoder") in ("absent", "cached"):
        wide["text_encoder"] = "gpu"
    return wide


def _planned(model: ModelCard, settings: Settings) -> dict[str, int]:
    """Bytes by component as the estimator knows them; nothing where it does not."""
    try:
        found = weights_bytes(model, settings)
    except (StudioError, KeyError):
        return {}
    return {_OURS.get(name, name): size for name, size in found.items()}
