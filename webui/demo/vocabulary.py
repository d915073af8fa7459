"""What the demo model can draw: its words, which combinations it never trained on, its defaults.

Imports neither torch nor numpy, so that an interface can describe the demo and read prompts.
Every word exists in English and in Chinese. A prompt names a colour, a shape, a motion and a
background, each optional: an unnamed motion means `still`, anything else unnamed is free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product


@dataclass(frozen=True, slots=True)
class Word:
    """One thing that the demo can draw, and how people call it.

    Args:
        name: the identifier used in data, figures and tests.
        english: English words, the usual one first. For a motion: finite verbs ("moves right").
        chinese: Chinese words, the usual one first.
        english_ing: for a motion, the participle of each entry of `english`.
        rgb: for a colour, its middle tone; for a background, the tone at the top (0 to 255).
        rgb_bottom: for a background, the tone at the bottom; the same as `rgb` when plain.
    """

    name: str
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    english_ing: tuple[str, ...] = ()
    rgb: tuple[int, int, int] = (0, 0, 0)
    rgb_bottom: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a clip shows, by `Word.name`; None is "not said"."""

    colour: str | None = None
    shape: str | None = None
    motion: str | None = None
    background: str | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """The generation settings measured to be best for the demo (`python -m webui.demo evaluate`)."""

    frames: int = 17
    height: int = 128
    width: int = 128
    steps: int = 16
    guidance: float = 4.0
    flow_shift: float = 3.0
    solver: str = "unipc"
    fps: int = 12
    max_sequence_length: int = 64
    seed: int = 0


DEFAULTS = Defaults()

# Saturated and far apart in hue, and none of them near a background, so that both the eye and the
# judge can tell them on every background.
COLOURS: tuple[Word, ...] = (
    Word("red", ("red", "crimson"), ("红色", "红", "大红色"), rgb=(226, 34, 40)),
    Word("orange", ("orange",), ("橙色", "橘色", "橙", "橘黄色"), rgb=(255, 122, 0)),
    Word("yellow", ("yellow",), ("黄色", "黄"), rgb=(255, 216, 0)),
    Word("green", ("green",), ("绿色", "绿"), rgb=(28, 170, 60)),
    Word("cyan", ("cyan", "turquoise"), ("青色", "青", "青绿色"), rgb=(0, 196, 214)),
    Word("blue", ("blue",), ("蓝色", "蓝"), rgb=(36, 84, 238)),
    Word("purple", ("purple", "violet"), ("紫色", "紫"), rgb=(138, 44, 208)),
    Word("pink", ("pink", "magenta"), ("粉色", "粉红色", "粉红"), rgb=(255, 92, 176)),
)

SHAPES: tuple[Word, ...] = (
    Word("circle", ("circle", "disc", "ball", "dot"), ("圆", "圆形", "圆球", "小球", "球")),
    Word("square", ("square", "box", "block"), ("正方形", "方块", "方形")),
    Word("triangle", ("triangle",), ("三角形", "三角")),
    Word("star", ("star", "five-pointed star"), ("星星", "五角星", "星形")),
    Word("heart", ("heart",), ("心形", "爱心", "心")),
    Word("cross", ("cross", "plus sign"), ("十字", "十字形", "加号")),
)

