"""Templates on disk: one `.npz` a model and precision, written by `python -m webui.tracing`."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from webui.core.errors import NotFound
from webui.core.gguf import GGUF, GGUF_MIXES
from webui.core.keys import ByIdentity
from webui.core.model import ModelCard
from webui.core.settings import FP8, NOT_QUANTIZED, Settings
from webui.core.text import Text
from webui.estimator.tape import COSTS, LOAD, Tape

FOLDER = Path(__file__).parent / "templates"
HALF_PRECISIONS = ("bf16", "fp16", FP8)
"""They compute in two bytes a value with the same kernels: one template serves all."""


WIDTHS = ("half", "full")
SEVERAL = "several"
"""Behind a tape's name: the tape of several clips, where the loop goes another way for one."""
FP16 = "fp16"


def width_of(precision: str) -> str:
    """`half` or `full`: what a template is keyed by."""
    return "half" if precision in HALF_PRECISIONS else "full"


def weights_name(part: str, precision: str) -> str:
    """The array of a template that has the weights' sizes; fp8 stores the transformer's only."""
    if part == "text":
        return text_name("weights", precision)
    return "weights.fp8" if precision == FP8 and part == "transformer" else "weights"


def text_name(name: str, precision: str) -> str:
    """An array or tape of a text encoder's template: those of fp16 have names of their own, since
    the library keeps some of its weights in fp32 then."""
    return f"{FP16}.{name}" if precision == FP16 else name


QUANTIZATIONS = ("int8", "nf4", "int8wo", "fp8wo", GGUF)
"""Values of the setting `quantization` that have templates of their own, traced in bf16: with fp16
the layers of int8 make one copy fewer of what they take in. Which of them a model knows its card
says."""
_QUANTIZED = ("transformer", "model")
"""The parts whose weights the setting is about."""


_OF_TYPE = ":"
"""Between a part's name and the type of its GGUF file: one template serves all types."""


def stored_part(part: str, settings: Settings) -> str:
    """The part's name among the templates, as the settings store its weights."""
    quantization = settings.get("quantization", NOT_QUANTIZED)
    if part not in _QUANTIZED or quantization == NOT_QUANTIZED:
        return part
    if quantization == GGUF:
        quantization += _OF_TYPE + str(settings["gguf_type"])
    return f"{part}_{quantization}"


