"""What a visitor of a public studio may ask for; the owner is not limited."""

from __future__ import annotations

from webui.core.clip import ClipRequest
from webui.core.errors import BadInput, NotAllowed
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.text import Text
from webui.storage import Ledger, Limits


def check_size(request: Request, limits: Limits) -> None:
    """Refuses what is too large.

    Raises:
        BadInput: larger than a visitor may ask for.
    """
    if not isinstance(request, ClipRequest):
        return
    if request.width * request.height * request.frames > limits.max_pixel_frames:
        raise BadInput(
            "frames",
            Text(
                "This is larger than this studio lets visitors run.",
                "超出了本站允许访客运行的规模。",
            ),
            Text("Use fewer frames or a smaller size.", "请减少帧数或缩小尺寸。"),
        )
    if request.steps > limits.max_steps:
        raise BadInput(
            "steps",
            Text(
                f"This studio lets visitors run at most {limits.max_steps} steps.",
                f"本站最多允许访客运行 {limits.max_steps} 步。",
            ),
        )
    longest = max(len(request.prompt), len(request.negative_prompt))
    if longest > limits.max_prompt_characters:
        raise BadInput(
            "prompt",
            Text(
                f"The prompt is longer than {limits.max_prompt_characters} characters.",
                f"提示词超过了 {limits.max_prompt_characters} 个字符。",
            ),
        )


def check_queue(visitor: str, limits: Limits, ledger: Ledger) -> None:
    """Refuses one job too many.

    Raises:
        NotAllowed: the queue, or the visitor's share of it, is full.
    """
    if ledger.count(JobState.QUEUED, visitor) >= limits.max_queued_per_user:
        raise NotAllowed(
            Text(
                f"You have {limits.max_queued_per_user} jobs waiting already.",
                f"你已有 {limits.max_queued_per_user} 个任务在排队。",
            ),
            Text("Wait for one to end, or cancel one.", "请等一个任务结束，或取消一个。"),
        )
    if ledger.count(JobState.QUEUED) >= limits.max_queued:
        raise NotAllowed(
            Text("The queue is full.", "队列已满。"),
            Text("Try again in a few minutes.", "请过几分钟再试。"),
        )
