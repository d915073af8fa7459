"""Runs side by side: what differs in what was asked, in time, in memory and in the result."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from webui.core.clip import PICTURES
from webui.core.errors import BadInput, StudioError
from webui.core.receipt import Receipt
from webui.core.request import MAX_SEED, Request
from webui.core.setting_specs import SETTINGS
from webui.core.text import Text
from webui.core.units import format_bytes, format_seconds
from webui.service.difference import Difference, compare_files
from webui.service.runs import RunSummary
from webui.service.variants import Refused

MOST_RUNS = 4
MOST_KNOWN = 32
"""Differences that are remembered; the oldest goes."""
_NOISE = Text(
    "Made with random weights: noise, which says nothing about quality.",
    "由随机权重生成：只是噪声，不能说明画质。",
)
_NOTHING = Text("There is no result to compare.", "没有可比较的结果。")
_UNSHOWN = ("settings", "seed", "image", "last_image")
"""Keys of a request that are not told as what differs: settings are told by what really ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One run of a comparison."""

    run: RunSummary
    differs: dict[str, Any]
    """What it has otherwise than others: settings as they ran, and keys of the request."""
    difference: Difference | None = None
    """From the first run; None for itself, and where `why` says so."""
    why: Text | None = None
    """Why the results cannot be compared."""

    def to_json(self) -> dict[str, Any]:
        receipt = self.run.receipt
        return {
            "receipt": receipt.to_json() if receipt else None,
            "differs": self.differs,
            "difference": self.difference.to_json() if self.difference else None,
            "why": self.why.en if self.why else None,
        }


def read_variants(data: Any) -> list[Any]:
    """The requests of one comparison, all with the same seed.

    Args:
        data: a request with `variants` (a list of settings for each), or a list of requests.

    Raises:
        BadInput: fewer than two, more than four, or not of that form.
    """
    if isinstance(data, Mapping) and "variants" in data:
        base = {key: value for key, value in data.items() if key != "variants"}
        variants = data["variants"]
        if not isinstance(variants, list) or not all(isinstance(one, Mapping) for one in variants):
            raise _no_variants()
        shared = base.get("settings") or {}
        if not isinstance(shared, Mapping):
            return [base]  # the parser says what is wrong with it
        # As settings, or as a request has them.
        named = [one["settings"] if set(one) == {"settings"} else one for one in variants]
        if not all(isinstance(one, Mapping) for one in named):
            raise _no_variants()
        requests = [{**base, "settings": {**shared, **one}} for one in named]
    else:
        requests = data if isinstance(data, list) else [data]
    if not 2 <= len(requests) <= MOST_RUNS:
        raise BadInput(
            "variants",
            Text(
                f"A comparison has 2 to {MOST_RUNS} runs, not {len(requests)}.",
                f"一次比较需要 2 到 {MOST_RUNS} 次运行，而不是 {len(requests)} 次。",
            ),
            Text(
                "Name what differs under variants, or give a list of requests.",
                "请在 variants 中写明不同之处，或给出请求列表。",
            ),
        )
    seed = random.SystemRandom().randint(0, MAX_SEED)
    return [
        {**one, "seed": seed} if isinstance(one, Mapping) and one.get("seed", -1) == -1 else one
        for one in requests
    ]


def _no_variants() -> BadInput:
    return BadInput(
        "variants",
        Text("variants is a list of settings.", "variants 应当是设置的列表。"),
        Text(
            "For example: variants: [{precision: fp32}, {precision: bf16}]",
            "例如：variants: [{precision: fp32}, {precision: bf16}]",
        ),
    )


def vary(request: Request, name: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """A request with several values of one setting, and one seed for all.

    Raises:
        BadInput: no such setting, or fewer than two values.
    """
    return read_variants({**request.to_json(), "variants": [{name: value} for value in values]})


def request_again(run: RunSummary) -> dict[str, Any]:
    """A run's request, to be asked again: its pictures are those that it kept beside its result."""
    request = dict(run.request)
    for key in PICTURES:
        if request.get(key) and run.outputs:
            request[key] = str(run.outputs[0].parent / Path(request[key]).name)
    return request


