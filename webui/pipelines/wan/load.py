"""Real weights from local folders: diffusers' layout, or the authors' original one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import (
    convert_wan_transformer_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from webui.core.clip import ClipCard
from webui.core.errors import BadInput
from webui.core.gguf import GGUF
from webui.core.text import Text
from webui.pipelines.checkpoint import (
    check_config,
    damaged,
    existing_folder,
    find_files,
    missing_file,
    reading,
)
from webui.pipelines.modules import OnComponent, parameter_dtype
from webui.pipelines.quantization import quantization_of
from webui.pipelines.wan import original
from webui.pipelines.wan.attention import check_attention
from webui.pipelines.wan.build import build_random
from webui.pipelines.wan.components import (
    TRANSFORMERS,
    component_dtype,
    components_of,
    empty_module,
    finish_module,
    transformer_class,
    wants_text_encoder,
)
from webui.pipelines.wan.gguf_files import find_gguf, read_gguf
from webui.pipelines.wan.kinds import new_pipeline
from webui.pipelines.wan.placement import Placement
from webui.pipelines.wan.prompts import PromptCache

Prompts = Callable[[Callable[[], nn.Module]], PromptCache]
"""Makes what stands for the text encoder; gets what reads it, for prompts that are new."""

_SHAPE_KEYS = {
    "transformer": (
        "num_layers",
        "num_attention_heads",
        "attention_head_dim",
        "ffn_dim",
        "in_channels",
        "out_channels",
        "text_dim",
        "image_dim",
    ),
    "vae": ("base_dim", "decoder_base_dim", "z_dim", "dim_mult", "num_res_blocks", "patch_size"),
    "image_encoder": ("hidden_size", "intermediate_size", "num_hidden_layers", "patch_size"),
    "text_encoder": ("d_model", "d_ff", "d_kv", "num_layers", "num_heads", "vocab_size"),
}
"""Configuration keys that decide what model a folder holds."""
_SHAPE_KEYS["transformer_2"] = _SHAPE_KEYS["transformer"]
_STEMS = {
    "text_encoder": "model",
    "image_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""How the names of a component's files begin."""
_ORIGINAL_COMPONENTS = ("text_encoder", "transformer", "vae")
"""diffusers has converters for these; for the authors' image encoder it has none."""


def load(
    card: ClipCard,
    settings: Mapping[str, Any],
    weights: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
) -> Any:
    """The pipeline, placed, from wherever the weights are.

    Args:
        card: the model.
        settings: complete settings.
        weights: `kind` (embedded, diffusers, original, random), `folder`, and `embeddings`, the
            folder of prompts that were encoded before.
        device: where it runs.
        on_component: progress.

    Raises:
        MissingWeights: files are not there.
        BadInput: the folder holds something else, or a file is damaged.
        MissingDependency, BadInput: see `check_attention` and `find_gguf`.
    """
    kind = weights.get("kind", "")
    if kind == "random":
        return build_random(card, settings, device, on_component)
    if settings.get("text_encoder") == "absent":
        raise BadInput(
            "settings.text_encoder",
            Text(
                "A clip cannot be made without the text encoder.",
                "没有文本编码器就无法生成视频。",
            ),
            Text("Use gpu, stream or cpu.", "请用 gpu、stream 或 cpu。"),
        )
    folder = _embedded_folder() if kind == "embedded" else Path(str(weights.get("folder", "")))
    reads = load_original if detect_layout(folder) == "original" else load_diffusers
    kept = weights.get("embeddings")
    prompts = None
    if settings.get("text_encoder") == "cached" and kept:
        prompts = partial(PromptCache, Path(str(kept)), card, settings, weights)
    return reads(folder, card, settings, device, on_component, prompts)


def detect_layout(folder: Path | str) -> str:
    """`diffusers` or `original`, by the files that are there.

    Raises:
        MissingWeights: there is no such folder.
        BadInput: the folder is neither.
    """
    folder = existing_folder(folder)
    if (folder / "model_index.json").is_file() or (folder / "transformer/config.json").is_file():
        return "diffusers"
    authors = (folder / original.VAE_FILE, folder / original.TEXT_ENCODER_FILE)
    if any(path.is_file() for path in authors) or any(folder.glob(original.TRANSFORMER_PATTERN)):
        return "original"
    raise BadInput(
        "model",
        Text(
            f"'{folder.name}' is not a checkpoint folder.",
            f"“{folder.name}”不是模型权重文件夹。",
        ),
        Text(
            "Looked for model_index.json (diffusers layout), and for "
            f"{original.TRANSFORMER_PATTERN}, {original.VAE_FILE} (original layout).",
            "查找过 model_index.json（diffusers 格式），以及 "
            f"{original.TRANSFORMER_PATTERN}、{original.VAE_FILE}（原始格式）。",
        ),
    )


