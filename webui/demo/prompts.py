"""Writes prompts for a `Spec`, in English and Chinese, and the texts of the unguided branch."""

from __future__ import annotations

from random import Random

from webui.demo import vocabulary
from webui.demo.vocabulary import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Spec, Word

WAN_NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""The negative prompt that Wan2.1's authors use for everything (Wan-Video/Wan2.1, wan/configs)."""

UNCONDITIONAL: tuple[str, ...] = (
    "",
    "",
    "",
    WAN_NEGATIVE_PROMPT,
    WAN_NEGATIVE_PROMPT,
    "镜头晃动，" + WAN_NEGATIVE_PROMPT,
    "blurry, low quality, distorted",
    "worst quality, low quality, jpeg artifacts, watermark, text",
    "Bright tones, overexposed, blurred details, subtitles, ugly, deformed, extra fingers",
    "a cat sits on a chair by the window",
    "Two people are talking in a restaurant, cinematic, 4k",
    "the city wakes in the morning",
    "ocean waves, photorealistic",
    "一只猫坐在窗边的椅子上",
    "城市的清晨，电影质感，高清",
    "模糊，低质量，变形",
)
"""Texts that must not steer: what the unguided branch is trained on, beside the empty one."""

_ENGLISH_OPENINGS = ("", "", "", "", "a video of ", "an animation of ", "video: ", "there is ")
_CHINESE_OPENINGS = ("", "", "", "", "视频：", "动画：", "画面中，", "画面里有")
_CHINESE_MOTION_LINKS = ("", "", "在", "正在", "慢慢", "，")
_VAGUE_ENGLISH = ("shape", "figure", "object")
_VAGUE_CHINESE = ("图形", "形状", "东西")


def _word(words: tuple[Word, ...], name: str | None) -> Word | None:
    return next((word for word in words if word.name == name), None)


def _pick(words: tuple[str, ...], random: Random) -> str:
    """One of the words, the usual (first) one in about half of the draws."""
    return words[0] if random.random() < 0.4 else random.choice(words)


def english_prompt(spec: Spec, random: Random) -> str:
    """A random English prompt that says exactly what `spec` names."""
    colour, shape = _word(COLOURS, spec.colour), _word(SHAPES, spec.shape)
    motion, background = _word(MOTIONS, spec.motion), _word(BACKGROUNDS, spec.background)
    noun = _pick(shape.english, random) if shape else random.choice(_VAGUE_ENGLISH)
    if colour:
        noun = f"{_pick(colour.english, random)} {noun}"
    article = "an" if noun[0] in "aeiou" else "a"
    style = random.random()
    if style < 0.7:
        noun = f"{article} {noun}"
    elif style < 0.8:
        noun = f"one {noun}" if random.random() < 0.3 else f"the {noun}"
    where = ""
    if background:
        place = _pick(background.english, random)
        kind = "background" if random.random() < 0.85 else "backdrop"
        joint = random.choice(
            ("on a", "on a", "on a", "against a", "over a", "with a", "in front of a")
        )
        where = f"{joint} {place} {kind}"
    text = noun
    if motion:
        index = 0 if random.random() < 0.4 else random.randrange(len(motion.english))
        form = random.random()
        if form < 0.5:
            text = f"{noun} {motion.english[index]}"
        elif form < 0.85:
            text = f"{noun} {motion.english_ing[index]}"
        elif form < 0.93:
            text = f"{noun}, {motion.english_ing[index]}"
        else:
            text = f"{noun} that {motion.english[index]}"
    if where:
        order = random.random()
        if order < 0.65:
            text = f"{text} {where}"
        elif order < 0.8:
            text = f"{text}, {where}"
        elif order < 0.9:
            text = f"{where}, {text}"
        else:
            text = f"{text}, {place} {kind}"
    text = random.choice(_ENGLISH_OPENINGS) + text
    if random.random() < 0.3:
        text += "."
    return text


def chinese_prompt(spec: Spec, random: Random) -> str:
    """A random Chinese prompt that says exactly what `spec` names."""
    colour, shape = _word(COLOURS, spec.colour), _word(SHAPES, spec.shape)
    motion, background = _word(MOTIONS, spec.motion), _word(BACKGROUNDS, spec.background)
    noun = _pick(shape.chinese, random) if shape else random.choice(_VAGUE_CHINESE)
    if colour:
        noun = f"{_pick(colour.chinese, random)}{random.choice(('的', '的', ''))}{noun}"
    counter = random.choice(("一个", "一个", "一颗", "一只", "一块", "", "", "这个"))
    text = counter + noun
    if motion:
        if random.random() < 0.12:
            text = f"{counter}{_pick(motion.chinese, random)}的{noun}"
        else:
            text += random.choice(_CHINESE_MOTION_LINKS) + _pick(motion.chinese, random)
    if background:
        place = _pick(background.chinese, random)
        order = random.random()
        if order < 0.3:
            text = f"在{place}背景上，{text}"
        elif order < 0.5:
            text = f"{place}背景上，{text}"
        elif order < 0.65:
            text = f"{place}背景，{text}"
        elif order < 0.85:
            text = f"{text}，{place}背景"
        else:
            text = f"{text}，背景{random.choice('是为')}{place}"
    text = random.choice(_CHINESE_OPENINGS) + text
    if random.random() < 0.3:
        text += "。"
    return text


def training_prompt(spec: Spec, random: Random) -> str:
    """A random prompt in either language for a complete `spec`, now and then saying less.

    Saying less teaches partial prompts: the colour, the shape or the background left open, and
    the motion only where leaving it out means the same (`still`).
    """
    said = Spec(
        colour=spec.colour if random.random() < 0.96 else None,
        shape=spec.shape if random.random() < 0.96 else None,
        motion=None if spec.motion == "still" and random.random() < 0.5 else spec.motion,
        background=spec.background if random.random() < 0.55 else None,
    )
    write = english_prompt if random.random() < 0.5 else chinese_prompt
    text = write(said, random)
    return text[:1].upper() + text[1:] if random.random() < 0.5 else text


def evaluation_prompts(each: int, seed: int = 1234) -> list[tuple[str, Spec]]:
    """`each` prompts for every held-out combination, languages in turn, half with a background."""
    random = Random(seed)
    prompts: list[tuple[str, Spec]] = []
    for spec in vocabulary.held_out_combinations():
        for _ in range(each):
            background = random.choice(BACKGROUNDS).name if random.random() < 0.5 else None
            asked = Spec(spec.colour, spec.shape, spec.motion, background)
            write = english_prompt if len(prompts) % 2 == 0 else chinese_prompt
            prompts.append((write(asked, random), asked))
    return prompts
