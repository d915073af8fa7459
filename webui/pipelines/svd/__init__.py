"""Stable Video Diffusion, image to video: load or build the pipeline, place it, run its phases."""

from webui.pipelines.svd.build import build_meta, build_random
from webui.pipelines.svd.load import load
from webui.pipelines.svd.phases import Encoded, decode, denoise, encode, run
from webui.pipelines.svd.placement import PHASES_OF, Placement, residency

__all__ = [
    "PHASES_OF",
    "Encoded",
    "Placement",
    "build_meta",
    "build_random",
    "decode",
    "denoise",
    "encode",
    "load",
    "residency",
    "run",
]
