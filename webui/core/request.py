"""A request: what the user wants. Parsing checks every key; nothing is changed silently."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from webui.core.errors import BadInput
from webui.core.model import OPTIONAL_KEYS, ModelCard
from webui.core.settings import Settings, check_settings, shown
from webui.core.text import Text

SOLVERS = ("unipc", "dpm++")
MAX_PROMPT_CHARACTERS = 4000
MAX_SEED = 2**32 - 1
DETECTED = "detected"


def this_platform() -> str:
    """`windows` or `linux` (macOS counts as linux: it has no CUDA of its own)."""
    return "windows" if sys.platform == "win32" else "linux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Workload keys (never searched or changed) and the settings that the user fixed."""

    task: str
    model: str
    prompt: str
    negative_prompt: str
    image: str = ""
    """The picture to start from: a path in a request from the command line, the name of the file
    in the run's folder once the job is recorded. Never a path from the network."""
    frames: int
    height: int
    width: int
    steps: int
    guidance: float
    flow_shift: float
    solver: str
    fps: int
    seed: int
    """-1: one is drawn when the job is submitted."""
    card: str = DETECTED
    vram_gib: float | None = None
    """What the process may use in all, CUDA context included; overrides the card's memory."""
    platform: str = field(default_factory=this_platform)
    settings: Settings = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The flat form of the contract; `parse_request` takes it back."""
        data = {key: getattr(self, key) for key in self.__slots__}
        data["settings"] = dict(self.settings)
        return data

    def with_changes(self, **changes: Any) -> Request:
        return replace(self, **changes)


KEYS = tuple(Request.__slots__)
_REQUIRED_TASKS = ("generate",)


def parse_request(data: Any, find_model: Callable[[str], ModelCard]) -> Request:
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
            named = shown(key)
            near = get_close_matches(named, KEYS, 1, 0.5)
            raise BadInput(
                named,
                Text(f"There is no request key '{named}'.", f"请求中没有“{named}”这个键。"),
                Text(
                    f"Did you mean {near[0]}?" if near else f"Keys: {', '.join(KEYS)}.",
                    f"是否想用 {near[0]}？" if near else f"可用的键：{', '.join(KEYS)}。",
                ),
            )
    given = {key: value for key, value in data.items() if value is not None}
    task = _choice(given, "task", _REQUIRED_TASKS, "generate")
    model = find_model(_text(given, "model", "demo"))
    defaults = model.defaults
    settings = given.get("settings", {})
    if not isinstance(settings, Mapping):
        raise BadInput(
            "settings",
            Text("settings is a mapping of names to values.", "settings 应当是名称到值的映射。"),
            Text("For example: settings: {offload: leaf}", "例如：settings: {offload: leaf}"),
        )
    _check_taken(given, model)
    checked = check_settings(settings, model.settings)
    frames = _frames(given, model)
    _check_chunk(checked, frames)
    vram_gib = _number(given, "vram_gib", 0.0, 0.25, 4096.0) if "vram_gib" in given else None
    return Request(
        task=task,
        model=model.name,
        prompt=_prompt(given),
        negative_prompt=_text(given, "negative_prompt", defaults.negative_prompt),
        image=_text(given, "image", ""),
        frames=frames,
        height=_side(given, "height", defaults.height, model),
        width=_side(given, "width", defaults.width, model),
        steps=_whole(given, "steps", defaults.steps, 1, 200),
        guidance=_number(given, "guidance", defaults.guidance, 1.0, 30.0),
        flow_shift=_number(given, "flow_shift", defaults.flow_shift, 0.1, 30.0),
        solver=_choice(given, "solver", SOLVERS, defaults.solver),
        fps=_whole(given, "fps", defaults.fps, 1, 120),
        seed=_whole(given, "seed", -1, -1, MAX_SEED),
        card=_text(given, "card", DETECTED),
        vram_gib=vram_gib,
        platform=_choice(given, "platform", ("linux", "windows"), this_platform()),
        settings=checked,
    )


def _check_taken(given: Mapping[str, Any], model: ModelCard) -> None:
    """Refuses workload keys that would change nothing.

    Values that say nothing pass: a recorded request names every key.
    """
    for key in OPTIONAL_KEYS:
        silent = (None, "", getattr(model.defaults, key, ""))
        if key in model.workload or given.get(key) in silent:
            continue
        raise BadInput(
            key,
            Text(f"{model.title} takes no {key}.", f"{model.title} 不接受 {key}。"),
            Text("Remove it, or pick another model.", "请删去它，或换一个模型。"),
        )


def _check_chunk(settings: Settings, frames: int) -> None:
    if int(settings.get("decode_chunk", 1)) > frames:
        raise BadInput(
            "settings.decode_chunk",
            Text(
                f"{settings['decode_chunk']} frames at a time are more than the clip's {frames}.",
                f"一次解码 {settings['decode_chunk']} 帧，超过了视频的 {frames} 帧。",
            ),
            Text(f"Use 1 to {frames}.", f"请用 1 到 {frames}。"),
        )


def require_image(request: Request) -> None:
    """A run of a model that starts from a picture needs one; an estimate does not.

    Raises:
        BadInput: there is none.
    """
    if not request.image:
        raise BadInput(
            "image",
            Text(
                "This model needs a picture to start from, and none was given.",
                "这个模型需要一张起始图片，但没有提供。",
            ),
            Text(
                "Upload one (PNG, JPEG or WebP), or name its file under image.",
                "请上传一张图片（PNG、JPEG 或 WebP），或在 image 中写明文件。",
            ),
        )


def require_prompt(request: Request) -> None:
    """A run needs a prompt; an estimate does not.

    Raises:
        BadInput: the prompt is empty.
    """
    if not request.prompt.strip():
        raise BadInput(
            "prompt",
            Text("The prompt is empty.", "提示词是空的。"),
            Text(
                "Say what the clip should show, for example: a red circle moves to the right.",
                "请写出视频的内容，例如：一个红色的圆向右移动。",
            ),
        )


def require_text_encoder(request: Request) -> None:
    """A run turns its prompt into embeddings; an estimate may leave the encoder out.

    Raises:
        BadInput: the setting is `absent`.
    """
    if request.settings.get("text_encoder") == "absent":
        raise BadInput(
            "settings.text_encoder",
            Text("A run needs the text encoder.", "运行需要文本编码器。"),
            Text(
                "Use gpu, stream or cpu; absent is for estimates and verify.",
                "请用 gpu、stream 或 cpu；absent 只用于 estimate 和 verify。",
            ),
        )


def _text(given: Mapping[str, Any], key: str, default: str) -> str:
    value = given.get(key, default)
    if not isinstance(value, str):
        raise BadInput(
            key,
            Text(f"{key} is a text.", f"{key} 应当是文字。"),
            Text("Put it in quotes.", "请加上引号。"),
        )
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise BadInput(
            key,
            Text(
                f"{key} has {len(value)} characters.",
                f"{key} 有 {len(value)} 个字符。",
            ),
            Text(
                f"Use at most {MAX_PROMPT_CHARACTERS}.",
                f"请不超过 {MAX_PROMPT_CHARACTERS} 个字符。",
            ),
        )
    return value


def _prompt(given: Mapping[str, Any]) -> str:
    return _text(given, "prompt", "").replace("\x00", "")


def _choice(given: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str) -> str:
    value = given.get(key, default)
    if value in choices:
        return str(value)
    near = get_close_matches(str(value), choices, 1, 0.5)
    raise BadInput(
        key,
        Text(f"'{value}' is not a {key}.", f"{key} 没有“{value}”这个值。"),
        Text(
            (f"Did you mean {near[0]}? " if near else "") + f"It takes: {', '.join(choices)}.",
            (f"是否想用 {near[0]}？" if near else "") + f"可用的值：{', '.join(choices)}。",
        ),
    )


def _number(
    given: Mapping[str, Any], key: str, default: float, low: float, high: float, whole: bool = False
) -> float:
    value = given.get(key, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # The limits first: they also stop NaN and integers too large for a float.
    if number and low <= value <= high and not (whole and value % 1):
        return float(value)
    kind_en, kind_zh = ("whole number", "整数") if whole else ("number", "数")
    raise BadInput(
        key,
        Text(
            f"{key} cannot be {shown(value)}.",
            f"{key} 不能是 {shown(value)}。",
        ),
        Text(
            f"It is a {kind_en} from {low:g} to {high:.10g}.",
            f"它是 {low:g} 到 {high:.10g} 之间的{kind_zh}。",
        ),
    )


def _whole(given: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    return int(_number(given, key, default, low, high, whole=True))


def _frames(given: Mapping[str, Any], model: ModelCard) -> int:
    frames = _whole(given, "frames", model.defaults.frames, 1, model.max_frames)
    if (frames - 1) % model.frame_step:
        below = frames - (frames - 1) % model.frame_step
        above = min(below + model.frame_step, model.max_frames)
        step = model.frame_step
        raise BadInput(
            "frames",
            Text(
                f"{model.title} makes {step}k+1 frames; {frames} is not one of them.",
                f"{model.title} 的帧数必须是 {step}k+1，{frames} 不符合。",
            ),
            Text(f"Use {below} or {above}.", f"请用 {below} 或 {above}。"),
        )
    return frames


def _side(given: Mapping[str, Any], key: str, default: int, model: ModelCard) -> int:
    side = _whole(given, key, default, model.min_side, model.max_side)
    multiple = model.size_multiple
    if side % multiple:
        below = max(model.min_side, side - side % multiple)
        above = min(model.max_side, below + multiple)
        raise BadInput(
            key,
            Text(
                f"{key} must be a multiple of {multiple} px; {side} is not.",
                f"{key} 必须是 {multiple} 像素的倍数，{side} 不是。",
            ),
            Text(f"Use {below} or {above}.", f"请用 {below} 或 {above}。"),
        )
    return side
