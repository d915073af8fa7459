"""Finds the weights of a model on this machine: embedded, a local folder, or the hub's cache.

Only file names and small JSON files are read, so a check takes milliseconds. Known layouts:
`diffusers` (model_index.json and a folder a component), `transformers` (config.json and one model),
`original` (the files as the authors of Wan published them), and `files`, which a card lists.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from webui.core.errors import MissingWeights
from webui.core.model import ModelCard
from webui.core.text import EMPTY, Text
from webui.core.units import format_bytes
from webui.core.upscale import UpscaleCard
from webui.storage.config import StudioConfig

_DEMO = Path(__file__).parents[1] / "demo"
_EMBEDDED, _EMBEDDED_UPSCALER = _DEMO / "checkpoint", _DEMO / "upscaler"
_DIFFUSION, _TRANSFORMERS = "diffusion_pytorch_model", "model"
"""How the two libraries name a component's file of weights."""
_WEIGHT_STEMS = {
    "transformer": _DIFFUSION,
    "unet": _DIFFUSION,
    "vae": _DIFFUSION,
    "text_encoder": _TRANSFORMERS,
    "image_encoder": _TRANSFORMERS,
}
_MAIN_KEYS = {
    "transformer": ("num_layers", "num_attention_heads", "in_channels"),
    "unet": ("block_out_channels", "in_channels", "layers_per_block"),
}
"""What tells models apart, in the configuration of their largest component."""
_FILES = "files"
"""The layout of a folder with the files that a card lists."""
_SINGLE = "model"
"""The one component of models in transformers' layout."""
_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")
_ORIGINAL_FILES = ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth")
_ORIGINAL_TOKENIZER = Path("google") / "umt5-xxl"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSource:
    """Where the weights of a model are, as the worker is told."""

    kind: str
    """embedded, diffusers, transformers or original."""
    folder: str
    """Absolute path."""
    about: Text
    """For people: "comes with the studio", "a local folder", "the hub's cache"."""

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "folder": self.folder}


def find_weights(card: ModelCard, config: StudioConfig) -> WeightsSource | None:
    """The weights of a model, or None when they are not on this machine.

    Raises:
        MissingWeights: the owner configured a folder, and it is not complete or of another model;
            the message says what is wrong with it.
    """
    if card.embedded:
        about = Text("comes with the studio", "随工作室附带")
        folder = _EMBEDDED_UPSCALER if isinstance(card, UpscaleCard) else _EMBEDDED
        return WeightsSource(kind="embedded", folder=str(folder), about=about)
    if card.name in config.models:
        return _configured(card, config.models[card.name])
    kind = _kind_of(card)
    for snapshot in _snapshots(card.hub, hub_cache(config)):
        there = isinstance(card, UpscaleCard) or _layout(snapshot) == kind
        if there and not missing_parts(snapshot, card):
            about = Text("the hub's cache", "Hub 缓存")
            return WeightsSource(kind=kind, folder=str(snapshot), about=about)
    return None


def missing_weights(card: ModelCard, config: StudioConfig) -> MissingWeights:
    """The error for a model whose weights are not here: repository, size, place, alternative."""
    size, cache = format_bytes(card.download_bytes), hub_cache(config)
    files = card.files if isinstance(card, UpscaleCard) else ()
    listed = ", ".join(names.partition("|")[0] for names in files)
    holds = Text(f" (it holds {listed})", f"（含 {listed}）") if files else EMPTY
    return MissingWeights(
        Text(
            f"The weights of {card.title} are not on this machine.",
            f"本机没有 {card.title} 的权重。",
        ),
        Text(
            f"Download {card.hub} ({size}, into {cache}), or name a folder that has them{holds.en} "
            f"under models: {card.name} in studio.yaml. Plans and estimates work without them.",
            f"请下载 {card.hub}（{size}，存入 {cache}），或在 studio.yaml 的 models 下为 "
            f"{card.name} 指定已有权重的文件夹{holds.zh}。没有权重也可以规划和估算。",
        ),
        "model",
    )


def hub_cache(config: StudioConfig) -> Path:
    """The hub's cache folder, by the hub library's own rules (which it is too heavy to ask)."""
    if config.hub_cache is not None:
        return config.hub_cache
    environment = os.environ
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(variable):
            return Path(environment[variable]).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = environment.get("HF_HOME") or str(Path(base) / "huggingface")
    return (Path(home).expanduser() / "hub").absolute()


def repository_folder(hub: str, cache: Path) -> Path:
    """Where the hub's cache keeps a model repository."""
    return cache / f"models--{hub.replace('/', '--')}"


def missing_parts(folder: Path, card: ModelCard) -> list[str]:
    """What a folder in its library's layout lacks; empty when it is complete."""
    if isinstance(card, UpscaleCard):
        return [
            names
            for names in card.files
            if not any(_has_bytes(folder / name) for name in names.split("|"))
        ]
    if _SINGLE in card.configs:
        lacking = [] if (folder / "config.json").is_file() else ["config.json"]
        if not any((folder / name).is_file() for name in _TOKENIZERS):
            lacking.append(_TOKENIZERS[0])
        return [*lacking, *_missing_shards(folder, _TRANSFORMERS)]
    lacking = [
        name
        for name in ("model_index.json", "scheduler/scheduler_config.json")
        if not (folder / name).is_file()
    ]
    tokenizer = folder / "tokenizer"
    reads = "text_encoder" in card.configs
    known = ("tokenizer.json", "spiece.model")
    if reads and not any((tokenizer / name).is_file() for name in known):
        lacking.append("tokenizer/tokenizer.json")
    for component, stem in _WEIGHT_STEMS.items():
        if component not in card.configs:
            continue
        if not (folder / component / "config.json").is_file():
            lacking.append(f"{component}/config.json")
        if component == "transformer" and _has_gguf(folder):
            continue
        lacking.extend(f"{component}/{name}" for name in _missing_shards(folder / component, stem))
    return lacking


