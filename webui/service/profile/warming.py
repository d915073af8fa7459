"""The runs before a matrix that are thrown away: kernels are loaded, clocks are up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from webui.core.clip import ClipRequest
from webui.core.errors import error_from_json
from webui.core.job import JobView
from webui.service.profile.results import told
from webui.service.profile.rows import Row

if TYPE_CHECKING:
    from webui.service.profile.running import Profiler

DONE, NOT_POSSIBLE, FAILED = "done", "not possible", "failed"
Warm = dict[str, Any]


def warm_up(
    profiler: Profiler,
    rows: Iterable[Row],
    visitor: str,
    on_view: Callable[[JobView], None],
    is_stopping: Callable[[], bool],
) -> list[Warm]:
    """Runs each model once, for one step; only a GPU has kernels to load and clocks to raise.

    Args:
        profiler: runs them.
        rows: of the matrix; the first good one of each model is taken.
        visitor: whose runs they are.
        on_view: told how the run stands; may cancel it.
        is_stopping: whether the matrix was cancelled.

    Returns:
        For each model `model`, `task`, `state` (`done`, `not possible` for work that has no single
        step, `failed`) and, of what failed, `reason` in both languages.
    """
    found: dict[tuple[str, str], Warm] = {}
    for row in rows:
        if row.error is not None:
            continue
        try:
            request = profiler.request_of(row)
        except Exception:  # the row itself says so
            continue
        key = (request.model, str(request.task))
        if key in found:
            continue
        if is_stopping():
            break
        warm: Warm = {"model": request.model, "task": str(request.task)}
        if isinstance(request, ClipRequest):
            short = request.with_changes(steps=1)
            warm |= _run(profiler, short, row.options.random_weights, visitor, on_view)
        else:
            warm["state"] = NOT_POSSIBLE
        found[key] = warm
    return list(found.values())


def warm_up_line(around: Mapping[str, Any]) -> str:
    """What a report says of it; the environment of a summary may be one of an older studio."""
    if "warm_up" not in around:
        return "with a short run that was thrown away" if around.get("warmed_up") else "none"
    warm = around["warm_up"]
    if not warm:
        return "none, a processor needs none" if around.get("kind") == "cpu" else "none"
    return "; ".join(map(_words, warm))


def _words(warm: Mapping[str, Any]) -> str:
    match warm["state"]:
        case "done":
            said = "a short run that was thrown away"
        case "not possible":
            said = "not possible for this kind of work, so its first row is a cold one"
        case _:
            said = f"failed: {warm['reason']['en']}"
    return f"{warm['model']}: {said}"


def _run(
    profiler: Profiler,
    request: ClipRequest,
    random_weights: bool,
    visitor: str,
    on_view: Callable[[JobView], None],
) -> Warm:
    profile = {"memory": False, "random_weights": random_weights, "warm_up": True}
    try:
        receipt = profiler.run_row(request, profile, visitor, on_view)
        profiler.forget(receipt.id, visitor)
        if receipt.error is None:
            return {"state": DONE}
        error = error_from_json(receipt.error)
    except Exception as raised:
        error = told(raised)
    return {"state": FAILED, "reason": error.message.to_json()}
