"""Saboteurs of the clauses about the timeline."""

from __future__ import annotations

import threading
import time

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.semaphore import ReferenceSemaphore
from pytest_cuda2hal.hal import HalError, StatusCode

from . import breaks


class BeginsIn32Bits(ReferenceSemaphore):
    def __init__(self, device: ReferenceDevice, initial_value: int) -> None:
        super().__init__(device, initial_value & 0xFFFFFFFF)


@breaks("TL-1", "the initial value is kept in 32 bits")
class TL1(ReferenceDevice):
    semaphore_class = BeginsIn32Bits


class JumpsIn32Bits(ReferenceSemaphore):
    def _advance(self, value: int) -> None:
        super()._advance(self._value + ((value - self._value) & 0xFFFFFFFF))


@breaks("TL-2", "the distance of a jump is kept in 32 bits")
class TL2(ReferenceDevice):
    semaphore_class = JumpsIn32Bits


class FailsUnlessAdvancing(ReferenceSemaphore):
    def signal(self, value: int) -> None:
        try:
            super().signal(value)
        except HalError as error:
            if error.code is StatusCode.OUT_OF_RANGE:
                self.fail(error)
            raise


@breaks("TL-3", "a signal that does not advance fails the semaphore")
class TL3(ReferenceDevice):
    semaphore_class = FailsUnlessAdvancing


class ComparesThenSets(ReferenceSemaphore):
    def signal(self, value: int) -> None:
        with self.device.changing():
            advances = not self._failure and value > self._value
        if not advances:
            super().signal(value)  # raises
        time.sleep(0)
        with self.device.changing():
            self._advance(value)


@breaks("TL-4", "a signal compares and sets in two steps, and another one comes between")
class TL4(ReferenceDevice):
    semaphore_class = ComparesThenSets


class ReadsFromCaches(ReferenceSemaphore):
    def __init__(self, device: ReferenceDevice, initial_value: int) -> None:
        super().__init__(device, initial_value)
        self._caches: dict[int, int] = {}

    def query(self) -> int:
        thread = threading.get_ident()
        cached = self._caches.pop(thread, None)
        if cached is None:
            cached = self._caches[thread] = super().query()
        return cached


@breaks("TL-5", "each thread has a cache of the value, which it refreshes at every second query")
class TL5(ReferenceDevice):
    semaphore_class = ReadsFromCaches


class RefusesAfterwards(ReferenceSemaphore):
    def signal(self, value: int) -> None:
        if value > self.device.rules.value_max:
            with self.device.changing():
                self._advance(self.device.rules.value_max)
        super().signal(value)


@breaks("TL-6", "a value out of range is refused when the timeline has already been moved to its end")
class TL6(ReferenceDevice):
    semaphore_class = RefusesAfterwards