@dataclass(frozen=True, eq=False)
class ChainedCall:
    """One call of the decoder in a chain of calls, each with caches of the one before.

    A template has one of each, so that being the same object is being equal.
    """

    tape: Tape
    outside: tuple[tuple[int, int], ...]
    """For each negative slot: how many calls back, and which slot of that call."""
    output: int
    """Slot of the frames that the call returns."""
    costs: np.ndarray
    """COSTS x monomials."""

    @cached_property
    def freed(self) -> np.ndarray:
        """`outside` as an array (K x 2)."""
        return np.array(self.outside, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def caches(self) -> np.ndarray:
        """Slots of what it leaves beside its output."""
        slots: np.ndarray = self.tape.survivors
        return np.delete(slots, np.flatnonzero(slots == self.output))


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of an `.npz` file, each read when it is asked for."""

    def __init__(self, content: bytes) -> None:
        self._file = np.load(io.BytesIO(content), allow_pickle=False)
        self._names = frozenset(self._file.files)
        self._read: dict[str, np.ndarray] = {}
        self._lock = Lock()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._read:
            with self._lock:
                self._read[name] = self._file[name]
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Template:
    """Read access to one file."""

    def __init__(self, path: Path) -> None:
        # Of hundreds of arrays a request reads a few; of the file nothing stays open.
        self._arrays = _Arrays(path.read_bytes())
        self.about: dict[str, Any] = json.loads(str(self._arrays["about"]))
        self._tapes: dict[tuple[str, int], Tape] = {}
        self._segments: dict[str, tuple[ChainedCall, ...]] = {}

    @property
    def versions(self) -> dict[str, str]:
        """Libraries that the traces were made with."""
        return dict(self.about["versions"])

    def array(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def tape(self, name: str, clips: int = 1) -> Tape:
        """A tape by its name, as it is for so many clips at a time."""
        key = (name, clips)
        if key not in self._tapes:
            other = f"{name}.{SEVERAL}"
            of_several = clips > 1 and f"{other}.kind" in self._arrays
            tape = Tape.from_arrays(self._arrays, other if of_several else name)
            self._tapes[key] = tape.of_clips(clips)
        return self._tapes[key]

    def segments(self, name: str) -> tuple[ChainedCall, ...]:
        """The calls `name.0`, `name.1`, ...; the last one repeats."""
        if name not in self._segments:
            found: list[ChainedCall] = []
            while f"{name}.{len(found)}.kind" in self._arrays:
                prefix = f"{name}.{len(found)}"
                pairs = self._arrays[f"{prefix}.outside"].reshape(-1, 2)
                found.append(
                    ChainedCall(
                        tape=self.tape(prefix),
                        outside=tuple((int(back), int(slot)) for back, slot in pairs),
                        output=int(self._arrays[f"{prefix}.output"]),
                        costs=self._arrays[f"{prefix}.costs"],
                    )
                )
            self._segments[name] = tuple(found)
        return self._segments[name]


_USUAL, _FINER = 1, 2
"""Places of tensors and events (`webui.tracing.gguf.PLACES`)."""


class BlockTemplate(Template):
    """A template with weights in GGUF blocks, as it is with a type of file.

    It was traced with one type. What a type changes is in proportion to the values of a weight: its
    bytes, and what restoring it takes.
    """

    def __init__(self, traced: Template, gguf_type: str) -> None:
        self._traced = traced
        self.about = traced.about
        self._tapes = {}
        names = [str(name) for name in traced.array("kinds.names")]
        kinds = traced.array("kinds")
        self._was = kinds[[names.index(str(name)) for name in traced.array("kinds.traced")]]
        self._now = kinds[[names.index(name) for name in GGUF_MIXES[gguf_type]]]

    def array(self, name: str) -> np.ndarray:
        """As the template's; weights and costs are those of the type."""
        found = self._traced.array(name)
        if name == "weights":
            places = self._traced.array("weights.places")
            changed: np.ndarray = np.rint(found * self._factors(_STORED)[places]).astype(np.int64)
            return changed
        if name == "costs":
            found = found.copy()
            layers, values = self._layers_and_values()
            for row, column, count in (("bytes", _MOVED, values), ("kernels", _KERNELS, layers)):
                more = (self._now - self._was)[:, column] @ count
                found[COSTS.index(row), 0] += more
        return found

    def restoring(
        self, layers: Sequence[int] | None = None, values: Sequence[int] | None = None
    ) -> np.ndarray:
        """What restoring weights costs (COSTS), each once.

        Args:
            layers: how many in the usual blocks and in the finer ones; all where left out.
            values: of those in usual blocks and of those in finer ones.
        """
        every = self._layers_and_values()
        costs = np.zeros(len(COSTS))
        for row, column, count in (
            ("bytes", _MOVED, every[1] if values is None else np.array(values)),
            ("kernels", _KERNELS, every[0] if layers is None else np.array(layers)),
        ):
            costs[COSTS.index(row)] = self._now[:, column] @ count
        return costs

    def tape(self, name: str, clips: int = 1) -> Tape:
        key = (name, clips)
        if key not in self._tapes:
            tape = self._traced.tape(name, clips)
            stored, beside = (self._factors(column)[tape.places] for column in (_STORED, _BESIDE))
            factors = np.where(tape.kind == LOAD, stored, beside)
            self._tapes[key] = replace(tape, coefficients=tape.coefficients * factors[:, None])
        return self._tapes[key]

    def _factors(self, column: int) -> np.ndarray:
        """What the traced type's bytes are multiplied by, for each place."""
        return np.array([1.0, *(self._now[:, column] / self._was[:, column])])

    def _layers_and_values(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the weights in usual blocks and in finer ones: how many, and their values."""
        sizes, places = self._traced.array("weights"), self._traced.array("weights.places")
        layers = np.array([(places == place).sum() for place in (_USUAL, _FINER)])
        totals = np.array([sizes[places == place].sum() for place in (_USUAL, _FINER)])
        return layers, totals / self._was[:, _STORED]


_STORED, _BESIDE, _MOVED, _KERNELS = range(4)
"""Columns of the array `kinds` (`webui.tracing.gguf.measured`)."""

_CONFIGS_OF = {
    "text": ("text_encoder",),
    "transformer": ("transformer", "vae", "scheduler"),
    "vae": ("vae",),
    "conditions": ("transformer", "vae"),
    "image": ("image_encoder",),
    "unet": ("unet", "scheduler"),
    "projection": ("projection",),
    "streaming": ("transformer",),
    "decoder": ("decoder",),
    "x2": ("x2",),
    "x4": ("x4",),
    "model": ("model",),
}
"""Component configurations that a part's template depends on."""
_CONFIGS_OF |= {
    f"{part}_{quantization}": _CONFIGS_OF[part]
    for part in _QUANTIZED
    for quantization in QUANTIZATIONS
}
_VALUES = ("latents_mean", "latents_std", "flow_shift")
"""Numbers that another training changes, and no memory depends on."""
_PARTS_OF = {
    "wan": ("text", "image", "transformer", "vae", "conditions"),
    "svd": ("image", "unet", "vae"),
    "flashvsr": ("projection", "streaming", "decoder", "vae"),
    "swin2sr": ("x2", "x4"),
    "qwen_vl": ("model",),
    "language": ("model",),
    "qwen_vl_training": ("model",),
}
"""The parts that a family's models may have."""


def parts_of(card: ModelCard) -> tuple[str, ...]:
    """The parts of a model that have templates."""
    pictures = getattr(card, "pictures", ())
    return tuple(
        part
        for part in _PARTS_OF.get(card.family, ())
        if all(key in card.configs for key in _CONFIGS_OF[part])
        and (part != "conditions" or pictures)
    )


def quantized_parts(card: ModelCard) -> tuple[str, ...]:
    """The parts with quantised weights that a model has templates of; GGUF's is for all types."""
    if "quantization" not in card.settings:
        return ()
    return tuple(
        f"{part}_{quantization}"
        for part in parts_of(card)
        if part in _QUANTIZED
        for quantization in card.setting_values.get("quantization", QUANTIZATIONS)
        if quantization != NOT_QUANTIZED
    )


@lru_cache(maxsize=256)
def _digest(part: str, card: ByIdentity[ModelCard]) -> str:
    known = card.thing
    configs = [
        {name: value for name, value in known.configs[key].items() if name not in _VALUES}
        for key in _CONFIGS_OF[part]
    ]
    text = json.dumps([configs, getattr(known, "max_sequence_length", 0)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def template_name(card: ModelCard, part: str, width: str) -> str:
    """File name: models whose component has the same configuration share the template."""
    part = part.partition(_OF_TYPE)[0]
    return f"{card.family}-{part}-{_digest(part, ByIdentity(card))}.{width}.npz"


def find_template(card: ModelCard, part: str, width: str) -> Template:
    """The template of a part (`text`, `transformer`, `vae`, ...) of a model at a width.

    Raises:
        NotFound: it was never traced.
    """
    gguf_type = part.partition(_OF_TYPE)[2]
    found = _load(template_name(card, part, width), _source, gguf_type)
    if found is None:
        raise NotFound(
            Text(
                f"{card.name} has no template for its {part}.",
                f"{card.name} 的 {part} 没有估算模板。",
            ),
            Text(
                f"Make it: python -m webui.tracing {card.name}",
                f"请运行：python -m webui.tracing {card.name}",
            ),
        )
    return found


def model_versions(card: ModelCard) -> list[dict[str, str]]:
    """Libraries that each part's templates of a model were made with.

    Raises:
        NotFound: a part was never traced.
    """
    return [
        find_template(card, part, width).versions for part in parts_of(card) for width in WIDTHS
    ]


@dataclass(frozen=True, slots=True)
class Source:
    """Where templates come from: with each renewal another, so that no cache holds former ones."""

    renewals: int
    folders: tuple[Path, ...] = ()
    """Looked into before those that ship."""


_source = Source(0)


def template_source() -> Source:
    """What answers depend on beside their questions."""
    return _source


def use_local_folder(folder: Path) -> None:
    """Templates of this folder go before those that ship, and are read anew."""
    global _source
    _source = Source(_source.renewals + 1, (folder,))
    _load.cache_clear()


@lru_cache(maxsize=512)
def _load(name: str, source: Source, gguf_type: str = "") -> Template | None:
    if gguf_type:
        traced = _load(name, source)
        return None if traced is None else BlockTemplate(traced, gguf_type)
    candidates = (folder / name for folder in (*source.folders, FOLDER))
    path = next((path for path in candidates if path.is_file()), None)
    return Template(path) if path is not None else None
