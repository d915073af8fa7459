"""What models that write text allocate, put together from the pieces of a traced run.

The pieces follow each other and free each other's storages: the tower's (`vision`), the prompt's
(`prefill`), the first token's (`first`), the step after it (`second`), and the one that all later
steps are like (`step`). Tests compare what comes out with fresh recordings of whole runs.

Variables of the tapes: b prompts at a time, s tokens of each, m of them its picture's, p the same
of a page before the last, c tokens in the cache before a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from webui.core.model import ModelCard
from webui.core.settings import Settings, unquantized
from webui.estimator.allocator import MIN_LARGE_SEGMENT, ROUND_LARGE
from webui.estimator.blocks import SMALL_SIZE
from webui.estimator.events import Part, PhaseEvents
from webui.estimator.rules import WORKSPACE, Rules
from webui.estimator.tape import read_terms, term_values
from webui.estimator.templates import Template, find_template, stored_part, width_of

PART = "model"
"""The one part that a template has."""
PHASES = ("vision", "prefill", "generate")
_STEPS = ("second", "step", "again", "later")
"""The last two have the events of `step`, and other storages to free: those of one and of two steps
like them."""
GROWTH = 1.25
"""By how much the cache grows between two steps that are replayed; the first and the last steps
are replayed one by one. Leaving steps out changes no live byte at the end, where the peak is."""
FIRST_STEPS = 2
LAST_STEPS = 3
MOST_STEPS = 64
"""Steps that are replayed between them where each can need new segments."""
UNSEEN_SHARE = 0.2
UNSEEN_STEPS = 80
"""The growing cache leaves holes between its storages, more with each step, which a replay of a few
steps does not show: with expandable segments as much as this share of the cache once so many steps
are left out. Fitted to replays of all steps (Qwen2.5-VL 7B, 1 to 32 pages at a time, 20 to 2048
tokens): what is reserved is then within 2.5 % of theirs; a test compares. Where weights are
streamed, replays show no holes, and cards do, as many (GLM-Edge, Qwen2.5-VL and Qwen3-VL on an
H200): the cache lies scattered when the phase begins."""


FUSED_ROWS = 4
"""Rows up to which every card multiplies by 4-bit weights as they are (bitsandbytes 0.50,
backends/cuda/ops.py, `_GEMM_4BIT_CUSTOM_FLOOR_M`); the tracer's is the same, a test compares."""


_GONE = -1
_NOTHING = np.empty(0, np.int64)


