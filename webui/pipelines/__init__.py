"""The runs themselves: one folder a model family, the same code on a GPU, a processor and meta.

A family has `build_meta`, `load` and `run`; what `load` gives has a `placement`.
The package itself imports no torch, so that asking for the names costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

FAMILIES = {
    "wan": "webui.pipelines.wan",
    "svd": "webui.pipelines.svd",
    "flashvsr": "webui.pipelines.flashvsr",
    "swin2sr": "webui.pipelines.swin2sr",
    "qwen_vl": "webui.pipelines.qwen_vl",
    "qwen_vl_training": "webui.pipelines.qwen_vl_training",
    "language": "webui.pipelines.language",
    "ocr": "webui.pipelines.ocr",
}


def load_family(name: str) -> ModuleType:
    """The module of a model family; imports torch, diffusers and transformers.

    Raises:
        KeyError: a card names a family that is not there.
    """
    return import_module(FAMILIES[name])
