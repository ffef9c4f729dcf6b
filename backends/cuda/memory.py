"""Buffers in device memory, and latches in pinned memory."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import Buffer, HalError, Latch, StatusCode, checked_data, checked_range

from .driver import CudaError, Handle
from .locks import Rank, make_lock
from .staging import PinnedBlock

if TYPE_CHECKING:
    from .engine import Engine


class CudaBuffer(Buffer):
    """Device memory, from :meth:`allocate_buffer` at once or from ``queue_alloca`` when its action is issued.

    Thread-safe. With the last handle, and the last action that uses it, the memory is freed.
    """

    def __init__(self, engine: Engine, size: int, *, from_queue: bool) -> None:
        self.engine = engine
        self.size = size
        self.from_queue = from_queue
        #: A dealloca was accepted and has not failed.
        self.dealloca_queued = False
        self._address: int | None = None
        engine.buffer_made()

    def __del__(self) -> None:
        # May run on any thread at any moment, with any lock held: no lock, no driver call.
        engine = getattr(self, "engine", None)
        if engine is not None:
            engine.discard(_free_later, self._address, self.size)

    def claim_for_dealloca(self) -> bool:
        """Note that a dealloca is accepted; False if there has been one, or the buffer is not a queue's to free."""
        with self.engine.memory.lock:
            if not self.from_queue or self.dealloca_queued:
                return False
            self.dealloca_queued = True
            return True

    def allocate_now(self) -> None:
        """Take memory, ready for use."""
        self.engine.memory.take(self.size)
        try:
            self._address = self.engine.context.allocate(self.size)
        except BaseException:
            self.engine.memory.give_back(self.size)
            raise

    def allocate(self, stream: Handle) -> None:
        """Take memory in stream order; the engine's role is held."""
        self.engine.memory.take(self.size)
        try:
            self._address = self.engine.context.allocate_on(stream, self.size)
        except BaseException:
            self.engine.memory.give_back(self.size)
            raise

    def free(self, stream: Handle) -> None:
        """Give the memory back in stream order; the engine's role is held."""
        address = self.live_address()
        self._address = None  # first: after an interruption it must not be freed again
        try:
            self.engine.context.free_on(stream, address)
        except CudaError:
            self._address = address
            raise
        finally:
            if self._address is None:
                self.engine.memory.give_back(self.size)

    def live_address(self) -> int:
        """Return where the memory is, if there is any at this moment.

        :raises HalError: ``FAILED_PRECONDITION``.
        """
        address = self._address
        if address is None:
            raise HalError(StatusCode.FAILED_PRECONDITION, "the buffer is used outside its life")
        return address

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        offset, length = checked_range(offset, length, self.size)
        return self.engine.context.read(self.live_address() + offset, length)

    def write(self, data: bytes, offset: int = 0) -> None:
        data = checked_data(data)
        offset, _ = checked_range(offset, len(data), self.size)
        self.engine.context.write(self.live_address() + offset, data)


def _free_later(engine: Engine, address: int | None, size: int) -> None:
    """A buffer was dropped; the engine's role is held."""
    engine.buffer_gone()
    if address is None or engine.context.is_destroyed:
        return
    engine.memory.give_back(size)
    engine.context.free_on(None, address)


class Memory:
    """How many bytes of device memory may be in use, and are. Thread-safe."""

    def __init__(self, total: int, *, check_locks: bool) -> None:
        self.total = total
        self.in_use = 0
        self.lock = make_lock(Rank.POOL, check=check_locks)

    def take(self, size: int) -> None:
        """Count ``size`` bytes as in use.

        :raises HalError: ``RESOURCE_EXHAUSTED``; nothing is counted.
        """
        with self.lock:
            if self.in_use + size > self.total:
                text = f"{size} bytes asked for, {self.total - self.in_use} of {self.total} free"
                raise HalError(StatusCode.RESOURCE_EXHAUSTED, text)
            self.in_use += size

    def give_back(self, size: int) -> None:
        with self.lock:
            self.in_use -= size


class CudaLatch(Latch):
    """A word in pinned memory that a stream waits for. Thread-safe."""

    def __init__(self, engine: Engine, block: PinnedBlock) -> None:
        self.engine = engine
        self.block = block
        self._lock = make_lock(Rank.POOL, check=engine.parameters.check_locks)
        self._word: ctypes.c_uint32 | None = ctypes.c_uint32.from_address(block.address)
        self._word.value = 0

    def __del__(self) -> None:
        engine = getattr(self, "engine", None)
        if engine is not None and self._word is not None:
            engine.context.staging.release([self.block])

    def open(self) -> None:
        with self._lock:
            if self._word is not None:
                self._word.value = 1

    def retire(self) -> None:
        """Open it for good: the device closes, and its pinned memory goes."""
        with self._lock:
            if self._word is not None:
                self._word.value = 1
                self._word = None
