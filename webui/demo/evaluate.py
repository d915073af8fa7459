"""Measures the demo: does a held-out prompt give the asked colour, shape and motion?"""

from __future__ import annotations

import platform
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray

from webui.demo import drawing, prompts, vocabulary
from webui.demo.generate import draw_clips
from webui.demo.judge import Finding, judge
from webui.demo.vocabulary import BACKGROUNDS, DEFAULTS, Defaults, Spec

TRAITS = ("colour", "shape", "motion")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judged clip.

    Args:
        prompt: the text, empty for drawn clips.
        asked: what it names.
        found: what the judge saw.
    """

    prompt: str
    asked: Spec
    found: Finding


def accuracy(outcomes: list[Outcome]) -> dict[str, float]:
    """Share of clips that show what was asked, for each trait and for all three together."""
    hits = np.array([[_hit(o.asked, o.found, trait) for trait in TRAITS] for o in outcomes])
    shares = {trait: float(share) for trait, share in zip(TRAITS, hits.mean(0), strict=True)}
    return {**shares, "all": float(hits.all(1).mean())}


def shuffled_accuracy(outcomes: list[Outcome], rounds: int = 50, seed: int = 0) -> dict[str, float]:
    """The same shares after handing the prompts out at random: what luck alone gives."""
    random = Random(seed)
    totals: Counter[str] = Counter()
    asked = [outcome.asked for outcome in outcomes]
    for _ in range(rounds):
        random.shuffle(asked)
        mixed = [Outcome("", a, o.found) for a, o in zip(asked, outcomes, strict=True)]
        totals.update(accuracy(mixed))
    return {name: total / rounds for name, total in totals.items()}


def chance(outcomes: list[Outcome]) -> dict[str, float]:
    """What a guess scores for each trait: the best constant answer."""
    best = {}
    for trait in TRAITS:
        counts = Counter(getattr(outcome.asked, trait) for outcome in outcomes)
        best[trait] = max(counts.values()) / len(outcomes)
    return best


def _hit(asked: Spec, found: Finding, trait: str) -> bool:
    return bool(getattr(asked, trait) == getattr(found, trait))


def judge_drawn(count: int, settings: Defaults = DEFAULTS, seed: int = 7) -> list[Outcome]:
    """Judge clips drawn by the script, every combination and background, held-out ones too."""
    random, generator = Random(seed), torch.Generator().manual_seed(seed)
    combinations = vocabulary.combinations()
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        specs = [
            Spec(spec.colour, spec.shape, spec.motion, random.choice(BACKGROUNDS).name)
            for spec in random.choices(combinations, k=min(32, count - len(outcomes)))
        ]
        scene = drawing.random_scene(specs, generator)
        clips = drawing.draw(scene, settings.frames, settings.height, settings.width)
        for spec, clip in zip(specs, to_bytes(clips), strict=True):
            outcomes.append(Outcome("", spec, judge(clip)))
    return outcomes


def to_bytes(clips: torch.Tensor) -> NDArray[np.uint8]:
    """B 3 T H W from -1 to 1 as B T H W 3 from 0 to 255."""
    scaled = ((clips + 1) * 127.5).round().clamp(0, 255)
    return scaled.permute(0, 2, 3, 4, 1).to(torch.uint8).cpu().numpy()


def judge_generated(
    pipeline: WanPipeline,
    asked: list[tuple[str, Spec]],
    settings: Defaults = DEFAULTS,
    *,
    negative_prompt: str = "",
    batch: int = 1,
) -> tuple[list[Outcome], list[float], list[NDArray[np.uint8]]]:
    """Generate and judge one clip for each prompt.

    Returns:
        The outcomes, the seconds that each clip took (its share of its batch), and the clips.
    """
    outcomes: list[Outcome] = []
    seconds: list[float] = []
    kept: list[NDArray[np.uint8]] = []
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        began = time.perf_counter()
        seeds = [1000 + start + index for index in range(len(part))]
        clips = draw_clips(pipeline, [text for text, _ in part], seeds, settings, negative_prompt)
        seconds += [(time.perf_counter() - began) / len(part)] * len(part)
        kept += clips
        for (text, spec), clip in zip(part, clips, strict=True):
            outcomes.append(Outcome(text, spec, judge(clip)))
    return outcomes, seconds, kept


def evaluate(
    pipeline: WanPipeline,
    settings: Defaults = DEFAULTS,
    *,
    prompts_each: int = 3,
    limit: int | None = None,
    drawn: int = 1000,
    batch: int = 1,
    negative_prompt: str = "",
) -> dict[str, Any]:
    """All figures of the demo, as plain data.

    Args:
        pipeline: the demo, on its device.
        settings: how clips are generated.
        prompts_each: prompts for each held-out combination.
        limit: the number of prompts, spread over the combinations; None for all.
        drawn: clips that check the judge itself.
        batch: clips generated at a time; 1 is how the app runs, more saves time on a GPU.
        negative_prompt: for all prompts.
    """
    asked = prompts.evaluation_prompts(prompts_each)
    if limit is not None and limit < len(asked):
        asked = [asked[index * len(asked) // limit] for index in range(limit)]
    drawn_outcomes = judge_drawn(drawn, settings)
    draw_clips(
        pipeline, [asked[0][0]] * min(batch, len(asked)), [0] * min(batch, len(asked)), settings
    )
    outcomes, seconds, _ = judge_generated(
        pipeline, asked, settings, negative_prompt=negative_prompt, batch=batch
    )
    device = pipeline.device
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "versions": {
            name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")
        },
        "settings": asdict(settings),
        "negative_prompt": negative_prompt,
        "batch": batch,
        "drawn": {
            "clips": len(drawn_outcomes),
            "accuracy": accuracy(drawn_outcomes),
            "shuffled": shuffled_accuracy(drawn_outcomes),
            "chance": chance(drawn_outcomes),
        },
        "generated": {
            "clips": len(outcomes),
            "combinations": len(
                {(o.asked.colour, o.asked.shape, o.asked.motion) for o in outcomes}
            ),
            "accuracy": accuracy(outcomes),
            "english": accuracy(outcomes[0::2]) if limit is None else None,
            "chinese": accuracy(outcomes[1::2]) if limit is None else None,
            "shuffled": shuffled_accuracy(outcomes),
            "chance": chance(outcomes),
            "seconds_per_clip": float(np.median(seconds)),
            "misses": [_miss(o) for o in outcomes if accuracy([o])["all"] < 1],
        },
    }


def _miss(outcome: Outcome) -> dict[str, Any]:
    wrong = {
        trait: [getattr(outcome.asked, trait), getattr(outcome.found, trait)]
        for trait in TRAITS
        if not _hit(outcome.asked, outcome.found, trait)
    }
    return {"prompt": outcome.prompt, "asked_found": wrong}


def _cpu_name() -> str:
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"


def table(report: dict[str, Any]) -> str:
    """The figures for people."""
    rows: list[tuple[str, ...]] = [("", *TRAITS, "all")]
    for group, title in (("drawn", "judge on drawn clips"), ("generated", "generated clips")):
        part = report[group]
        named = {title: part["accuracy"], "  prompts shuffled": part["shuffled"]}
        named["  constant guess"] = part["chance"]
        for language in ("english", "chinese"):
            if part.get(language):
                named[f"  {language}"] = part[language]
        for name, values in named.items():
            cells = [f"{100 * values[t]:.1f} %" if t in values else "" for t in (*TRAITS, "all")]
            rows.append((name, *cells))
    lines = [f"{row[0]:24}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows]
    generated = report["generated"]
    lines.append(
        f"{generated['clips']} prompts over {generated['combinations']} held-out combinations, "
        f"{generated['seconds_per_clip']:.2f} s a clip on {report['device']} in {report['dtype']}"
    )
    return "\n".join(lines)
