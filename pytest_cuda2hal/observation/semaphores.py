"""Semaphores as a case sees them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from ..hal import HalError, Semaphore, StatusCode, Timepoint, checked_timeout, checked_value
from ..waitgraph import graph_of_log
from .buffers import Observation
from .calls import SEMAPHORE, UNRECORDED, WaitCall
from .log import DeadlineExpired, Point
from .slots import QUERY, brief_head

if TYPE_CHECKING:
    from .device import ObservedDevice


class _CaseDeadline:
    """Stands for the deadline of the run, ``--hal-deadline``."""

    def __repr__(self) -> str:
        return "<the case's deadline>"


CASE_DEADLINE: Final = _CaseDeadline()


class ObservedSemaphore(Semaphore):
    """Passes every call on to ``inner``, after checking the arguments (TL-6).

    :meth:`wait` without a timeout has the deadline of the run: when it is over, the case fails with a message that says
    who was to signal the timepoint. An explicit ``timeout=None`` or ``inf`` really waits for ever; use it only on a
    thread that the case supervises.
    """

    def __init__(self, device: ObservedDevice, inner: Semaphore) -> None:
        self.inner = inner
        self._device = device
        self._calls = device.calls
        self.serial = device.log.new_serial()
        #: What it goes by in the journal; 0 without one.
        self.journal_key = 0 if self._calls is None else self._calls.key | self.serial
        device.log.knows(self)

    def __repr__(self) -> str:
        return f"<{self._device.log.state(self.serial)}>"

    def query(self) -> int:
        # Polled in loops, too often for entries; but one that never returns must be seen.
        calls = self._calls
        if calls is None:
            return self.inner.query()
        slot = None
        try:
            slot = calls.journal.begin_query(brief_head(QUERY, self.journal_key))
            return self.inner.query()
        finally:
            if slot is not None:
                calls.journal.end_brief(slot)

    def reads(self, value: int) -> Observation:
        """Whether the timeline stands at ``value`` just now; raises what :meth:`query` raises."""
        seen, name = self.inner.query(), self._device.log.name(self.serial)
        return Observation(f"{name} = {value}", f"{name} = {seen}", agrees=seen == value)

    def signal(self, value: int) -> None:
        value = checked_value(value)
        calls = self._calls
        if calls is None:
            self.inner.signal(value)
            return
        number = calls.journal.begin_call(calls.signal_head, self.serial, value)
        try:
            self.inner.signal(value)
        except BaseException as error:
            calls.raised(number, error)
            raise
        calls.journal.end(number)

    def fail(self, error: HalError) -> None:
        self._device.need_to_fail()
        if not isinstance(error, HalError):
            raise TypeError(f"a semaphore fails with a HalError, not {error!r}")
        with UNRECORDED if self._calls is None else self._calls.failing(self.serial, error):
            self.inner.fail(error)

    def wait(self, value: int, timeout: float | _CaseDeadline | None = CASE_DEADLINE) -> None:
        value = checked_value(value)
        if not isinstance(timeout, _CaseDeadline):
            seconds = checked_timeout(timeout)
            with WaitCall(self._device.log, self._calls, (self @ value,), "all", seconds):
                self.inner.wait(value, seconds)
            return
        begin = time.monotonic()
        deadline = self._device.deadline
        try:
            with WaitCall(self._device.log, self._calls, (self @ value,), "all", deadline):
                self.inner.wait(value, deadline)
        except HalError as error:
            if error.code is not StatusCode.DEADLINE_EXCEEDED or self.carries(error):
                raise
            raise self._device.expired([self @ value], time.monotonic() - begin) from None

    def carries(self, error: HalError) -> bool:
        """Tell whether DEADLINE_EXCEEDED is the semaphore's own failure and not the end of the wait."""
        try:
            self.inner.query()
        except HalError as failure:
            return failure.code is error.code
        return False

    def point(self, value: int) -> Point:
        """Return the timepoint as the log writes it."""
        return Point(self.serial, value)


def created(device: ObservedDevice, initial_value: int, name: str | None) -> ObservedSemaphore:
    """Have the HAL create a semaphore that the case calls ``name``."""
    if device.calls is None:
        return ObservedSemaphore(device, device.inner.create_semaphore(initial_value))
    create = device.inner.create_semaphore
    return device.calls.make(SEMAPHORE, initial_value, name, lambda value: ObservedSemaphore(device, create(value)))


def hang_message(device: ObservedDevice, timepoints: list[Timepoint], seconds: float) -> DeadlineExpired:
    """Build the error of a wait that had no answer."""
    points = [t.semaphore.point(t.value) for t in timepoints if isinstance(t.semaphore, ObservedSemaphore)]
    unreached = [point for point in points if device.log.is_reached(point) is False] or points
    graph = graph_of_log(device.log, unreached, threading.current_thread().name, seconds)
    return DeadlineExpired("\n".join(graph.in_words()), graph, device.log)
