"""FlashVSR: load or build the model, place it, and upscale frames by its three phases."""

from webui.pipelines.flashvsr.build import build_meta, build_random
from webui.pipelines.flashvsr.load import load
from webui.pipelines.flashvsr.placement import PHASES_OF, Placement, residency
from webui.pipelines.flashvsr.run import run

__all__ = [
    "PHASES_OF",
    "Placement",
    "build_meta",
    "build_random",
    "load",
    "residency",
    "run",
]