def _missing_shards(folder: Path, stem: str) -> list[str]:
    """Files of a component's weights that are not there: one file, or all that an index names."""
    single = f"{stem}.safetensors"
    if _has_bytes(folder / single) or _has_bytes(folder / f"{stem}.fp16.safetensors"):
        return []
    index = _read_json(folder / f"{single}.index.json")
    if index is None:
        return [single]
    return [
        name
        for name in sorted(set(index.get("weight_map", {}).values()))
        if not _has_bytes(folder / str(name))
    ]


def _has_gguf(folder: Path) -> bool:
    """Whether the transformer is there in GGUF, for `quantization: gguf`."""
    places = (folder / "transformer", folder)
    return any(_has_bytes(path) for place in places for path in place.glob("*.gguf"))


def _configured(card: ModelCard, folder: Path) -> WeightsSource:
    layout = _FILES if isinstance(card, UpscaleCard) else _layout(folder)
    if layout is None or not folder.is_dir():
        wrong = "it is not there" if not folder.is_dir() else "it has neither known layout"
        wrong_zh = "文件夹不存在" if not folder.is_dir() else "不是已知的权重布局"
        raise _bad_folder(card, folder, wrong, wrong_zh)
    if (layout == "transformers") != (_kind_of(card) == "transformers"):
        raise _bad_folder(card, folder, "it is another model", "是另一个模型")
    original = layout == "original"
    lacking = _missing_original(folder) if original else missing_parts(folder, card)
    if lacking:
        shown = ", ".join(lacking[:4]) + (", ..." if len(lacking) > 4 else "")
        raise _bad_folder(card, folder, f"it lacks {shown}", f"缺少 {shown}")
    if layout != _FILES and not _same_model(card, folder, layout):
        raise _bad_folder(card, folder, "it is another model", "是另一个模型")
    return WeightsSource(
        kind=layout, folder=str(folder), about=Text("a local folder", "本地文件夹")
    )


def _layout(folder: Path) -> str | None:
    if (folder / "model_index.json").is_file():
        return "diffusers"
    if any((folder / name).is_file() for name in _ORIGINAL_FILES):
        return "original"
    if (folder / "config.json").is_file() and any(folder.glob("model*.safetensors*")):
        return "transformers"
    return None


def _kind_of(card: ModelCard) -> str:
    """The layout in which the hub has a model."""
    if isinstance(card, UpscaleCard):
        return _FILES
    return "transformers" if _SINGLE in card.configs else "diffusers"


def _missing_original(folder: Path) -> list[str]:
    lacking = [name for name in _ORIGINAL_FILES if not _has_bytes(folder / name)]
    if not _has_gguf(folder):
        lacking += _missing_shards(folder, "diffusion_pytorch_model")
    if not (folder / _ORIGINAL_TOKENIZER).is_dir():
        lacking.append(_ORIGINAL_TOKENIZER.as_posix())
    return lacking


def _same_model(card: ModelCard, folder: Path, layout: str) -> bool:
    """Compares the largest component's shape; a folder without one is believed."""
    if layout == "transformers":  # the worker looks closer
        kind = (_read_json(folder / "config.json") or {}).get("model_type")
        return bool(kind == card.configs[_SINGLE].get("model_type"))
    main = next(name for name in _MAIN_KEYS if name in card.configs)
    wanted, keys = card.configs[main], _MAIN_KEYS[main]
    if layout == "diffusers":
        found = _read_json(folder / main / "config.json") or {}
        return all(found.get(key, wanted.get(key)) == wanted.get(key) for key in keys)
    found = _read_json(folder / "config.json") or {}
    expected = {
        "num_layers": wanted.get("num_layers"),
        "num_heads": wanted.get("num_attention_heads"),
        "in_dim": wanted.get("in_channels"),
    }
    return all(found.get(key, value) == value for key, value in expected.items())


def _snapshots(hub: str, cache: Path) -> list[Path]:
    """Snapshots of a repository in the hub's cache, the one that `main` means first."""
    folder = repository_folder(hub, cache)
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        main = ""
    try:
        snapshots = sorted((folder / "snapshots").iterdir())
    except OSError:
        return []
    return sorted(snapshots, key=lambda snapshot: snapshot.name != main)


def _has_bytes(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size > 0
    except OSError:  # a link of the cache whose blob is gone
        return False


def _read_json(path: Path) -> Mapping[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, Mapping) else None


def _bad_folder(card: ModelCard, folder: Path, wrong: str, wrong_zh: str) -> MissingWeights:
    return MissingWeights(
        Text(
            f"The folder for {card.name}, {folder}, cannot be used: {wrong}.",
            f"{card.name} 的文件夹 {folder} 无法使用：{wrong_zh}。",
        ),
        Text(
            f"Give the folder of {card.hub} as downloaded, or remove it from the configuration.",
            f"请指定下载好的 {card.hub} 文件夹，或从配置中删去。",
        ),
        "model",
    )
