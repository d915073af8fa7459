"""Blocks of the simulated allocator's segments, and the pools of those that are free."""

from __future__ import annotations

from bisect import bisect_left

from webui.core.units import MIB
from webui.estimator.tape import ROUND_BYTES

SMALL_SIZE = 1 * MIB
"""Requests up to this go to the small pool."""
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
ADDRESS_BITS = 72
"""Enough for the addresses of a million segments."""


class Block:
    __slots__ = ("address", "free", "mapped", "next", "pool", "prev", "size")

    def __init__(self, pool: Pool, address: int, size: int, mapped: bool) -> None:
        self.pool = pool
        self.address = address
        self.size = size
        self.mapped = mapped
        self.free = True
        self.prev: Block | None = None
        self.next: Block | None = None

    def split(self, size: int) -> Block:
        """Keeps the first `size` bytes; returns the rest as a block of its own."""
        rest = Block(self.pool, self.address + size, self.size - size, self.mapped)
        after = self.next
        rest.prev, rest.next = self, after
        if after is not None:
            after.prev = rest
        self.next = rest
        self.size = size
        return rest

    def absorb_next(self) -> None:
        other = self.next
        assert other is not None
        self.size += other.size
        self.next = other.next
        if other.next is not None:
            other.next.prev = self


class Pool:
    """Free blocks of one stream and one size class, by size and then by address."""

    __slots__ = ("blocks", "ranks", "segment_bytes", "small", "smallest_rest", "unmapped")

    def __init__(self, small: bool, expandable: bool) -> None:
        self.small = small
        self.smallest_rest = ROUND_BYTES if small or expandable else SMALL_SIZE + 1
        """A smaller rest is not split off."""
        self.segment_bytes = SMALL_SEGMENT if small else LARGE_SEGMENT
        self.ranks: list[int] = []
        self.blocks: list[Block] = []
        """As `ranks` sorts them."""
        self.unmapped: list[Block] = []

    def add(self, block: Block) -> None:
        rank = (block.size << ADDRESS_BITS) + block.address
        index = bisect_left(self.ranks, rank)
        self.ranks.insert(index, rank)
        self.blocks.insert(index, block)

    def remove(self, block: Block) -> None:
        index = bisect_left(self.ranks, (block.size << ADDRESS_BITS) + block.address)
        del self.ranks[index], self.blocks[index]

    def best_fit(self, size: int) -> int | None:
        """Where the block is that a request of `size` bytes gets."""
        index = bisect_left(self.ranks, size << ADDRESS_BITS)
        if index == len(self.ranks):
            return None
        after = self.blocks[index].next
        if after is None or after.mapped:
            return index
        # A block that can grow into unmapped space counts with that space.
        room = _room(self.blocks[index])
        for following in self.blocks[index + 1 :]:
            if _room(following) >= room:
                break
            room = _room(following)
            index += 1
        return index

    def take(self, index: int) -> Block:
        del self.ranks[index]
        return self.blocks.pop(index)


def _room(block: Block) -> int:
    after = block.next
    return block.size if after is None or after.mapped else block.size + after.size
