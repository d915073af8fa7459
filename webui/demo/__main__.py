"""The demo model's command line: `python -m webui.demo train|evaluate|draw|preview`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from webui.demo import CHECKPOINT
from webui.demo.sessions import PAUSED, train_in_sessions
from webui.demo.vocabulary import DEFAULTS


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    # The libraries are heavy: help and wrong arguments answer without them.
    import torch

    if options.device is None:
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.command == "train" and options.device == "cuda" and options.pause_after is None:
        given = sys.argv[1:] if arguments is None else arguments
        return train_in_sessions(given, options.session)
    commands = {"train": _train, "evaluate": _evaluate, "draw": _draw, "preview": _preview}
    return commands[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m webui.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train the checkpoint from nothing")
    train.add_argument("--output", type=Path, default=Path("outputs/demo-checkpoint"))
    train.add_argument("--state", type=Path, help="keeps the run (default: OUTPUT.state.pt)")
    train.add_argument("--start-from", type=Path, help="a checkpoint to improve")
    train.add_argument("--minutes-vae", type=float, default=11.0)
    train.add_argument("--minutes-transformer", type=float, default=30.0)
    train.add_argument("--steps-vae", type=int)
    train.add_argument("--steps-transformer", type=int)
    train.add_argument(
        "--pause-after", type=float, help="minutes; exits with 75, and the same command resumes"
    )
    train.add_argument("--session", type=float, default=4.0, help="minutes of a process, on a GPU")
    train.add_argument("--batch-scale", type=float, default=1.0, help="share of the full batch")
    train.add_argument("--clips", type=int, default=24_000, help="encoded clips that are kept")
    train.add_argument("--seed", type=int, default=0)

    evaluate = commands.add_parser("evaluate", help="measure it on held-out prompts")
    evaluate.add_argument("--prompts-each", type=int, default=3, help="for each combination")
    evaluate.add_argument("--limit", type=int, help="prompts in all")
    evaluate.add_argument("--drawn", type=int, default=1000, help="clips that check the judge")
    evaluate.add_argument("--batch", type=int, default=1, help="clips generated at a time")
    evaluate.add_argument("--negative-prompt", default="")
    evaluate.add_argument("--json", type=Path, help="write the figures here")

    draw = commands.add_parser("draw", help="draw one prompt")
    draw.add_argument("prompt")
    draw.add_argument("--output", type=Path, default=Path("outputs/demo.webp"))
    draw.add_argument("--negative-prompt", default="")
    draw.add_argument("--seed", type=int, default=DEFAULTS.seed)

    preview = commands.add_parser("preview", help="fit the map from latents to preview colours")

    for command in (evaluate, draw, preview):
        command.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    for command in (evaluate, draw):
        command.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32")
        command.add_argument("--solver", choices=("unipc", "dpm++"))
        for name in ("frames", "height", "width", "steps"):
            command.add_argument(f"--{name}", type=int)
        for name in ("guidance", "flow-shift"):
            command.add_argument(f"--{name}", type=float)
    for command in (train, evaluate, draw, preview):
        command.add_argument("--device", choices=("cuda", "cpu"))
        command.add_argument("--threads", type=int, help="CPU threads")
    return parser


def _train(options: argparse.Namespace) -> int:
    from webui.demo.train import TrainingPlan, train

    plan = TrainingPlan(
        output=options.output,
        state=options.state or options.output.with_name(options.output.name + ".state.pt"),
        device=options.device,
        start_from=options.start_from,
        minutes_vae=options.minutes_vae,
        minutes_transformer=options.minutes_transformer,
        steps_vae=options.steps_vae,
        steps_transformer=options.steps_transformer,
        pause_after=options.pause_after,
        batch_scale=options.batch_scale,
        clips=options.clips,
        seed=options.seed,
    )
    complete = train(plan)
    print(f"{'complete' if complete else 'paused'}: {plan.output}")
    return 0 if complete else PAUSED


def _settings(options: argparse.Namespace) -> Any:
    from webui.demo.generate import with_settings

    return with_settings(
        frames=options.frames,
        height=options.height,
        width=options.width,
        steps=options.steps,
        guidance=options.guidance,
        flow_shift=options.flow_shift,
        solver=options.solver,
    )


def _pipeline(options: argparse.Namespace) -> Any:
    import torch

    from webui.demo.generate import load_pipeline

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return load_pipeline(options.checkpoint, options.device, dtypes[options.dtype])


def _evaluate(options: argparse.Namespace) -> int:
    from webui.demo.evaluate import evaluate, table

    report = evaluate(
        _pipeline(options),
        _settings(options),
        prompts_each=options.prompts_each,
        limit=options.limit,
        drawn=options.drawn,
        batch=options.batch,
        negative_prompt=options.negative_prompt,
    )
    print(table(report))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    return 0


def _draw(options: argparse.Namespace) -> int:
    from webui.demo.generate import draw_clips, save_animation

    clip = draw_clips(
        _pipeline(options),
        [options.prompt],
        [options.seed],
        _settings(options),
        options.negative_prompt,
    )[0]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_animation(clip, options.output)
    print(options.output)
    return 0


def _preview(options: argparse.Namespace) -> int:
    from webui.demo.generate import load_pipeline
    from webui.demo.preview import fit_preview, preview_yaml

    print(preview_yaml(*fit_preview(load_pipeline(options.checkpoint).vae)), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
