"""The upscaler's command line: `python -m webui.demo.upscaler` trains both networks again."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from webui.demo.upscaler import SCALES, pictures


def main(arguments: list[str] | None = None) -> int:
    """Fetches the pictures and trains; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m webui.demo.upscaler", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("outputs/upscaler"))
    parser.add_argument("--pictures", type=Path, help="a folder of photographs (default: fetched)")
    parser.add_argument("--scales", type=int, nargs="+", choices=SCALES, default=SCALES)
    parser.add_argument("--minutes", type=float, default=6.0, help="of training, for each scale")
    parser.add_argument("--batch", type=int, default=64, help="patches a step")
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    folder = options.pictures or options.output / "pictures"
    if options.pictures is None:
        pictures.fetch(folder)
    # The library is heavy: help and wrong arguments answer without it.
    import torch

    from webui.demo.upscaler.train import train

    learned, kept = read(folder)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    for scale in options.scales:
        train(
            learned,
            kept,
            scale,
            options.output / f"x{scale}",
            minutes=options.minutes,
            batch=options.batch,
            device=device,
            seed=options.seed,
            compiled=device.type == "cuda",
        )
        print(f"complete: {options.output / f'x{scale}'}")
    return 0


def read(folder: Path) -> tuple[list[Image.Image], list[Image.Image]]:
    """Pictures to learn from, in two sizes and with drawn ones, and those kept for validation.

    Raises:
        FileNotFoundError: the folder has none.
    """
    learned, kept = [], []
    for path in sorted([*folder.glob("*.jpg"), *folder.glob("*.png")]):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        if path.stem.startswith(pictures.VALIDATION):
            kept.append(picture)
            continue
        half = (picture.width // 2, picture.height // 2)
        learned += [picture, picture.resize(half, Image.Resampling.LANCZOS)]
    if not learned:
        raise FileNotFoundError(f"no .jpg or .png files in {folder}")
    return learned + [pictures.draw(number) for number in range(pictures.DRAWN)], kept


if __name__ == "__main__":
    raise SystemExit(main())
