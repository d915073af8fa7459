"""Work in a thread beside the one that asks: frames read ahead, results passed on."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
_LOOK_S = 0.1
"""How often one that waits for room looks whether it is still wanted."""


@contextmanager
def ended(items: Iterator[Item]) -> Iterator[Iterator[Item]]:
    """Ends a generator here, in this thread, and not when it is collected, wherever that is."""
    try:
        yield items
    finally:
        end = getattr(items, "close", None)
        if end is not None:
            end()


class Ahead(Generic[Item]):
    """An iterator whose items are made in a thread of their own, some ahead of who takes them.

    Args:
        items: only that thread asks for them, and it ends them.
        most: that are made and not taken yet.
    """

    def __init__(self, items: Iterator[Item], most: int) -> None:
        self._items = items
        self._made: queue.Queue[tuple[bool, Any]] = queue.Queue(max(1, most))
        self._unwanted = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._make, name="ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> Ahead[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Ahead[Item]:
        return self

    def __next__(self) -> Item:
        if self._ended:
            raise StopIteration
        there, item = self._made.get()
        if there:
            return item  # type: ignore[no-any-return]
        self._ended = True
        if item is not None:
            raise item
        raise StopIteration

    def close(self) -> None:
        """Nothing more is wanted; the items have ended when this returns."""
        self._unwanted.set()
        self._thread.join()
        self._ended = True

    def _make(self) -> None:
        error: BaseException | None = None
        try:
            with ended(self._items):
                for item in self._items:
                    if not self._put((True, item)):
                        break
        except BaseException as raised:  # whoever takes the items hears of it
            error = raised
        self._put((False, error))

    def _put(self, made: tuple[bool, Any]) -> bool:
        """Whether there was room for it before it was unwanted."""
        while not self._unwanted.is_set():
            try:
                self._made.put(made, timeout=_LOOK_S)
            except queue.Full:
                continue
            return True
        return False


class Beside:
    """Calls that are made in order, in a thread of their own, while who asks for them goes on.

    After one that failed none is made, and all that is asked of it raises what that one raised.
    Leaving it waits for all of them, and raises that too: also in place of what ended the block,
    which may be caught and tried again as if all had been made.

    Args:
        most: calls that wait, at least one; who asks for another one waits for the first of them.

    Attributes:
        most: the same; it may be changed.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._thread = ThreadPoolExecutor(1, "beside")
        self._waiting: deque[Future[None]] = deque()
        self._failure: BaseException | None = None

    def __enter__(self) -> Beside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        self.close()
        if self._failure is not error and (kind is None or issubclass(kind, Exception)):
            self._check()

    def do(self, call: Callable[..., None], *given: Any) -> None:
        """Asks for a call.

        Raises:
            Exception: what an earlier one raised.
        """
        while len(self._waiting) >= self.most or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
        self._check()
        self._waiting.append(self._thread.submit(self._make, call, *given))

    def wait(self) -> None:
        """Until all that was asked for is done.

        Raises:
            Exception: what one of them raised.
        """
        while self._waiting:
            self._waiting.popleft().result()
        self._check()

    def close(self) -> None:
        """Waits for all that was asked for; what one of them raised is not told here."""
        self._thread.shutdown(wait=True)

    def _make(self, call: Callable[..., None], *given: Any) -> None:
        if self._failure is None:
            try:
                call(*given)
            except BaseException as raised:  # whoever asks hears of it
                self._failure = raised

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
