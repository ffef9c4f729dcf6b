"""Defects of host waits: wake-ups that are missed, that come for nothing, or that say the wrong thing."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import ClassVar

from pytest_cuda2hal.hal import HalError, StatusCode, WaitMode

from ..reference.semaphore import HostWait, Point
from .base import FaultyReference, FaultySubmission, FaultyWait
from .frame import defect


class LooksThenRegisters(FaultyWait):
    """A wait that lets go of the lock between its look at the value and its registration."""

    several = False

    def begin(self) -> None:
        lock = self._points[0].semaphore.device.lock if self._points else None
        for point in self._points:
            if error := point.semaphore._failed_with():
                self.failed(point, error)
            elif point.semaphore._has_reached(point.value):
                self.reached(point)
            else:
                if lock and (len(self._points) > 1) is self.several and self.strikes():
                    lock.release()
                    time.sleep(0.0002)  # what comes now is missed
                    lock.acquire()
                point.semaphore._register(self, point)


class LooksThenRegistersMany(LooksThenRegisters):
    """The same where a wait is for several timepoints."""

    several = True


@defect(
    "late-registration",
    happened="iree-org/iree 0f6bc2461c, #17118: semaphore_wait unlocked between the check and the timepoint",
    clauses=("W-9",),
    rarely=(50, 1000),
)
class LateRegistration(FaultyReference):
    """A signal between a wait's look at the value and its registration is missed."""

    host_wait_class = LooksThenRegisters


@defect(
    "late-registration-of-lists",
    happened="iree-org/iree 3a2617f9a8, #17213: multi_wait checked first and acquired its timepoints later",
    clauses=("W-9", "W-12"),
    rarely=(50, 1000),
)
class LateRegistrationOfLists(FaultyReference):
    """A signal between the look of a wait-all or wait-any at a value and its registration is missed."""

    host_wait_class = LooksThenRegistersMany


class WaitsForTheRest(FaultyWait):
    """A wait-any that goes on to wait for what is not satisfied."""

    def begin(self) -> None:
        if self._mode is WaitMode.ANY and any(point.semaphore._has_reached(point.value) for point in self._points):
            self._mode = WaitMode.ALL if self.strikes() else self._mode
        super().begin()


@defect(
    "any-waits-for-the-rest",
    happened="iree-org/iree 7c2ec73f0d, #16404: multi_wait of local_task found one satisfied and waited all the same",
    clauses=("W-13",),
)
class AnyWaitsForTheRest(FaultyReference):
    """A wait-any that finds one timepoint reached waits for the others."""

    host_wait_class = WaitsForTheRest


class WakesBeforeItPublishes(FaultySubmission):
    """A submission whose end wakes host threads; the value is set by a callback that runs later."""

    def perform(self, work: Callable[[], None]) -> None:
        work()
        if not self.strikes():
            return
        with self._device.lock:
            for signal in self._signals:
                for value, waiting in list(signal.semaphore._waiters.items()):
                    for waiter, point in list(waiting.items()):
                        if value <= signal.value and isinstance(waiter, HostWait):
                            waiter.reached(point)
        time.sleep(0.001)


@defect(
    "woken-before-the-value",
    happened="iree-org/iree cd282dee87, #17073: semaphore_wait synchronised with the device event, not the timeline",
    clauses=("W-1", "W-2"),
    rarely=(50, 1000),
)
class WokenBeforeTheValue(FaultyReference):
    """A host wait returns when the device is done, a moment before the value can be read."""

    submission_class = WakesBeforeItPublishes


class LooksAtTheClock(FaultyWait):
    """A wait that looks at the clock first."""

    def block(self, timeout: float | None) -> None:
        if timeout is not None and timeout <= 0 and self._points and self.strikes():
            self._satisfied = False
            return
        super().block(timeout)


@defect(
    "expired-before-the-value",
    happened="iree-org/iree 568bb31780, #17126: the Vulkan and Metal waits looked at the deadline first",
    clauses=("W-3",),
)
class ExpiredBeforeTheValue(FaultyReference):
    """An expired wait ends in DEADLINE_EXCEEDED also when its value has been reached."""

    host_wait_class = LooksAtTheClock


class ExpiresWell(FaultyWait):
    """A wait whose end is a success, whatever ended it."""

    def outcome(self) -> HalError | None:
        error = super().outcome()
        return None if error and error.code is StatusCode.DEADLINE_EXCEEDED and self.strikes() else error


@defect(
    "expired-is-success",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2/event_semaphore.c: wait() drops what its event wait returns",
    clauses=("W-1", "W-4", "W-5"),
    rarely=(50, 1000),
)
class ExpiredIsSuccess(FaultyReference):
    """A wait whose time is over returns as if its value had been reached."""

    host_wait_class = ExpiresWell


class WokenIsReached(FaultyWait):
    """A wait that takes every wake-up for the one it hopes for."""

    _blocked = False

    def begin(self) -> None:
        super().begin()
        self._blocked = True

    def failed(self, point: Point, error: HalError) -> None:
        if self._blocked and self.strikes():
            self.reached(point)
        else:
            super().failed(point, error)


