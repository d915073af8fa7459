"""Clips (task `generate`): what a video model is asked for, and what it takes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from webui.core.errors import BadInput
from webui.core.fields import (
    read_choice,
    read_number,
    read_prompt,
    read_side,
    read_text,
    read_whole,
)
from webui.core.model import ModelCard
from webui.core.request import MAX_SEED, Given, Request
from webui.core.settings import Settings
from webui.core.text import Text

SOLVERS = ("unipc", "dpm++")
PICTURES = ("image", "last_image")
"""Workload keys that name a picture's file."""
OPTIONAL_KEYS = ("prompt", "negative_prompt", "flow_shift", "solver", *PICTURES)
"""Workload keys that mean nothing to some models."""
MAX_CLIPS = 8
"""Clips of one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipDefaults:
    """The authors' values for what a request leaves out."""

    frames: int
    height: int
    width: int
    steps: int
    guidance: float
    flow_shift: float
    solver: str
    fps: int
    negative_prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipCard(ModelCard):
    """A model that makes clips."""

    defaults: ClipDefaults
    sizes: tuple[tuple[int, int], ...]
    """The authors' sizes, (width, height) in pixels."""
    size_multiple: int
    """Height and width are multiples of this, in pixels."""
    frame_step: int
    """Frames are `frame_step * k + 1`."""
    max_frames: int
    max_side: int
    min_side: int
    max_sequence_length: int
    """Text tokens that the transformer is given."""
    workload: tuple[str, ...]
    """Of the workload keys that not every model takes (`OPTIONAL_KEYS`), those that it does."""
    requires: tuple[str, ...]
    """Pictures (of `PICTURES`) that a run cannot do without."""
    pipeline: Mapping[str, Any]
    """Arguments of the library's pipeline beside its components, e.g. `boundary_ratio`."""
    examples: tuple[Text, ...]
    """Example prompts."""
    preview_factors: tuple[tuple[float, float, float], ...]
    """Linear map from a normalised latent's channels to RGB in -1..1 (C x 3)."""
    preview_bias: tuple[float, float, float]

    @property
    def pictures(self) -> tuple[str, ...]:
        """The pictures that it can start from or end with."""
        return tuple(key for key in PICTURES if key in self.workload)

    @property
    def needs_prompt(self) -> bool:
        return "prompt" in self.workload

    @property
    def min_frames(self) -> int:
        """A clip between two pictures has at least both."""
        return self.frame_step + 1 if "last_image" in self.requires else 1

    def snap_frames(self, frames: float) -> int:
        """The nearest number of frames that the model takes."""
        steps = round((frames - 1) / self.frame_step)
        most = min(steps, (self.max_frames - 1) // self.frame_step) * self.frame_step + 1
        return max(self.min_frames, most)

    def snap_side(self, side_px: float) -> int:
        """The nearest side that the model takes, in pixels."""
        side = round(side_px / self.size_multiple) * self.size_multiple
        return max(self.min_side, min(side, self.max_side))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRequest(Request):
    """Clips of one prompt, or pictures where `frames` is 1."""

    prompt: str
    negative_prompt: str
    image: str = ""
    """The picture to start from: a path in a request from the command line, the name of the file
    in the run's folder once the job is recorded. Never a path from the network."""
    last_image: str = ""
    """The picture to end with; named as `image` is."""
    frames: int
    height: int
    width: int
    steps: int
    guidance: float
    flow_shift: float
    solver: str
    fps: int
    batch: int = 1
    """Clips, denoised together: of this seed, the next one, and so on."""

    def resized(self, **changes: Any) -> Self:
        """With other workload keys; a chunk that was fixed is no longer than the clip."""
        request = self.with_changes(**changes)
        if int(request.settings.get("decode_chunk", 1)) <= request.frames:
            return request
        return request.with_changes(settings=request.settings | {"decode_chunk": request.frames})

    @property
    def guided(self) -> bool:
        """Whether every step runs the model twice."""
        return self.guidance > 1

    @property
    def shape(self) -> tuple[Hashable, ...]:
        pictures = (bool(self.image), bool(self.last_image))
        size = (self.batch, self.frames, self.height, self.width)
        # The shift says how the steps fall to the two transformers of models that have two.
        return (*size, self.guided, self.solver, self.flow_shift, self.steps, *pictures)

    @property
    def repeats(self) -> int:
        return self.steps

    @property
    def size_text(self) -> str:
        clips = f"{self.batch} of " if self.batch > 1 else ""
        return f"{clips}{self.width}x{self.height}x{self.frames}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each clip: what a run of its own would need for the same one."""
        return clip_seeds(self.seed, self.batch)


def clip_seeds(seed: int, clips: int) -> tuple[int, ...]:
    """The seed of each clip of a run; after the largest comes 0."""
    first = max(seed, 0)
    return tuple((first + clip) % (MAX_SEED + 1) for clip in range(clips))


def read_clip(given: Given, model: ClipCard, common: Mapping[str, Any]) -> ClipRequest:
    """The request for a clip, with the authors' values for what is left out.

    Args:
        given: the keys.
        model: takes them.
        common: the values of the keys that all tasks have.

    Raises:
        BadInput: names the first wrong field and says what is allowed.
    """
    defaults = model.defaults
    _check_taken(given, model)
    frames = _frames(given, model)
    _check_chunk(common["settings"], frames)
    sides = (model.min_side, model.max_side, model.size_multiple)
    return ClipRequest(
        prompt=read_prompt(given),
        negative_prompt=read_text(given, "negative_prompt", defaults.negative_prompt),
        image=read_text(given, "image", ""),
        last_image=read_text(given, "last_image", ""),
        frames=frames,
        height=read_side(given, "height", defaults.height, *sides),
        width=read_side(given, "width", defaults.width, *sides),
        steps=read_whole(given, "steps", defaults.steps, 1, 200),
        guidance=read_number(given, "guidance", defaults.guidance, 1.0, 30.0),
        flow_shift=read_number(given, "flow_shift", defaults.flow_shift, 0.1, 30.0),
        solver=read_choice(given, "solver", SOLVERS, defaults.solver),
        fps=read_whole(given, "fps", defaults.fps, 1, 120),
        batch=read_whole(given, "batch", 1, 1, MAX_CLIPS),
        **common,
    )


def require_clip_inputs(request: ClipRequest, model: ClipCard) -> None:
    """A run needs its prompt, its pictures and its text encoder; an estimate does not.

    Raises:
        BadInput: names what is missing.
    """
    if model.needs_prompt and not request.prompt.strip():
        raise BadInput(
            "prompt",
            Text("The prompt is empty.", "提示词是空的。"),
            Text(
                "Say what the clip should show, for example: a red circle moves to the right.",
                "请写出视频的内容，例如：一个红色的圆向右移动。",
            ),
        )
    for key in model.requires:
        if not getattr(request, key):
            which, which_zh = _PICTURE_WORDS[key]
            raise BadInput(
                key,
                Text(
                    f"This model needs a picture to {which}, and none was given.",
                    f"这个模型需要一张{which_zh}，但没有提供。",
                ),
                Text(
                    f"Upload one (PNG, JPEG or WebP), or name its file under {key}.",
                    f"请上传一张图片（PNG、JPEG 或 WebP），或在 {key} 中写明文件。",
                ),
            )
    if request.settings.get("text_encoder") == "absent":
        raise BadInput(
            "settings.text_encoder",
            Text("A run needs the text encoder.", "运行需要文本编码器。"),
            Text(
                "Use gpu, stream or cpu; absent is for estimates and verify.",
                "请用 gpu、stream 或 cpu；absent 只用于 estimate 和 verify。",
            ),
        )


_PICTURE_WORDS = {
    "image": ("start from", "起始图片"),
    "last_image": ("end with", "结尾图片"),
}


def _check_taken(given: Given, model: ClipCard) -> None:
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


def _frames(given: Given, model: ClipCard) -> int:
    least = model.min_frames
    frames = read_whole(given, "frames", model.defaults.frames, least, model.max_frames)
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
