"""Swin2SR, which makes single frames larger: load or build the model, run it over frames."""

from webui.pipelines.swin2sr.build import build_meta, build_random
from webui.pipelines.swin2sr.load import load
from webui.pipelines.swin2sr.run import run, upscale

__all__ = ["build_meta", "build_random", "load", "run", "upscale"]
