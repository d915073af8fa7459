"""Going on with a run that ended early, whatever its task is."""

from __future__ import annotations

from webui.service.studio import Studio
from webui.storage import Limits


def resume(studio: Studio, run_id: str, visitor: str, limits: Limits | None = None) -> str:
    """Goes on with a run over frames or pages; what is made stays.

    Args:
        studio: whose run.
        run_id: the run.
        visitor: whose it is.
        limits: of a visitor; None for the owner.

    Returns:
        Its task.

    Raises:
        NotFound: the visitor has no such run.
        NotAllowed: it did not end early, goes on already, or the queue has no place for a visitor.
    """
    task = str(studio.run(run_id, visitor).request.get("task"))
    pieces = studio.documents if task == "parse" else studio.videos
    pieces.resume(run_id, visitor, limits)
    return task
