"""How many tiles go through a model at once: what memory allows while it runs, and no more than
makes it faster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

import torch

from webui.core.host import host_available_bytes, host_memory_bytes
from webui.core.text import Text
from webui.core.units import GIB, format_bytes
from webui.pipelines.live_bytes import LiveBytes

Job = TypeVar("Job")
Made = TypeVar("Made")
Tell = Callable[[Text], None]

RECHECK = 5
"""Batches after which free memory is looked at again, unless the settings say otherwise."""
RESERVE_BYTES = 2 * GIB
"""What is left free, unless the settings say otherwise."""
_RESERVE_SHARE = 0.25
"""Of the limit: a small card is not given up to its reserve."""
_TRIES = 2
"""Batches of a size before it is judged: the first chooses kernels and fills the allocator."""
_FASTER = 1.02
"""A larger batch has to gain this much, or the smaller one stays."""
_WORTH_TRYING = 1.25
"""Times the size: less is no news."""
_SPARE = 1.15
"""What a tile is taken to need, by what it was measured to: a batch of another size is cut into
the allocator's blocks in another way."""
_NOTHING: Any = object()
_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


class Meter(Protocol):
    """What a device tells of its memory."""

    limit_bytes: int
    """What this process may use in all."""

    def free_bytes(self) -> int:
        """What could be allocated now."""

    def measured(self, compute: Callable[[], Made]) -> tuple[Made, int]:
        """What is computed, and the bytes that this took at most beyond what was there."""


class CudaMeter:
    """The current GPU, through PyTorch's allocator and the driver.

    The allocator's peaks are read and never reset: they are the measurement of the whole run.
    """

    def __init__(self) -> None:
        total = int(torch.cuda.mem_get_info()[1])
        self.limit_bytes = int(total * torch.cuda.get_per_process_memory_fraction())

    def free_bytes(self) -> int:
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        of_card = int(torch.cuda.mem_get_info()[0]) + reserved - allocated
        return min(of_card, self.limit_bytes - allocated)

    def measured(self, compute: Callable[[], Made]) -> tuple[Made, int]:
        before = torch.cuda.memory_allocated()
        made = compute()
        return made, max(0, torch.cuda.max_memory_allocated() - before)


class HostMeter:
    """The processor: what the system or the container has left, and the bytes of live tensors."""

    def __init__(self) -> None:
        self.limit_bytes = host_memory_bytes()

    def free_bytes(self) -> int:
        return host_available_bytes()

    def measured(self, compute: Callable[[], Made]) -> tuple[Made, int]:
        with LiveBytes() as live:
            made = compute()
        return made, live.peak_bytes


