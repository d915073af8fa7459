"""Swin2SR's one phase: a batch of frames, or of tiles of them; the last is like the first."""

from __future__ import annotations

from webui.core.settings import Settings
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.estimator.events import Part, PhaseEvents
from webui.estimator.rules import WORKSPACE, Rules
from webui.estimator.templates import Template, find_template, width_of
from webui.estimator.upscaling import (
    Tiles,
    normal_request,
    normal_settings,
    segment_counts,
    waiting_bytes,
)

PHASE = "upscale"
_HOST_FACTOR = 4
"""Times a batch's result: as bytes on their way, in single precision, and blended."""


def relevant(
    phase: str, model: UpscaleCard, request: UpscaleRequest, settings: Settings, rules: Rules
) -> tuple[UpscaleRequest, Settings]:
    """Request and settings with a fixed value for what memory does not depend on."""
    settings = normal_settings(settings)
    # Frames keep their colours.
    return normal_request(request, settings).with_changes(colour="none"), settings


class Swin2srMemory:
    """Events of the phase, for one request with complete settings on a kind of device."""

    def __init__(
        self, card: UpscaleCard, request: UpscaleRequest, settings: Settings, rules: Rules
    ) -> None:
        self.card, self.request, self.settings, self.rules = card, request, settings, rules
        self.width = width_of(str(settings["precision"]))
        self.component = f"x{request.scale}"
        window = int(card.configs[self.component]["window_size"])
        tiles = Tiles.of(request, settings, window)
        self.tiles = tiles.count
        rows, columns = tiles.height, tiles.width
        frames = segment_counts(request, settings)[0][0]
        self.shape = {
            "b": min(max(1, int(settings["tile_batch"])), self.tiles * frames),
            "y": rows,
            "x": columns,
            "h": -(-rows // window) * window,
            "w": -(-columns // window) * window,
        }
        even = (rows, columns) == (self.shape["h"], self.shape["w"])
        self._filling = "whole" if even else "padded"

    @property
    def template(self) -> Template:
        """Of the model of the request's scale."""
        return find_template(self.card, self.component, self.width)

    def way(self, batch: int) -> str:
        """The name under which the template has a batch of so many pictures."""
        return self._filling if batch > 1 else f"{self._filling}.one"

    def phase_names(self) -> tuple[str, ...]:
        return (PHASE,)

    def phase(self, name: str) -> PhaseEvents:
        scales = [f"x{scale}" for scale in sorted(self.card.scales)]
        events = PhaseEvents(
            [
                Part(scale, find_template(self.card, scale, self.width).array("weights"))
                for scale in scales
            ]
        )
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        what = f"model {self.component}, {self.shape['b']} at a time"
        events.play(self.template.tape(self.way(self.shape["b"])), self.shape, what=what)
        return events


def host_bytes(model: UpscaleCard, request: UpscaleRequest, settings: Settings) -> int:
    """Host memory above that of the process and of weights: a batch, the frame that it is
    of, and frames that wait for the encoder."""
    rules = Rules("cuda", (), has_scratch=True, expandable=True, measured=True)
    shape = Swin2srMemory(model, request, settings, rules).shape
    batch = 3 * shape["b"] * shape["y"] * shape["x"] * request.scale**2
    height, width = request.output_size
    return _HOST_FACTOR * (batch + 3 * height * width) + waiting_bytes(request)
