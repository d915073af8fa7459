"""The phases of FlashVSR, put together from its templates for a request and settings.

The schedule of chunks and blocks is that of `webui.pipelines.flashvsr`; tests compare what comes
out with fresh traces of the real loop. Memory does not grow with the length of the video: the
second block of a segment stands for all later ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from webui.core.settings import Settings
from webui.core.units import MIB
from webui.core.upscale import UpscaleCard, UpscaleRequest
from webui.estimator.events import Part, PhaseEvents
from webui.estimator.rules import WORKSPACE, Rules
from webui.estimator.templates import ChainedCall, Template, find_template, width_of
from webui.estimator.upscaling import (
    Tiles,
    normal_request,
    normal_settings,
    segment_counts,
    waiting_bytes,
    workers_of,
)
from webui.video.segments import AHEAD_BYTES, LEAST_AHEAD, MOST_AHEAD

PHASES = ("project", "denoise", "decode")
PHASE_OF = {"projection": "project", "transformer": "denoise", "decoder": "decode", "vae": "decode"}
"""Of each component, the phase that needs it."""
TOKEN_PX, WINDOW_TOKENS = 16, 8
"""Pixels of the result along a token; tokens along a window."""
WINDOW_PX = TOKEN_PX * WINDOW_TOKENS
LATENT_CHANNELS, LATENTS_OF_TOKEN = 16, 4
FIRST_FRAMES, CHUNK_FRAMES = 21, 8
FIRST_LATENTS, CHUNK_LATENTS = 6, 2
BLOCK_CHUNKS = 12
"""Chunks that pass one phase before the next one follows (BLOCK_FRAMES)."""
PROMPT_TOKENS = 512
TOKENS_ON_CARD_BYTES = 256 * MIB
"""More tokens than this wait in host memory (`Tokens.MOST_ON_CARD_BYTES`)."""
LOOK_AHEAD = 4
"""Frames of the clip after those that a latent frame decodes to."""
BAND_PX, HALO_ROWS = 8 * 2**20, 31
"""Of joined frames' colours: pixels at once, and rows that blurs look at beyond them on each side
(`webui.pipelines.flashvsr.colour`)."""
JOINING_BYTES = 3 * 2
"""Of a pixel on the disk: three colours in 16 bits."""
CALLED = {"project": "clip", "denoise": "chunk", "decode": "latent frame"}
JOINED = "joined"
_ALIKE = 0.99
"""Of the highest peak."""
_REPLAYED = 4
"""Chunks that are replayed: the fourth is like all later ones. Of the other phases' shorter calls
all are: each leaves the free blocks in another order, and until the tenth of `project` more was
reserved (an H200's record of the allocator, 2026-11-28)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some chunks of a segment, which pass each phase together."""

    chunks: int
    first: bool
    """It begins the segment."""
    again: bool = False
    """Another segment went before."""

    @property
    def latents(self) -> int:
        return CHUNK_LATENTS * self.chunks + (FIRST_LATENTS - CHUNK_LATENTS) * self.first

    @property
    def calls(self) -> dict[str, int]:
        """How often each phase calls its component; the very first clip is of one frame."""
        return {
            "project": self.latents + self.first,
            "denoise": self.chunks,
            "decode": self.latents,
        }


def count_chunks(frames: int) -> int:
    """Chunks for so many frames (`webui.pipelines.flashvsr.frames`)."""
    return 1 + max(0, -(-(frames - FIRST_FRAMES) // CHUNK_FRAMES))


def blocks_of(frames: int) -> list[Block]:
    """The blocks of a segment."""
    chunks = count_chunks(frames)
    starts = range(0, chunks, BLOCK_CHUNKS)
    return [Block(min(BLOCK_CHUNKS, chunks - start), first=start == 0) for start in starts]


def band_rows(request: UpscaleRequest) -> int:
    """Rows of a joined frame that are on the card together, to bring back their colours."""
    height, width = request.output_size
    bands = max(1, -(-height * width // BAND_PX))
    beyond = 2 * HALO_ROWS if request.colour == "wavelet" else 0
    return min(height, -(-height // bands) + beyond)


def relevant(
    phase: str, model: UpscaleCard, request: UpscaleRequest, settings: Settings, rules: Rules
) -> tuple[UpscaleRequest, Settings]:
    """Request and settings with a fixed value for what a phase's memory does not depend on."""
    settings = normal_settings(settings)
    if rules.kind != "cuda":
        settings["offload"] = "none"
    elif phase != "denoise" and settings["offload"] == "leaf":
        settings["offload"] = "model"
    if phase != "denoise":
        settings["sparsity"] = "stable"
    return normal_request(request, settings), settings


@dataclass(slots=True)
class _Chain:
    """The calls of a phase, each with what it frees of those before it."""

    calls: tuple[ChainedCall, ...]
    history: list[dict[int, int]] = field(default_factory=list)

    def play(self, events: PhaseEvents, number: int, shape: dict[str, int], what: str) -> None:
        """Appends a call; the last of the recorded ones stands for all after it."""
        call = self.calls[min(number, len(self.calls) - 1)]
        outside = []
        for back, slot in call.outside:
            known = self.history[-back] if back <= len(self.history) else {}
            key = known.pop(slot, None)
            # A name that held something in the block before holds nothing now.
            outside.append(events.allocate(0) if key is None else key)
        self.history.append(events.play(call.tape, shape, tuple(outside), what))


class FlashVsrMemory:
    """Events of each phase, for one request with complete settings on a kind of device."""

    def __init__(
        self, card: UpscaleCard, request: UpscaleRequest, settings: Settings, rules: Rules
    ) -> None:
        self.card, self.request, self.settings, self.rules = card, request, settings, rules
        self.width = width_of(str(settings["precision"]))
        self.value_bytes = 2 if self.width == "half" else 4
        self.offload = str(settings["offload"]) if rules.kind == "cuda" else "none"
        self.decoder = "vae" if settings["decoder"] == "full" else "decoder"
        tiles = Tiles.of(request, settings, WINDOW_PX // request.scale)
        height, width = tiles.height * request.scale, tiles.width * request.scale
        rows, columns = self._tokens(height), self._tokens(width)
        self.tiles = tiles.count
        self.shape = {
            "b": min(max(1, int(settings["tile_batch"])), self.tiles),
            "y": height,
            "x": width,
            "h": rows,
            "w": columns,
        }
        self.way = request.colour if self.tiles == 1 else JOINED

    @staticmethod
    def _tokens(side_px: int) -> int:
        """Along a side, filled up to whole windows."""
        return -(-side_px // WINDOW_PX) * WINDOW_TOKENS

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of attention windows."""
        return self.shape["h"] // WINDOW_TOKENS, self.shape["w"] // WINDOW_TOKENS

    def template(self, component: str) -> Template:
        """Of a component."""
        part = "streaming" if component == "transformer" else component
        return find_template(self.card, part, self.width)

    def phase_names(self) -> tuple[str, ...]:
        return PHASES

    def phase(self, name: str) -> PhaseEvents:
        """That of the block with the highest peak; others that are alike may reserve more."""
        makers = {"project": self._project, "denoise": self._denoise, "decode": self._decode}
        found = [makers[name](block) for block in self.blocks]
        if name == "decode" and self.tiles > 1 and self.request.colour != "none":
            found.append(self._join())
        peaks = [events.peak_live_bytes(self.rules.has_scratch) for events in found]
        highest = found[peaks.index(max(peaks))]
        highest.stands_for = tuple(
            events
            for events, peak in zip(found, peaks, strict=True)
            if events is not highest and peak >= _ALIKE * max(peaks)
        )
        return highest

    @cached_property
    def blocks(self) -> list[Block]:
        """Those that differ: a segment's first, its second, and the next segment's first."""
        counts = segment_counts(self.request, self.settings)
        passes = sum(count for _, count in counts) * -(-self.tiles // self.shape["b"])
        blocks = blocks_of(counts[0][0])[:2]
        again = [Block(blocks[0].chunks, first=True, again=True)] if passes > 1 else []
        return [*blocks, *again]

    def chain(self, name: str, again: bool = False) -> str:
        """The name of a phase's calls among its template's tapes."""
        if name == "project":
            return name
        if name == "decode":
            return f"decode.{self.way}"
        streams = self.offload == "leaf"
        return "denoise.leaf" + (".again" if again else "") if streams else "denoise.resident"

    def component(self, phase: str) -> str:
        """The component that a phase runs."""
        return {"project": "projection", "denoise": "transformer", "decode": self.decoder}[phase]

    def calls(self, phase: str) -> tuple[ChainedCall, ...]:
        """The calls of a phase; the last one repeats."""
        return self.template(self.component(phase)).segments(self.chain(phase))

    def _left(self, phase: str, which: str) -> np.ndarray:
        """Bytes of what a phase leaves to the next block: `lasting` or `kept`."""
        template, name = self.template(self.component(phase)), self.chain(phase)
        calls = template.segments(name)
        tape = (calls[0] if which == "lasting" else calls[-1]).tape
        slots = template.array(f"{name}.{which}")
        sizes: np.ndarray = tape.sized(self.shape).by_slot[slots]
        return sizes

    @property
    def _dim(self) -> int:
        """Width of a token."""
        config = self.card.configs["transformer"]
        return int(config["num_attention_heads"]) * int(config["attention_head_dim"])

    @property
    def _prompt_key_bytes(self) -> int:
        """Of a layer's keys of the prompt, which stay from segment to segment; values alike."""
        return PROMPT_TOKENS * self._dim * self.value_bytes

    def _resident(self, phase: str, block: Block) -> list[Part]:
        """What is there when a phase of a block begins; what its calls take over comes first."""
        config = self.card.configs["transformer"]
        parts = []
        if not block.first:
            parts.append(Part("state", self._left(phase, "kept")))
        for component, own in PHASE_OF.items():
            if component in ("decoder", "vae") and component != self.decoder:
                continue
            streams = component == "transformer" and self.offload == "leaf"
            if self.offload == "none" or (own == phase and not streams):
                parts.append(Part(component, self.template(component).array("weights")))
        prompt = PROMPT_TOKENS * int(config["text_dim"]) * self.value_bytes
        rows, columns = self.windows
        parts.append(Part("prompt", np.array([prompt])))
        parts.append(Part("nearby windows", np.array([(rows * columns) ** 2])))
        for other in PHASES if not block.first else PHASES[: PHASES.index(phase)]:
            if other != phase:
                parts.append(Part(f"state of {other}", self._left(other, "kept")))
            parts.append(Part("keys and values", self._left(other, "lasting")))
        resident = self.offload != "leaf"
        if block.again and not (phase == "decode" or (phase == "denoise" and resident)):
            # A resident transformer's first chunk makes them, as if it were the first segment's.
            sizes = np.full(2 * int(config["num_layers"]), self._prompt_key_bytes)
            parts.append(Part("keys of the prompt", sizes))
        return [part for part in parts if len(part.sizes)]

    def _begin(self, phase: str, block: Block, *given: Part) -> tuple[PhaseEvents, _Chain]:
        events = PhaseEvents([*self._resident(phase, block), *given])
        events.allocate_at_product(self.rules.workspace_bytes, WORKSPACE)
        template = self.template(self.component(phase))
        name = self.chain(phase, block.first and block.again)
        chain = _Chain(template.segments(name))
        if not block.first:
            slots = template.array(f"{name}.kept").tolist()
            chain.history.append({slot: key for key, slot in enumerate(slots)})
        return events, chain

    def tokens_bytes(self, latents: int) -> int:
        """Of the frames' tokens for so many latent frames."""
        area = self.shape["h"] * self.shape["w"]
        return latents * self.shape["b"] * area * self._dim * self.value_bytes

    def tokens_wait_on_card(self, block: Block) -> bool:
        """Whether the block's tokens stay there between the phases."""
        on_card = self.rules.kind != "cuda"
        return on_card or self.tokens_bytes(block.latents) <= TOKENS_ON_CARD_BYTES

    def _latent_bytes(self, latents: int) -> int:
        area = self.shape["h"] * self.shape["w"] * LATENTS_OF_TOKEN
        return 4 * LATENT_CHANNELS * latents * self.shape["b"] * area

    def _project(self, block: Block) -> PhaseEvents:
        events, chain = self._begin("project", block)
        if self.tokens_wait_on_card(block):
            events.allocate(self.tokens_bytes(block.latents), "tokens of the frames")
        self._play(events, chain, "project", block)
        return events

    def _denoise(self, block: Block) -> PhaseEvents:
        events, chain = self._begin("denoise", block)
        waits_here = self.tokens_wait_on_card(block)
        if waits_here:
            events.allocate(self.tokens_bytes(block.latents), "tokens of the frames")
        played = min(block.chunks, _REPLAYED)
        for index in range(played):
            if index == played - 1:
                skipped = [self._latent_bytes(CHUNK_LATENTS)] * (block.chunks - played)
                events.allocate_all(skipped, "latents")
            latents = FIRST_LATENTS if block.first and index == 0 else CHUNK_LATENTS
            size = self.tokens_bytes(latents)
            held = () if waits_here else (events.allocate(size, "tokens of the frames"),)
            self._play_one(events, chain, "denoise", block, index)
            events.release(*held)
        return events

    def _decode(self, block: Block) -> PhaseEvents:
        counts = [CHUNK_LATENTS] * block.chunks
        if block.first:
            counts[0] = FIRST_LATENTS
        latents = np.array([self._latent_bytes(count) for count in counts])
        events, chain = self._begin("decode", block, Part("latents", latents))
        self._play(events, chain, "decode", block)
        return events

    def _play(self, events: PhaseEvents, chain: _Chain, phase: str, block: Block) -> None:
        for index in range(block.calls[phase]):
            self._play_one(events, chain, phase, block, index)

    def _play_one(
        self, events: PhaseEvents, chain: _Chain, phase: str, block: Block, index: int
    ) -> None:
        what = f"{self.component(phase)}, {CALLED[phase]} {index + 1}"
        if not block.first:
            index += len(chain.calls)
            what = f"{self.component(phase)}, a later {CALLED[phase]}"
        chain.play(events, index, self.shape, what)

    def _join(self) -> PhaseEvents:
        """Colours of whole frames, when the tiles of all are there."""
        template, request = self.template(self.decoder), self.request
        block = Block(1, first=True, again=True)
        parts = self._resident("project", block)
        if self.offload != "none":
            parts = [part for part in parts if part.name != "projection"]
            parts.append(Part(self.decoder, template.array("weights")))
        events = PhaseEvents(parts)
        shape = {"y": band_rows(request), "x": request.output_size[1]}
        chain = _Chain(template.segments(f"join.{request.colour}"))
        for index in range(2):
            chain.play(events, index, shape, "colours of joined tiles")
        return events


_ON_THEIR_WAY = 16
"""Frames on their way to the card and from it, two clips of four each."""
_JOINED = 5
"""Joined frames: some ahead, one in work, one that is made of it."""


def host_bytes(model: UpscaleCard, request: UpscaleRequest, settings: Settings) -> int:
    """Host memory above that of the process and of weights: a block's frames, enlarged; tokens
    that wait there; frames that wait for the encoder."""
    memory = FlashVsrMemory(model, request, settings, _ON_CARD)
    block = memory.blocks[0]
    shape = memory.shape
    height, width = request.output_size
    picture = 3 * TOKEN_PX**2 * shape["b"] * shape["h"] * shape["w"]
    frames = FIRST_FRAMES + CHUNK_FRAMES * (block.chunks - 1) + LOOK_AHEAD + _ON_THEIR_WAY
    frames += max(LEAST_AHEAD, min(MOST_AHEAD, AHEAD_BYTES // picture))
    waiting = 0 if memory.tokens_wait_on_card(block) else memory.tokens_bytes(block.latents)
    joined = 0 if memory.tiles == 1 else (LEAST_AHEAD + _JOINED) * 3 * height * width
    return max(picture * frames + waiting, joined) + waiting_bytes(request)


def disk_bytes(model: UpscaleCard, request: UpscaleRequest, settings: Settings) -> int:
    """The frames of a segment while their tiles are joined, one file for each worker (`ClipBlend`
    of `webui.pipelines.tiles`)."""
    if FlashVsrMemory(model, request, settings, _ON_CARD).tiles == 1:
        return 0
    height, width = request.output_size
    frames = segment_counts(request, settings)[0][0]
    return workers_of(request, settings) * frames * JOINING_BYTES * height * width


_ON_CARD = Rules("cuda", (), has_scratch=True, expandable=True, measured=True)
