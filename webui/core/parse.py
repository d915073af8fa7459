"""From a mapping of YAML, the API or the page to a request of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from webui.core.clip import PICTURES, ClipCard, ClipRequest, read_clip
from webui.core.documents import ScanCard, ScanRequest, read_scan
from webui.core.errors import BadInput
from webui.core.fields import read_choice, read_number, read_text, read_whole, shown
from webui.core.language import TextCard, TextRequest, read_language
from webui.core.model import ModelCard
from webui.core.pages import PageCard, PageRequest, read_pages
from webui.core.request import (
    COMMON_KEYS,
    DETECTED,
    MAX_SEED,
    Request,
    keys_of,
    this_platform,
)
from webui.core.settings import SETTINGS, check_settings
from webui.core.text import Text
from webui.core.training import TrainCard, TrainRequest, read_training
from webui.core.upscale import UpscaleCard, UpscaleRequest, read_upscale

TASKS = ("generate", "upscale", "parse", "train")
DEFAULT_MODEL = "demo"
PATH_KEYS = (*PICTURES, "input", "data")
"""Keys that name files of this machine."""


class FindModel(Protocol):
    """The catalogue's lookup; raises BadInput for an unknown name or a task it cannot do."""

    def __call__(self, name: str, task: str | None = None) -> ModelCard: ...


@dataclass(frozen=True, slots=True)
class _Kind:
    request: type[Request]
    read: Callable[[Mapping[str, Any], Any, Mapping[str, Any]], Request]


_KINDS: dict[type[ModelCard], _Kind] = {
    ClipCard: _Kind(ClipRequest, read_clip),
    PageCard: _Kind(PageRequest, read_pages),
    ScanCard: _Kind(ScanRequest, read_scan),
    TextCard: _Kind(TextRequest, read_language),
    TrainCard: _Kind(TrainRequest, read_training),
    UpscaleCard: _Kind(UpscaleRequest, read_upscale),
}

REQUESTS = tuple(kind.request for kind in _KINDS.values())
"""The requests of all tasks."""
KEYS = tuple(
    dict.fromkeys([*COMMON_KEYS, *(key for request in REQUESTS for key in keys_of(request))])
)
"""The keys of all tasks."""


def parse_request(data: Any, find_model: FindModel) -> Request:
    """Checks a mapping from YAML, the API or the page, and fills in the model's defaults.

    Args:
        data: workload keys and `settings`; None and missing mean 'the default'.
        find_model: the catalogue's lookup; raises BadInput for an unknown name.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    if not isinstance(data, Mapping):
        raise BadInput(
            "",
            Text("A request is a mapping of keys to values.", "请求应当是键到值的映射。"),
            Text("For example: model: demo", "例如：model: demo"),
        )
    for key in data:
        if key not in KEYS:
            raise _no_such_key(shown(key), KEYS)
    given = {key: value for key, value in data.items() if value is not None}
    task = read_choice(given, "task", TASKS, "") if "task" in given else None
    if "model" not in given and task not in (None, "generate"):
        raise BadInput(
            "model",
            Text(f"The task {task} needs a model.", f"任务 {task} 需要指定模型。"),
            Text("Name one under model.", "请在 model 中写明。"),
        )
    model = find_model(read_text(given, "model", DEFAULT_MODEL), task)
    kind = _KINDS[type(model)]
    own = (*COMMON_KEYS, *keys_of(kind.request))
    for key in given:
        # A text that says nothing passes, as it does for keys that some models do not take.
        if key not in own and given[key] != "":
            raise BadInput(
                key,
                Text(
                    f"{model.title} takes no {key} (task {model.task}).",
                    f"{model.title}（任务 {model.task}）不接受 {key}。",
                ),
                Text(f"Its keys: {', '.join(own)}.", f"可用的键：{', '.join(own)}。"),
            )
    settings = given.get("settings", {})
    if not isinstance(settings, Mapping):
        raise BadInput(
            "settings",
            Text("settings is a mapping of names to values.", "settings 应当是名称到值的映射。"),
            Text("For example: settings: {offload: leaf}", "例如：settings: {offload: leaf}"),
        )
    common = {
        "task": model.task,
        "model": model.name,
        "seed": read_whole(given, "seed", -1, -1, MAX_SEED),
        "card": read_text(given, "card", DETECTED),
        "vram_gib": read_number(given, "vram_gib", 0.0, 0.25, 4096.0)
        if "vram_gib" in given
        else None,
        "platform": read_choice(given, "platform", ("linux", "windows"), this_platform()),
        "settings": check_settings(settings, model.settings, model.setting_values),
    }
    return kind.read(given, model, common)


def _no_such_key(named: str, known: tuple[str, ...]) -> BadInput:
    wrong = Text(f"There is no request key '{named}'.", f"请求中没有“{named}”这个键。")
    if named in SETTINGS:
        return BadInput(
            named,
            wrong,
            Text(
                f"It is one of the settings: write settings: {{{named}: ...}}.",
                f"它属于 settings：请写成 settings: {{{named}: ...}}。",
            ),
        )
    near = get_close_matches(named, known, 1, 0.5)
    return BadInput(
        named,
        wrong,
        Text(
            f"Did you mean {near[0]}?" if near else f"Keys: {', '.join(known)}.",
            f"是否想用 {near[0]}？" if near else f"可用的键：{', '.join(known)}。",
        ),
    )
