"""One timeline: its value or failure, and who waits for which of its values."""

from __future__ import annotations

import heapq
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_cuda2hal.hal import HalError, Semaphore, StatusCode, WaitMode, checked_value, deadline_after

if TYPE_CHECKING:
    from .device import ReferenceDevice


class Point(NamedTuple):
    """A timepoint of one of our own semaphores."""

    semaphore: ReferenceSemaphore
    value: int


class Waiter(Protocol):
    """Who is told when a timepoint is reached or has failed. Called with the device locked, so it must be brief."""

    def reached(self, point: Point) -> None: ...

    def failed(self, point: Point, error: HalError) -> None: ...


class ReferenceSemaphore(Semaphore):
    """A timeline semaphore. Methods without an underscore lock the device; those with one expect it locked."""

    def __init__(self, device: ReferenceDevice, initial_value: int) -> None:
        self.device = device
        self._value = initial_value
        self._failure: HalError | None = None
        # Waiters by the value that they wait for, and a heap of those values: a signal looks only at what it reaches. A
        # value that nobody waits for any more may lie there still.
        self._waiters: dict[int, dict[Waiter, Point]] = {}
        self._values: list[int] = []

    # --- what the host does

    def query(self) -> int:
        with self.device.changing():
            if self._failure:
                raise self._failure.again()
            return self._value

    def signal(self, value: int) -> None:
        value = checked_value(value)
        profile = self.device.rules
        with self.device.changing():
            self.device.check_value_range(value)
            if self._failure:
                answer = profile.usual("signal-after-failure")
                if answer == "OUT_OF_RANGE":
                    raise HalError(StatusCode.OUT_OF_RANGE, "the semaphore has failed")
                raise self._failure.again()
            if value <= self._value:
                answer = profile.usual("non-advancing-signal")
                if answer in ("OUT_OF_RANGE", "INVALID_ARGUMENT"):
                    raise HalError(StatusCode[answer], f"signal({value}) does not advance a timeline at {self._value}")
                return
            self._advance(value)

    def fail(self, error: HalError) -> None:
        if not isinstance(error, HalError):
            raise TypeError(f"a semaphore fails with a HalError, not {error!r}")
        self.device.check_can_fail()
        with self.device.changing():
            self._fail(error)

    def wait(self, value: int, timeout: float | None = None) -> None:
        self.device.wait_semaphores([self @ value], timeout=timeout)

    # --- what happens to it; the device is locked

    def _advance(self, value: int) -> None:
        """Move the timeline forward and tell everyone who waited for what is now reached."""
        self._value = value
        while self._values and self._values[0] <= value:
            for waiter, point in self._waiters.pop(heapq.heappop(self._values), {}).items():
                waiter.reached(point)

    def _signal_from_queue(self, value: int) -> None:
        """Make the signal of a submission: a failed semaphore stays failed, a passed value stays passed."""
        if self._failure:
            return
        if value > self._value:
            self._advance(value)
        elif self.device.rules.usual("overtaken-signal") == "fails":
            self._fail(HalError(StatusCode.INVALID_ARGUMENT, f"signal of {value} at {self._value} does not advance"))

    def _fail(self, error: HalError) -> None:
        """Fail for good and tell everyone who waits; the first failure wins."""
        if self._failure:
            return
        self._failure = error.again()
        waiters, self._waiters, self._values = self._waiters, {}, []
        for waiting in waiters.values():
            for waiter, point in waiting.items():
                waiter.failed(point, self._failure)

    def _failed_with(self) -> HalError | None:
        return self._failure

    def _has_reached(self, value: int) -> bool:
        return self._value >= value

    def _register(self, waiter: Waiter, point: Point) -> None:
        """Tell ``waiter`` later; only for a timepoint that is neither reached nor failed."""
        if point.value not in self._waiters:
            self._waiters[point.value] = {}
            heapq.heappush(self._values, point.value)
        self._waiters[point.value][waiter] = point

    def _unregister(self, waiter: Waiter, point: Point) -> None:
        """Do not tell ``waiter`` after all; nothing happens if it has been told."""
        waiting = self._waiters.get(point.value, {})
        waiting.pop(waiter, None)
        if not waiting:
            self._waiters.pop(point.value, None)
            if len(self._values) > 32 + 2 * len(self._waiters):  # most of them nobody waits for any more
                self._values = sorted(self._waiters)

    def _waiting(self) -> int:
        return sum(len(waiting) for waiting in self._waiters.values())


class HostWait:
    """A host thread that waits for all, or any, of several timepoints."""

    def __init__(self, points: tuple[Point, ...], mode: WaitMode) -> None:
        self._points = points
        self._mode = mode
        self._unreached = set(points)
        self._satisfied = not points
        self._failure: HalError | None = None
        self._woken = threading.Event()

    def begin(self) -> None:
        """Look at every point, and register where there is something to wait for. The device is locked."""
        for point in self._points:
            error = point.semaphore._failed_with()
            if error:
                self.failed(point, error)
            elif point.semaphore._has_reached(point.value):
                self.reached(point)
            else:
                point.semaphore._register(self, point)

    def end(self) -> None:
        """Unregister from what was not reached. The device is locked."""
        for point in self._unreached:
            point.semaphore._unregister(self, point)

    def reached(self, point: Point) -> None:
        self._unreached.discard(point)
        if self._mode is WaitMode.ANY or not self._unreached:
            self._satisfied = True
            self._woken.set()

    def failed(self, point: Point, error: HalError) -> None:
        # A failure counts even after another member was reached: the strict answer to any-satisfied-and-failed.
        self._unreached.discard(point)
        self._failure = self._failure or error
        self._woken.set()

    def block(self, timeout: float | None) -> None:
        """Sleep until woken or the time is over. The device is not locked."""
        deadline = deadline_after(timeout)
        while not self._woken.is_set() and not self._satisfied:
            remaining = threading.TIMEOUT_MAX if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                return
            self._woken.wait(min(remaining, threading.TIMEOUT_MAX))

    def outcome(self) -> HalError | None:
        """Return what the wait raises, ``None`` for success. The device is locked."""
        if self._failure:
            return self._failure.again()
        if self._satisfied:
            return None
        missing = len(self._unreached)
        return HalError(StatusCode.DEADLINE_EXCEEDED, f"{missing} of {len(self._points)} timepoints not reached")
