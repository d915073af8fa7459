"""Stable Video Diffusion, image to video: load or build the pipeline, place it, run its phases."""

from webui.pipelines.preview import preview_jpeg
from webui.pipelines.running import check_finite
from webui.pipelines.svd.build import build_meta, build_random
from webui.pipelines.svd.load import load
from webui.pipelines.svd.phases import Encoded, decode, denoise, encode
from webui.pipelines.svd.placement import PHASES_OF, Placement, residency

PHASES = ("image_encode", "denoise", "decode")

__all__ = [
    "PHASES",
    "PHASES_OF",
    "Encoded",
    "Placement",
    "build_meta",
    "build_random",
    "check_finite",
    "decode",
    "denoise",
    "encode",
    "load",
    "preview_jpeg",
    "residency",
]
