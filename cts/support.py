"""Words that many cases use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cuda2hal.hal import HalError, Semaphore, StatusCode

if TYPE_CHECKING:
    from pytest_cuda2hal.case import Quality, Variation
    from pytest_cuda2hal.fixtures import Buffers, Semaphores
    from pytest_cuda2hal.observation import ObservedBuffer, ObservedDevice, ObservedSemaphore, Tasks
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
    "clause",
    "expect_failed",
    "failing",
    "failure_of",
    "requires",
    "status_of",
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


def status_of(call: Callable[[], object]) -> StatusCode:
    """Return the code that a call raises, ``OK`` when it returns."""
    try:
        call()
    except HalError as error:
        return error.code
    return StatusCode.OK


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
