"""All claims of all guides, each with what was found of it."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any

from webui.catalogue.claims import (
    Added,
    Arithmetic,
    Change,
    Claim,
    Duration,
    Facts,
    Fits,
    Guide,
    Memory,
    Quality,
    Unchecked,
    load_guides,
)
from webui.core.errors import RunFailed
from webui.core.receipt import Receipt
from webui.core.text import Text
from webui.estimator.verified import read_receipts
from webui.service.claims.bench import Bench
from webui.service.claims.checks import check
from webui.service.claims.finding import Finding
from webui.service.claims.verdicts import VERDICTS, Verdict

KINDS = {
    "memory": Text("memory", "显存"),
    "saving": Text("saving", "节省"),
    "fits": Text("fits a card", "显卡"),
    "speed": Text("speed", "速度"),
    "quality": Text("quality", "质量"),
    "formula": Text("formula", "公式"),
    "fact": Text("fact", "参数"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One claim with what was found."""

    guide: Guide
    claim: Claim
    found: Finding

    @property
    def id(self) -> str:
        return f"{self.guide.name}/{self.claim.id}"

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        match self.claim.check:
            case Unchecked(kind=kind):
                return kind
            case Added(by_formula=True):
                return "formula"
            case Memory() | Added():
                return "memory"
            case Change(told="saves"):
                return "saving"
            case Fits():
                return "fits"
            case Change() | Duration():
                return "speed"
            case Quality():
                return "quality"
            case Arithmetic() | Facts():
                return "fact"

    def to_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "id": self.id,
            "guide": self.guide.title.to_json(),
            "kind": self.kind,
            "claim": self.claim.says.to_json(),
            "estimate": found.estimate.to_json() if found.estimate else None,
            "measured": found.measured.to_json() if found.measured else None,
            "verdict": found.verdict.value,
            "depends_on": found.on.to_json() if found.on else None,
            "why": found.sentence.to_json(),
            "receipts": list(found.receipts),
        }


def check_claims(receipts: Iterable[Receipt]) -> Iterator[Checked]:
    """Every claim, in the order of the guides.

    Args:
        receipts: recorded runs that measurements are looked up in.
    """
    bench = Bench(receipts)
    for guide in load_guides():
        for claim in guide.claims:
            found = check(claim.check, claim.otherwise, bench)
            yield Checked(guide=guide, claim=claim, found=found)


@cache
def check_shipped() -> tuple[Checked, ...]:
    """Every claim, by the receipts that ship: made once, which takes some seconds."""
    return tuple(check_claims(read_receipts()))


class BackgroundCheck:
    """Every claim, by the receipts that ship, checked by one thread that makes room for others.

    It begins when somebody asks: it takes seconds and a hundred megabytes that most never need.

    Args:
        pause_s: between two claims.
    """

    def __init__(self, pause_s: float = 0.05) -> None:
        self._pause_s = pause_s
        self._found: Future[tuple[Checked, ...]] = Future()
        self._begin = threading.Lock()

    def found(self) -> tuple[Checked, ...] | None:
        """The claims, or None as long as they are being checked: nobody waits.

        Raises:
            RunFailed: they cannot be checked.
        """
        if self._begin.acquire(blocking=False):  # and never released: it begins once
            threading.Thread(target=self._run, name="claims", daemon=True).start()
        return self._found.result() if self._found.done() else None

    def _run(self) -> None:
        checked = []
        try:
            for one in check_claims(read_receipts()):
                checked.append(one)
                time.sleep(self._pause_s)
            self._found.set_result(tuple(checked))
        except Exception as error:
            traceback.print_exc()
            name = type(error).__name__
            self._found.set_exception(
                RunFailed(
                    Text(f"The claims cannot be checked: {name}.", f"无法核对各条说法：{name}。"),
                    Text("The studio's log has the details.", "详细信息见工作室的日志。"),
                )
            )


def by_guide(checked: Iterable[Checked]) -> dict[str, list[Checked]]:
    """The claims of each guide, by its name, in order."""
    found: dict[str, list[Checked]] = {}
    for one in checked:
        found.setdefault(one.guide.name, []).append(one)
    return found


def tally(checked: Iterable[Checked]) -> dict[Verdict, int]:
    """How many claims have each verdict; those that none has are left out."""
    counts = Counter(one.found.verdict for one in checked)
    return {verdict: counts[verdict] for verdict in Verdict if counts[verdict]}


def claims_table(checked: Iterable[Checked]) -> str:
    """For a terminal: each claim, its verdict and figures, and what they come from."""
    every = list(checked)
    lines: list[str] = []
    for claims in by_guide(every).values():
        lines += [claims[0].guide.title.en, *(line for one in claims for line in _lines(one)), ""]
    counted = ", ".join(f"{VERDICTS[verdict].en} {n}" for verdict, n in tally(every).items())
    return "\n".join([*lines, f"{len(every)} claims: {counted}"])


def _lines(one: Checked) -> tuple[str, str, str]:
    found = one.found
    estimate = found.estimate.en if found.estimate else "-"
    measured = found.measured.en if found.measured else "-"
    receipts = f" [{', '.join(found.receipts)}]" if found.receipts else ""
    return (
        f"  {one.claim.says.en}",
        f"    {found.shown.en} (estimated {estimate}, measured {measured})",
        f"    {found.sentence.en}{receipts}",
    )
