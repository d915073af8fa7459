"""How much may be uploaded: gradio writes it to the disk and keeps it for a day."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from webui.core import documents, upscale
from webui.core.text import Text
from webui.core.units import GIB, MIB

MAX_UPLOAD_BYTES = max(documents.MAX_UPLOAD_BYTES, upscale.MAX_UPLOAD_BYTES)
"""Of one upload of the owner."""
VISITOR_BYTES = 32 * MIB
"""Of one upload of somebody who is not the owner."""
VISITORS_DAY_BYTES = 2 * GIB
"""Of all visitors' uploads of a day together."""
_DAY_S = 24 * 3600
_FORM_BYTES = 64 * 1024
"""What a form adds around its file."""


class UploadBounds:
    """Counts what visitors upload; used from one event loop or from several threads.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: deque[tuple[float, int]] = deque()

    def refusal(self, length_bytes: int, owner: bool) -> tuple[HTTPStatus, Text] | None:
        """Why an upload is refused; one that is not refused counts.

        Args:
            length_bytes: of its body.
            owner: whether the owner of the machine sends it.
        """
        limit_bytes = MAX_UPLOAD_BYTES if owner else VISITOR_BYTES
        if length_bytes > limit_bytes + _FORM_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(limit_bytes)
        if owner:
            return None
        with self._lock:
            now = self._clock()
            while self._taken and self._taken[0][0] <= now - _DAY_S:
                self._taken.popleft()
            if sum(size for _, size in self._taken) + length_bytes > VISITORS_DAY_BYTES:
                return HTTPStatus.TOO_MANY_REQUESTS, _DAY_IS_FULL
            self._taken.append((now, length_bytes))
        return None


def _too_large(limit_bytes: int) -> Text:
    size = limit_bytes // MIB
    return Text(
        f"The file is larger than {size} MiB. Use a smaller one.",
        f"文件超过 {size} MiB，请使用更小的文件。",
    )


_DAY_IS_FULL = Text(
    "Visitors have uploaded as much today as this studio takes. Try again tomorrow.",
    "今天访客上传的文件总量已达到本站上限，请明天再试。",
)
