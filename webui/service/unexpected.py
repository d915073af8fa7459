"""Errors that nobody expected, as users are told of them."""

from __future__ import annotations

import traceback

from webui.core.errors import RunFailed, StudioError
from webui.core.text import Text


def as_studio_error(error: Exception) -> StudioError:
    """What users are told of an error; what is a mistake of the studio itself goes into its log."""
    if isinstance(error, StudioError):
        return error
    traceback.print_exception(error)
    return RunFailed(
        Text(
            f"The studio itself failed: {type(error).__name__}.",
            f"工作室自身出错：{type(error).__name__}。",
        ),
        Text("Its log has the details.", "详细信息见日志。"),
    )
