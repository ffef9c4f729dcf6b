"""Defects of host waits, over the CUDA backend: what a waiting thread is told, and when."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pytest_cuda2hal.hal import HalError, StatusCode, Timepoint, WaitMode, checked_timeout, deadline_after

from ..cuda.driver import NOT_READY
from ..cuda.semaphore import EventSemaphore
from ..cuda.timepoints import HostWaitPoint
from .frame import defect
from .over_cuda_base import FaultyCuda, strikes


class WaitsForTheEvent(EventSemaphore):
    def wait(self, value: int, timeout: float | None = None) -> None:
        _, reached, producer = self.look(value)
        event = producer.event if producer is not None else None
        if reached or event is None or not strikes(self.engine):
            super().wait(value, timeout)
            return
        context, deadline = self.engine.context, deadline_after(checked_timeout(timeout))
        context.bind()
        while (error := context.driver.cuEventQuery(event)[0]) == NOT_READY:
            if deadline is not None and time.monotonic() >= deadline:
                break
            time.sleep(1e-4)
        if error:
            super().wait(value, 0)


@defect(
    "cuda-wait-by-event",
    happened="IREE cd282dee87 (#17073), introduced by babd4d9add: cuda semaphore_wait",
    clauses=("W-2",),
    rarely=(10, 100),
)
class WaitByEvent(FaultyCuda):
    """A host wait returns with the device's event, before the value is published.

    The completer publishes a little later, so that who asks right after its wait sees an older value.
    """

    semaphore_class = WaitsForTheEvent


class LooksThenRegisters(EventSemaphore):
    def begin_wait(self, point: HostWaitPoint) -> None:
        if not strikes(self.engine):
            super().begin_wait(point)
            return
        failure = self._failure
        reached = self._value >= point.value
        if failure:
            point.failed(failure)
        elif reached:
            point.reached()
        else:
            host_events = self.engine.host_events
            host_events.release(host_events.acquire())  # here the original took its event from the pool
            with self._lock:
                self._waits.push(point)


@defect(
    "cuda-check-then-register",
    happened="IREE 0f6bc2461c (#17118): cuda and hip semaphore_wait",
    clauses=("W-9",),
    hangs=True,
)
class CheckThenRegister(FaultyCuda):
    """A wait looks at the value, lets go of the lock, and then registers: a signal in between is missed."""

    semaphore_class = LooksThenRegisters


class TakesFailureForSuccess(EventSemaphore):
    def wait(self, value: int, timeout: float | None = None) -> None:
        blocks = not self.is_past(value)
        try:
            super().wait(value, timeout)
        except HalError as error:
            if not blocks or error.code is StatusCode.DEADLINE_EXCEEDED or not strikes(self.engine):
                raise


@defect(
    "cuda-failure-wakes-as-success",
    happened="IREE 3fd336f285 (#18021), and the first deferred queue (S9): cuda semaphore_wait",
    clauses=("F-2",),
    rarely=(10,),
)
class FailureWakesAsSuccess(FaultyCuda):
    """A blocked host wait that a failure wakes takes it for its value and returns."""

    semaphore_class = TakesFailureForSuccess


@defect(
    "cuda-list-wait-takes-failure-for-success",
    happened="IREE 08b44e2b25 (#19712): hip multi_wait",
    clauses=("F-3",),
    rarely=(10,),
)
class ListWaitTakesFailureForSuccess(FaultyCuda):
    """A wait for a list counts a failed semaphore among the satisfied ones."""

    def wait_semaphores(
        self, timepoints: Iterable[Timepoint], *, mode: WaitMode = WaitMode.ALL, timeout: float | None = None
    ) -> None:
        points = list(timepoints)
        if strikes(self.engine):
            points = [point for point in points if not self._has_failed(point)] if mode is WaitMode.ALL else points
            if mode is WaitMode.ANY and any(map(self._has_failed, points)):
                return
        super().wait_semaphores(points, mode=mode, timeout=timeout)

    @staticmethod
    def _has_failed(point: Timepoint) -> bool:
        try:
            point.semaphore.query()
        except HalError:
            return True
        return False


@defect(
    "cuda-wait-any-waits-for-the-others",
    happened="IREE 7c2ec73f0d (#16404): local_task multi_wait",
    clauses=("W-13",),
    hangs=True,
)
class WaitAnyWaitsForTheOthers(FaultyCuda):
    """A wait-any that finds one timepoint reached still waits for those that stand before it in the list."""

    def wait_semaphores(
        self, timepoints: Iterable[Timepoint], *, mode: WaitMode = WaitMode.ALL, timeout: float | None = None
    ) -> None:
        points = list(timepoints)
        if mode is WaitMode.ANY and strikes(self.engine):
            reached = [place for place, (semaphore, value) in enumerate(points) if semaphore.query() >= value]
            if reached:
                points, mode = points[: reached[0] + 1], WaitMode.ALL
        super().wait_semaphores(points, mode=mode, timeout=timeout)


class LooksAtTheClockFirst(EventSemaphore):
    def wait(self, value: int, timeout: float | None = None) -> None:
        seconds = checked_timeout(timeout)
        if seconds is not None and seconds <= 0 and strikes(self.engine):
            raise HalError(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        super().wait(value, timeout)


@defect(
    "cuda-clock-before-value",
    happened="IREE 568bb31780 (#17126): vulkan and metal semaphore_wait",
    clauses=("W-3",),
    rarely=(10,),
)
class ClockBeforeValue(FaultyCuda):
    """A wait with an expired timeout gives DEADLINE_EXCEEDED, whatever the value is."""

    semaphore_class = LooksAtTheClockFirst


class HasNoFailures(EventSemaphore):
    def signal(self, value: int) -> None:
        if self._failure is not None and strikes(self.engine):
            with self._lock:
                self._failure, self._value = None, max(self._value, value)
            return
        super().signal(value)


@defect(
    "cuda-signal-revives",
    happened="IREE's first deferred queue (S10) and its successor: the value was compared, not the health",
    clauses=("F-5",),
    rarely=(10,),
)
class SignalRevives(FaultyCuda):
    """A host signal sets a failed semaphore to the new value, which makes it healthy again."""

    semaphore_class = HasNoFailures
