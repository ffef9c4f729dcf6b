"""What a queue is given: work, what it waits for, and what it signals."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import HalError, failure_of_host_call

if TYPE_CHECKING:
    from .device import ReferenceDevice
    from .queue import ReferenceQueue
    from .semaphore import Point


class State(enum.Enum):
    """The life of a submission; the last state is final."""

    PENDING = "pending"  # waits not all reached
    IN_FLIGHT = "in flight"  # given to the queue's worker
    RETIRED = "retired"  # signals made or failed


class Submission:
    """Work that runs after every wait is reached, then signals: or fails, and then fails what it was to signal.

    Methods expect the device locked, except :meth:`run`.
    """

    def __init__(
        self,
        device: ReferenceDevice,
        queue: ReferenceQueue,
        serial: int,
        work: Callable[[], None],
        waits: tuple[Point, ...],
        signals: tuple[Point, ...],
        *,
        on_own_thread: bool = False,
        on_failure: Callable[[], None] | None = None,
    ) -> None:
        self.serial = serial
        self.state = State.PENDING
        self._device = device
        self._queue = queue
        self._work: Callable[[], None] | None = work
        self._waits = waits
        self._unreached = set(waits)
        self._signals = signals
        self._on_own_thread = on_own_thread
        self._on_failure = on_failure

    def submit(self) -> None:
        """Look at every wait, and register where there is something to wait for."""
        self._device.unretired.add(self)
        for point in self._waits:
            error = point.semaphore._failed_with()
            if error:
                self.failed(point, error)
            elif point.semaphore._has_reached(point.value):
                self._unreached.discard(point)
            elif point in self._unreached:
                point.semaphore._register(self, point)
        self._start_if_ready()

    def reached(self, point: Point) -> None:
        self._unreached.discard(point)
        self._start_if_ready()

    def failed(self, point: Point, error: HalError) -> None:
        # Not retired here: that fails semaphores whose waiters may be submissions, and so on through a chain of any
        # length. The device retires them one after another instead, so the stack stays flat (F-9).
        self._device.retire_soon(self, error)

    def _start_if_ready(self) -> None:
        if self.state is State.PENDING and not self._unreached:
            self.state = State.IN_FLIGHT
            if self._on_own_thread:
                threading.Thread(target=self.run, name="hal-host-call", daemon=True).start()
            else:
                self._queue.ready(self)

    def run(self) -> None:
        """Do the work and retire. The device is not locked; what the work raises is the submission's failure."""
        error: HalError | None = None
        with self._device.lock:
            work = self._work if self.state is State.IN_FLIGHT else None
        try:
            if work:
                work()
        except BaseException as raised:  # noqa: BLE001 - a host call may raise anything (H-2), SystemExit included
            error = failure_of_host_call(raised)
        del work
        with self._device.changing():
            self.retire(error)

    def retire(self, error: HalError | None) -> None:
        """Make every signal, or fail every signal semaphore; only the first call does anything."""
        if self.state is State.RETIRED:
            return
        self.state = State.RETIRED
        self._work = None
        for point in self._unreached:
            point.semaphore._unregister(self, point)
        self._device.unretired.discard(self)
        if error and self._on_failure:
            self._on_failure()
        for point in self._signals:
            if error:
                point.semaphore._fail(error)
            else:
                point.semaphore._signal_from_queue(point.value)
