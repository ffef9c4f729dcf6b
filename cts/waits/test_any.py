"""Waits for any of several timepoints."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Semaphore, StatusCode, Timepoint, WaitMode

from ..support import (
    Effort,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    requires,
    status_of,
)
from .watching import END, expect_success, expect_timeout, rounds

pytestmark = requires(Capability.WAIT_ANY)


def wait_any(device: ObservedDevice, points: list[Timepoint], timeout: float | None) -> None:
    """Wait until one of the timepoints is reached."""
    device.wait_semaphores(points, mode=WaitMode.ANY, timeout=timeout)


def expect_none_reached(device: ObservedDevice, points: list[Timepoint]) -> None:
    """Check that an expired wait for any gives DEADLINE_EXCEEDED."""
    code = status_of(partial(wait_any, device, points, 0))
    assert code is StatusCode.DEADLINE_EXCEEDED, f"expected DEADLINE_EXCEEDED with none reached; seen {code.name}"


def expect_one_reached(device: ObservedDevice, points: list[Timepoint], timeout: float = 0) -> None:
    """Check that an expired wait for any succeeds."""
    expect_success(partial(wait_any, device, points, timeout), f"an expired wait for any of {len(points)}, one reached")


@clause("W-12", "W-4", "W-3")
def test_any_with_an_expired_timeout(device: ObservedDevice, semaphores: Semaphores) -> None:
    """Two timepoints: DEADLINE_EXCEEDED until one is reached, whichever."""
    for index in range(2):
        made = semaphores(2)
        points = [semaphore @ 2 for semaphore in made]
        expect_none_reached(device, points)
        made[index].signal(1)
        expect_none_reached(device, points)
        made[index].signal(2)
        expect_one_reached(device, points)
        expect_one_reached(device, points, -1)
        expect_one_reached(device, [semaphore @ 1 for semaphore in made])


@clause("W-12", "W-3")
@pytest.mark.parametrize("from_device", [False, True], ids=["host", "device"])
def test_one_of_a_hundred_satisfies_an_expired_wait(
    device: ObservedDevice, semaphores: Semaphores, from_device: bool
) -> None:
    """A hundred semaphores, one of them signaled by the host or by a queue: one look is enough."""
    choice = random.Random("any of a hundred")
    points = [semaphore @ choice.randint(1, 2**20) for semaphore in semaphores(100)]
    for place in choice.sample(range(100), 3):
        point = points[place]
        others = points[:place] + points[place + 1 :]
        if from_device:
            device.queue_execute([], signal=[point])
            point.semaphore.wait(point.value)
        else:
            point.semaphore.signal(point.value)
        expect_one_reached(device, points)
        points = others
        expect_none_reached(device, points)


@clause("W-13")
@pytest.mark.parametrize("timeout", [None, 0], ids=["endless", "expired"])
def test_satisfied_wait_for_any_never_blocks(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, timeout: float | None
) -> None:
    """Of nine timepoints one is reached, at each place in turn: a wait without end ends at once."""
    reached = semaphores.at(1) @ 1
    unreached = [semaphore @ 1 for semaphore in semaphores(8)]
    for place in range(9):
        points = [*unreached[:place], reached, *unreached[place:]]
        # On a thread, so that a wait without end is noticed.
        what = f"wait for any of nine, number {place} reached"
        seen = threads.start(partial(status_of, partial(wait_any, device, points, timeout)), what).result()
        assert seen is StatusCode.OK, f"expected success from a {what}; seen {seen.name}"


@clause("W-13", "W-12")
def test_satisfied_wait_for_any_of_many(device: ObservedDevice, semaphores: Semaphores, threads: Tasks) -> None:
    """The same for a hundred and thirty, where the reached one stands beyond each usual limit."""
    reached = semaphores.at(1) @ 1
    unreached = [semaphore @ 1 for semaphore in semaphores(129)]
    for place in (0, 8, 31, 32, 33, 63, 64, 65, 127, 128, 129):
        points = [*unreached[:place], reached, *unreached[place:]]
        wait = partial(wait_any, device, points, None)
        threads.start(wait, f"wait for any of 130, number {place} reached").result()


@clause("W-12")
def test_blocked_wait_for_any_hears_of_each(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle
) -> None:
    """Nine waits for any of nine; a signal of each one, from the host or from a queue, ends the wait that has it."""
    lists = [semaphores(9) for _ in range(9)]
    waiters = [
        threads.start(partial(wait_any, device, [s @ 1 for s in made], None), f"wait for any, number {place} to come")
        for place, made in enumerate(lists)
    ]
    settle(blocked(*waiters))
    for place, (made, waiter) in enumerate(zip(lists, waiters, strict=True)):
        if place % 2:
            made[place].signal(1)
        else:
            device.queue_execute([], signal=[made[place] @ 1], queue=device.queue_count - 1)
        waiter.result()
        expect_none_reached(device, [semaphore @ 1 for n, semaphore in enumerate(made) if n != place])


@clause("W-12", "W-6")
def test_duplicates_in_a_wait_for_any(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle
) -> None:
    """The same timepoint twice is reached once; of several of one semaphore the smallest is enough."""
    a, b = semaphores(2)
    lists = {
        "a@2 twice": [a @ 2, a @ 2],
        "a@5 and a@2": [a @ 5, a @ 2],
        "a@2 and a@5": [a @ 2, b @ 1, a @ 5, b @ 1],
        "a@5 ten times": [a @ 5] * 10,
    }
    waiters = {
        what: threads.start(partial(wait_any, device, points, None), f"wait for any of {what}")
        for what, points in lists.items()
    }
    a.signal(1)
    settle(blocked(*waiters.values()))
    a.signal(2)
    last = waiters.pop("a@5 ten times")
    for waiter in waiters.values():
        waiter.result()
    expect_none_reached(device, lists["a@5 ten times"])
    a.signal(5)
    last.result()
    assert b.query() == 0


@clause("W-12", "W-5")
def test_finite_timeouts_of_a_wait_for_any(device: ObservedDevice, semaphores: Semaphores, threads: Tasks) -> None:
    """With none of three reached, a wait for any ends in its time, and leaves everything as it was."""
    made = semaphores(3)
    points = [semaphore @ 2 for semaphore in made]
    made[1].signal(1)
    for timeout in (1e-9, 0.0013, 0.0207):
        wait = partial(wait_any, device, points, timeout)
        threads.start(partial(expect_timeout, wait, timeout, f"wait for any, {timeout} s")).result()
    assert [semaphore.query() for semaphore in made] == [0, 1, 0]
    made[1].signal(2)
    expect_one_reached(device, points)


@clause("W-12")
@requires(Capability.ASYNC_SUBMIT)
@pytest.mark.parametrize("first", ["device", "host"])
def test_any_of_a_host_and_a_device_signal(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle, first: str
) -> None:
    """A wait for any ends with the first of a host signal and a device signal; the other one has not come.

    main ──gates["device"]@1──▶ submission ──made["device"]@1──▶ ╮
                                                                 wait for any
    main ──gates["host"]@1────▶ thread ──────made["host"]@1────▶ ╯
    """
    gates = dict(zip(("device", "host"), semaphores(2), strict=True))
    made = dict(zip(("device", "host"), semaphores(2), strict=True))
    second = "host" if first == "device" else "device"
    device.queue_execute([], wait=[gates["device"] @ 1], signal=[made["device"] @ 1])

    def relay() -> None:
        gates["host"].wait(1)
        made["host"].signal(1)

    relaying = threads.start(relay)
    points = [made["device"] @ 1, made["host"] @ 1]
    waiter = threads.start(partial(wait_any, device, points, None), "wait for any")
    settle(blocked(waiter))
    gates[first].signal(1)
    waiter.result()
    assert (made[first].query(), made[second].query()) == (1, 0)
    gates[second].signal(1)
    made[second].wait(1)
    relaying.result()


@clause("W-9", "W-12")
@pytest.mark.usefixtures("restless")
def test_signal_at_the_beginning_of_a_wait_for_any(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """A thread waits for the next value of any of three semaphores while one of them is being signaled, in rounds."""
    made = semaphores(3)
    [follower] = semaphores(1)

    def follow() -> None:
        for value in itertools.count(1):
            wait_any(device, [semaphore @ value for semaphore in made], None)
            if max(semaphore.query() for semaphore in made) >= END:
                return
            follower.signal(value)

    def lead() -> None:
        choice = random.Random("lead")
        for value in rounds(effort.loops(50, 300), deadline):
            choice.choice(made).signal(value)
            follower.wait(value, timeout=None)
        made[0].signal(END)

    threads.run([lead, follow])


@clause("W-11", "W-12", "W-9")
@pytest.mark.usefixtures("restless")
def test_new_wait_does_not_inherit_the_other_wake_up(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """Both members of a wait for any are signaled at once; one ends it, and the other does not end the next wait.

    one thread    any(a@v, b@v), then wait(c, 1, 300 µs): must time out, and not early
    two threads   signal(a, v)  signal(b, v)
    """
    a, b, c, begun = semaphores(4)

    def wait() -> None:
        for value in rounds(effort.loops(50, 300), deadline):
            begun.signal(value)
            wait_any(device, [a @ value, b @ value], None)
            expect_timeout(
                partial(c.wait, 1, 300e-6), 300e-6, f"the wait for c@1 after the one for a@{value} or b@{value}"
            )
            a.wait(value)
            b.wait(value)
        begun.signal(END)

    def signal(semaphore: Semaphore) -> None:
        for value in itertools.count(1):
            begun.wait(value)
            if begun.query() >= END:
                return
            semaphore.signal(value)

    calls: list[Callable[[], None]] = [wait, partial(signal, a), partial(signal, b)]
    threads.run(calls)
    assert c.query() == 0
