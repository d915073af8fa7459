"""What a visitor of a public studio may ask for; the owner is not limited."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from webui.core.card import Card
from webui.core.clip import ClipRequest
from webui.core.documents import DocumentRequest
from webui.core.errors import BadInput, NotAllowed
from webui.core.job import JobState
from webui.core.request import Request
from webui.core.text import Text
from webui.core.upscale import UpscaleRequest, tiles_of
from webui.optimizer.upscaling import auto_overlap
from webui.storage import Ledger, Limits
from webui.video.segments import split

COSTLY_AT_ONCE = 2
"""Questions of many searches (`most`, `smallest`, `frontier`) of all visitors together that are
answered at the same time: each keeps a core busy for seconds."""
MOST_WAITING = 8
"""Questions that wait for their turn: each holds one of the 40 threads that the page has
(anyio's default)."""
WAIT_S = 10.0
"""How long they wait: about as long as a few of the questions take."""


class VisitorTurns:
    """Lets visitors' costly questions in, a few at a time; the owner's are always let in.

    Args:
        at_once: how many are answered at the same time.
        waiting: how many more may wait for it.
        wait_s: for how long.
    """

    def __init__(
        self, at_once: int = COSTLY_AT_ONCE, waiting: int = MOST_WAITING, wait_s: float = WAIT_S
    ) -> None:
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._answering = threading.BoundedSemaphore(at_once)
        self._wait_s = wait_s
        self._asking: set[str] = set()
        self._asking_lock = threading.Lock()

    @contextmanager
    def turn(self, owner: bool, visitor: str = "") -> Iterator[None]:
        """Waits for a turn, and gives it back at the end.

        Args:
            owner: whether the owner asks.
            visitor: who asks, one question at a time; those whom nothing identifies count as one.

        Raises:
            NotAllowed: a visitor's turn did not come, or the visitor has one already.
        """
        if owner:
            yield
            return
        with self._asking_lock:
            if visitor in self._asking:
                raise _busy()
            self._asking.add(visitor)
        try:
            with self._place():
                yield
        finally:
            with self._asking_lock:
                self._asking.discard(visitor)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise _busy()
        try:
            if not self._answering.acquire(timeout=self._wait_s):
                raise _busy()
            try:
                yield
            finally:
                self._answering.release()
        finally:
            self._places.release()


def _busy() -> NotAllowed:
    return NotAllowed(
        Text(
            "The studio is still busy with such questions.",
            "本站还在回答同类问题。",
        ),
        Text("Try again in a minute.", "请过一分钟再试。"),
    )


def check_size(request: Request, limits: Limits) -> None:
    """Refuses what is too large.

    Raises:
        BadInput: larger than a visitor may ask for.
    """
    if not isinstance(request, ClipRequest | UpscaleRequest):
        return
    if isinstance(request, UpscaleRequest):
        pixels = _upscaled_pixels(request)
    else:
        pixels = request.width * request.height * request.frames * request.batch
    if pixels > limits.max_pixel_frames:
        raise BadInput(
            "frames",
            Text(
                "This is larger than this studio lets visitors run.",
                "超出了本站允许访客运行的规模。",
            ),
            Text(
                "Use fewer frames or a smaller size; longer segments and larger tiles share less.",
                "请减少帧数或缩小尺寸；较长的分段和较大的分块重复计算更少。",
            )
            if isinstance(request, UpscaleRequest)
            else Text(
                "Use fewer frames or clips, or a smaller size.", "请减少帧数、视频段数或缩小尺寸。"
            ),
        )
    if isinstance(request, UpscaleRequest):
        return
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


def _upscaled_pixels(request: UpscaleRequest) -> int:
    """Pixels of the result that the model makes: of what segments and tiles share, each time."""
    settings = request.settings
    parts = split(
        request.frames, request.segment_frames, request.overlap, int(settings.get("gpus", 1))
    )
    tile = int(settings.get("tile", 0))
    overlap = int(settings.get("tile_overlap", auto_overlap(tile)))
    tall, wide = (min(side, tile or side) for side in (request.height, request.width))
    tiles = tiles_of(request.height, request.width, tile, overlap)
    return sum(part.count for part in parts) * tiles * tall * wide * request.scale**2


def check_pages(request: Request, limits: Limits) -> None:
    """Refuses too many pages; they are counted by now.

    Raises:
        BadInput: more than a visitor may have read at a time.
    """
    if isinstance(request, DocumentRequest) and request.repeats > limits.max_pages:
        raise BadInput(
            "pages",
            Text(
                f"{request.repeats} pages are more than the {limits.max_pages} that this studio "
                "lets visitors read at a time.",
                f"共 {request.repeats} 页，超出本站允许访客一次识别的 {limits.max_pages} 页。",
            ),
            Text("Choose fewer pages, such as '1-10'.", "请选择较少的页，例如 '1-10'。"),
        )


def check_card(on_processor: bool, here: Card) -> None:
    """Refuses a run on the processor of a machine that has a GPU.

    Raises:
        BadInput: a visitor's run would keep the processor.
    """
    if on_processor and here.kind == "cuda":
        raise BadInput(
            "card", Text("Visitors run on this machine's GPU.", "访客只能使用本机的 GPU 运行。")
        )


def check_queue(visitor: str, limits: Limits | None, ledger: Ledger) -> None:
    """Refuses one job too many.

    Args:
        visitor: who wants one more.
        limits: of a visitor; None for the owner, who has none.
        ledger: knows what is queued.

    Raises:
        NotAllowed: the queue, or the visitor's share of it, is full.
    """
    if limits is None:
        return
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
