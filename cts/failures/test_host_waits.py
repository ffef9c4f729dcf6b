"""Host waits for one semaphore that has failed, or fails meanwhile."""

from __future__ import annotations

import random
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Hold, StatusCode

from ..support import (
    AskVariation,
    Cause,
    Effort,
    Latches,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    failure_of,
    requires,
    status_of,
)
from ..waits.watching import Meetings, spin
from .support import check_wait_code, expect_cause, expect_failing_wait


@clause("F-2")
def test_wait_begun_after_the_failure(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """It fails, whatever its timeout, and whether or not the value had been reached (IREE: FailThenWait)."""
    error = cause("failed before the wait")
    s = semaphores.at(2)
    s.signal(3)
    s.fail(error)
    for value in (0, 2, 3, 4, 1000, device.rules.value_max):
        expect_failing_wait(variation, error, partial(s.wait, value, timeout=0))
        expect_failing_wait(variation, error, partial(s.wait, value, timeout=-1.0))
        expect_failing_wait(variation, error, partial(s.wait, value))
    expect_cause(failure_of(s), error)


@clause("F-2")
def test_failure_ends_every_blocked_wait(
    device: ObservedDevice,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
    threads: Tasks,
) -> None:
    """Waiters for near and far values, some for the same one, all end with the failure (IREE: WaitThenFail)."""
    error = cause("failed during the wait")
    s = semaphores.at(2)
    values = [3, 3, 3, 4, 5, 1000, device.rules.value_max, device.rules.value_max]
    waiters = [threads.start(partial(s.wait, value)) for value in values]

    settle(blocked(*waiters))

    s.fail(error)
    for waiter in waiters:
        expect_failing_wait(variation, error, waiter.result)


@clause("F-2")
@pytest.mark.usefixtures("restless")
def test_wait_that_begins_as_the_semaphore_fails(
    semaphores: Semaphores, cause: Cause, variation: AskVariation, threads: Tasks, effort: Effort
) -> None:
    """The value is never reached, so in whatever order the two come the wait ends with the failure."""
    error = cause("failed as the wait began")
    for _ in range(effort.loops(50, 300)):
        [s] = semaphores(1)
        waiter = threads.start(partial(s.wait, 1))
        s.fail(error)
        expect_failing_wait(variation, error, waiter.result)


@clause("F-2")
@requires(Capability.HOLD)
@pytest.mark.usefixtures("restless")
def test_wait_for_running_work_that_begins_as_the_semaphore_fails(
    device: ObservedDevice,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    variation: AskVariation,
    threads: Tasks,
    effort: Effort,
    deadline: float,
) -> None:
    """The same where somebody will signal the value, for whom a HAL may look for a while before it lets a thread sleep.

    hold ──s@1──▶ host, which begins to wait just when another thread fails s
    """
    error = cause("failed as the wait began")
    latch = latches()
    failing = semaphores(effort.loops(200, 1000))
    lists = [failing[first : first + 20] for first in range(0, len(failing), 20)]
    done = semaphores(len(lists))
    for signals, end in zip(lists, done, strict=True):
        device.queue_execute([Hold(latch)], signal=[end @ 1, *(s @ 1 for s in signals)])
    meetings, choice = Meetings(len(failing), deadline), random.Random("fail")

    def wait(k: int) -> None:
        expect_failing_wait(variation, error, partial(failing[k - 1].wait, 1, timeout=None))

    def fail(k: int) -> None:
        spin(choice, 100e-6)
        failing[k - 1].fail(error)

    threads.run([partial(meetings.lead, wait), partial(meetings.follow, fail)])
    latch.open()
    for end in done:
        end.wait(1)


@clause("F-2")
@pytest.mark.usefixtures("restless")
def test_value_reached_just_before_the_failure(
    semaphores: Semaphores, cause: Cause, variation: AskVariation, threads: Tasks, effort: Effort
) -> None:
    """A blocked wait may end either way then, but ends; one begun after the failure fails."""
    error = cause("failed right after the signal")
    for _ in range(effort.loops(50, 300)):
        [s] = semaphores(1)
        waiter = threads.start(partial(s.wait, 1))
        s.signal(1)
        s.fail(error)
        expect_failing_wait(variation, error, partial(s.wait, 1, timeout=0))
        code = status_of(waiter.result)
        if code is not StatusCode.OK:
            check_wait_code(variation, error, code)