class WritingMemory:
    """Events of each phase of one batch under one choice of settings, on one kind of device.

    Args:
        card: the model.
        settings: complete settings.
        rules: of the device.
        shape: b, s and, with pictures, m.
        new_tokens: of each answer.
        padded: prompts may differ in length.
        again: there is a batch before this one, so that streamed weights come in their order.
    """

    def __init__(
        self,
        card: ModelCard,
        settings: Settings,
        rules: Rules,
        shape: Mapping[str, int],
        new_tokens: int,
        padded: bool = False,
        again: bool = False,
    ) -> None:
        settings = settings if rules.kind == "cuda" else unquantized(settings)
        self.settings = settings
        self.rules = rules
        part = stored_part(PART, settings)
        self.template: Template = find_template(card, part, width_of(str(settings["precision"])))
        self.shape = {**shape, "p": shape["m"] if shape["b"] > 1 else 0} if "m" in shape else shape
        self.new_tokens = new_tokens
        self.streamed = rules.kind == "cuda" and settings["offload"] != "none"
        self.mode = ("warm" if again else "leaf") if self.streamed else "resident"
        self.way = self._way(padded)

    def _way(self, padded: bool) -> str:
        """How attention is computed, as the templates name it."""
        many = self.shape["b"] > 1
        if self.settings["attention"] == "eager":
            return "eager-many" if many else "eager-one"
        if padded and many:
            return "padded"
        half = width_of(str(self.settings["precision"])) == "half"
        if self.rules.kind == "cpu" or (half and self.rules.flash):
            return "flash"
        return "math-many" if many else "math-one"

    @property
    def restored_bytes(self) -> dict[str, int]:
        """What steps make of 4-bit weights that their kernel does not multiply as they are.

        `most` for one layer, `all` for a step; empty where nothing is restored. Between
        `FUSED_ROWS` and 512 rows it depends on the card and the layer (bitsandbytes,
        backends/cuda/ops.py, `_gemm_4bit_use_custom_cuda`): here all of them are.
        """
        if self.settings.get("quantization") != "nf4" or self.shape["b"] <= FUSED_ROWS:
            return {}
        return {
            "most": int(self.template.array("restored.most")),
            "all": int(self.template.array("restored.all")),
        }

    @property
    def steps(self) -> int:
        """Passes after the prompt's: the first token comes with the prompt."""
        return self.new_tokens - 1

    def phase_names(self) -> tuple[str, ...]:
        """In order; without pictures there is no tower."""
        return PHASES if "m" in self.shape else PHASES[1:]

    def phase(self, name: str) -> PhaseEvents:
        before = PhaseEvents([])
        run = _Run(self, before)
        for piece in self.phase_names()[: self.phase_names().index(name)]:
            run.play(piece)
        kept = run.alive()
        weights = [] if self.streamed else [Part(PART, self.template.array("weights"))]
        given = [Part("inputs and cache", before.sizes_of(kept))] if len(kept) else []
        events = PhaseEvents([*weights, *given])
        run.go_on(events, sum(len(part.sizes) for part in weights))
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        if name != "generate":
            run.play(name)
            return events
        run.play("first")
        steps = list(self.replayed_steps())
        for index, count in enumerate(steps):
            run.play(_STEPS[min(index, 3)], c=self.shape["s"] + count)
            if self.restored_bytes:
                events.release(events.allocate(self.restored_bytes["most"], "restored weight"))
        events.unseen_bytes = self._unseen_bytes(self.steps - len(steps))
        return events

    def replayed_steps(self) -> Iterator[int]:
        """How many tokens were added to the prompt's before each step that is replayed."""
        count = 0
        while count < self.steps:
            yield count
            last = self.steps - LAST_STEPS
            if count + 1 < FIRST_STEPS or count + 1 >= last:
                count += 1
            else:
                count = min(max(count + 1, self._next_step(count)), last)

    def _next_step(self, count: int) -> int:
        """The step after a replayed one that is replayed too."""
        prompt = self.shape["s"]
        grown = int((prompt + count) * GROWTH) - prompt
        size = self._storage_bytes(count)
        if self.rules.expandable or size < MIN_LARGE_SEGMENT:
            return grown
        # Each storage of the cache has a segment of its own, and needs a new one where it outgrows
        # that: those steps are replayed.
        segment = (size // ROUND_LARGE + 1) * ROUND_LARGE
        outgrown = -(-segment // self._storage_bytes(1 - prompt)) - prompt
        return min(grown, max(outgrown, count + self.steps // MOST_STEPS))

    def _storage_bytes(self, count: int) -> int:
        """One of the cache's storages, the keys or values of a layer, after so many tokens."""
        tokens = self.shape["b"] * (self.shape["s"] + count)
        size = int(self.template.array("bytes.token")) * tokens
        return size // int(self.template.array("cache.storages"))

    def _unseen_bytes(self, left_out: int) -> int:
        size = self._storage_bytes(self.steps)
        if size <= SMALL_SIZE or not self.rules.expandable:
            return 0
        whole = size * int(self.template.array("cache.storages"))
        return int(whole * UNSEEN_SHARE * min(1.0, left_out / UNSEEN_STEPS))

    def costs(self, piece: str, **more: float) -> np.ndarray:
        """Operations, bytes and kernels of one piece (one value for each of COSTS)."""
        tower = piece == "vision" and not self.way.startswith("eager")
        name = f"costs.{'flash' if tower else self.way}.{piece}"
        terms = read_terms(self.template.array(f"{name}.terms"))
        found: np.ndarray = self.template.array(name) @ term_values({**self.shape, **more}, terms)
        return found


class _Run:
    """Pieces played one after the other, each with what it frees of those before."""

    def __init__(self, memory: WritingMemory, events: PhaseEvents) -> None:
        self._memory = memory
        self._events = events
        self._made: list[np.ndarray] = []
        """Of each piece so far the key of each of its slots; below zero where nothing lives."""

    def play(self, piece: str, **more: int) -> None:
        memory = self._memory
        back, slots = memory.template.array(f"{memory.mode}.{memory.way}.{piece}.outside").T
        freed = np.empty(len(slots), dtype=np.int64)
        for distance in set(back.tolist()):
            some, made = back == distance, self._made[-distance]
            freed[some] = made[slots[some]]
            made[slots[some]] = _GONE
        played = "step" if piece in _STEPS[1:] else piece
        tape = memory.template.tape(f"{memory.mode}.{memory.way}.{played}")
        shape = {**memory.shape, **more}
        first = self._events.play_all(tape, shape, freed, f"{played}, {memory.way}")
        left = np.full(tape.slots, _GONE)
        left[tape.survivors] = first + tape.survivors
        self._made.append(left)

    def alive(self) -> np.ndarray:
        """Keys of what lives on."""
        return np.concatenate([made[made >= 0] for made in self._made] or [_NOTHING])

    def go_on(self, events: PhaseEvents, first: int) -> None:
        """The next pieces are played in other events.

        Args:
            events: where what is alive has other keys, in the same order.
            first: the first of them.
        """
        self._events = events
        for made in self._made:
            alive = np.flatnonzero(made >= 0)
            made[alive] = np.arange(first, first + len(alive))
            first += len(alive)