def load_diffusers(
    folder: Path | str,
    card: ClipCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
    prompts: Prompts | None = None,
) -> Any:
    """A folder in diffusers' layout, each component through its class's `from_pretrained`.

    Raises:
        MissingWeights, BadInput: see `load`.
    """
    folder = Path(folder)
    in_blocks = _gguf_files(folder, card, settings)
    for component in components_of(card):
        check_config(folder, component, card, _SHAPE_KEYS[component])
        if component not in in_blocks:
            find_files(folder / component, f"{_STEMS[component]}*.safetensors")

    def read(component: str) -> nn.Module:
        if component in in_blocks:
            return read_gguf(in_blocks[component], component, card, settings)
        dtype = component_dtype(component, settings)
        where: dict[str, Any] = {
            "subfolder": component,
            "local_files_only": True,
            "use_safetensors": True,
        }
        kinds: dict[str, Any] = {
            "text_encoder": UMT5EncoderModel,
            "image_encoder": CLIPVisionModel,
            "vae": AutoencoderKLWan,
        }
        kind = kinds.get(component) or transformer_class(card)
        name = "dtype" if component.endswith("_encoder") else "torch_dtype"
        module, info = kind.from_pretrained(
            str(folder), output_loading_info=True, **{name: dtype}, **where
        )
        missing = sorted(info["missing_keys"])
        if missing:
            raise damaged(f"{component}: {missing[0]} is missing")
        return finish_module(module)

    return _assemble(card, settings, device, read, folder / "tokenizer", on_component, prompts)


def load_original(
    folder: Path | str,
    card: ClipCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    on_component: OnComponent | None = None,
    prompts: Prompts | None = None,
) -> Any:
    """A folder as the authors publish it: `.pth` for VAE and text encoder, their own key names.

    Raises:
        MissingWeights, BadInput: see `load`.
    """
    folder = Path(folder)
    if components_of(card) != _ORIGINAL_COMPONENTS:
        raise BadInput(
            "model",
            Text(
                f"{card.title} is read in diffusers' layout only; '{folder.name}' has "
                "the authors'.",
                f"{card.title} 只支持 diffusers 格式；“{folder.name}”是原始格式。",
            ),
            Text(f"Download {card.hub}.", f"请下载 {card.hub}。"),
        )
    in_blocks = _gguf_files(folder, card, settings)
    shards = [] if in_blocks else find_files(folder, original.TRANSFORMER_PATTERN)
    pickled = {
        "vae": find_files(folder, original.VAE_FILE)[0],
        "text_encoder": find_files(folder, original.TEXT_ENCODER_FILE)[0],
    }

    def read(component: str) -> nn.Module:
        if component in in_blocks:
            return read_gguf(in_blocks[component], component, card, settings)
        if component == "transformer":
            values: dict[str, torch.Tensor] = {}
            for shard in shards:
                values.update(load_file(shard))
            values = convert_wan_transformer_to_diffusers(values)
        elif component == "vae":
            values = convert_wan_vae_to_diffusers(_unpickle(pickled["vae"]))
        else:
            values = original.convert_text_encoder(_unpickle(pickled["text_encoder"]))
        return _fill(empty_module(component, card, settings), component, values, settings)

    tokenizer = folder / original.TOKENIZER_FOLDER
    return _assemble(card, settings, device, read, tokenizer, on_component, prompts)


def _gguf_files(folder: Path, card: ClipCard, settings: Mapping[str, Any]) -> dict[str, Path]:
    """The transformers' files where they come in GGUF; none otherwise."""
    if quantization_of(settings) != GGUF:
        return {}
    return {
        name: find_gguf(folder, name, card, str(settings["gguf_type"]))
        for name in TRANSFORMERS
        if name in card.configs
    }


def _assemble(
    card: ClipCard,
    settings: Mapping[str, Any],
    device: torch.device | str,
    read: Callable[[str], nn.Module],
    tokenizer: Path,
    on_component: OnComponent | None,
    prompts: Prompts | None,
) -> Any:
    """Reads and places one component after the other, so that the host holds few copies."""
    device = torch.device(device)
    if not tokenizer.is_dir():
        raise missing_file(tokenizer)
    check_attention(card, settings, device)
    placement = Placement(card, settings, device)
    names = components_of(card)
    parts: dict[str, Any] = {}
    for done, component in enumerate(names):
        if on_component:
            on_component(done, len(names))
        if component == "text_encoder" and not wants_text_encoder(settings):
            continue
        module = reading(component, partial(read, component))
        parts[component] = placement.add(component, module)
    parts["tokenizer"] = reading(
        "tokenizer", lambda: AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
    )
    pipe = new_pipeline(card, parts, device)
    pipe.placement = placement
    if prompts is not None:
        pipe.prompts = prompts(lambda: reading("text_encoder", partial(read, "text_encoder")))
    return pipe


def _fill(
    module: nn.Module,
    component: str,
    values: Mapping[str, torch.Tensor],
    settings: Mapping[str, Any],
) -> nn.Module:
    """Puts converted weights into an empty component, in the dtypes of `from_pretrained`."""
    dtype = component_dtype(component, settings)
    wanted = {key: parameter_dtype(module, key, dtype) for key in module.state_dict()}
    missing = sorted(set(wanted) - set(values))
    if missing:
        raise damaged(f"{component}: {missing[0]} is missing")
    cast: dict[int, torch.Tensor] = {}
    state = {}
    for key, target in wanted.items():
        value = values[key]
        if id(value) not in cast:
            cast[id(value)] = value.to(target)
        state[key] = cast[id(value)]
    module.load_state_dict(state, assign=True)
    return finish_module(module)


def _unpickle(path: Path) -> dict[str, torch.Tensor]:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # Files of the format before PyTorch 1.6 cannot be mapped.
        values = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(values, dict):
        raise damaged(f"{path.name} holds no state dict")
    return dict(values)


def _embedded_folder() -> Path:
    """The checkpoint that is part of the package."""
    found = find_spec("webui.demo")
    if found is None or not found.submodule_search_locations:
        raise missing_file(Path("webui/demo"))
    return Path(next(iter(found.submodule_search_locations))) / "checkpoint"
