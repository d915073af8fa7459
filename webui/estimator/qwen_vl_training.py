"""The phases of a training step, put together from the templates of its layers.

Two steps are played, as a run makes them: the second finds the optimizer's states and the cache
that the first left. Tests compare what comes out with fresh traces of the real step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from webui.core.keys import ByIdentity
from webui.core.settings import Settings
from webui.core.training import TrainCard, TrainRequest
from webui.estimator.continued import ContinuedEvents
from webui.estimator.events import Part, PhaseEvents
from webui.estimator.optimizer_states import states_of, temporaries_of
from webui.estimator.qwen_vl_shape import Step, step_of, variant_of, vision_config
from webui.estimator.rules import WORKSPACE, Rules
from webui.estimator.segments import Joined, Place, join, places_of, unpack
from webui.estimator.templates import Template, find_template, width_of
from webui.estimator.zero import shared_states

PHASES = ("forward", "backward", "optimizer")
STEPS = 2
_NONE = np.empty(0, np.int64)
NEAR = 2
"""Layers at each end of a tower that are played with all that they take for themselves. In between
it is the same, beside less than at one of the ends."""


def relevant(
    phase: str, model: TrainCard, request: TrainRequest, settings: Settings, rules: Rules
) -> tuple[TrainRequest, Settings]:
    """The settings with a fixed value for what memory does not depend on; all phases share them."""
    half = width_of(str(settings["precision"])) == "half"
    return request, settings | {"precision": "bf16"} if half else settings


@dataclass(frozen=True, slots=True)
class Passes:
    """The tapes of one variant: forward; backward that makes gradients, and that adds to them."""

    forward: Joined
    backward: Joined
    again: Joined


class TrainingMemory:
    """Events of each phase of one request under one choice of settings, on one kind of device."""

    def __init__(
        self, card: TrainCard, request: TrainRequest, settings: Settings, rules: Rules
    ) -> None:
        self.card = card
        self.request = request
        self.settings = settings
        self.rules = rules
        self.width = width_of(str(settings["precision"]))
        self.template = find_template(card, "model", self.width)
        self.value_bytes = 2 if self.width == "half" else 4
        self.step: Step = step_of(card, request)
        self.zero_stage = int(settings["zero_stage"])
        self.gpus = int(settings["gpus"])

    @property
    def variant(self) -> str:
        """Which of the template's recordings it is."""
        fused = self.rules.kind == "cpu" or (self.width == "half" and self.rules.flash)
        return variant_of(
            "lora" if self.request.lora_rank else "full",
            "checkpoint" if self.settings["gradient_checkpointing"] else "all",
            "image" if self.request.image_size else "text",
            "fused" if fused else "plain",
        )

    @property
    def adapters(self) -> np.ndarray:
        """Bytes of each adapter; none without a rank."""
        values: np.ndarray = self.template.array("adapters") * self.request.lora_rank
        return values[values > 0] * self.value_bytes

    @property
    def trained(self) -> np.ndarray:
        """Bytes of each parameter that is trained."""
        if self.request.lora_rank:
            return self.adapters
        weights = self.template.array("weights")
        return weights[: int(self.template.array("parameters"))]

    def phase_names(self) -> tuple[str, ...]:
        return PHASES

    def phase(self, name: str) -> PhaseEvents:
        return self._events.phase(name)

    @cached_property
    def _events(self) -> ContinuedEvents:
        events = ContinuedEvents(self._resident())
        shared = self.zero_stage > 0
        states: tuple[int, ...] = ()
        gradients = np.empty(0, np.int64)
        for step in range(STEPS):
            for number in range(min(2, self.request.gradient_accumulation)):
                again = shared or number > 0
                made = self._passes(events, again=again, first=step + number == 0)
                gradients = gradients if again else made
            events.begin("optimizer")
            if not shared:
                # Without pictures the tower, whose parameters come first, has no gradients.
                updated = self.trained[len(self.trained) - len(gradients) :]
                states = states or self._make_states(events, updated)
                temporary = temporaries_of(str(self.settings["optimizer"]), updated)
                events.release(*events.allocate_all(temporary, "the optimizer's copies"))
                events.release_all(gradients)
        return events

    def _resident(self) -> list[Part]:
        weights = Part("model", self.template.array("weights"))
        adapters = [Part("adapters", self.adapters)] if self.request.lora_rank else []
        if not self.zero_stage:
            buckets = [Part("gradient buckets", self.trained)] if self.gpus > 1 else []
            return [weights, *adapters, *buckets]
        return [
            Part(name, np.array([size]))
            for name, size in shared_states(
                self.zero_stage,
                self.gpus,
                weights=int(weights.sizes.sum() + self.adapters.sum()) // self.value_bytes,
                trained=int(self.trained.sum()) // self.value_bytes,
                largest=int(self.template.array("largest")),
                value_bytes=self.value_bytes,
            ).items()
            if size
        ]

    def _make_states(self, events: ContinuedEvents, updated: np.ndarray) -> tuple[int, ...]:
        sizes = states_of(
            str(self.settings["optimizer"]), updated, self.value_bytes, self.rules.kind
        )
        return events.allocate_all(sizes, "the optimizer's states")

    def _passes(self, events: ContinuedEvents, again: bool, first: bool) -> np.ndarray:
        """One micro-batch; returns the keys of the gradients that it leaves."""
        passes = self._joined()
        shape = self.step.to_dict()
        events.begin("forward")
        if first:
            events.allocate_all(self.rules.workspace_bytes, WORKSPACE)
        forward = passes.forward.tape
        kept = events.play_all(
            forward, shape, _NONE, what="forward pass", lasting="activations kept"
        )
        events.begin("backward")
        if first:
            # The backward pass runs in a thread of its own, with its own handle.
            events.allocate_all(self.rules.workspace_bytes, WORKSPACE)
        way = passes.again if again else passes.backward
        assert len(way.outside) == len(forward.survivors), "backward frees all that forward keeps"
        left = events.play_all(
            way.tape, shape, kept + way.outside, "backward pass", lasting="gradients"
        )
        return left + way.tape.survivors

    def _joined(self) -> Passes:
        return _joined(ByIdentity(self.template), ByIdentity(self.card), self.variant)


