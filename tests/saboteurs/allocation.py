"""Saboteurs of the clauses about asynchronous allocation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.memory import Memory, ReferenceBuffer
from pytest_cuda2hal.hal import Buffer, HalError, Profile, StatusCode, Timepoint

from . import breaks


@breaks("A-1", "alloca waits for its wait list on the caller's thread")
class A1(ReferenceDevice):
    def queue_alloca(
        self, size: int, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> Buffer:
        waits = list(wait)
        self.wait_semaphores(waits)
        return super().queue_alloca(size, wait=waits, signal=signal, queue=queue)


class KeptByItsHandle(ReferenceBuffer):
    def free(self, memory: Memory) -> None:
        self._bytes = None  # the finalizer gives the memory back


@breaks("A-2", "the memory of a deallocated buffer is free only when its handle has gone")
class A2(ReferenceDevice):
    buffer_class = KeptByItsHandle


@breaks("A-3", "dealloca frees when it is submitted, and only its signals keep the order")
class A3(ReferenceDevice):
    def queue_dealloca(
        self, buffer: Buffer, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        super().queue_dealloca(buffer, queue=queue)
        self.queue_execute([], wait=wait, signal=signal, queue=queue)


@breaks("A-4", "a dealloca that never ran leaves its buffer marked as deallocated")
class A4(ReferenceDevice):
    def _submit(self, work: Callable[[], None], *arguments: object, **keywords: object) -> None:
        keywords["on_failure"] = None
        super()._submit(work, *arguments, **keywords)  # type: ignore[arg-type]  # passed on as they came


class WrongCode(Memory):
    def take(self, size: int) -> None:
        try:
            super().take(size)
        except HalError as error:
            raise HalError(StatusCode.INTERNAL, error.message) from None


@breaks("A-5", "an allocation that does not fit at that moment fails with INTERNAL")
class A5(ReferenceDevice):
    def __init__(self, rules: Profile, *, seed: int | None = None, queues: int = 4, memory: int = 2**26) -> None:
        super().__init__(rules, seed=seed, queues=queues, memory=memory)
        self.memory = WrongCode(memory)


class StaysMapped(ReferenceBuffer):
    def free(self, memory: Memory) -> None:
        mapped = self._bytes
        super().free(memory)
        self._bytes = mapped


@breaks("A-6", "memory stays mapped after the deallocation, and work writes into what is no longer its own")
class A6(ReferenceDevice):
    buffer_class = StaysMapped


@breaks("A-7", "a second dealloca is accepted and does nothing")
class A7(ReferenceDevice):
    def queue_dealloca(
        self, buffer: Buffer, *, wait: Iterable[Timepoint] = (), signal: Iterable[Timepoint] = (), queue: int = 0
    ) -> None:
        if isinstance(buffer, ReferenceBuffer) and buffer.from_queue and buffer.dealloca_queued:
            self.queue_execute([], wait=wait, signal=signal, queue=queue)
        else:
            super().queue_dealloca(buffer, wait=wait, signal=signal, queue=queue)