MOTIONS: tuple[Word, ...] = (
    Word(
        "right",
        (
            "moves to the right",
            "moves right",
            "slides to the right",
            "goes right",
            "travels from left to right",
            "drifts rightwards",
        ),
        ("向右移动", "往右移动", "向右滑动", "从左向右移动", "从左往右走", "朝右边移动", "右移"),
        (
            "moving to the right",
            "moving right",
            "sliding to the right",
            "going right",
            "travelling from left to right",
            "drifting rightwards",
        ),
    ),
    Word(
        "left",
        (
            "moves to the left",
            "moves left",
            "slides to the left",
            "goes left",
            "travels from right to left",
            "drifts leftwards",
        ),
        ("向左移动", "往左移动", "向左滑动", "从右向左移动", "从右往左走", "朝左边移动", "左移"),
        (
            "moving to the left",
            "moving left",
            "sliding to the left",
            "going left",
            "travelling from right to left",
            "drifting leftwards",
        ),
    ),
    Word(
        "up",
        ("moves up", "moves upwards", "rises", "goes up", "floats up", "moves to the top"),
        ("向上移动", "往上移动", "上升", "升起", "从下向上移动", "向上飘"),
        ("moving up", "moving upwards", "rising", "going up", "floating up", "moving to the top"),
    ),
    Word(
        "down",
        ("moves down", "moves downwards", "falls", "goes down", "sinks", "moves to the bottom"),
        ("向下移动", "往下移动", "下降", "落下", "从上向下移动", "下落"),
        (
            "moving down",
            "moving downwards",
            "falling",
            "going down",
            "sinking",
            "moving to the bottom",
        ),
    ),
    Word(
        "rotate",
        ("rotates", "spins", "turns around", "revolves"),
        ("旋转", "转动", "转圈", "打转", "自转"),
        ("rotating", "spinning", "turning around", "revolving"),
    ),
    Word(
        "grow",
        ("grows", "gets bigger", "becomes larger", "expands"),
        ("变大", "逐渐变大", "放大", "长大", "越来越大"),
        ("growing", "getting bigger", "becoming larger", "expanding"),
    ),
    Word(
        "shrink",
        ("shrinks", "gets smaller", "becomes smaller", "contracts"),
        ("缩小", "变小", "逐渐缩小", "越来越小"),
        ("shrinking", "getting smaller", "becoming smaller", "contracting"),
    ),
    Word(
        "bounce",
        ("bounces", "bounces up and down", "hops", "jumps up and down"),
        ("弹跳", "上下弹跳", "跳动", "上下跳动", "蹦跳"),
        ("bouncing", "bouncing up and down", "hopping", "jumping up and down"),
    ),
    Word(
        "still",
        ("stays still", "does not move", "stands still", "rests"),
        ("静止不动", "保持不动", "静止", "停着不动"),
        ("staying still", "not moving", "standing still", "resting"),
    ),
)

# The English words stand before "background". Pale, dark or grey only: see COLOURS.
BACKGROUNDS: tuple[Word, ...] = (
    Word(
        "black",
        ("black", "dark"),
        ("黑色", "深色", "暗色", "黑"),
        rgb=(14, 14, 18),
        rgb_bottom=(14, 14, 18),
    ),
    Word(
        "white",
        ("white", "light", "bright"),
        ("白色", "浅色", "亮色", "白"),
        rgb=(250, 250, 250),
        rgb_bottom=(250, 250, 250),
    ),
    Word("grey", ("grey", "gray"), ("灰色", "灰"), rgb=(126, 128, 132), rgb_bottom=(126, 128, 132)),
    Word(
        "cream",
        ("cream", "beige"),
        ("米色", "奶油色"),
        rgb=(243, 232, 208),
        rgb_bottom=(243, 232, 208),
    ),
    Word(
        "night",
        ("night sky", "night"),
        ("夜空", "夜晚", "夜色"),
        rgb=(8, 10, 24),
        rgb_bottom=(44, 50, 88),
    ),
    Word(
        "sky",
        ("sky", "daylight sky"),
        ("天空", "晴空"),
        rgb=(150, 198, 240),
        rgb_bottom=(240, 247, 252),
    ),
    Word(
        "sunset",
        ("sunset", "dusk"),
        ("日落", "夕阳", "晚霞"),
        rgb=(72, 42, 84),
        rgb_bottom=(248, 196, 160),
    ),
    Word(
        "gradient",
        ("gradient", "graded", "grey gradient"),
        ("渐变", "灰色渐变", "渐变色"),
        rgb=(66, 70, 82),
        rgb_bottom=(204, 208, 214),
    ),
)

INVISIBLE = frozenset({("circle", "rotate")})
"""(shape, motion) pairs that look like another motion and are therefore never drawn or asked."""


def names(words: tuple[Word, ...]) -> tuple[str, ...]:
    """The identifiers of a word list, in order."""
    return tuple(word.name for word in words)


def combinations() -> list[Spec]:
    """Every (colour, shape, motion) that can be drawn, background left open."""
    return [
        Spec(colour, shape, motion)
        for colour, shape, motion in product(names(COLOURS), names(SHAPES), names(MOTIONS))
        if (shape, motion) not in INVISIBLE
    ]


