"""Pinned host memory: what asynchronous copies read, and the words that hold a queue."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterable

from .driver import Driver, checked
from .locks import Rank, make_lock

#: Bytes per slab. A slab costs the driver a millisecond or so, whatever its size.
SLAB_BYTES = 2**20
#: The smallest block, so that no two share a cache line.
LEAST_BYTES = 256


class PinnedBlock:
    """A range of pinned memory: ``address`` for host and copies, ``device_address`` for stream memory operations."""

    __slots__ = ("address", "device_address", "size")

    def __init__(self, address: int, device_address: int, size: int) -> None:
        self.address = address
        self.device_address = device_address
        self.size = size

    def write(self, data: bytes | memoryview) -> None:
        """Copy ``data`` to the beginning of the block."""
        ctypes.memmove(self.address, bytes(data), len(data))


class PinnedMemory:
    """Hands out blocks of pinned memory and keeps them for reuse until it is freed as a whole. Thread-safe.

    Freeing pinned memory blocks while a queue is held, so single blocks never go back to the driver.
    """

    def __init__(self, driver: Driver, *, check_locks: bool = False) -> None:
        self._driver = driver
        self._free: dict[int, deque[PinnedBlock]] = {}
        self._slabs: list[int] = []
        self._lock = make_lock(Rank.POOL, check=check_locks)
        self._rest: PinnedBlock | None = None

    def take(self, size: int) -> PinnedBlock:
        """Return a block of at least ``size`` bytes, rounded up to a power of two. Needs a current context.

        :raises CudaError: the driver has no more pinned memory.
        """
        rounded = max(LEAST_BYTES, 1 << (size - 1).bit_length())
        try:
            return self._free.setdefault(rounded, deque()).pop()
        except IndexError:
            pass
        if rounded > SLAB_BYTES // 4:
            return self._slab(rounded)
        with self._lock:
            rest = self._rest
            if rest is not None and rest.size >= rounded:
                block = PinnedBlock(rest.address, rest.device_address, rounded)
                rest.address, rest.device_address = rest.address + rounded, rest.device_address + rounded
                rest.size -= rounded
                return block
        slab = self._slab(SLAB_BYTES)
        with self._lock:
            self._rest = slab
        return self.take(size)

    def release(self, blocks: Iterable[PinnedBlock]) -> None:
        """Take blocks back that neither host nor device uses any more. Safe in a finalizer."""
        for block in blocks:
            self._free.setdefault(block.size, deque()).append(block)

    def _slab(self, size: int) -> PinnedBlock:
        address = int(checked(self._driver, "cuMemHostAlloc", size, 0))
        self._slabs.append(address)
        return PinnedBlock(address, int(checked(self._driver, "cuMemHostGetDevicePointer", address, 0)), size)

    def destroy(self) -> None:
        """Give everything back to the driver; nobody may use a block any more."""
        self._free.clear()
        self._rest = None
        while self._slabs:
            self._driver.cuMemFreeHost(self._slabs.pop())
