"""What a change of models leaves behind: allocated before, between and after, from row to row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from webui.core.receipt import Receipt

Result = Mapping[str, Any]


def model_switches(
    results: Sequence[Result], receipts: Sequence[Receipt | None]
) -> list[dict[str, Any]]:
    """The switches between neighbouring rows of different models, both of which ran.

    Args:
        results: of the rows so far.
        receipts: beside them.

    Returns:
        `from_row`, `to_row`, `from_model`, `to_model`, and allocated bytes: `before_unload_bytes`
        (the first row has ended, its model is still loaded), `after_unload_bytes` (it was dropped)
        and `after_load_bytes` (the next one is loaded; None where nothing was recorded).
    """
    found = []
    last: tuple[Result, Receipt] | None = None
    for result, receipt in zip(results, receipts, strict=True):
        if receipt is None or receipt.measurement is None:
            if receipt is not None:
                last = None  # it broke off, nobody knows with what in memory
            continue
        if last is not None and _model(last[1]) != _model(receipt):
            assert last[1].measurement is not None
            found.append(
                {
                    "from_row": last[0]["row"],
                    "to_row": result["row"],
                    "from_model": _model(last[1]),
                    "to_model": _model(receipt),
                    "before_unload_bytes": last[1].measurement.left_bytes,
                    "after_unload_bytes": receipt.measurement.found_bytes,
                    "after_load_bytes": (result.get("memory") or {}).get("loaded_bytes"),
                }
            )
        last = (result, receipt)
    return found


def _model(receipt: Receipt) -> str:
    task = receipt.request.get("task")
    model = str(receipt.request.get("model"))
    return f"{model} ({task})" if task else model
