"""Saboteurs of the clauses about lifetime."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import ClassVar

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.memory import Memory, ReferenceBuffer
from pytest_cuda2hal.backends.reference.semaphore import HostWait, Point
from pytest_cuda2hal.hal import HalError, Profile, WaitMode

from . import breaks


class StaysRegistered(HostWait):
    def end(self) -> None:
        pass


@breaks("L-1", "a host wait that was given up stays registered with its semaphores")
class L1(ReferenceDevice):
    host_wait_class = StaysRegistered


@breaks("L-1q", "a closed device leaves a descriptor open")
class L1q(ReferenceDevice):
    def close(self) -> None:
        if not self._closed:
            os.open(os.devnull, os.O_RDONLY)
        super().close()


@breaks("L-2", "closing forgets about what is pending")
class L2(ReferenceDevice):
    def _fail_unretired(self, error: HalError) -> None:
        self.unretired.clear()


class FreesWhenIdle(Memory):
    device: weakref.ref[L3]

    def give_back_when_collected(self, buffer: ReferenceBuffer) -> weakref.finalize[[int], ReferenceBuffer]:
        return weakref.finalize(buffer, self._wait_and_give_back, buffer.size)

    def _wait_and_give_back(self, size: int) -> None:
        device = self.device()
        end = time.monotonic() + 5  # longer than the deadline of the run; then the run goes on
        while device and device.is_running() and time.monotonic() < end:
            threading.Event().wait(0.001)
        self._collected.append(size)


@breaks("L-3", "dropping a buffer waits for the work that the queues are running, as cuMemFree does")
class L3(ReferenceDevice):
    def __init__(self, rules: Profile, *, seed: int | None = None, queues: int = 4, memory: int = 2**26) -> None:
        super().__init__(rules, seed=seed, queues=queues, memory=memory)
        self.memory = FreesWhenIdle(memory)
        self.memory.device = weakref.ref(self)

    def is_running(self) -> bool:
        return any(submission.state.value == "in flight" for submission in list(self.unretired))


class PooledEvent(HostWait):
    pool: ClassVar[list[threading.Event]] = []

    def __init__(self, points: tuple[Point, ...], mode: WaitMode) -> None:
        super().__init__(points, mode)
        self._woken = self.pool.pop() if self.pool else self._woken
        self._woken.clear()

    def end(self) -> None:
        self.pool.append(self._woken)  # and whoever this wait was registered with still sets it

    def outcome(self) -> HalError | None:
        return None if self._woken.is_set() and not self._failure else super().outcome()


@breaks("L-4", "the event of a wait that was given up is used again while its semaphore still has it")
class L4(ReferenceDevice):
    host_wait_class = PooledEvent
