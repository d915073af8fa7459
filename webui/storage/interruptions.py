"""What is told of jobs whose studio has ended."""

from __future__ import annotations

from webui.core.errors import StudioError
from webui.core.text import Text


def studio_ended() -> StudioError:
    """Of a job that ran, or waited."""
    return StudioError(
        Text("The studio was ended while this ran.", "运行过程中工作室被关闭。"),
        Text("Run it again: nothing of it is lost but the time.", "请重新运行，设置都还在。"),
    )


def profile_ended() -> StudioError:
    """Of a row of a profile that had not run yet."""
    return StudioError(
        Text(
            "The studio was ended before this row of a profile ran.",
            "该性能分析行尚未运行，工作室已被关闭。",
        ),
        Text("Run the profile again.", "请重新运行性能分析。"),
    )
