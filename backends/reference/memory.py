"""Device memory: real bytes, a bound on how many, and latches."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import Buffer, HalError, Latch, StatusCode, checked_data, checked_range

if TYPE_CHECKING:
    from .device import ReferenceDevice

#: Fresh memory holds this byte, so that a case which compares memory it never wrote does not pass by luck.
UNDEFINED_BYTE = 0xCD


class Memory:
    """How many bytes there are and how many are taken. Used with the device's lock held."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._in_use = 0
        # Sizes of buffers that the garbage collector took. A finalizer may run in any thread at any moment, also in
        # one that holds the device's lock, so it takes no lock: it appends here, and whoever looks next subtracts.
        self._collected: deque[int] = deque()

    def in_use(self) -> int:
        while self._collected:
            self._in_use -= self._collected.popleft()
        return self._in_use

    def take(self, size: int) -> None:
        if self.in_use() + size > self.total:
            free = self.total - self._in_use
            raise HalError(StatusCode.RESOURCE_EXHAUSTED, f"{size} bytes asked for, {free} of {self.total} free")
        self._in_use += size

    def give_back(self, size: int) -> None:
        self._in_use -= size

    def give_back_when_collected(self, buffer: ReferenceBuffer) -> weakref.finalize[[int], ReferenceBuffer]:
        return weakref.finalize(buffer, self._collected.append, buffer.size)


class ReferenceBuffer(Buffer):
    """A byte array with a life: reserved, allocated, freed."""

    def __init__(self, device: ReferenceDevice, size: int) -> None:
        self.device = device
        self.size = size
        self.from_queue = False
        self.dealloca_queued = False
        self._bytes: bytearray | None = None
        self._finalizer: weakref.finalize[[int], ReferenceBuffer] | None = None

    def allocate(self, memory: Memory) -> None:
        """Take the memory; the device is locked. Raises RESOURCE_EXHAUSTED when there is not enough."""
        memory.take(self.size)
        self._finalizer = memory.give_back_when_collected(self)
        self._bytes = bytearray([UNDEFINED_BYTE]) * self.size

    def free(self, memory: Memory) -> None:
        """Give the memory back; the device is locked."""
        if self._finalizer and self._finalizer.detach():
            memory.give_back(self.size)
        self._bytes = None

    def live_bytes(self) -> bytearray:
        """Return the bytes, if there are any at this moment."""
        live = self._bytes
        if live is None:
            raise HalError(StatusCode.FAILED_PRECONDITION, "the buffer is used outside its life")
        return live

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        offset, length = checked_range(offset, length, self.size)
        return bytes(self.live_bytes()[offset : offset + length])

    def write(self, data: bytes, offset: int = 0) -> None:
        data = checked_data(data)
        offset, length = checked_range(offset, len(data), self.size)
        self.live_bytes()[offset : offset + length] = data


class ReferenceLatch(Latch):
    """A latch; its device opens it when it closes."""

    def __init__(self, device: ReferenceDevice) -> None:
        self.device = weakref.ref(device)
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def hold(self) -> None:
        """Return when the latch is open."""
        self._opened.wait()
