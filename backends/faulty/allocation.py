"""Defects of allocation by a queue: it blocks, comes too late, fails silently, leaks, or frees twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from pytest_cuda2hal.hal import Buffer, HalError, StatusCode, Timepoint, captured

from ..reference.memory import Memory, ReferenceBuffer
from .base import FaultyReference, FaultySubmission, strikes
from .frame import Chance, defect


@defect(
    "alloca-blocks",
    happened="iree-org/iree 1bb26cb345 and after, cuda: queue_alloca waits for its wait list on the calling thread",
    clauses=("A-1",),
    hangs=True,
)
class AllocaBlocks(FaultyReference):
    """An alloca returns when its wait list has been reached."""

    def queue_alloca(
        self, size: int, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> Buffer:
        waits = captured(wait)
        if self.strikes():
            self.wait_semaphores(waits)
        return super().queue_alloca(size, wait=waits, signal=signal, queue=queue)


class ComesLater(ReferenceBuffer):
    """A buffer whose memory comes when the device gets to it."""

    def allocate(self, memory: Memory) -> None:
        if self.from_queue and strikes(self.device):
            threading.Timer(0.002, self._allocate_now, (memory,)).start()
        else:
            super().allocate(memory)

    def _allocate_now(self, memory: Memory) -> None:
        with self.device.lock:
            super().allocate(memory)


@defect(
    "alloca-signals-before-it-is-done",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: the host signals when it has enqueued cuMemAllocAsync",
    clauses=("A-1", "A-3"),
    rarely=(50,),
)
class AllocaSignalsBeforeItIsDone(FaultyReference):
    """An alloca signals a moment before there is any memory."""

    buffer_class = ComesLater


class ExhaustedSilently(FaultySubmission):
    """A submission that signals nothing when memory runs out."""

    def perform(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HalError as error:
            if error.code is StatusCode.RESOURCE_EXHAUSTED and self.strikes():
                self._signals = ()
            raise


@defect(
    "exhausted-alloca-never-signals",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2: errors of queue_alloca return without failing its signals",
    clauses=("A-5",),
)
class ExhaustedAllocaNeverSignals(FaultyReference):
    """An alloca for which there is no memory neither makes nor fails its signals."""

    submission_class = ExhaustedSilently


class TakesThenLooks(Memory):
    """Memory that is taken first, and then looked at whether it was there."""

    device: FaultyReference | None = None

    def take(self, size: int) -> None:
        try:
            super().take(size)
        except HalError:
            if self.device and self.device.strikes():
                self._in_use += size
            raise


@defect(
    "exhausted-alloca-leaks",
    happened="iree-org/iree 1bb26cb345, fixed by 96a7282cfa, #24231: the second of two allocations failed, the first "
    "was not returned",
    clauses=("A-5", "L-1"),
)
class ExhaustedAllocaLeaks(FaultyReference):
    """An allocation that fails for want of memory takes it all the same."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.memory = memory = TakesThenLooks(self.memory.total)
        memory.device = self


@defect(
    "failed-dealloca-counts",
    happened="iree-org/iree CTS, FailedDeallocaWaitDoesNotDealloca, which hip and metal are known to fail",
    clauses=("A-4",),
)
class FailedDeallocaCounts(FaultyReference):
    """A dealloca whose wait fails leaves its buffer marked as deallocated."""

    def _submit(self, *arguments: Any, **how: Any) -> None:
        if self.strikes():
            how.pop("on_failure", None)
        super()._submit(*arguments, **how)


class FreesTwice(ReferenceBuffer):
    """A buffer that is released by the queue, and once more."""

    def free(self, memory: Memory) -> None:
        super().free(memory)
        if strikes(self.device):
            memory.give_back(self.size)


@defect(
    "dealloca-frees-twice",
    happened="iree-org/iree 760e1d5c20 and 0820f103ba, #19583: what was held once was released twice",
    clauses=("A-2", "L-1"),
    rarely=(50,),
)
class DeallocaFreesTwice(FaultyReference):
    """A dealloca gives the memory back twice, and the device has more of it than there is."""

    buffer_class = FreesTwice


class Grows(Memory):
    """Memory from a pool that grows when it has to, which takes its time."""

    device: FaultyReference | None = None
    _size = 0

    def take(self, size: int) -> None:
        super().take(size)
        if self._in_use > self._size:
            self._size = self._in_use
            if self.device and self.device.strikes():
                time.sleep(0.5)


@defect(
    "pool-grows-under-the-lock",
    happened="iree-org/iree 0fdd8126a7: the pool of amdgpu grew under the lock of the queue",
    clauses=("A-1", "Q-3", "W-10"),
)
class PoolGrowsUnderTheLock(FaultyReference):
    """While memory is added to the pool, half a second each time, nobody can submit, signal or query."""

    def __init__(self, chance: Chance) -> None:
        super().__init__(chance)
        self.memory = memory = Grows(self.memory.total)
        memory.device = self
