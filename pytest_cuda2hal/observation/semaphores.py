"""Semaphores as a case sees them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from ..hal import HalError, Semaphore, StatusCode, Timepoint, checked_timeout, checked_value
from .buffers import Observation
from .log import DeadlineExpired, Point

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
        self.serial = device.log.new_serial()
        device.log.knows(self)

    def __repr__(self) -> str:
        return f"<{self._device.log.state(self.serial)}>"

    def query(self) -> int:
        return self.inner.query()

    def reads(self, value: int) -> Observation:
        """Whether the timeline stands at ``value`` just now; raises what :meth:`query` raises."""
        seen, name = self.inner.query(), self._device.log.name(self.serial)
        return Observation(f"{name} = {value}", f"{name} = {seen}", agrees=seen == value)

    def signal(self, value: int) -> None:
        self.inner.signal(checked_value(value))

    def fail(self, error: HalError) -> None:
        self._device.need_to_fail()
        if not isinstance(error, HalError):
            raise TypeError(f"a semaphore fails with a HalError, not {error!r}")
        self.inner.fail(error)

    def wait(self, value: int, timeout: float | _CaseDeadline | None = CASE_DEADLINE) -> None:
        value = checked_value(value)
        if not isinstance(timeout, _CaseDeadline):
            self.inner.wait(value, checked_timeout(timeout))
            return
        begin = time.monotonic()
        try:
            self.inner.wait(value, self._device.deadline)
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


def hang_message(device: ObservedDevice, timepoints: list[Timepoint], seconds: float) -> DeadlineExpired:
    """Build the error of a wait that had no answer."""
    points = [t.semaphore.point(t.value) for t in timepoints if isinstance(t.semaphore, ObservedSemaphore)]
    unreached = [point for point in points if device.log.is_reached(point) is False] or points
    awaited = ", ".join(map(device.log.point, unreached[:6]))
    lines = device.log.explain(unreached[:4])
    head = f"{threading.current_thread().name} waited {seconds:.1f} s for {awaited}, which never came"
    return DeadlineExpired("\n  ".join([head, *lines]))
