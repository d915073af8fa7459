"""Wan2.1 text to video: load or build the pipeline, place it, run its phases."""

from webui.pipelines.wan.build import build_meta, build_random
from webui.pipelines.wan.load import detect_layout, load, load_diffusers, load_original
from webui.pipelines.wan.phases import Embeddings, decode, denoise, encode, run
from webui.pipelines.wan.placement import PHASE_OF, Placement, residency

__all__ = [
    "PHASE_OF",
    "Embeddings",
    "Placement",
    "build_meta",
    "build_random",
    "decode",
    "denoise",
    "detect_layout",
    "encode",
    "load",
    "load_diffusers",
    "load_original",
    "residency",
    "run",
]
