"""The guide's sections of a row (Wan2.1 inference memory, section 3.2), as our own settings.

A key that changes nothing for the model says so, instead of passing silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webui.core.clip import MAX_CLIPS, ClipCard
from webui.core.errors import BadInput
from webui.core.fields import MAX_BATCH, read_choice, read_whole, shown
from webui.core.language import TextCard
from webui.core.mapping import check_keys
from webui.core.model import ModelCard
from webui.core.pages import PageCard
from webui.core.settings import SETTINGS
from webui.core.text import Text
from webui.core.training import TrainCard

SECTIONS = ("model_config", "optimization", "logging")
_MODEL = ("load_strategy", "precision", "device", "offload")
_OPTIMIZATION = ("attention_slicing", "gradient_checkpointing", "batch_size", "micro_batch_size",
                 "parallel_degree")  # fmt: skip
_OFFLOADS = SETTINGS["offload"].choices


def from_guide(
    row: Mapping[str, Any], request: Mapping[str, Any], model: ModelCard, kind: str
) -> tuple[dict[str, Any], list[Text]]:
    """The request keys that a row's sections mean, and what has no effect.

    Args:
        row: with the guide's sections.
        request: the keys that it names in our own words; they win over what the sections leave
            open, and must not contradict them.
        model: the row's.
        kind: `cuda` or `cpu`, what this machine has.

    Raises:
        BadInput: names the first wrong key.
    """
    reading = _Reading(request, model, kind)
    reading.model_config(_section(row, "model_config", _MODEL))
    reading.optimization(_section(row, "optimization", _OPTIMIZATION))
    return reading.changes(), reading.notes


class _Reading:
    """Collects settings, workload keys and notes of one row."""

    def __init__(self, request: Mapping[str, Any], model: ModelCard, kind: str) -> None:
        named = request.get("settings")
        self._named = dict(named) if isinstance(named, Mapping) else {}
        self._request = request
        self._model = model
        self._kind = kind
        self._settings: dict[str, Any] = {}
        self._workload: dict[str, Any] = {}
        self.notes: list[Text] = []

    def changes(self) -> dict[str, Any]:
        settings = {**self._settings, **self._named}
        if "text_encoder" in self._model.settings:
            settings.setdefault("text_encoder", "gpu")
        return {**self._workload, "settings": settings}

    def model_config(self, given: Mapping[str, Any]) -> None:
        if "precision" in given:
            self._fix("precision", given["precision"], "model_config.precision")
        self._device(given)
        offload = self._offload(given)
        if offload is not None:
            self._fix("offload", offload, "model_config.load_strategy")

    def optimization(self, given: Mapping[str, Any]) -> None:
        if read_whole(given, "parallel_degree", 1, 1, 1024) > 1:
            raise BadInput(
                "optimization.parallel_degree",
                Text(
                    "A profile runs on one GPU; splitting one model over several is not possible.",
                    "性能分析在单张 GPU 上运行，无法把一个模型拆分到多张卡上。",
                ),
                Text("Use parallel_degree: 1.", "请用 parallel_degree: 1。"),
            )
        if "attention_slicing" in given:
            _flag(given, "attention_slicing")
            self._without_effect(
                "attention_slicing",
                Text(
                    "attention here (SDPA) never makes the whole matrix, so there is nothing to "
                    "slice; ffn_chunks saves memory while denoising",
                    "这里的注意力（SDPA）从不生成完整矩阵，无可切片；去噪时省显存可用 ffn_chunks",
                ),
            )
        if "gradient_checkpointing" in given:
            on = _flag(given, "gradient_checkpointing")
            if isinstance(self._model, TrainCard):
                self._fix("gradient_checkpointing", on, "optimization.gradient_checkpointing")
            else:
                self._without_effect(
                    "gradient_checkpointing",
                    Text(
                        "inference keeps no activations for a way back",
                        "推理不会为反向传播保留激活值",
                    ),
                )
        self._batch(given)

    def _device(self, given: Mapping[str, Any]) -> None:
        device = str(given.get("device", "auto"))
        if device in ("cuda", "cuda:0") and self._kind != "cuda":
            raise BadInput(
                "model_config.device",
                Text("This machine has no GPU.", "本机没有 GPU。"),
                Text(
                    "Use device: cpu with model: demo, or run the matrix on a machine with a GPU.",
                    "请用 device: cpu 和 model: demo，或在有 GPU 的机器上运行。",
                ),
            )
        if device not in ("cuda", "cuda:0", "cpu", "auto"):
            raise BadInput(
                "model_config.device",
                Text(f"'{shown(device)}' is not a device.", f"没有“{shown(device)}”这个设备。"),
                Text("It takes: cuda, cpu, auto.", "可用的值：cuda、cpu、auto。"),
            )
        if device == "cpu" and self._kind == "cuda":
            self._workload["card"] = "cpu"

    def _offload(self, given: Mapping[str, Any]) -> str | None:
        """`full` keeps all weights on the card, `block` brings one block at a time; the switch
        makes the weights wait in host memory, and takes our own values too."""
        strategy = None
        if "load_strategy" in given:
            strategy = read_choice(given, "load_strategy", ("full", "block"), "full")
        offload = given.get("offload")
        if isinstance(offload, str):
            read_choice(given, "offload", tuple(map(str, _OFFLOADS)), "none")
            return offload
        if offload is not None:
            _flag(given, "offload")
        on_processor = self._kind != "cuda" or self._workload.get("card") == "cpu"
        if on_processor and (strategy == "block" or offload):
            self._without_effect(
                "load_strategy" if strategy == "block" else "offload",
                Text(
                    "on a processor all weights are in host memory anyway",
                    "在处理器上，权重本来就在主机内存中",
                ),
            )
        if strategy == "block":
            if offload:
                self._without_effect(
                    "offload",
                    Text(
                        "with load_strategy: block the weights wait in host memory already",
                        "load_strategy: block 时权重本来就放在主机内存中",
                    ),
                )
            return "block"
        if offload:
            return "model"
        return "none" if strategy or offload is False else None

    def _batch(self, given: Mapping[str, Any]) -> None:
        most = MAX_CLIPS if isinstance(self._model, ClipCard) else MAX_BATCH
        batch = read_whole(given, "batch_size", 1, 1, most)
        micro = read_whole(given, "micro_batch_size", batch, 1, MAX_BATCH)
        if isinstance(self._model, TrainCard):
            if micro > batch or batch % micro:
                raise BadInput(
                    "optimization.micro_batch_size",
                    Text(
                        f"A batch of {batch} does not divide into micro batches of {micro}.",
                        f"批量 {batch} 无法按 {micro} 拆分。",
                    ),
                    Text("Use a divisor of batch_size.", "请用 batch_size 的约数。"),
                )
            if "batch_size" in given or "micro_batch_size" in given:
                self._workload |= {"batch": micro, "gradient_accumulation": batch // micro}
            return
        if "micro_batch_size" in given:
            self._without_effect(
                "micro_batch_size",
                Text(
                    "inference adds no gradients up, so there is nothing to split",
                    "推理不累积梯度，无可拆分",
                ),
            )
        if "batch_size" in given and isinstance(self._model, PageCard):
            self._fix("page_batch", batch, "optimization.batch_size")
        elif "batch_size" in given and isinstance(self._model, ClipCard | TextCard):
            self._workload["batch"] = batch

    def _fix(self, name: str, value: Any, key: str) -> None:
        """A setting that a section names; what `settings` says of it must be the same."""
        if name not in self._model.settings:
            self._without_effect(
                key.rpartition(".")[2],
                Text(
                    f"{self._model.title} has no setting {name}",
                    f"{self._model.title} 没有 {name} 这个设置",
                ),
            )
            return
        if name in self._named and self._named[name] != value:
            raise BadInput(
                key,
                Text(
                    f"{key} says {shown(value)}, and settings.{name} says "
                    f"{shown(self._named[name])}.",
                    f"{key} 是 {shown(value)}，而 settings.{name} 是 {shown(self._named[name])}。",
                ),
                Text("Keep one of them.", "请只保留其中一个。"),
            )
        self._settings[name] = value

    def _without_effect(self, key: str, why: Text) -> None:
        self.notes.append(Text(f"{key} has no effect: {why.en}.", f"{key} 不起作用：{why.zh}。"))


def _section(row: Mapping[str, Any], name: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    value = row.get(name)
    if value is None:
        return {}
    given = check_keys(value, where=name, optional=keys)
    return {key: item for key, item in given.items() if item is not None}


def _flag(given: Mapping[str, Any], key: str) -> bool:
    value = given[key]
    if isinstance(value, bool):
        return value
    raise BadInput(
        key,
        Text(f"{key} cannot be {shown(value)}.", f"{key} 不能是 {shown(value)}。"),
        Text("It is true or false.", "可用的值：true、false。"),
    )
