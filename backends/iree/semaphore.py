"""Semaphores of IREE, and waiting for them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from pytest_cuda2hal.hal import HalError, Semaphore, StatusCode, checked_timeout, checked_value

from .route import Owned, Route
from .status import STATUS_ERRORS, raise_status

#: The longest time, in nanoseconds, that one call into IREE waits on the main thread: IREE's wait cannot be
#: interrupted, and Python runs its signal handlers (Ctrl-C) only between calls, and only there.
SLICE = 200_000_000
#: IREE_TIME_INFINITE_FUTURE
_FOREVER = 2**63 - 1


def wait_in_slices(
    wait: Callable[[int], bool], look: Callable[[], object], timeout: float | None, what: Callable[[], str]
) -> None:
    """Wait with the GIL released until ``timeout`` seconds are over.

    On the main thread in slices of :data:`SLICE`, the last one with the exact deadline. A wake-up that IREE loses in
    one call is made good by the next there, so it shows as lateness only. On any other thread it is one call, with
    IREE's own infinite deadline if there is no timeout: nothing is made good.

    :param wait: IREE's wait: takes a deadline on ``time.monotonic_ns``; True when reached, False when the time is over.
    :param look: raises the failure of what is waited for, if there is one.
    :param what: says what was waited for.
    :raises HalError: the failure, or ``DEADLINE_EXCEEDED``.
    """
    timeout = checked_timeout(timeout)
    now = time.monotonic_ns()
    # Rounded up: never early. Beyond a century it is for ever.
    end = _FOREVER if timeout is None or timeout > 3.2e9 else now + math.ceil(timeout * 1e9)
    sliced = threading.current_thread() is threading.main_thread()
    while True:
        deadline = min(end, now + SLICE) if sliced else end
        try:
            if wait(deadline):
                return
            now = time.monotonic_ns()
            if now < deadline:
                # The bindings answer False for DEADLINE_EXCEEDED, also where that is the code that the semaphore failed
                # with; a False before its time is how that shows.
                look()
        except STATUS_ERRORS as error:
            raise_status(error)
        if deadline == end:
            raise HalError(StatusCode.DEADLINE_EXCEEDED, f"{what()} not reached within {timeout} s")


class IreeSemaphore(Semaphore):
    """A ``HalSemaphore``."""

    def __init__(self, owned: Owned, route: Route) -> None:
        self.owned = owned
        self._route = route

    def query(self) -> int:
        """Return the value; a failure comes with IREE's code and message."""
        try:
            return int(self.owned.handle.query())
        except STATUS_ERRORS as error:
            raise_status(error)

    def signal(self, value: int) -> None:
        """Signal; whatever IREE says to a value that does not advance, or is too large, is passed on."""
        value = checked_value(value)
        try:
            self.owned.handle.signal(value)
        except STATUS_ERRORS as error:
            raise_status(error)

    def fail(self, error: HalError) -> None:
        """Fail the semaphore, with the message or the code of ``error``: the bindings cannot pass both.

        One function takes a message, and its code is always UNKNOWN; another takes a code and no message. So an error
        of code UNKNOWN and one without a message arrive as they are, any other as UNKNOWN with its message. This is why
        the capability ``fail-code`` is not declared.
        """
        if error.code is StatusCode.OK:
            # Neither function is made for it: the bindings cannot say OK, and a status of none is no legal argument.
            raise ValueError("a semaphore cannot be failed with OK")
        if error.message or error.code is StatusCode.UNKNOWN:
            try:
                self.owned.handle.fail(error.message)
            except STATUS_ERRORS as problem:
                raise_status(problem)
        else:
            self._route.fail(self.owned, error.code)

    def wait(self, value: int, timeout: float | None = None) -> None:
        """Wait in IREE (see :func:`wait_in_slices`)."""
        value = checked_value(value)
        owned = self.owned
        wait_in_slices(
            lambda end: owned.handle.wait(value, deadline=end),
            lambda: owned.handle.query(),
            timeout,
            lambda: f"value {value}",
        )
