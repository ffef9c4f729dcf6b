"""Timeouts: expired, tiny, finite, huge, and none."""

from __future__ import annotations

import math
import random
import time
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Hold, StatusCode

from ..support import (
    Effort,
    Latches,
    ObservedDevice,
    Poll,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    failing,
    requires,
    status_of,
)
from .watching import LATE, RESOLUTION, expect_success, expect_timeout

#: Seconds that no case waits for. Counted in milli-, micro- or nanoseconds they are beyond 32, 53 or 64 bits.
HUGE = [2147483.648, 4294967.296, 1e7, 1e9, 9.3e9, 1.9e10, 1e18, 1e300]
#: Not multiples of a millisecond, so that rounding down shows.
FINITE = [1e-9, 1e-6, 0.0007, 0.0033, 0.0123, 0.0509]


@clause("W-3")
@pytest.mark.parametrize("from_device", [False, True], ids=["host", "device"])
def test_reached_value_satisfies_a_wait_with_any_timeout(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, from_device: bool
) -> None:
    """The value itself and smaller ones are reached for a wait with any timeout, whoever signaled."""
    semaphore = semaphores.at(2)
    if from_device:
        device.queue_execute([], signal=[semaphore @ 7])
    else:
        semaphore.signal(7)
    semaphore.wait(7)
    for timeout in (0, -1.0, -math.inf, 1e-9, 1e-3, 1.0, *HUGE, math.inf, None):
        for value in (0, 1, 6, 7):
            # On a thread, so that a wait without end is noticed.
            what = f"wait({value}, timeout={timeout}) at 7"
            threads.start(partial(expect_success, partial(semaphore.wait, value, timeout), what), what).result()


@clause("W-5")
def test_timeouts_of_whole_seconds(semaphores: Semaphores, threads: Tasks, settle: Settle) -> None:
    """A timeout of whole seconds is not taken for a flag, and ends no wait before its time.

    a thread each: wait(1, timeout) ──▶ reached; or expired, in its time, on a machine that stood still for so long
    """
    [s] = semaphores(1)

    def wait(timeout: int) -> None:
        begin = time.monotonic()
        code = status_of(partial(s.wait, 1, timeout))
        lasted = time.monotonic() - begin
        expired = code is StatusCode.DEADLINE_EXCEEDED and lasted >= timeout - RESOLUTION
        what = f"wait(1, timeout={timeout}) ended with {code.name} after {lasted:.3f} s"
        assert expired or code is StatusCode.OK, what

    waits = [threads.start(partial(wait, timeout)) for timeout in (1, 2, 3, 60, 3600)]
    settle(blocked(*waits[3:]))
    s.signal(1)
    for each in waits:
        each.result()


@clause("W-3", "W-4")
@pytest.mark.parametrize("timeout", [0, 1e-9], ids=["expired", "1 ns"])
def test_polling_with_a_timeout_succeeds_in_the_end(
    semaphores: Semaphores, threads: Tasks, poll: Poll, timeout: float
) -> None:
    """Waits with no time to spare give DEADLINE_EXCEEDED until the value is there, and then succeed."""
    [semaphore] = semaphores(1)
    with failing(StatusCode.DEADLINE_EXCEEDED):
        semaphore.wait(1, timeout)
    assert semaphore.query() == 0
    threads.start(lambda: semaphore.signal(1))
    poll(lambda: status_of(partial(semaphore.wait, 1, timeout)) is StatusCode.OK)
    assert semaphore.query() == 1


@clause("W-4")
def test_expired_timeouts_do_not_block(semaphores: Semaphores, threads: Tasks) -> None:
    """A thousand waits with an expired timeout end at once, each in DEADLINE_EXCEEDED."""
    semaphore = semaphores.at(2)

    def look_often() -> float:
        begin = time.monotonic()
        for timeout in [0, -1.0, -math.inf, 0.0] * 250:
            with failing(StatusCode.DEADLINE_EXCEEDED):
                semaphore.wait(3, timeout)
        return time.monotonic() - begin

    lasted = threads.start(look_often, "waits with an expired timeout").result()
    assert lasted < LATE, f"expected 1,000 expired waits to end at once; seen {lasted:.1f} s"
    assert semaphore.query() == 2


@clause("W-4", "W-3")
def test_expired_wait_for_a_link_of_a_chain(device: ObservedDevice, semaphores: Semaphores) -> None:
    """While the first of twelve chained submissions waits for the host, no link is reached; then all are.

    host ──s@1──▶ #1 ──s@2──▶ #2 ──s@3──▶ … #12 ──s@13──▶ host
    """
    [semaphore] = semaphores(1)
    for link in range(1, 13):
        device.queue_execute([], wait=[semaphore @ link], signal=[semaphore @ (link + 1)])
    for value in random.Random("links").sample(range(1, 14), 5):
        with failing(StatusCode.DEADLINE_EXCEEDED):
            semaphore.wait(value, timeout=0)
    semaphore.signal(1)
    semaphore.wait(13)
    for value in range(14):
        expect_success(partial(semaphore.wait, value, timeout=0), f"wait({value}, timeout=0) at 13")


