"""The transformer of a Wan model from a GGUF file that lies in the model's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from torch import nn

from webui.core.clip import ClipCard
from webui.core.errors import BadInput
from webui.core.text import Text
from webui.pipelines.checkpoint import damaged, missing_file
from webui.pipelines.gguf import check_gguf, library, replace_layers
from webui.pipelines.modules import keeps_fp32, parameter_dtype
from webui.pipelines.wan.components import component_dtype, empty_module, finish_module

_OF_A_PAIR = {"transformer": "high", "transformer_2": "low"}
"""What the files of a pair have in their names: the noise that each is for."""
_TYPE_IN_NAME = re.compile(r"(?:i?q\d_[a-z0-9]+(?:_[a-z]+)?|bf16|f16|f32)(?=[._-]|$)")
_AUTHORS_KEY = "self_attn"
"""A part of names in the authors' layout, which most files have; diffusers' have none such."""
_AUTHORS_POSITIONS = "img_emb.emb_pos"
_POSITIONS = "condition_embedder.image_embedder.pos_embed"
"""A weight of models between two pictures that the library's converter leaves out."""


def find_gguf(folder: Path, component: str, card: ClipCard, gguf_type: str) -> Path:
    """The file of a type with a component's weights.

    It lies in the component's own folder, or beside it in the model's; there the two of a pair are
    told apart by `high` and `low` in their names.

    Raises:
        MissingWeights: there is no GGUF file.
        BadInput: those that are there are of another type.
        MissingDependency: see `check_gguf`.
    """
    check_gguf()
    files = sorted((folder / component).glob("*.gguf"))
    if not files:
        noise = _OF_A_PAIR[component] if "transformer_2" in card.configs else ""
        files = [path for path in sorted(folder.glob("*.gguf")) if noise in path.name.lower()]
    if not files:
        raise missing_file(folder / f"{component}*.gguf")
    types = {path: type_of(path) for path in files}
    for path, found in types.items():
        if found == gguf_type:
            return path
    there = ", ".join(sorted(set(types.values())))
    raise BadInput(
        "settings.gguf_type",
        Text(
            f"The folder has no GGUF file of type {gguf_type}, but of: {there}.",
            f"文件夹中没有类型为 {gguf_type} 的 GGUF 文件，现有类型：{there}。",
        ),
        Text(
            "Name one that is there under gguf_type, or download the other file.",
            "请在 gguf_type 中写明现有的类型，或下载另一个文件。",
        ),
    )


def type_of(path: Path) -> str:
    """The type of a file, such as `q4_k_m`: what the file says, else what its name says.

    Raises:
        BadInput: it is no GGUF file.
    """
    gguf = import_module("gguf")
    try:
        said = gguf.GGUFReader(path).fields.get("general.file_type")
        if said is not None:
            return (
                str(gguf.LlamaFileType(int(said.contents())).name).removeprefix("MOSTLY_").lower()
            )
    except (ValueError, OSError, IndexError, KeyError, OverflowError) as error:
        raise damaged(f"{path.name}: {error}") from error
    named = _TYPE_IN_NAME.findall(path.name.lower())
    return str(named[-1]) if named else "?"


def read_gguf(path: Path, component: str, card: ClipCard, settings: Mapping[str, Any]) -> nn.Module:
    """A transformer with the weights of a file: blocks where the file has them.

    What the library's class keeps in fp32, and what is no layer's weight, is restored at once.

    Raises:
        BadInput: a weight is missing.
        ValueError, RuntimeError: what the libraries raise where a shape is another one.
    """
    gguf = library()
    values = import_module("diffusers.models.model_loading_utils").load_gguf_checkpoint(str(path))
    if any(_AUTHORS_KEY in key for key in values):
        values = convert_wan_transformer_to_diffusers(values)
        if _AUTHORS_POSITIONS in values:
            values[_POSITIONS] = values.pop(_AUTHORS_POSITIONS)
    # Finished first: layers in blocks take the places of layers that can be held.
    module = finish_module(empty_module(component, card, settings))
    dtype = component_dtype(component, settings)
    blocks: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    for key in module.state_dict():
        if key not in values:
            raise damaged(f"{component}: {key} is missing")
        value = values.pop(key)
        owner = module.get_submodule(key.rpartition(".")[0])
        kind = getattr(value, "quant_type", None)
        in_blocks = kind is not None and kind not in gguf.UNQUANTIZED_TYPES
        if (
            in_blocks
            and isinstance(owner, nn.Linear)
            and key.endswith(".weight")
            and not keeps_fp32(module, key, dtype)
        ):
            blocks[key] = value
            continue
        whole[key] = gguf.dequantize_gguf_tensor(value).to(parameter_dtype(module, key, dtype))
    module.load_state_dict(whole, strict=False, assign=True)
    replace_layers(module, blocks, dtype)
    return module
