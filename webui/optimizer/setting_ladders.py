"""Settings as quantities to ask the most of: pages at once, and the side of a tile."""

from __future__ import annotations

import math
from collections.abc import Sequence

from webui.core.fields import MAX_BATCH
from webui.core.model import ModelCard
from webui.core.pages import PageRequest
from webui.core.request import Request
from webui.core.settings import SETTINGS
from webui.core.text import Text
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.optimizer.ladder import Ladder, Rungs
from webui.optimizer.upscaling import LEAST_TILE_PX

QUESTIONS = ("pages", "tile")
"""What `setting_ladders` may know."""
TILE_STEP_PX = 32
"""Finer sides are no other answer to anybody."""
_UNITS = {
    "page_batch": Text("{count} page{s} at once", "同时 {count} 页"),
    "tile": Text("{count} px a tile", "每块边长 {count} 像素"),
}


class SettingRungs(Rungs):
    """The same request with other values of one setting.

    Args:
        request: the workload.
        setting: its name.
        values: from large to small.
    """

    def __init__(self, request: Request, setting: str, values: Sequence[int]) -> None:
        super().__init__(request, (), [(value,) for value in values])
        self.setting = setting

    def cut(self, values: Sequence[tuple[int, ...]]) -> Rungs:
        return SettingRungs(self.request, self.setting, [value for (value,) in values])

    def made(self, values: tuple[int, ...]) -> Request:
        (value,) = values
        request = self.request.with_changes(settings=self.request.settings | {self.setting: value})
        if isinstance(request, PageRequest) and request.repeats < value:
            return request.with_changes(pages=value)  # fewer pages are never read together
        return request


def setting_ladders(model: ModelCard, request: Request) -> dict[str, Ladder]:
    """What can be asked of a request's settings, by the question's name."""
    found: list[Ladder] = []
    if isinstance(request, PageRequest) and "page_batch" in model.settings:
        found = [_ladder("pages", request, "page_batch", range(MAX_BATCH, 0, -1))]
    elif isinstance(model, UpscaleCard) and isinstance(request, UpscaleRequest):
        step = math.lcm(TILE_STEP_PX, model.tile_multiple)
        most = min(max(request.height, request.width) - 1, int(SETTINGS["tile"].high or 0))
        # A tile is at least twice its overlap (`is_sensible`).
        least = max(LEAST_TILE_PX, 2 * int(request.settings.get("tile_overlap", 0)))
        sides = range(most // step * step, least - 1, -step)
        found = [_ladder("tile", request, "tile", sides)] if "tile" in model.settings else []
    return {ladder.name: ladder for ladder in found if ladder.requests}


def _ladder(name: str, request: Request, setting: str, values: Sequence[int]) -> Ladder:
    rungs = SettingRungs(request, setting, values)
    return Ladder(name=name, requests=rungs, unit=_UNITS[setting], setting=setting)
