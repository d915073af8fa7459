"""`python -m webui.tracing [MODEL ...]`: writes the estimator's templates."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from webui.catalogue import load_cards, load_models, use_models
from webui.core.gguf import GGUF
from webui.core.model import ModelCard
from webui.estimator.templates import (
    FOLDER,
    WIDTHS,
    parts_of,
    quantized_parts,
    template_name,
)

FAMILIES = {
    "wan": "webui.tracing.wan",
    "svd": "webui.tracing.svd",
    "flashvsr": "webui.tracing.flashvsr",
    "swin2sr": "webui.tracing.swin2sr",
    "qwen_vl": "webui.tracing.qwen_vl",
    "qwen_vl_training": "webui.tracing.qwen_vl_training",
    "language": "webui.tracing.language",
}
"""The module that traces a family; its `PARTS` name what is traced, its `LIBRARIES` what else than
the usual ones it depends on."""
REPRESENTATIVE = {"half": "bf16", "full": "fp32"}
"""The precision that is traced for each width."""


def trace_model(card: ModelCard, folder: Path, only: str | None = None) -> list[Path]:
    """Writes the templates of all parts of a model at both widths, the quantised ones at half.

    Quantised ones whose library is not installed are left out.

    Args:
        card: the model.
        folder: where the files go.
        only: one part (text, transformer, vae, ...), or None for all.

    Returns:
        The files that were written; parts that another model shares are written once.
    """
    import diffusers
    import torch
    import transformers

    family = import_module(FAMILIES[card.family])
    versions = {
        "torch": torch.__version__.split("+")[0],
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        **{name: version(name) for name in getattr(family, "LIBRARIES", ())},
    }
    # Each recording begins with a collection, which need not go through the libraries' objects too:
    # that took more than half of the time.
    gc.collect()
    gc.freeze()
    try:
        return _written(card, folder, only, family, versions)
    finally:
        gc.unfreeze()


def _written(
    card: ModelCard, folder: Path, only: str | None, family: ModuleType, versions: dict[str, str]
) -> list[Path]:
    """The files of a model's parts, or of one."""
    written = []
    quantized = {part: _library_of(part) for part in quantized_parts(card)}
    quantized = {part: name for part, name in quantized.items() if find_spec(name)}
    for part in (*parts_of(card), *quantized):
        if only is not None and part != only:
            continue
        for width in ("half",) if part in quantized else WIDTHS:
            precision = REPRESENTATIVE[width]
            made_with = versions
            if part in quantized:
                made_with = versions | {quantized[part]: version(quantized[part])}
            about = {
                "model": card.name,
                "part": part,
                "precision": precision,
                "versions": made_with,
            }
            path = folder / template_name(card, part, width)
            arrays: dict[str, Any] = family.PARTS[part](card, precision)
            # Whole or not at all: an app may be reading the folder, and this may be ended.
            unfinished = path.with_suffix(".unfinished")
            with unfinished.open("wb") as file:
                np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
            unfinished.replace(path)
            written.append(path)
    return written


def _library_of(part: str) -> str:
    """The package that stores a quantised part."""
    return _PACKAGES.get(part.rpartition("_")[2], "bitsandbytes")


_PACKAGES = {GGUF: "gguf", "int8wo": "torchao", "fp8wo": "torchao"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m webui.tracing", description=__doc__)
    parser.add_argument("models", nargs="*", help="catalogue names; none: all of them")
    parser.add_argument("--part", help="only this part, e.g. vae")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--own", type=Path, help="folder with model cards of your own")
    arguments = parser.parse_args()
    if arguments.own is not None:
        use_models(arguments.own)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.models or list(load_models()):
        begun = time.perf_counter()
        for card in (card for card in load_cards().values() if card.name == name):
            for path in trace_model(card, arguments.output, arguments.part):
                print(f"{path.name}  {path.stat().st_size / 1024:.0f} KiB")
        print(f"{name}: {time.perf_counter() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
