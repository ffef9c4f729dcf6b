"""Semaphores of IREE, and waiting for them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pytest_cuda2hal.hal import HalError, Semaphore, StatusCode, checked_timeout, checked_value

from .route import Owned, Route
from .status import STATUS_ERRORS, raise_status

#: The longest time, in nanoseconds, that one call into IREE waits: IREE's wait cannot be interrupted, and Python runs
#: its signal handlers (Ctrl-C) only between calls.
SLICE = 200_000_000


def wait_in_slices(
    wait: Callable[[int], bool], look: Callable[[], object], timeout: float | None, what: Callable[[], str]
) -> None:
    """Wait with the GIL released, in slices of :data:`SLICE`, until ``timeout`` seconds are over.

    A wait of less than a slice is one call with the exact deadline. A longer one is several calls, of which the last
    has the exact deadline; so an endless one never exercises IREE's infinite timeout, and a wake-up that IREE loses in
    one call is made good by the next: only a wait shorter than a slice, or its lateness, can show it.

    :param wait: IREE's wait: takes a deadline on ``time.monotonic_ns``; True when reached, False when the time is over.
    :param look: raises the failure of what is waited for, if there is one.
    :param what: says what was waited for.
    :raises HalError: the failure, or ``DEADLINE_EXCEEDED``.
    """
    timeout = checked_timeout(timeout)
    begin = time.monotonic_ns()
    # Rounded up: never early. Beyond a century it is for ever.
    end = None if timeout is None or timeout > 3.2e9 else begin + math.ceil(timeout * 1e9)
    now = begin
    while True:
        slice_end = now + SLICE
        last = end is not None and end <= slice_end
        deadline = end if end is not None and end <= slice_end else slice_end
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
        if last:
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