def is_held_out(spec: Spec) -> bool:
    """Whether training never shows this (colour, shape, motion).

    One combination in five, spread like a Latin square: along each of the three axes at most
    every fifth entry is taken, so that each word and each pair of words stays in training.
    """
    if spec.colour is None or spec.shape is None or spec.motion is None:
        return False
    index = (
        2 * names(COLOURS).index(spec.colour)
        + names(SHAPES).index(spec.shape)
        + 3 * names(MOTIONS).index(spec.motion)
    )
    return index % 5 == 0


def training_combinations() -> list[Spec]:
    """The combinations that training may show."""
    return [spec for spec in combinations() if not is_held_out(spec)]


def held_out_combinations() -> list[Spec]:
    """The combinations kept for the evaluation."""
    return [spec for spec in combinations() if is_held_out(spec)]


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


def _pattern(text: str) -> str:
    """A regular expression for one word: English words as whole words, Chinese anywhere."""
    escaped = re.escape(text)
    return escaped if _is_chinese(text) else rf"\b{escaped}s?\b"


def _find(text: str, options: list[tuple[str, str]]) -> tuple[str | None, str]:
    """The name of the longest phrase found in `text`, and the text without it."""
    for phrase, name in sorted(options, key=lambda option: -len(option[0])):
        found = re.search(_pattern(phrase), text)
        if found:
            return name, text[: found.start()] + " " + text[found.end() :]
    return None, text


def _background_phrases(word: Word) -> list[str]:
    phrases = [
        f"{english} {noun}" for english in word.english for noun in ("background", "backdrop")
    ]
    for chinese in word.chinese:
        phrases += [f"{chinese}背景", f"{chinese}的背景", f"背景是{chinese}", f"背景为{chinese}"]
    return phrases


# Looser forms than the training prompts use; tried only when no full phrase is found.
_LOOSE_MOTIONS: tuple[tuple[str, str], ...] = (
    ("rightward", "right"), ("to the right", "right"), ("right", "right"), ("向右", "right"),
    ("往右", "right"), ("leftward", "left"), ("to the left", "left"), ("left", "left"),
    ("向左", "left"), ("往左", "left"), ("upward", "up"), ("up", "up"), ("rise", "up"),
    ("向上", "up"), ("往上", "up"), ("downward", "down"), ("down", "down"), ("fall", "down"),
    ("向下", "down"), ("往下", "down"), ("rotate", "rotate"), ("spin", "rotate"),
    ("转", "rotate"), ("grow", "grow"), ("shrink", "shrink"), ("bounce", "bounce"),
    ("跳", "bounce"), ("still", "still"), ("static", "still"), ("不动", "still"),
)  # fmt: skip


def parse(prompt: str) -> Spec:
    """Read a prompt the way the demo was taught it; what is not named stays None.

    >>> parse("A red circle moves to the right")
    Spec(colour='red', shape='circle', motion='right', background=None)
    """
    text = prompt.lower()
    background, text = _find(
        text, [(p, word.name) for word in BACKGROUNDS for p in _background_phrases(word)]
    )
    motion, text = _find(
        text,
        [
            (p, word.name)
            for word in MOTIONS
            for p in word.english + word.english_ing + word.chinese
        ],
    )
    if motion is None:
        motion, text = _find(text, list(_LOOSE_MOTIONS))
    colour, text = _find(text, [(p, w.name) for w in COLOURS for p in w.english + w.chinese])
    shape, text = _find(text, [(p, w.name) for w in SHAPES for p in w.english + w.chinese])
    return Spec(colour, shape, motion, background)


def complete(spec: Spec) -> Spec:
    """What a clip of `spec` must show: an unnamed motion is `still`."""
    return spec if spec.motion is not None else replace(spec, motion="still")


EXAMPLES: tuple[str, ...] = (
    "a red circle moves to the right",
    "A yellow star rotates on a night background",
    "purple heart growing on a cream background",
    "一个红色的圆向右移动",
    "夜空背景上，一颗黄色的星星在旋转",
    "天空背景，粉色的心形上下弹跳",
)
"""Prompts to offer to a newcomer."""


def describe() -> dict[str, dict[str, dict[str, tuple[str, ...]]]]:
    """The whole vocabulary as plain data: `{"colours": {"red": {"english": ..., "chinese": ...}}}`."""
    lists = {
        "colours": COLOURS,
        "shapes": SHAPES,
        "motions": MOTIONS,
        "backgrounds": BACKGROUNDS,
    }
    return {
        title: {word.name: {"english": word.english, "chinese": word.chinese} for word in words}
        for title, words in lists.items()
    }