@defect(
    "woken-by-failure-is-success",
    happened="iree-org/iree 3fd336f285, #18021: the host event of a timepoint was set by a failure as by a signal",
    clauses=("F-2", "F-3"),
    rarely=(50, 1000),
)
class WokenByFailureIsSuccess(FaultyReference):
    """A blocked wait that a failure wakes returns as if its value had been reached."""

    host_wait_class = WokenIsReached


class FailedIsSatisfied(FaultyWait):
    """A wait for several that asks of each only whether it is over."""

    def begin(self) -> None:
        for point in self._points:
            if len(self._points) > 1 and point.semaphore._failed_with() and self.strikes():
                self.reached(point)
        self._points, points = tuple(point for point in self._points if point in self._unreached), self._points
        super().begin()
        self._points = points


@defect(
    "failed-member-is-satisfied",
    happened="iree-org/iree 08b44e2b25, #19712: multi_wait of hip took a semaphore without an event for satisfied",
    clauses=("F-3",),
)
class FailedMemberIsSatisfied(FaultyReference):
    """A wait-all or wait-any that begins after one of its semaphores has failed counts that one as reached."""

    host_wait_class = FailedIsSatisfied


class BareAborted(FaultyWait):
    """A wait that knows that something has failed, not what."""

    def outcome(self) -> HalError | None:
        error = super().outcome()
        return HalError(StatusCode.ABORTED) if self._failure and self.strikes() else error


@defect(
    "wait-says-aborted",
    happened="iree-org/iree 1bb26cb345, experimental/cuda2/event_semaphore.c: wait() returns a bare ABORTED",
    clauses=("F-2", "F-3"),
)
class WaitSaysAborted(FaultyReference):
    """A wait for a semaphore that has failed raises ABORTED, without the code and the message of the failure."""

    host_wait_class = BareAborted


class SharesItsEvent(FaultyWait):
    """A wait with an event from a pool."""

    pool: ClassVar[list[threading.Event]] = []

    def __init__(self, points: tuple[Point, ...], mode: WaitMode) -> None:
        super().__init__(points, mode)
        if self.pool:
            self._woken = self.pool.pop()
            self._woken.clear()


class RecyclesTooEarly(SharesItsEvent):
    """A wait that gives its event back and stays registered where it was not told."""

    def end(self) -> None:
        if self._mode is not WaitMode.ANY or not self.strikes():
            super().end()
        self.pool.append(self._woken)


@defect(
    "event-recycled-while-registered",
    happened="iree-org/iree d83f4e46b5, #9400 (issue #9392): multi_wait skipped the cancel of its other timepoints",
    clauses=("L-4", "W-11"),
    deadline=2,
)
class EventRecycledWhileRegistered(FaultyReference):
    """The event of a finished wait-any is used again while other semaphores can still set it."""

    host_wait_class = RecyclesTooEarly


class ReturnsTwice(SharesItsEvent):
    """A wait that gives its event back twice."""

    def end(self) -> None:
        super().end()
        self.pool.extend([self._woken] * (2 if self.strikes() else 1))


@defect(
    "event-released-twice",
    happened="iree-org/iree 647a52e783, #14900: an event took a reference when it was made and lost one at each return",
    clauses=("W-9", "W-11"),
)
class EventReleasedTwice(FaultyReference):
    """An event comes back to its pool twice, so that two waits share it and wake each other."""

    host_wait_class = ReturnsTwice


class NoWait(FaultyWait):
    """A wait that does not wait."""

    def begin(self) -> None:
        if self.strikes():
            self._satisfied = True
        else:
            super().begin()


@defect(
    "wait-does-nothing",
    happened="iree-org/iree issue #14484: the wait of the PJRT plugin was a no-op",
    clauses=("W-1",),
    rarely=(50, 1000),
)
class WaitDoesNothing(FaultyReference):
    """A host wait returns at once, whatever the value is."""

    host_wait_class = NoWait


class ForEverInThePast(FaultyWait):
    """A wait whose expired deadline overflows."""

    def block(self, timeout: float | None) -> None:
        expired = timeout is not None and timeout <= 0
        super().block(None if expired and self.strikes() else timeout)


@defect(
    "expired-waits-for-ever",
    happened="iree-org/iree issues #2604 and #2612: a deadline in the infinite past was waited for in a loop",
    clauses=("W-4",),
    hangs=True,
)
class ExpiredWaitsForEver(FaultyReference):
    """A wait with an expired timeout waits until its value is reached, however long that takes."""

    host_wait_class = ForEverInThePast


class Spins(FaultyWait):
    """A wait that looks again and again."""

    def block(self, timeout: float | None) -> None:
        if not self.strikes():
            super().block(timeout)
            return
        end = math.inf if timeout is None else time.monotonic() + timeout
        for _ in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
            if self._woken.is_set() or self._satisfied:
                return


@defect(
    "wait-spins",
    happened="iree-org/iree issue #19708: a busy spin while waiting",
    clauses=("W-10q",),
)
class WaitSpins(FaultyReference):
    """A blocked wait looks again and again, and takes a core."""

    host_wait_class = Spins
