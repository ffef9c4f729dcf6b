"""Looking at blocked threads and at the length of waits."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator

from pytest_cuda2hal.hal import Semaphore, StatusCode

from ..support import status_of

#: Seconds by which a wait may be early: what the clock that it is measured with can tell.
RESOLUTION = time.get_clock_info("monotonic").resolution
#: Seconds after which a wait that had to end counts as late. Machines are slow, and loaded; a hang is longer.
LATE = 5.0


def expect_success(call: Callable[[], object], what: str) -> None:
    """Check that a call does not raise; ``what`` names it in the message."""
    code = status_of(call)
    assert code is StatusCode.OK, f"expected success from {what}; seen {code.name}"


def expect_timeout(call: Callable[[], object], timeout: float, what: str) -> None:
    """Check that a wait ends in DEADLINE_EXCEEDED, not before its timeout and not long after it."""
    begin = time.monotonic()
    code = status_of(call)
    lasted = time.monotonic() - begin
    assert code is StatusCode.DEADLINE_EXCEEDED, f"expected DEADLINE_EXCEEDED from {what}; seen {code.name}"
    assert lasted >= timeout - RESOLUTION, f"expected {what} to last {timeout * 1e3:g} ms; seen {lasted * 1e3:.4f} ms"
    assert lasted < timeout + LATE, f"expected {what} to end after {timeout} s; seen {lasted:.1f} s"


#: What a leading thread signals last. A follower that finds a timeline there is done.
END = 2**30


def rounds(count: int, deadline: float) -> Iterator[int]:
    """Yield 1, 2, … to a leading thread: ``count`` values, or fewer where a quarter of the deadline is over before."""
    end = time.monotonic() + deadline / 4
    for value in range(1, count + 1):
        if time.monotonic() >= end:
            return
        yield value


def followed(semaphore: Semaphore) -> Iterator[int]:
    """Wait for 1, 2, … without a timeout and yield each value, until the leading thread has signaled :data:`END`."""
    for value in itertools.count(1):
        semaphore.wait(value, timeout=None)
        if semaphore.query() >= END:
            return
        yield value


def spin(choice: random.Random, longest: float) -> None:
    """Do nothing for a random while, awake, to meet another thread at any point of its way."""
    end = time.perf_counter() + choice.random() * longest
    while time.perf_counter() < end:
        pass


class Meetings:
    """Rounds that two threads begin at the same moment, by no means of the HAL's.

    Where one of them ends early, by an error, the other ends with it.
    """

    def __init__(self, count: int, deadline: float) -> None:
        self._count, self._deadline = count, deadline
        self._meeting = threading.Barrier(2)
        self._last = END

    def lead(self, do: Callable[[int], object]) -> None:
        """Do something with 1, 2, … as :func:`rounds` yields them, each when the other thread is there."""
        value = 0
        with self._or_abort():
            for value in rounds(self._count, self._deadline):
                self._meeting.wait(self._deadline)
                do(value)
            self._last = value
            self._meeting.wait(self._deadline)

    def follow(self, do: Callable[[int], object]) -> None:
        """Do something with each value that the leading thread is at."""
        with self._or_abort():
            for value in itertools.count(1):
                self._meeting.wait(self._deadline)
                if value > self._last:
                    return
                do(value)

    @contextlib.contextmanager
    def _or_abort(self) -> Iterator[None]:
        try:
            yield
        except threading.BrokenBarrierError:
            return  # the other one says why
        except BaseException:
            self._meeting.abort()
            raise
