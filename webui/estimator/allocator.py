"""PyTorch's CUDA caching allocator, simulated: what a sequence of allocations reserves.

Follows c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h (PyTorch 2.11-2.13): best
fit in a small and a large pool per stream, splitting, merging, expandable segments mapped in
units, and one retry after the cache has been released when a limit is met.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from webui.core.units import MIB
from webui.estimator.blocks import (
    ADDRESS_BITS,
    LARGE_SEGMENT,
    SMALL_SEGMENT,
    SMALL_SIZE,
    Block,
    Pool,
)
from webui.estimator.tape import ALLOCATE, LOAD, RELEASE, ROUND_BYTES, SCRATCH

COPY_STREAM = 1
"""Streamed weights are copied, and allocated, on a stream of their own."""
MIN_LARGE_SEGMENT = 10 * MIB
"""Requests of this and more get a segment of their own size, rounded up to `ROUND_LARGE`."""
ROUND_LARGE = 2 * MIB
_ADDRESS_SPACE = LARGE_SEGMENT << 26
"""More than any card, so that an expandable segment never runs out of addresses; whole units, so
that they begin where the segment does."""
_PASSING = -1
"""No other storage has this key."""


class SimulatedOutOfMemory(Exception):
    """The limit is met even after the cache has been released."""

    def __init__(self, requested_bytes: int, reserved_bytes: int) -> None:
        super().__init__(f"{requested_bytes} bytes do not fit beside {reserved_bytes} reserved")
        self.requested_bytes = requested_bytes
        self.reserved_bytes = reserved_bytes


class CachingAllocator:
    """The allocator's books: allocated and reserved bytes, and their peaks.

    Args:
        expandable: `expandable_segments:True`.
        limit_bytes: what the allocator may reserve
            (`torch.cuda.set_per_process_memory_fraction`); None for no limit.
    """

    def __init__(self, expandable: bool, limit_bytes: int | None = None) -> None:
        self.expandable = expandable
        self.limit_bytes = limit_bytes
        self.allocated_bytes = 0
        self.reserved_bytes = 0
        self.peak_reserved_bytes = 0
        self.peak_alive_bytes = 0
        self.most_asked_bytes = 0
        """The lowest limit that would never have been met."""
        self.retries = 0
        """How often the cache had to be released to make room."""
        self._pools: dict[tuple[int, bool], Pool] = {}
        self._live: dict[int, Block] = {}
        self._next_address = _ADDRESS_SPACE

    def allocate(self, key: int, size_bytes: int, stream: int = 0) -> None:
        """Gives `key` a block.

        Raises:
            SimulatedOutOfMemory: the limit is met even after a release of the cache.
        """
        size = -(-size_bytes // ROUND_BYTES) * ROUND_BYTES or ROUND_BYTES
        small = size <= SMALL_SIZE
        pool = self._pools.get((stream, small)) or self._new_pool(stream, small)
        index = pool.best_fit(size)
        if index is not None:
            block = pool.take(index)
        else:
            block = self._new_block(pool, size) or self._retry(pool, size)
        rest = block.size - size
        if rest >= pool.smallest_rest:
            pool.add(block.split(size))
        block.free = False
        self._live[key] = block
        self.allocated_bytes += block.size

    def pass_through(self, size_bytes: int, stream: int = 0) -> int:
        """What is allocated and released at once: as `allocate` and `release`, but quicker.

        Returns:
            Bytes that it took.

        Raises:
            SimulatedOutOfMemory: as `allocate`.
        """
        size = -(-size_bytes // ROUND_BYTES) * ROUND_BYTES or ROUND_BYTES
        small = size <= SMALL_SIZE
        pool = self._pools.get((stream, small)) or self._new_pool(stream, small)
        index = pool.best_fit(size)
        if index is None:
            self.allocate(_PASSING, size, stream)
            taken = self._live[_PASSING].size
            self.release(_PASSING)
            return taken
        # The rest would be split off and merged again.
        whole = pool.blocks[index].size
        taken = size if whole - size >= pool.smallest_rest else whole
        return taken

    def _new_pool(self, stream: int, small: bool) -> Pool:
        pool = self._pools[stream, small] = Pool(small, self.expandable)
        return pool

    def _retry(self, pool: Pool, size: int) -> Block:
        """A new block after the cache has been released."""
        self.retries += 1
        self.empty_cache()
        block = self._new_block(pool, size)
        if block is None:
            raise SimulatedOutOfMemory(size, self.reserved_bytes)
        return block

    def release(self, key: int) -> None:
        """Takes back the block of `key`; it stays in the cache."""
        block = self._live.pop(key)
        self.allocated_bytes -= block.size
        block.free = True
        pool = block.pool
        before, after = block.prev, block.next
        if after is not None and after.free and after.mapped:
            pool.remove(after)
            block.absorb_next()
        if before is not None and before.free and before.mapped:
            pool.remove(before)
            before.absorb_next()
            block = before
        pool.add(block)

    def play(self, kinds: list[int], keys: list[int], sizes: list[int], beside: list[int]) -> None:
        """Many events of large blocks: `allocate`, `release` and `pass_through` in one loop.

        What nearly every event comes to, a free block that is taken or given back, is written out
        here: calls would take as long again. All else goes through the methods. The most bytes
        alive at once, those beside included, are in `peak_alive_bytes`.

        Args:
            kinds: ALLOCATE, RELEASE, SCRATCH or LOAD.
            keys: of the storages.
            sizes: bytes, in whole blocks; of releases they are not read.
            beside: bytes that are alive beside those in the allocator's books.

        Raises:
            SimulatedOutOfMemory: as `allocate`.
        """
        main = self._pools.get((0, False)) or self._new_pool(0, False)
        smallest_rest, live, most = main.smallest_rest, self._live, self.peak_alive_bytes
        for kind, key, size, other in zip(kinds, keys, sizes, beside, strict=True):
            if kind == RELEASE:
                block = live.pop(key)
                self.allocated_bytes -= block.size
                block.free = True
                pool = block.pool
                ranks, blocks = pool.ranks, pool.blocks
                after, before = block.next, block.prev
                if after is not None and after.free and after.mapped:
                    index = bisect_left(ranks, (after.size << ADDRESS_BITS) + after.address)
                    del ranks[index], blocks[index]
                    block.size += after.size
                    block.next = after = after.next
                    if after is not None:
                        after.prev = block
                if before is not None and before.free and before.mapped:
                    index = bisect_left(ranks, (before.size << ADDRESS_BITS) + before.address)
                    del ranks[index], blocks[index]
                    before.size += block.size
                    before.next = after
                    if after is not None:
                        after.prev = before
                    block = before
                rank = (block.size << ADDRESS_BITS) + block.address
                index = bisect_left(ranks, rank)
                ranks.insert(index, rank)
                blocks.insert(index, block)
                continue
            if kind == SCRATCH:
                alive = self.allocated_bytes + self.pass_through(size) + other
            else:
                ranks, blocks = main.ranks, main.blocks
                index = bisect_left(ranks, size << ADDRESS_BITS)
                found = blocks[index] if kind == ALLOCATE and index < len(blocks) else None
                after = found.next if found is not None else None
                if found is None or (after is not None and not after.mapped):
                    self.allocate(key, size, COPY_STREAM if kind == LOAD else 0)
                else:
                    block = found
                    del ranks[index], blocks[index]
                    rest_size = block.size - size
                    if rest_size >= smallest_rest:
                        rest = Block(main, block.address + size, rest_size, True)
                        rest.prev, rest.next = block, after
                        if after is not None:
                            after.prev = rest
                        block.next = rest
                        block.size = size
                        rank = (rest_size << ADDRESS_BITS) + rest.address
                        index = bisect_left(ranks, rank, 0, index)
                        ranks.insert(index, rank)
                        blocks.insert(index, rest)
                    block.free = False
                    live[key] = block
                    self.allocated_bytes += block.size
                alive = self.allocated_bytes + other
            if alive > most:
                self.peak_alive_bytes = most = alive

    def empty_cache(self) -> None:
        """Gives back whole free segments, or whole free units of expandable ones."""
        for pool in self._pools.values():
            for block in list(pool.blocks):
                if self.expandable:
                    self._unmap(pool, block)
                elif block.prev is None and block.next is None:
                    pool.remove(block)
                    self.reserved_bytes -= block.size

    def reset_peaks(self) -> None:
        self.peak_alive_bytes = 0
        self.peak_reserved_bytes = self.reserved_bytes

    def _reserve(self, size: int) -> None:
        self.reserved_bytes += size
        if self.reserved_bytes > self.peak_reserved_bytes:
            self.peak_reserved_bytes = self.reserved_bytes

    def _new_block(self, pool: Pool, size: int) -> Block | None:
        if pool.small:
            segment = SMALL_SEGMENT
        elif size < MIN_LARGE_SEGMENT:
            segment = LARGE_SEGMENT
        else:
            segment = -(-size // ROUND_LARGE) * ROUND_LARGE
        # As `alloc_block` has it: the limit is held against a whole new segment, also where an
        # expandable one has free bytes at its end and needs only the rest.
        asked = self.reserved_bytes + segment
        if self.limit_bytes is not None and asked > self.limit_bytes:
            return None
        self.most_asked_bytes = max(self.most_asked_bytes, asked)
        if self.expandable:
            return self._expand(pool, size)
        self._reserve(segment)
        self._next_address += _ADDRESS_SPACE
        return Block(pool, self._next_address, segment, mapped=True)

    def _expand(self, pool: Pool, size: int) -> Block:
        """A free block of `size` bytes made by mapping more units into the segment."""
        block = self._stretch_to_grow(pool, size)
        if not block.mapped:
            block = self._map(pool, block, min(block.size, size))
        while block.size < size:
            hole = block.next
            assert hole is not None
            block = self._map(pool, hole, min(hole.size, size - block.size))
        pool.remove(block)
        return block

    def _stretch_to_grow(self, pool: Pool, size: int) -> Block:
        """The lowest run of free and unmapped blocks with `size` bytes of addresses."""
        for hole in pool.unmapped:
            before = hole.prev
            start = before if before is not None and before.free and before.mapped else hole
            room, block = 0, start
            while room < size and block is not None and block.free:
                room += block.size
                block = block.next  # type: ignore[assignment]
            if room >= size:
                return start
        # A replay without a limit may ask for more than any card has.
        space = max(_ADDRESS_SPACE, -(-size // pool.segment_bytes) * pool.segment_bytes)
        address = self._next_address + _ADDRESS_SPACE
        self._next_address = address + space
        hole = Block(pool, address, space, mapped=False)
        pool.unmapped.append(hole)
        return hole

    def _map(self, pool: Pool, hole: Block, size: int) -> Block:
        """Maps the first `size` bytes of an unmapped block, rounded up to whole units.

        Returns:
            The free block that they are now, with the free neighbours (`map_block`).
        """
        unit = pool.segment_bytes
        size = min(hole.size, -(-size // unit) * unit)
        self._reserve(size)
        index = pool.unmapped.index(hole)
        if size < hole.size:
            pool.unmapped[index] = hole.split(size)
        else:
            del pool.unmapped[index]
        hole.mapped = True
        block, before, after = hole, hole.prev, hole.next
        if before is not None and before.free and before.mapped:
            pool.remove(before)
            before.absorb_next()
            block = before
        if after is not None and after.free and after.mapped:
            pool.remove(after)
            block.absorb_next()
        pool.add(block)
        return block

    def _unmap(self, pool: Pool, block: Block) -> None:
        unit = pool.segment_bytes
        low = -(-block.address // unit) * unit
        high = (block.address + block.size) // unit * unit
        if high <= low:
            return
        pool.remove(block)
        self.reserved_bytes -= high - low
        if block.address + block.size > high:
            pool.add(block.split(high - block.address))
        hole = block
        if low > block.address:
            hole = block.split(low - block.address)
            pool.add(block)
        hole.mapped = False
        before, after = hole.prev, hole.next
        if after is not None and not after.mapped:
            pool.unmapped.remove(after)
            hole.absorb_next()
        if before is not None and not before.mapped:
            pool.unmapped.remove(before)
            before.absorb_next()
            hole = before
        insort(pool.unmapped, hole, key=lambda item: item.address)
