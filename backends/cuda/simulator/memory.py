"""Device memory: made-up addresses, real bytes, and who may reuse what, when.

Bytes exist from the moment when an allocation *executes* until its free executes. What the driver promises at the call,
and what it counts as in use, is bookkeeping on top: a budget of bytes, and for each free that has not executed yet its
place in its stream, so that an allocation which is ordered after it can take over its bytes and its address.
"""

from __future__ import annotations

import bisect
import ctypes
from collections import deque
from typing import TYPE_CHECKING

from .handles import CUmemoryPool, CUstream

if TYPE_CHECKING:
    from .operations import Record

#: Every allocation begins at a multiple of this, as from the driver.
ALIGNMENT = 512
#: Device addresses begin here: no host pointer looks like it, and it fits in a signed word.
FIRST_ADDRESS = 0x0A00_0000_0000_0000
#: What memory holds before anybody wrote to it.
JUNK = b"\xcd"


class Block:
    """An allocation. ``size`` bytes were asked for; ``charge`` bytes of the budget come back with its free."""

    __slots__ = ("buffer", "charge", "data", "free", "freed", "pool", "reused", "rounded", "size", "start", "users")

    def __init__(self, start: int, size: int, pool: CUmemoryPool | None) -> None:
        self.start = start
        self.size = size
        self.rounded = -(-size // ALIGNMENT) * ALIGNMENT
        self.pool = pool
        self.charge = self.rounded
        self.data: bytearray | memoryview | None = None
        #: A free was called. The record completes when it executes.
        self.freed = False
        self.free: Record | None = None
        #: A later allocation took over the address.
        self.reused = False
        #: For pinned host memory: the memory, and how many operations in flight touch it.
        self.buffer: ctypes.Array[ctypes.c_char] | None = None
        self.users = 0


class AddressMap:
    """Blocks by address, ranges that begin inside a block included."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self._starts: list[int] = []

    def add(self, block: Block) -> None:
        """Add a block, in place of one that begins where it does."""
        if block.start not in self.blocks:
            bisect.insort(self._starts, block.start)
        self.blocks[block.start] = block

    def remove(self, block: Block) -> None:
        """Remove a block, unless another has taken its place."""
        if self.blocks.get(block.start) is block:
            del self.blocks[block.start]
            del self._starts[bisect.bisect_left(self._starts, block.start)]

    def find(self, address: int, size: int) -> Block | None:
        """Return the block in which the whole range lies."""
        block = self.blocks.get(address)
        if block is None:
            index = bisect.bisect_right(self._starts, address)
            if not index:
                return None
            block = self.blocks[self._starts[index - 1]]
        return block if address + size <= block.start + block.size else None


def is_ordered(free: Record, stream: CUstream) -> bool:
    """Tell whether what is enqueued on ``stream`` now comes after the free."""
    return free.done or free.stream is stream or stream.clock.get(free.stream.serial, 0) >= free.position


class DeviceMemory:
    """One device's memory, and the pinned host memory that its streams can see."""

    def __init__(self, total: int) -> None:
        self.total = total
        #: Bytes that nothing is charged with.
        self.available = total
        #: Bytes of allocations that came from no pool.
        self.plain = 0
        self.pools: set[CUmemoryPool] = set()
        #: What the calls know (from an allocation's call to its free's execution), and what has bytes now.
        self.known = AddressMap()
        self.live = AddressMap()
        #: Freed and not executed: by pool and size, then by stream, oldest first.
        self._pending: dict[tuple[CUmemoryPool | None, int], dict[CUstream, deque[Block]]] = {}
        self._addresses: dict[int, list[int]] = {}
        self._next = FIRST_ADDRESS

    def take(self, size: int, pool: CUmemoryPool | None, stream: CUstream | None) -> tuple[Block, list[Record]] | None:
        """Promise ``size`` bytes to an allocation on ``stream``, or to a synchronous one; ``None``: out of memory.

        With the block come the frees that the allocation must wait for, though its stream does not: the driver's
        "internal dependencies".
        """
        block = Block(0, size, pool)
        waits: list[Record] = []
        old = self._same_size(pool, block.rounded, stream) if stream is not None else None
        if old is not None:
            block.start, old.reused = old.start, True
            self._transfer(old, block.rounded)
        else:
            missing = block.rounded - self.available
            if missing > 0:
                if stream is None or (found := self._gather(missing, pool, stream)) is None:
                    return None
                waits = found
            self.available -= min(block.rounded, self.available)
            block.start = self._address(block.rounded)
        if pool is None:
            self.plain += block.rounded
        else:
            pool.used += block.rounded
            self._reserve(pool)
        self.known.add(block)
        return block, waits

    def _same_size(self, pool: CUmemoryPool | None, rounded: int, stream: CUstream) -> Block | None:
        """Return a pending block of this size that ``stream`` may take over."""
        for queue in self._pending.get((pool, rounded), {}).values():
            old = queue[0]
            if old.charge == rounded and old.free is not None and is_ordered(old.free, stream):
                return old
        return None

    def _gather(self, missing: int, pool: CUmemoryPool | None, stream: CUstream) -> list[Record] | None:
        """Take over ``missing`` bytes from pending frees; return those to wait for, or ``None``: too few bytes."""
        sources: list[tuple[Block, int]] = []
        waits: list[Record] = []
        for strangers in (False, True):
            if strangers and (pool is None or not pool.internal_dependencies):
                break
            mine = [queues for (owner, _), queues in self._pending.items() if owner is pool]
            for old in [one for queues in mine for queue in queues.values() for one in queue]:
                assert old.free is not None
                if missing > 0 and old.charge and is_ordered(old.free, stream) is not strangers:
                    share = min(missing, old.charge)
                    missing -= share
                    sources.append((old, share))
                    if strangers:
                        waits.append(old.free)
        if missing > 0:
            return None
        for old, share in sources:
            self._transfer(old, share)
        return waits

    def _transfer(self, old: Block, size: int) -> None:
        """Take ``size`` bytes of the budget from a block whose free is pending."""
        old.charge -= size
        if old.pool is not None:
            old.pool.used -= size
        else:
            self.plain -= size
        if not old.charge:
            self._settle(old)

    def _settle(self, block: Block) -> None:
        """Forget a pending free."""
        assert block.free is not None
        queues = self._pending.get((block.pool, block.rounded), {})
        queue = queues.get(block.free.stream)
        if queue is not None and block in queue:  # the oldest one, nearly always
            queue.remove(block)
            if not queue:
                del queues[block.free.stream]

    def _address(self, rounded: int) -> int:
        """Return an address that no known block has: a used one where there is any."""
        used = self._addresses.get(rounded)
        if used:
            return used.pop()
        start = self._next
        self._next += rounded + ALIGNMENT  # a gap, so that an overrun hits nothing
        return start

    def call_free(self, block: Block, free: Record) -> None:
        """Note that the block will be freed when ``free`` completes."""
        block.freed = True
        block.free = free
        self._pending.setdefault((block.pool, block.rounded), {}).setdefault(free.stream, deque()).append(block)

    def materialize(self, block: Block) -> None:
        """The allocation executes: its bytes exist."""
        block.data = bytearray(JUNK) * block.size
        self.live.add(block)

    def dissolve(self, block: Block) -> None:
        """The free executes: bytes, address and budget come back."""
        if block.free is not None:
            self._settle(block)
        self.live.remove(block)
        self.known.remove(block)
        block.data = None
        self.available += block.charge
        if block.pool is None:
            self.plain -= block.charge
        else:
            block.pool.used -= block.charge
        block.charge = 0
        if not block.reused:
            self._addresses.setdefault(block.rounded, []).append(block.start)

    # --- pools

    def _reserve(self, pool: CUmemoryPool) -> None:
        """Grow the pool to what it uses, at the cost of what other pools only keep."""
        pool.reserved = max(pool.reserved, pool.used)
        if self.plain + sum(one.reserved for one in self.pools) > self.total:
            for one in self.pools:
                one.reserved = one.used

    def synchronized(self) -> None:
        """The host waited for the device: pools give back what they keep beyond their threshold."""
        for pool in self.pools:
            if pool.reserved > pool.threshold:
                self.trim(pool, pool.threshold)

    def trim(self, pool: CUmemoryPool, keep: int) -> None:
        """Give back what the pool does not use, down to ``keep`` bytes."""
        pool.reserved = max(pool.used, min(pool.reserved, keep))

    def close(self, pool: CUmemoryPool) -> None:
        """The pool is destroyed: it keeps nothing any more."""
        self.pools.discard(pool)

    @property
    def free_bytes(self) -> int:
        """What ``cuMemGetInfo`` calls free."""
        return max(0, self.total - self.plain - sum(pool.reserved for pool in self.pools))

    # --- pinned host memory

    def pin(self, size: int) -> Block:
        """Allocate host memory."""
        buffer = (ctypes.c_char * (size + ALIGNMENT))()
        start = -(-ctypes.addressof(buffer) // ALIGNMENT) * ALIGNMENT
        block = Block(start, size, None)
        block.buffer = buffer
        offset = start - ctypes.addressof(buffer)
        block.data = memoryview(buffer).cast("B")[offset : offset + size]
        self.known.add(block)
        self.live.add(block)
        return block

    def unpin(self, block: Block) -> None:
        """Free host memory."""
        self.known.remove(block)
        self.live.remove(block)
        block.freed = True
        block.data = block.buffer = None
