"""Words that many cases use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cuda2hal.hal import HalError, Semaphore, StatusCode

if TYPE_CHECKING:
    from pytest_cuda2hal.case import Quality, Variation
    from pytest_cuda2hal.fixtures import Buffers, Semaphores
    from pytest_cuda2hal.observation import ObservedBuffer, ObservedDevice, ObservedSemaphore, Task, Tasks
    from pytest_cuda2hal.observation.device import ObservedLatch
    from pytest_cuda2hal.observation.settle import Settle
    from pytest_cuda2hal.settings import Effort

    OpenDevice = Callable[[], ObservedDevice]
    Latches = Callable[[], ObservedLatch]
    Poll = Callable[[Callable[[], object]], None]
    Cause = Callable[..., HalError]
    AskVariation = Callable[[str], Variation]
else:  # the suite imports the interface alone and gets everything else from fixtures; these are for annotations
    Quality = Buffers = Semaphores = ObservedBuffer = ObservedDevice = ObservedSemaphore = Tasks = Settle = Effort = Any
    OpenDevice = Latches = Poll = Cause = AskVariation = Any

__all__ = [
    "AskVariation",
    "Buffers",
    "Cause",
    "Effort",
    "Latches",
    "ObservedBuffer",
    "ObservedDevice",
    "ObservedSemaphore",
    "OpenDevice",
    "Poll",
    "Quality",
    "Raised",
    "Semaphores",
    "Settle",
    "Tasks",
    "blocked",
    "clause",
    "expect_failed",
    "failing",
    "failure_of",
    "mark",
    "requires",
    "status_of",
    "submit_behind_failure",
]

#: ``@clause("Q-1", "Q-5")``: the clauses that a case checks.
clause = pytest.mark.hal_clause
#: ``@requires(Capability.HOLD)``: capabilities without which a case cannot run.
requires = pytest.mark.hal_requires


class Raised:
    """What :func:`failing` caught; ``error`` is set when the block has ended."""

    error: HalError


@contextlib.contextmanager
def failing(*codes: StatusCode, message: str | None = None) -> Iterator[Raised]:
    """Expect a :class:`HalError` with one of ``codes`` (any, if none are given) and, if given, just this message."""
    raised = Raised()
    expected = " or ".join(code.name for code in codes) or "a failure"
    try:
        yield raised
    except HalError as error:
        raised.error = error
        if codes and error.code not in codes:
            raise AssertionError(f"expected {expected}; seen {error}") from error
        if message is not None and message not in error.message:
            raise AssertionError(f"expected {expected} with the message {message!r}; seen {error}") from error
    else:
        raise AssertionError(f"expected {expected}; seen success")


def mark(number: int) -> int:
    """Return the byte for round ``number`` of a case: another one than that of the rounds around it, and never 0."""
    return number % 255 + 1


def status_of(call: Callable[[], object]) -> StatusCode:
    """Return the code that a call raises, ``OK`` when it returns."""
    try:
        call()
    except HalError as error:
        return error.code
    return StatusCode.OK


def submit_behind_failure(variation: AskVariation, submit: Callable[[], object]) -> None:
    """Make a submission whose wait list already holds a failed semaphore: the call may raise as well, or must not.

    That is variation point failed-at-submit. Either way the signals fail, which the case goes on to wait for.
    """
    code = status_of(submit)
    variation("failed-at-submit").check("accepted" if code is StatusCode.OK else "raises")


def failure_of(semaphore: Semaphore) -> HalError:
    """Return the failure that a semaphore carries; the case fails if it carries none."""
    try:
        value = semaphore.query()
    except HalError as error:
        return error
    raise AssertionError(f"expected a failed semaphore; seen value {value}")


def expect_failed(semaphore: Semaphore, value: int, cause: HalError) -> None:
    """Wait for ``value`` until the semaphore fails, and check that the failure is ``cause``, code and message."""
    try:
        semaphore.wait(value)
    except HalError:
        pass
    else:
        raise AssertionError(f"expected {semaphore!r} to fail with {cause}; seen value {value} reached")
    failure = failure_of(semaphore)
    assert failure.code is cause.code, f"expected {cause}; seen {failure}"
    assert cause.message in failure.message, f"expected {cause}; seen {failure}"


class _Blocked:
    """True as long as none of the threads has ended; its text names those that have, and says how and when."""

    def __init__(self, tasks: tuple[Task[Any], ...], watched_since: float) -> None:
        after = f"after {(time.monotonic() - watched_since) * 1e3:.1f} ms"
        self._ended = [f"{task.name} ({_end_of(task)} {after})" for task in tasks if task.done]

    def __bool__(self) -> bool:
        return not self._ended

    def __repr__(self) -> str:
        return f"<expected every thread blocked; seen ended: {', '.join(self._ended)}>"


def _end_of(task: Task[Any]) -> str:
    error = task.unnoticed_error()
    if error is None:
        return "success"
    return error.code.name if isinstance(error, HalError) else f"{type(error).__name__}: {error}"


def blocked(*tasks: Task[Any]) -> Callable[[], object]:
    """Return an observation, ``settle(blocked(a, b))``: none of the threads has ended; times count from here."""
    since = time.monotonic()
    return lambda: _Blocked(tasks, since)
