"""Figures of upscaling on a GPU: `python -m tests.flashvsr_figures attention|clip|compare|share`.

`attention`: sparse against dense attention, alone and within the whole run, with the density of the
mask. `clip`: writes a moving clip for `verify` files that name an input. `compare`: PSNR of every
frame of two files; where they are results of one worker and of several, how near to linear those
are, with loading and without, by the receipts that lie beside them. `share`: the same of receipts
that `verify --save` wrote, one of each number of GPUs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from webui.core.receipt import Receipt
from webui.core.work import WorkRecord, linear_share
from webui.storage.outputs import RECEIPT

SIZES = ((768, 1408), (1440, 2560), (2176, 3840))
"""Height and width of the result; multiples of 128 but for the 1440 that is padded to 1536."""
RUN_SIZES = ((192, 352), (360, 640))
"""Of the input, at x4: 768x1408 and 1440p."""
HEADS, CHANNELS, WINDOW = 12, 128, 128
REPEATS = 5
RUN_FRAMES = 117
PEAK = 255.0


def attention() -> None:
    """Prints both ways' milliseconds a layer of a steady chunk, and frames a second of a run."""
    import torch

    from webui.pipelines.flashvsr.attention import make_rule, select_windows
    from webui.pipelines.flashvsr.frames import padded_size
    from webui.pipelines.flashvsr.kernels import attend, attend_to_all

    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print("| size | density | choosing ms | sparse ms | dense ms | attention | with choosing |")
    for size in SIZES:
        height, width = padded_size(*size)
        rule = make_rule(height, width, device)
        tokens = 2 * (height // 16) * (width // 16)
        generator = torch.Generator(device).manual_seed(0)
        query, key, value = (
            torch.randn(
                (1, slabs * tokens, HEADS, CHANNELS),
                generator=generator,
                device=device,
                dtype=torch.bfloat16,
            )
            for slabs in (1, 4, 4)
        )
        kept = select_windows(query, key, rule)
        attend(query, key, value, kept)  # compiles
        choosing = _ms(partial(select_windows, query, key, rule))
        sparse = _ms(partial(attend, query, key, value, kept))
        dense = _ms(partial(attend_to_all, query, key, value))
        density = float(kept.float().mean())
        print(
            f"| {width}x{height} | {density:.1%} | {choosing:.2f} | {sparse:.2f} | {dense:.2f} "
            f"| {dense / sparse:.2f}x | {dense / (sparse + choosing):.2f}x |"
        )
    for size in RUN_SIZES:
        found = {way: _run(size, way == "dense") for way in ("sparse", "dense")}
        told = ", ".join(
            f"{way} {RUN_FRAMES / sum(s.values()):.1f} frames/s {s}" for way, s in found.items()
        )
        print(f"{size[1] * 4}x{size[0] * 4}: {told}")


def _run(size: tuple[int, int], dense: bool) -> dict[str, float]:
    """Seconds of each phase of a whole run at full size with random weights."""
    import torch

    from webui.catalogue import find_model
    from webui.core.parse import parse_request
    from webui.pipelines import load_family
    from webui.worker.footage import BlankFootage

    request: Any = parse_request(
        {"task": "upscale", "model": "flashvsr-v1.1", "frames": RUN_FRAMES, "seed": 0,
         "height": size[0], "width": size[1]}, find_model,
    )  # fmt: skip
    settings = {
        **{"precision": "bf16", "offload": "none", "decoder": "tiny", "sparsity": "stable"},
        **{"tile": 0, "tile_overlap": 24, "tile_batch": 1, "dense": dense},
    }
    family, card = load_family("flashvsr"), find_model("flashvsr-v1.1")
    pipe = family.load(card, settings, {"kind": "random"}, "cuda")
    for _ in range(2):  # the first one chooses kernels
        report = _Seconds()
        family.run(pipe, request, settings, report, BlankFootage(request))
        report.begin("")
    del pipe
    torch.cuda.empty_cache()
    return {name: round(seconds, 2) for name, seconds in report.seconds.items() if name}


class _Seconds:
    """A report that takes the time of the phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._began = "", 0.0

    def begin(self, phase: str, continues: bool = False) -> None:
        import torch

        torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._began
        self._phase, self._began = phase, now

    def warmed_up(self) -> None:
        self.begin("")
        self.seconds = {}

    def check(self) -> None:
        """Nobody cancels."""

    def step(self, done: int, total: int) -> None:
        """Nobody looks."""

    def latent_step(self, done: int, total: int, latents: Any) -> None:
        """Nobody looks."""


def _ms(run: Callable[[], object]) -> float:
    """The best of some runs, in milliseconds of the device."""
    import torch

    found = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(end))
    return min(found)


def write_clip(path: Path, frames: int, height: int, width: int) -> None:
    """A picture that wanders, with texture at all scales: what an encoder finds neither easy nor
    impossible."""
    import av

    generator = np.random.default_rng(0)
    picture = np.zeros((height * 2, width * 2, 3), np.float32)
    for step in (1, 2, 4, 8, 16, 32):
        coarse = generator.normal(
            0, 6 * step**0.7, (2 * height // step + 1, 2 * width // step + 1, 3)
        )
        picture += coarse.repeat(step, 0).repeat(step, 1)[: 2 * height, : 2 * width]
    pixels = (picture + 128).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"crf": "14"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(frames):
            down = round((1 + np.sin(number / 90)) * height / 2)
            across = round((1 + np.cos(number / 70)) * width / 2)
            shown = np.ascontiguousarray(pixels[down : down + height, across : across + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())


def compare(one: Path, other: Path) -> None:
    """Prints frames, and PSNR of the worst frame and of all."""
    values = [_psnr(a, b) for a, b in zip(_frames(one), _frames(other), strict=True)]
    worst = int(np.argmin(values))
    mean = float(np.mean(np.minimum(values, 99)))
    below = sum(value < 40 for value in values)
    print(
        f"{len(values)} frames; worst {values[worst]:.2f} dB (frame {worst}); mean {mean:.2f} dB; "
        f"below 40 dB: {below}"
    )
    works = [_work_beside(path) for path in (one, other)]
    alone, shared = sorted(works, key=lambda work: len(work.workers) if work else 0)
    if alone is not None and shared is not None and len(shared.workers) > 1:
        tell_share(alone, shared)


def share(path: Path) -> None:
    """Prints how near to linear each run on several GPUs is to that on one."""
    read = [Receipt.from_json(one) for one in json.loads(path.read_text("utf-8"))]
    works = [one.work for one in read if one.work]
    for several in (work for work in works if len(work.workers) > 1):
        alone = [w for w in works if len(w.workers) == 1 and w.units == several.units]
        if not alone:
            raise SystemExit(f"no run of {several.units} frames on one GPU in {path}")
        # The fastest: a first run compiles what later ones find.
        tell_share(min(alone, key=lambda work: work.elapsed_s), several)


def tell_share(alone: WorkRecord, shared: WorkRecord) -> None:
    """Prints what each worker did, and how near to linear several are."""
    from webui.commands.output import print_work

    for work in (alone, shared):
        rate = work.units / work.elapsed_s
        loading = ", ".join(f"{worker.load_s:.1f}" for worker in work.workers)
        print(
            f"{len(work.workers)} GPU: {work.units} frames in {work.elapsed_s:.1f} s ({rate:.1f} a "
            f"second), loading {loading} s, joining {work.joining_s:.1f} s"
        )
        print_work(work)
    with_loading, without = linear_share(alone, shared)
    print(f"of linear: {with_loading:.3f} with loading, {without:.3f} without")


def _work_beside(path: Path) -> WorkRecord | None:
    """The record of the run that made a file."""
    receipt = path.with_name(RECEIPT)
    if not receipt.is_file():
        return None
    return Receipt.from_json(json.loads(receipt.read_text("utf-8"))).work


def _frames(path: Path) -> Iterator[Any]:
    from webui.video.reading import Reader

    return Reader(path).frames()


def _psnr(one: Any, other: Any) -> float:
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return 10 * np.log10(PEAK**2 / error) if error else float("inf")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.flashvsr_figures", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("attention")
    clip = commands.add_parser("clip")
    clip.add_argument("path", type=Path)
    clip.add_argument("--frames", type=int, default=1920)
    clip.add_argument("--size", type=int, nargs=2, default=(192, 352), metavar=("HEIGHT", "WIDTH"))
    both = commands.add_parser("compare")
    both.add_argument("paths", type=Path, nargs=2)
    commands.add_parser("share").add_argument("path", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "attention":
        attention()
    elif given.command == "clip":
        write_clip(given.path, given.frames, *given.size)
    elif given.command == "share":
        share(given.path)
    else:
        compare(*given.paths)
    return 0


if __name__ == "__main__":
    sys.exit(main())
