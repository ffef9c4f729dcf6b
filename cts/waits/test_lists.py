"""Waits for all of several timepoints."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
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
    failing,
    requires,
    status_of,
)
from .watching import expect_success, expect_timeout

pytestmark = requires(Capability.WAIT_ALL)

#: Lengths around which systems change their ways: stack to heap, one wait block to several.
LENGTHS = [1, 2, 8, 9, 32, 33, 63, 64, 65, 128, 129, 300]


def expect_unreached(device: ObservedDevice, points: list[Timepoint], what: str) -> None:
    """Check that an expired wait for all gives DEADLINE_EXCEEDED."""
    code = status_of(partial(device.wait_semaphores, points, timeout=0))
    assert code is StatusCode.DEADLINE_EXCEEDED, f"expected DEADLINE_EXCEEDED for {what}; seen {code.name}"


def expect_reached(device: ObservedDevice, points: list[Timepoint], what: str, timeout: float = 0) -> None:
    """Check that an expired wait for all succeeds."""
    expect_success(partial(device.wait_semaphores, points, timeout=timeout), f"an expired wait for all of {what}")


def signal_each(made: Sequence[Semaphore]) -> None:
    """Bring every semaphore to 1."""
    for semaphore in made:
        semaphore.signal(1)


@clause("W-12")
@pytest.mark.parametrize(
    "mode", [WaitMode.ALL, pytest.param(WaitMode.ANY, marks=requires(Capability.WAIT_ANY))], ids=["all", "any"]
)
def test_empty_list_is_satisfied_at_once(device: ObservedDevice, threads: Tasks, mode: WaitMode) -> None:
    """A wait for all, and for any, of nothing succeeds with every timeout."""
    for timeout in (None, math.inf, 1.0, 1e-9, 0, -1.0, -math.inf):
        # On a thread, so that a wait without end is noticed.
        wait = partial(status_of, partial(device.wait_semaphores, [], mode=mode, timeout=timeout))
        seen = threads.start(wait, f"wait for {mode.value} of nothing, timeout={timeout}").result()
        assert seen is StatusCode.OK, f"expected success with timeout={timeout}; seen {seen.name}"


@clause("W-12", "W-3", "W-4")
def test_all_with_an_expired_timeout(device: ObservedDevice, semaphores: Semaphores) -> None:
    """Two timepoints: DEADLINE_EXCEEDED until both are reached."""
    a, b = semaphores(2)
    both = [a @ 1, b @ 1]
    expect_unreached(device, both, "none of two")
    b.signal(1)
    expect_unreached(device, both, "the second of two")
    expect_unreached(device, both[::-1], "the first of two")
    a.signal(1)
    expect_reached(device, both, "two that are reached")
    expect_reached(device, both[::-1], "two that are reached", timeout=-1)
    expect_reached(device, [a @ 0, b @ 1], "two of which one was passed")


@clause("W-12", "W-3")
@pytest.mark.parametrize("from_device", [False, True], ids=["host", "device"])
def test_hundred_reached_timepoints_satisfy_an_expired_wait(
    device: ObservedDevice, semaphores: Semaphores, from_device: bool
) -> None:
    """A hundred semaphores, each signaled to a value of its own by the host or by a queue: one look is enough."""
    values = random.Random("all of a hundred")
    points = [semaphore @ values.randint(1, 2**20) for semaphore in semaphores(100)]
    [over] = semaphores(1)
    if from_device:
        for point in points:
            device.queue_execute([], signal=[point])
        device.queue_execute([], wait=points, signal=[over @ 1])
        over.wait(1)
    else:
        for point in points:
            point.semaphore.signal(point.value)
    expect_reached(device, points, "a hundred that are reached")
    expect_reached(device, [point.semaphore @ (point.value // 2) for point in points], "a hundred that were passed")


@clause("W-12", "W-4")
@pytest.mark.parametrize("length", LENGTHS)
def test_all_of_a_list_of_any_length(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, length: int
) -> None:
    """Whichever one of a list is missing, an expired wait sees that it is; when it comes, a blocked one sees that."""
    made = semaphores(length)
    # Signal one at a time, from both ends to the middle and in between.
    order = random.Random(length).sample(range(length), length)
    points = [semaphore @ 1 for semaphore in made]
    for index in order[:-1]:
        made[index].signal(1)
        if index % 8 == 0:
            expect_unreached(device, points, f"{length} timepoints, one of them unreached")
    last = order[-1]
    expect_unreached(device, points, f"{length} timepoints of which only number {last} is unreached")
    waiter = threads.start(partial(device.wait_semaphores, points, timeout=None), f"wait for all of {length}")
    made[last].signal(1)
    waiter.result()
    expect_reached(device, points, f"{length} that are reached")


@clause("W-12")
def test_each_one_of_many_can_be_the_missing_one(device: ObservedDevice, semaphores: Semaphores) -> None:
    """Of 130 timepoints 129 are reached: at whatever place the other stands, the wait for all is not satisfied."""
    reached = [semaphores.at(1) @ 1 for _ in range(129)]
    [missing] = semaphores(1)
    for place in range(130):
        points = [*reached[:place], missing @ 1, *reached[place:]]
        expect_unreached(device, points, f"130 timepoints of which only number {place} is unreached")
    missing.signal(1)
    expect_reached(device, [missing @ 1, *reached], "130 that are reached")


@clause("W-12")
def test_duplicates_in_a_wait_for_all(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle
) -> None:
    """The same timepoint twice, and several of one semaphore, are reached when the largest is."""
    a, b = semaphores(2)
    lists = {
        "a@1 twice": [a @ 1, a @ 1],
        "a@1 ten times": [a @ 1] * 10,
        "b between a@1 and a@1": [a @ 1, b @ 1, a @ 1, b @ 1],
        "a@1 and a@3": [a @ 1, a @ 3],
        "a@3 and a@1": [a @ 3, a @ 1, b @ 1, a @ 2],
    }
    waiters = {
        what: threads.start(partial(device.wait_semaphores, points, timeout=None), f"wait for {what}")
        for what, points in lists.items()
    }
    a.signal(1)
    for what in ("a@1 twice", "a@1 ten times"):
        waiters.pop(what).result()
    settle(blocked(*waiters.values()))
    b.signal(1)
    waiters.pop("b between a@1 and a@1").result()
    a.signal(2)
    expect_unreached(device, lists["a@1 and a@3"], "a@1 and a@3 at 2")
    expect_unreached(device, lists["a@3 and a@1"], "a@3 and a@1 at 2")
    a.signal(3)
    for waiter in waiters.values():
        waiter.result()


@clause("W-12", "W-8", "W-1")
def test_all_ends_with_the_last_signal_in_whatever_order(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle
) -> None:
    """Three semaphores are signaled in each of six orders; no wait ends before the third."""
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    made = [semaphores(3) for _ in orders]
    waiters = [
        threads.start(
            partial(device.wait_semaphores, [s @ 1 for s in three], timeout=None), f"signals in order {order}"
        )
        for three, order in zip(made, orders, strict=True)
    ]
    for three, order in zip(made, orders, strict=True):
        three[order[0]].signal(1)
        three[order[1]].signal(1)
    settle(blocked(*waiters))
    for three, order, waiter in zip(made, orders, waiters, strict=True):
        three[order[2]].signal(1)
        waiter.result()


@clause("W-12", "W-7")
def test_simultaneous_waits_for_the_same_list(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Two threads wait for the same two semaphores, a third signals both: both waits end."""
    for _ in range(effort.loops(5, 50)):
        made = semaphores(2)
        points = [semaphore @ 1 for semaphore in made]
        wait = partial(device.wait_semaphores, points, timeout=None)
        threads.run([wait, wait, partial(signal_each, made)])
        assert [semaphore.query() for semaphore in made] == [1, 1]


