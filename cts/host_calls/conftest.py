"""A host call that lasts until the case lets it return."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ..support import ObservedDevice


class CallCount:
    """Whether as many calls have been made as expected; its text is the evidence."""

    def __init__(self, expected: int, seen: int) -> None:
        self.expected = expected
        self.seen = seen

    def __bool__(self) -> bool:
        return self.seen == self.expected

    def __repr__(self) -> str:
        return f"<expected host calls made: {self.expected}; seen {self.seen}>"


class Calls:
    """Counts calls of :meth:`call`, which is a function for ``queue_host_call``."""

    def __init__(self) -> None:
        self.count = 0

    def call(self) -> None:
        self.count += 1

    @property
    def none_yet(self) -> CallCount:
        """For ``settle(lambda: made.none_yet)``."""
        return CallCount(0, self.count)

    @property
    def once(self) -> CallCount:
        """For ``settle(lambda: made.once)``: made, and not a second time."""
        return CallCount(1, self.count)


class LongCall:
    """A function for ``queue_host_call`` that blocks until :meth:`let_return`; it never sleeps."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._runs = threading.Event()
        self._may_return = threading.Event()

    def __call__(self) -> None:
        self._runs.set()
        # Longer than any wait of the case, so that a wait that should not depend on this call ends first.
        if not self._may_return.wait(3 * self._deadline):
            raise TimeoutError("the case never let the host call return")

    def wait_until_it_runs(self) -> None:
        """Block until the call has begun."""
        assert self._runs.wait(self._deadline), f"expected the host call to be made within {self._deadline:.1f} s"

    def let_return(self) -> None:
        """Let the call return; may be called any number of times."""
        self._may_return.set()


@pytest.fixture
def long_call(device: ObservedDevice) -> Iterator[LongCall]:
    """A call that lasts until the case lets it return, or ends; it returns before the device is closed."""
    call = LongCall(device.deadline)
    yield call
    call.let_return()