class Comparisons:
    """Puts runs side by side; what was compared once is remembered.

    Args:
        run: one of a visitor's runs, by its id; raises NotFound.
    """

    def __init__(self, run: Callable[[str, str], RunSummary]) -> None:
        self._run = run
        self._known: dict[tuple[str, str], tuple[Difference | None, Text | None]] = {}
        self._comparing = Lock()
        """One at a time: whole clips are read for it."""

    def of(self, run_ids: Sequence[str], visitor: str) -> list[Column]:
        """The runs side by side; those that have no result yet have no difference.

        Args:
            run_ids: the first is the reference.
            visitor: whose they are.

        Raises:
            NotFound: the visitor has no such run.
        """
        runs = [self._run(run_id, visitor) for run_id in run_ids]
        told = [_told(run) for run in runs]
        columns = []
        for index, run in enumerate(runs):
            differs = {
                key: value
                for key, value in told[index].items()
                if any(other.get(key) != value for other in told)
            }
            difference, why = self._difference(runs[0], run) if index else (None, None)
            columns.append(Column(run=run, differs=differs, difference=difference, why=why))
        return columns

    def _difference(
        self, reference: RunSummary, other: RunSummary
    ) -> tuple[Difference | None, Text | None]:
        made = [_result(run) for run in (reference, other)]
        if None in made:
            ended = all(run.receipt and not run.receipt.error for run in (reference, other))
            return None, _NOISE if ended else _NOTHING
        key = (reference.id, other.id)
        with self._comparing:
            if key not in self._known:
                while len(self._known) >= MOST_KNOWN:
                    del self._known[next(iter(self._known))]
                try:
                    self._known[key] = (compare_files(*made), None)
                except StudioError as error:
                    self._known[key] = (None, error.message)
            return self._known[key]


def comparison_table(columns: Sequence[Column | Refused]) -> str:
    """For a terminal, a line a run."""
    lines = [
        f"{'what differs':<44} {'time':>8} {'estimated':>10} {'measured':>10}  against the first"
    ]
    for column in columns:
        if isinstance(column, Refused):
            name = ", ".join(f"{key}: {value}" for key, value in column.asked.items())
            lines.append(f"{name:<44.44} {'':>30}  not run: {column.error.message.en}")
            continue
        receipt = column.run.receipt
        name = ", ".join(f"{key}: {value}" for key, value in column.differs.items()) or "the same"
        estimated, measured = peaks(receipt)
        seconds = receipt.measurement.seconds if receipt and receipt.measurement else None
        told = column.difference.text if column.difference else column.why
        failed = f"failed: {receipt.error['message']['en']}" if receipt and receipt.error else ""
        lines.append(
            f"{name:<44.44} {format_seconds(seconds) if seconds is not None else '':>8} "
            f"{estimated:>10} {measured:>10}  {failed or (told.en if told else '')}".rstrip()
        )
    return "\n".join(lines)


def peaks(receipt: Receipt | None) -> tuple[str, str]:
    """Estimated and measured peak in words: of the device, or of tensors on a processor."""
    if receipt is None:
        return "", ""
    measured = receipt.measurement
    on_card = measured is not None and measured.source == "cuda"
    key = "peak_device_bytes" if on_card else "peak_allocated_bytes"
    estimated = receipt.plan.get(key)
    return (
        format_bytes(estimated) if estimated else "",
        format_bytes(getattr(measured, key)) if measured else "",
    )


def _told(run: RunSummary) -> dict[str, Any]:
    """What a run was, key by key: its request, and the settings that it ran with."""
    plan = run.receipt.plan if run.receipt else {}
    settings = plan.get("settings") or run.request.get("settings", {})
    request = {key: value for key, value in run.request.items() if key not in _UNSHOWN}
    matter = {
        name: value
        for name, value in settings.items()
        if name not in SETTINGS or SETTINGS[name].matters(settings)
    }
    return {**request, **matter}


def _result(run: RunSummary) -> Any:
    """The clip or picture that a run made, or None."""
    if run.receipt is None or run.receipt.error is not None or not run.receipt.outputs:
        return None
    name = run.receipt.outputs[0].rpartition("/")[2]
    return next((path for path in run.outputs if path.name == name), None)