@clause("W-12", "W-5")
def test_finite_timeouts_of_a_wait_for_all(device: ObservedDevice, semaphores: Semaphores, threads: Tasks) -> None:
    """With one of three unreached, a wait for all ends in its time, and leaves everything as it was."""
    a, b, c = semaphores(3)
    a.signal(1)
    c.signal(1)
    points = [a @ 1, b @ 1, c @ 1]
    for timeout in (1e-9, 0.0013, 0.0207):
        wait = partial(device.wait_semaphores, points, timeout=timeout)
        threads.start(partial(expect_timeout, wait, timeout, f"wait for all, {timeout} s")).result()
    assert [semaphore.query() for semaphore in (a, b, c)] == [1, 0, 1]
    b.signal(1)
    expect_reached(device, points, "three that are reached")


@clause("W-12")
@requires(Capability.ASYNC_SUBMIT)
def test_all_of_a_host_and_a_device_signal(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle
) -> None:
    """A wait for all takes timepoints that the host signals, and that a queue signals, together.

    main ──device_gate@1──▶ submission ──from_device@1──▶ ╮
                                                          wait for all
    main ──host_gate@1────▶ thread ──────from_host@1────▶ ╯
    """
    device_gate, host_gate, from_device, from_host = semaphores(4)
    device.queue_execute([], wait=[device_gate @ 1], signal=[from_device @ 1])

    def relay() -> None:
        host_gate.wait(1)
        from_host.signal(1)

    threads.start(relay)
    points = [from_device @ 1, from_host @ 1]
    waiter = threads.start(partial(device.wait_semaphores, points, timeout=None), "wait for all")
    with failing(StatusCode.DEADLINE_EXCEEDED):
        device.wait_semaphores(points, timeout=0)
    device_gate.signal(1)
    from_device.wait(1)
    settle(blocked(waiter), lambda: from_host.query() == 0)
    host_gate.signal(1)
    waiter.result()
    assert (from_device.query(), from_host.query()) == (1, 1)


@clause("W-8", "W-12", "Q-9")
def test_one_device_signal_for_host_waits_and_submissions(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks
) -> None:
    """Two semaphores of one submission release three waits for one, a wait for all, and the next submission.

    gate@1 ──▶ #1 ──made@1, also@1──▶ #2 ──done@1──▶
                 ╰──▶ three threads and a wait for all
    """
    gate, made, also, done = semaphores(4)
    device.queue_execute([], wait=[gate @ 1], signal=[made @ 1, also @ 1])
    device.queue_execute([], wait=[made @ 1], signal=[done @ 1], queue=device.queue_count - 1)
    points = [made @ 1, also @ 1, done @ 1]
    waiters = [threads.start(partial(semaphore.wait, 1), "wait for one") for semaphore in (made, also, done)]
    waiters.append(threads.start(partial(device.wait_semaphores, points, timeout=None), "wait for all"))
    gate.signal(1)
    for waiter in waiters:
        waiter.result()
    assert [semaphore.query() for semaphore in (made, also, done)] == [1, 1, 1]