@lru_cache(maxsize=256)
def _joined(template: ByIdentity[Template], card: ByIdentity[TrainCard], variant: str) -> Passes:
    return join_passes(template.thing, card.thing, variant)


def join_passes(template: Template, card: TrainCard, variant: str, near: int = NEAR) -> Passes:
    """The tapes of a variant with the card's number of layers.

    Args:
        template: has the segments.
        card: has the numbers of layers.
        variant: one of the template's.
        near: layers at each end that are played in full.
    """
    config = vision_config(card)
    counts = {
        "vision": int(config["depth"]),
        "text": int(card.configs["model"]["num_hidden_layers"]),
    }
    full = set(config["fullatt_block_indexes"])

    def exact(place: Place) -> bool:
        return not place.tower or not near <= place.layer < counts[place.tower] - near

    def renamed(place: Place) -> Mapping[str, str]:
        windowed = place.tower == "vision" and place.layer not in full
        return {"r": "w"} if windowed else {}

    def tape_of(prefix: str, direction: str, other: Joined | None) -> Joined:
        segments = unpack(template.array, f"{variant}.{prefix}")
        # A tower that is not there, or that nothing of is trained, has no segments.
        present = {
            tower: count
            for tower, count in counts.items()
            if any(name.startswith(f"{direction}.{tower}") for name in segments)
        }
        places = list(places_of(direction, present))
        return join(segments, places, counts, other, exact, renamed)

    forward = tape_of("first", "forward", None)
    return Passes(
        forward,
        tape_of("first", "backward", forward),
        tape_of("again", "backward", forward),
    )
