"""Wan2.1 and Wan2.2: load or build the pipeline, place it, run its phases."""

from webui.pipelines.wan.build import build_meta, build_random
from webui.pipelines.wan.conditions import encode_conditions, takes_conditions
from webui.pipelines.wan.kinds import Conditions, pipeline_for
from webui.pipelines.wan.load import detect_layout, load, load_diffusers, load_original
from webui.pipelines.wan.phases import (
    Embeddings,
    build_scheduler,
    decode,
    denoise,
    denoise_phases,
    encode,
    run,
)
from webui.pipelines.wan.placement import Placement, phases_of, residency
from webui.pipelines.wan.tiling import set_tiling

__all__ = [
    "Conditions",
    "Embeddings",
    "Placement",
    "build_meta",
    "build_random",
    "build_scheduler",
    "decode",
    "denoise",
    "denoise_phases",
    "detect_layout",
    "encode",
    "encode_conditions",
    "load",
    "load_diffusers",
    "load_original",
    "phases_of",
    "pipeline_for",
    "residency",
    "run",
    "set_tiling",
    "takes_conditions",
]
