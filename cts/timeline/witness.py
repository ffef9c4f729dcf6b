"""A semaphore with somebody waiting for it, to tell whether a call changed anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytest_cuda2hal.hal import Capability, HalError, Semaphore

from ..support import Buffers, ObservedDevice, Semaphores, Settle, Tasks, blocked


def standing(semaphore: Semaphore) -> int | str:
    """Return the value, or how the semaphore has failed."""
    try:
        return semaphore.query()
    except HalError as error:
        return f"failed with {error}"


class Witness:
    """A semaphore at 5; a thread and, where a device can, a submission wait for 6.

    wait for semaphore@6
    semaphore@6 ──▶ fill(target, 7) ──done@1──▶
    """

    def __init__(self, device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, threads: Tasks) -> None:
        self.semaphore = semaphores.at(5)
        [self.done] = semaphores(1)
        self.target = buffers.filled(0)
        self.waiter = threads.start(lambda: self.semaphore.wait(6), "wait for semaphore@6")
        self.submits = device.has(Capability.ASYNC_SUBMIT)
        if self.submits:
            device.queue_fill(self.target, 7, wait=[self.semaphore @ 6], signal=[self.done @ 1])

    @contextmanager
    def unchanged_by(self, what: str) -> Iterator[None]:
        """Check that the value is 5 after the block as well."""
        yield
        seen = standing(self.semaphore)
        assert seen == 5, f"expected value 5 after {what}; seen {seen}"

    def release(self, settle: Settle, *observations: Callable[[], object]) -> None:
        """Check that nobody has been released, and that a signal of 6 releases everybody."""
        settle(
            blocked(self.waiter),
            lambda: self.target.untouched,
            lambda: standing(self.semaphore) == 5,
            *observations,
        )
        self.semaphore.signal(6)
        self.waiter.result()
        if self.submits:
            self.done.wait(1)
            assert self.target.holds(7)