class TileBatch:
    """Feeds jobs to a model in batches.

    It begins with single ones, goes on with `start` at once, and doubles while a tile takes less
    time in a larger batch and the measured free memory, less a reserve, has room for it. There is
    no ceiling. When memory runs out, or others take it, it halves; what was done is kept.

    Args:
        meter: of the device's memory; None where nothing is measured (tracing), and `start` stays.
        start: the size that the estimate has room for.
        grows: whether larger sizes are tried; otherwise it never takes more than `start`, and comes
            back to it when others give memory back.
        recheck: batches between looks at the free memory; 0 for none.
        reserve_bytes: what stays free; at most a quarter of the limit.
        tell: takes a sentence when the size changes.
    """

    def __init__(
        self,
        meter: Meter | None,
        *,
        start: int = 1,
        grows: bool = True,
        recheck: int = RECHECK,
        reserve_bytes: int = RESERVE_BYTES,
        tell: Tell = lambda _: None,
    ) -> None:
        self._meter, self._tell = meter, tell
        self._grows = grows and meter is not None
        self._start, self._recheck = max(1, start), recheck
        self.size = 1 if self._grows else self._start
        """Tiles that go through at once, as things stand."""
        limit_bytes = meter.limit_bytes if meter else 0
        # A planned batch has its room: only what others take away makes it smaller.
        reserve_bytes = min(reserve_bytes, int(_RESERVE_SHARE * limit_bytes))
        self._reserve_bytes = reserve_bytes if grows else 0
        self._spare = _SPARE if grows else 1.0
        self._searching = self._grows
        self._rates: dict[int, float] = {}
        """Tiles a second, by size: the best that was seen."""
        self._tried: dict[int, int] = {}
        self._tile_bytes = 0.0
        self._measured_size = 0
        self._failed_size = 0
        """The smallest size that ran out of memory, until more is free than was then."""
        self._failed_free_bytes = 0
        self._batches = 0

    def run(
        self,
        jobs: Iterable[Job],
        compute: Callable[[Sequence[Job]], Made],
        take: Callable[[Sequence[Job], Made], None],
    ) -> None:
        """Does all jobs, in their order.

        Args:
            jobs: read only when they are due.
            compute: makes something of a batch; done when the device is. A batch that runs out of
                memory is computed again in smaller ones.
            take: gets each batch once, with what was made of it.

        Raises:
            torch.OutOfMemoryError: not even a single job goes through.
        """
        source, pending = iter(jobs), deque[Job]()
        while True:
            while len(pending) < self.size:
                following = next(source, _NOTHING)
                if following is _NOTHING:
                    break
                pending.append(following)
            if not pending:
                return
            batch = [pending[number] for number in range(min(self.size, len(pending)))]
            made = self._computed(batch, compute)
            if made is _NOTHING:
                self._halve_after_failure(len(batch))
                continue
            for _ in batch:
                pending.popleft()
            take(batch, made)
            self._after(len(batch))

    def _computed(self, batch: Sequence[Job], compute: Callable[[Sequence[Job]], Made]) -> Made:
        """What was made, or _NOTHING if memory was not enough: the exception ends here, and with it
        what its frames hold."""
        if self._meter is None:
            return compute(batch)
        began = time.perf_counter()
        try:
            made, taken_bytes = self._meter.measured(lambda: compute(batch))
        except (RuntimeError, MemoryError) as error:
            if len(batch) == 1 or not _is_of_memory(error):
                raise
            return cast(Made, _NOTHING)
        self._note(len(batch), time.perf_counter() - began, taken_bytes)
        return made

    def _note(self, size: int, seconds: float, taken_bytes: int) -> None:
        self._tried[size] = self._tried.get(size, 0) + 1
        self._rates[size] = max(self._rates.get(size, 0.0), size / max(seconds, 1e-9))
        if size >= self._measured_size:
            # The peak of a smaller batch hides behind that of a larger one.
            self._measured_size = size
            self._tile_bytes = max(taken_bytes / size, 0.5 * self._tile_bytes)

    def _halve_after_failure(self, size: int) -> None:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        self._failed_size = min(size, self._failed_size or size)
        self._failed_free_bytes = self._meter.free_bytes() if self._meter else 0
        self._searching = False
        self.size = max(1, size // 2)
        self._tell(
            Text(
                f"{size} tiles at once ran out of memory: {self.size} from now on, nothing is "
                "lost.",
                f"同时处理 {size} 块时显存不足：改为 {self.size} 块，已完成的都保留。",
            )
        )

    def _after(self, size: int) -> None:
        """A batch went through: judge the size, and look at the memory now and then."""
        if self._meter is None or size < self.size:
            return
        self._batches += 1
        if self._searching:
            if self._tried[size] >= _TRIES:
                self._judge()
        elif self._recheck and self._batches % self._recheck == 0:
            self._look_again()

    def _judge(self) -> None:
        """The size has been measured: is it worth it, and is there room for more?"""
        best = self._best()
        if best < self.size:
            self._searching = False
            rates = f"{self._rates[self.size]:.1f}", f"{self._rates[best]:.1f}"
            self._tell(
                Text(
                    f"{self.size} tiles at once are no faster than {best} "
                    f"({rates[0]} and {rates[1]} a second): {best} from now on.",
                    f"同时处理 {self.size} 块并不比 {best} 块快"
                    f"（每秒 {rates[0]} 与 {rates[1]} 块）：改为 {best} 块。",
                )
            )
            self.size = best
            return
        wanted = self._start if self.size < self._start else self.size * 2
        room = self._room()
        following = min(wanted, room)
        if following < _WORTH_TRYING * self.size:
            self._searching = False
            if room < self.size:
                self._under_pressure(room)
            return
        self._grow(following)

    def _look_again(self) -> None:
        """Others may have taken memory, or given it back."""
        room = self._room()
        if room < self.size:
            self._under_pressure(room)
        elif not self._grows and self._start > self.size and room > self.size:
            self._grow(min(room, self._start, self.size * 2))
        elif self._grows and self._best() > self.size and room > self.size:
            self._grow(min(room, self._best(), self.size * 2))
        elif self._grows and self._best() == self.size == max(self._rates):
            following = min(room, self.size * 2)
            if following >= _WORTH_TRYING * self.size:
                self._searching = True
                self._grow(following)

    def _grow(self, size: int) -> None:
        self.size = size
        assert self._meter is not None
        free = format_bytes(self._meter.free_bytes())
        self._tell(
            Text(
                f"{free} of memory is free: {size} tiles at once.",
                f"还有 {free} 空闲内存：同时处理 {size} 块。",
            )
        )

    def _under_pressure(self, room: int) -> None:
        smaller = max(1, min(self.size // 2, room))
        if smaller == self.size:
            return
        self.size = smaller
        assert self._meter is not None
        free = format_bytes(self._meter.free_bytes())
        self._tell(
            Text(
                f"Only {free} of memory is left: {smaller} tiles at once.",
                f"内存只剩 {free}：同时处理 {smaller} 块。",
            )
        )

    def _best(self) -> int:
        """The size to stay with: a larger one only where it is faster by more than chance."""
        best = 1 if 1 in self._rates else min(self._rates)
        for size in sorted(self._rates):
            if self._tried[size] >= _TRIES and self._rates[size] > _FASTER * self._rates[best]:
                best = size
        return best

    def _room(self) -> int:
        """The most tiles that the free memory has room for, the reserve left."""
        assert self._meter is not None
        free_bytes = self._meter.free_bytes()
        room = int((free_bytes - self._reserve_bytes) // max(1.0, self._spare * self._tile_bytes))
        if self._failed_size:
            if free_bytes > 1.25 * self._failed_free_bytes:
                self._failed_size = 0
            else:
                proven = [size for size in self._rates if size < self._failed_size]
                room = min(room, max(self._failed_size // 2, *proven, 0))
        return max(0, room)


def new_tile_batch(
    settings: Mapping[str, Any], device: torch.device, tell: Tell, grows: bool = False
) -> TileBatch:
    """The batch that the settings ask for.

    Args:
        settings: `tile_batch`, the plan's; `tile_recheck` in batches and `tile_reserve_gib` where
            they are there.
        device: where the model runs.
        tell: takes a sentence when the size changes.
        grows: follow the free memory beyond what was planned.
    """
    meter: Meter | None = None
    if device.type == "cuda":
        meter = CudaMeter()
    elif device.type == "cpu":
        meter = HostMeter()
    return TileBatch(
        meter,
        start=int(settings.get("tile_batch", 1)),
        grows=grows,
        recheck=int(settings.get("tile_recheck", RECHECK)),
        reserve_bytes=int(float(settings.get("tile_reserve_gib", RESERVE_BYTES / GIB)) * GIB),
        tell=tell,
    )


def follows_memory(request: Any) -> bool:
    """Whether the user asked for as many as measured memory allows: `tile_batch: 0`."""
    return (getattr(request, "settings", None) or {}).get("tile_batch") == 0


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(word in str(error) for word in _MEMORY_WORDS)