@clause("W-5")
def test_finite_timeouts_are_never_early(semaphores: Semaphores, threads: Tasks, effort: Effort) -> None:
    """Waits of several lengths at once end in DEADLINE_EXCEEDED, each in its time, and change nothing."""
    [semaphore] = semaphores(1)
    for value in range(1, 1 + effort.loops(1, 3)):
        threads.run(
            partial(expect_timeout, partial(semaphore.wait, value, timeout), timeout, f"wait({value}, {timeout})")
            for timeout in FINITE
        )
        assert semaphore.query() == value - 1
        semaphore.signal(value)
        expect_success(partial(semaphore.wait, value, timeout=0), f"wait({value}, timeout=0)")


@clause("W-5")
def test_finite_timeout_while_the_producer_waits(device: ObservedDevice, semaphores: Semaphores) -> None:
    """A wait for a submission that cannot start ends in time, and does not disturb it.

    host ──gate@1──▶ submission ──done@1──▶ host
    """
    gate, done = semaphores(2)
    device.queue_execute([], wait=[gate @ 1], signal=[done @ 1])
    for timeout in (0.0021, 0.0307):
        expect_timeout(partial(done.wait, 1, timeout), timeout, f"wait({timeout})")
    assert done.query() == 0
    gate.signal(1)
    done.wait(1)


@clause("W-5")
@requires(Capability.HOLD)
def test_finite_timeout_while_the_producer_is_held(
    device: ObservedDevice, semaphores: Semaphores, latches: Latches
) -> None:
    """A wait for work that runs and does not end ends in time, and does not disturb it."""
    [done] = semaphores(1)
    latch = latches()
    device.queue_execute([Hold(latch)], signal=[done @ 1])
    for timeout in (0.0021, 0.0307):
        expect_timeout(partial(done.wait, 1, timeout), timeout, f"wait({timeout})")
    assert done.query() == 0
    latch.open()
    done.wait(1)


@clause("W-5", "W-6")
def test_smaller_signals_neither_cut_nor_stretch_a_timeout(semaphores: Semaphores, threads: Tasks, poll: Poll) -> None:
    """While somebody signals smaller values all the time, a wait lasts as long as it should, and no longer."""
    [semaphore] = semaphores(1)
    goal, timeout = 2**30, 0.0507
    waiter = threads.start(partial(expect_timeout, partial(semaphore.wait, goal, timeout), timeout, f"wait({timeout})"))

    def signal_one_more() -> bool:
        semaphore.signal(semaphore.query() + 1)
        return waiter.done

    poll(signal_one_more)
    waiter.result()
    assert semaphore.query() < goal


@clause("W-5", "W-7")
def test_waits_that_timed_out_leave_nothing_behind(semaphores: Semaphores, threads: Tasks, effort: Effort) -> None:
    """After many waits for one value have ended in vain, one signal satisfies those that are left, and new ones."""
    [semaphore] = semaphores(1)
    patient = threads.start(partial(semaphore.wait, 1))

    def wait_in_vain() -> None:
        for _ in range(effort.loops(20, 100)):
            expect_timeout(partial(semaphore.wait, 1, 1e-4), 1e-4, "wait(1, 0.0001)")

    threads.run([wait_in_vain] * 4)
    assert blocked(patient)()
    semaphore.signal(1)
    patient.result()
    expect_success(partial(semaphore.wait, 1, timeout=0), "wait(1, timeout=0)")


@clause("W-5")
def test_huge_timeouts_do_not_end(semaphores: Semaphores, threads: Tasks, settle: Settle) -> None:
    """Waits that may last for weeks, and for longer than the universe, go on until the value comes."""
    [semaphore] = semaphores(1)
    waiters = [threads.start(partial(semaphore.wait, 1, timeout), f"wait(1, timeout={timeout})") for timeout in HUGE]
    settle(blocked(*waiters))
    semaphore.signal(1)
    for waiter in waiters:
        waiter.result()


@clause("W-1", "W-8")
@pytest.mark.parametrize("timeout", [None, math.inf], ids=["None", "inf"])
def test_endless_wait_hears_of_a_device_signal(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle, timeout: float | None
) -> None:
    """A wait without a timeout hears of what a queue signals, as of what the host signals.

    host ──gate@1──▶ submission ──made@1──▶ endless waits
    """
    gate, made = semaphores(2)
    device.queue_execute([], wait=[gate @ 1], signal=[made @ 1])
    waiters = [threads.start(partial(made.wait, 1, timeout), f"wait(1, {timeout})") for _ in range(3)]
    settle(blocked(*waiters))
    gate.signal(1)
    for waiter in waiters:
        waiter.result()
