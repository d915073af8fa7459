"""Reads the guides' claims: `guides/*.yaml`, one file a guide, in the order of their names.

A claim says in our own words what a guide says, and how to check it: which requests (`works`, by
their names in the file) its figure is of. What is true of it is computed, nowhere written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from webui.catalogue.reading import FOLDER, read_texts, read_yaml, require
from webui.core.mapping import check_keys
from webui.core.text import Text

GUIDES = FOLDER / "guides"
CHANGES = ("saves", "faster", "slower", "speed")
"""How a change is told: memory less by; less time or more speed by; more time or less speed by;
the speed that is left."""
UNCHECKED_KINDS = ("memory", "saving", "fits", "speed", "formula")
FACT_PARTS = ("defaults", "card")
"""Beside the components: the authors' values of a model, and what it takes."""

Work = Mapping[str, Any]
"""A request, as `parse_request` takes it; never with a card."""
GB_BYTES = (1000**3, 1024**3)
"""What the guides' GB may mean, at least and at most."""
Works = tuple[Work, ...]
"""What is on the card at the same time."""
Range = tuple[float | None, float | None]
"""Lowest and highest; None where there is no such bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What works take together, as the driver shows it."""

    gb: Range
    """The guides' GB, which may be 1000^3 or 1024^3 bytes."""
    of: Works


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What some works take more than others, as the driver shows it."""

    size_bytes: Range
    by_formula: bool
    """It is the result of a formula that the guide gives."""
    before: Works
    after: Works


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is gained or lost between two settings."""

    told: str
    """One of `CHANGES`."""
    percent: Range
    before: Works
    after: Works


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """Whether cards can run works."""

    says: str
    """`yes`: all at the same time; `one`: one at a time; `no`."""
    cards: tuple[str, ...]
    of: Works


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How long a work takes on cards."""

    seconds: Range
    cards: tuple[str, ...]
    of: Works
    whole: bool
    """If it does not fit as the guide has it: also asked is what it would take if it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Values of a model's configuration."""

    model: str
    part: str
    """A component, or one of `FACT_PARTS`."""
    values: Mapping[str, Any]
    reading: Text | None
    """What the values really mean, where the guide says something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """A number, and what it is a product or a quotient of."""

    claimed: float
    result: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good a result is: weights at random make no results to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchecked:
    """What cannot be checked here."""

    kind: str
    """One of `UNCHECKED_KINDS`."""
    why: Text | None
    model: str
    """The model that it waits for; empty where `why` says what stands in the way."""


Check = Memory | Added | Change | Fits | Duration | Facts | Arithmetic | Quality | Unchecked


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Another way to read a claim, for where it is wrong as it stands."""

    name: Text
    check: Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One figure, or a few that belong together."""

    id: str
    """Of this guide, e.g. `clip-fp32-memory`."""
    says: Text
    check: Check
    otherwise: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """One guide and what it claims."""

    name: str
    title: Text
    claims: tuple[Claim, ...]


@cache
def load_guides(folder: Path = GUIDES) -> tuple[Guide, ...]:
    """All guides, in order.

    Raises:
        BadInput: a file has an unknown or missing key, or a wrong value.
    """
    return tuple(_read_guide(path) for path in sorted(folder.glob("*.yaml")))


def _read_guide(path: Path) -> Guide:
    data = check_keys(read_yaml(path), where=path.name, required=("guide", "works", "claims"))
    works = data["works"]
    require(isinstance(works, Mapping), path.name, "works", "names with their requests")
    claims = tuple(_read_claim(item, works, path.name) for item in data["claims"])
    ids = [claim.id for claim in claims]
    require(len(set(ids)) == len(ids), path.name, "id", "it occurs once in a guide")
    name = path.stem.partition("-")[2]
    return Guide(name=name, title=read_texts(data["guide"], path.name, "guide"), claims=claims)


def _read_claim(data: Any, works: Mapping[str, Work], where: str) -> Claim:
    named = str(data.get("id")) if isinstance(data, Mapping) else "?"
    place = f"{where}, {named}"
    kinds = [kind for kind in _READ if kind in data]
    require(len(kinds) == 1, place, "claims", f"each has one of {', '.join(_READ)}")
    check_keys(data, where=place, required=("id", "says", kinds[0]))
    body = dict(data[kinds[0]])
    readings = body.pop("otherwise", [])
    return Claim(
        id=named,
        says=read_texts(data["says"], place, "says"),
        check=_READ[kinds[0]](body, works, place),
        otherwise=tuple(
            Reading(
                name=Text(other.pop("en"), other.pop("zh")),
                check=_READ[kinds[0]]({**body, **other}, works, place),
            )
            for other in map(dict, readings)
        ),
    )


def _memory(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Memory:
    check_keys(data, where=where, required=("gb", "of"))
    return Memory(gb=_range(data["gb"], where, "gb"), of=_works(data["of"], works, where))


def _added(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Added:
    check_keys(data, where=where, required=("before", "after"), optional=("gb", "product"))
    require(("gb" in data) != ("product" in data), where, "gb", "it, or the factors of a product")
    if by_formula := "product" in data:
        size = float(math.prod(map(int, data["product"])))
        bounds: Range = (size, size)
    else:
        low, high = _range(data["gb"], where, "gb")
        bounds = (low and low * GB_BYTES[0], high and high * GB_BYTES[1])
    return Added(
        size_bytes=bounds,
        by_formula=by_formula,
        before=_works(data["before"], works, where),
        after=_works(data["after"], works, where),
    )


def _change(told: str) -> Callable[[dict[str, Any], Mapping[str, Work], str], Change]:
    def read(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Change:
        check_keys(data, where=where, required=("percent", "before", "after"))
        return Change(
            told=told,
            percent=_range(data["percent"], where, "percent"),
            before=_works(data["before"], works, where),
            after=_works(data["after"], works, where),
        )

    return read


def _fits(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Fits:
    check_keys(data, where=where, required=("says", "cards", "of"))
    require(data["says"] in ("yes", "one", "no"), where, "says", "it is yes, one or no")
    cards = tuple(map(str, data["cards"]))
    return Fits(says=data["says"], cards=cards, of=_works(data["of"], works, where))


def _duration(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Duration:
    check_keys(data, where=where, required=("seconds", "cards", "of"), optional=("whole",))
    return Duration(
        seconds=_range(data["seconds"], where, "seconds"),
        cards=tuple(map(str, data["cards"])),
        of=_works(data["of"], works, where),
        whole=bool(data.get("whole", False)),
    )


def _facts(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Facts:
    check_keys(data, where=where, required=("model", "part", "values"), optional=("reading",))
    reading = read_texts(data["reading"], where, "reading") if "reading" in data else None
    return Facts(
        model=data["model"], part=data["part"], values=dict(data["values"]), reading=reading
    )


def _arithmetic(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Arithmetic:
    check_keys(data, where=where, required=("claimed",), optional=("product", "quotient"))
    pair = data.get("product") or data.get("quotient") or []
    require(len(pair) == 2, where, "product", "it, or quotient, has two numbers")
    left, right = map(float, pair)
    result = left * right if "product" in data else left / right
    return Arithmetic(claimed=float(data["claimed"]), result=result)


def _quality(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Quality:
    check_keys(data, where=where)
    return Quality()


def _unchecked(data: dict[str, Any], works: Mapping[str, Work], where: str) -> Unchecked:
    check_keys(data, where=where, required=("kind",), optional=("model", "en", "zh"))
    require(data["kind"] in UNCHECKED_KINDS, where, "kind", f"one of {', '.join(UNCHECKED_KINDS)}")
    require(("model" in data) != ("en" in data), where, "model", "it, or why in both languages")
    why = None if "model" in data else Text(data["en"].strip(), data["zh"].strip())
    return Unchecked(kind=data["kind"], why=why, model=str(data.get("model", "")))


_READ: dict[str, Callable[[dict[str, Any], Mapping[str, Work], str], Check]] = {
    "memory": _memory,
    "adds": _added,
    **{told: _change(told) for told in CHANGES},
    "fits": _fits,
    "duration": _duration,
    "facts": _facts,
    "arithmetic": _arithmetic,
    "quality": _quality,
    "unchecked": _unchecked,
}


def _range(value: Any, where: str, key: str) -> Range:
    """A number, or the lowest and the highest; null for no bound."""
    low, high = value if isinstance(value, list) and len(value) == 2 else (value, value)
    bounds = [bound for bound in (low, high) if bound is not None]
    numbers = all(isinstance(bound, int | float) for bound in bounds)
    require(bool(bounds) and numbers, where, key, "a number, or two")
    return low, high


def _works(named: Any, works: Mapping[str, Work], where: str) -> Works:
    names = named if isinstance(named, list) else [named]
    for name in names:
        require(name in works, where, "of", f"one of {', '.join(works)}")
    return tuple(works[name] for name in names)
