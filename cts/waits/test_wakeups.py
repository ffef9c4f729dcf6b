"""Which signal ends which wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Semaphore, StatusCode

from ..support import Effort, ObservedDevice, Semaphores, Settle, Tasks, blocked, clause, failing
from .watching import expect_timeout


def from_host(device: ObservedDevice, semaphore: Semaphore, value: int) -> None:
    """Signal from the host."""
    semaphore.signal(value)


def from_device(device: ObservedDevice, semaphore: Semaphore, value: int) -> None:
    """Signal from a queue."""
    device.queue_execute([], signal=[semaphore @ value])
    semaphore.wait(value)


Signal = Callable[[ObservedDevice, Semaphore, int], None]
either_way = pytest.mark.parametrize("signal", [from_host, from_device])


def wait_and_query(semaphore: Semaphore, value: int) -> int:
    """Wait for ``value``; return what a query then gives."""
    semaphore.wait(value)
    return semaphore.query()


@clause("W-1", "W-6")
@either_way
def test_smaller_signals_never_end_a_wait(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle, signal: Signal
) -> None:
    """A wait for 100 goes on through the signals of 1 to 99, and ends with that of 100."""
    [semaphore] = semaphores(1)
    before = threads.start(partial(wait_and_query, semaphore, 100), "wait for semaphore@100, begun at 0")
    for value in range(1, 50):
        signal(device, semaphore, value)
    between = threads.start(partial(wait_and_query, semaphore, 100), "wait for semaphore@100, begun at 49")
    for value in range(50, 100):
        signal(device, semaphore, value)
    settle(blocked(before, between))
    with failing(StatusCode.DEADLINE_EXCEEDED):
        semaphore.wait(100, timeout=0)

    signal(device, semaphore, 100)
    assert before.result() == 100
    assert between.result() == 100


@clause("W-1", "W-2", "W-6")
@pytest.mark.usefixtures("restless")
def test_waits_for_every_so_many_values(semaphores: Semaphores, threads: Tasks, effort: Effort) -> None:
    """Threads that wait for every 2nd, 3rd, … value never find the timeline below what they waited for."""
    [semaphore] = semaphores(1)
    last = 5 * effort.loops(40, 200)

    def stride(step: int) -> None:
        for value in range(step, last + 1, step):
            seen = wait_and_query(semaphore, value)
            assert seen >= value, f"expected wait({value}) to return at {value} or above; seen {seen}"

    def signal_all() -> None:
        for value in range(1, last + 1):
            semaphore.signal(value)
            if value % 16 == 0:
                slowest.wait(value // 4)

    [slowest] = semaphores(1)

    def keep_up() -> None:  # lets the signaling thread run no more than a little ahead
        for value in range(4, last + 1, 4):
            semaphore.wait(value)
            slowest.signal(value // 4)

    strides: list[Callable[[], None]] = [partial(stride, step) for step in (1, 2, 3, 5, 10)]
    threads.run([signal_all, keep_up, *strides])


@clause("W-1")
def test_wait_for_work_that_cannot_start(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle
) -> None:
    """A wait for what a submission will signal lasts as long as that waits itself.

    host ──gate@1──▶ #1 ──made@1──▶ #2 ──made@2──▶ host
    """
    gate, made = semaphores(2)
    device.queue_execute([], wait=[gate @ 1], signal=[made @ 1])
    device.queue_execute([], wait=[made @ 1], signal=[made @ 2])
    waiter = threads.start(partial(wait_and_query, made, 2), "wait for made@2")
    settle(blocked(waiter), lambda: made.query() == 0)
    gate.signal(1)
    assert waiter.result() == 2


@clause("W-7")
def test_one_thread_waits_for_one_value_again_and_again(semaphores: Semaphores, threads: Tasks) -> None:
    """The same wait succeeds a second time, and as often as one likes."""
    [semaphore] = semaphores(1)
    threads.start(lambda: semaphore.signal(1))
    for _ in range(100):
        semaphore.wait(1)
        assert semaphore.query() == 1


@clause("W-7", "W-8")
@either_way
def test_many_threads_wait_for_one_value(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, signal: Signal
) -> None:
    """Twenty threads wait for a value before it is reached, and twenty after: one signal satisfies all."""
    for _ in range(effort.loops(1, 5)):
        [semaphore] = semaphores(1)
        early = [threads.start(partial(semaphore.wait, 1), f"early wait {n}") for n in range(20)]
        signal(device, semaphore, 1)
        late = [threads.start(partial(semaphore.wait, 1), f"late wait {n}") for n in range(20)]
        for waiter in [*early, *late]:
            waiter.result()


@clause("W-8")
def test_value_signaled_beyond(semaphores: Semaphores, threads: Tasks) -> None:
    """A wait for 3 is satisfied by a signal of 10."""
    semaphore = semaphores.at(2)
    waiter = threads.start(partial(wait_and_query, semaphore, 3))
    threads.start(lambda: semaphore.signal(10))
    assert waiter.result() == 10


@clause("W-8", "W-1")
@either_way
def test_one_signal_satisfies_all_waits_at_or_below_it(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle, signal: Signal
) -> None:
    """Of forty waits for 1 to 20, two for each, a signal of 10 ends twenty. The others stay.

    wait 1 … wait 10  ◀──10──  signal  ──20──▶  wait 11 … wait 20
    """
    [semaphore] = semaphores(1)
    order = random.Random("order of waits").sample([*range(1, 21)] * 2, 40)
    waiters = [(value, threads.start(partial(semaphore.wait, value), f"wait for semaphore@{value}")) for value in order]
    signal(device, semaphore, 10)
    for value, waiter in waiters:
        if value <= 10:
            waiter.result()
    settle(blocked(*(waiter for value, waiter in waiters if value > 10)))

    signal(device, semaphore, 20)
    for _, waiter in waiters:
        waiter.result()


@clause("W-8", "W-1")
def test_signals_one_by_one_satisfy_waits_one_by_one(semaphores: Semaphores, threads: Tasks, effort: Effort) -> None:
    """Ten threads wait for values 1 to 10; each signal ends the one wait that is due."""
    for _ in range(effort.loops(2, 10)):
        [semaphore] = semaphores(1)
        waiters = [
            threads.start(partial(wait_and_query, semaphore, value), f"wait for semaphore@{value}")
            for value in range(1, 11)
        ]
        for value, waiter in enumerate(waiters, start=1):
            assert blocked(*waiters[value - 1 :])()
            semaphore.signal(value)
            seen = waiter.result()
            assert seen == value, f"expected wait({value}) to end at {value}; seen {seen}"


@clause("W-8")
def test_signal_on_one_semaphore_ends_no_wait_on_another(
    semaphores: Semaphores, threads: Tasks, settle: Settle
) -> None:
    """Fifty threads wait for the same value of fifty semaphores; signaling every second one ends every second wait."""
    made = semaphores(50)
    waiters = [threads.start(partial(semaphore.wait, 1), f"wait {n}") for n, semaphore in enumerate(made)]
    for semaphore in made[::2]:
        semaphore.signal(1)
    for waiter in waiters[::2]:
        waiter.result()
    settle(blocked(*waiters[1::2]))
    for semaphore in made[1::2]:
        semaphore.signal(1)
    for waiter in waiters[1::2]:
        waiter.result()


@clause("W-11", "W-7")
def test_end_of_a_wait_ends_no_other(semaphores: Semaphores, threads: Tasks, effort: Effort) -> None:
    """Waits that end, by their value or their deadline, leave alone those for the same and for other values.

    patient    wait(2^20)
    impatient  wait(v), wait(2^20, 1 ms), signal(v + 1)     four threads in turn, again and again
    """
    [semaphore] = semaphores(1)
    goal = 2**20
    patient = threads.start(partial(semaphore.wait, goal), "wait that nobody satisfies")

    def come_and_go(first: int) -> None:
        for value in range(first, first + 4 * effort.loops(5, 20), 4):
            semaphore.wait(value)
            expect_timeout(partial(semaphore.wait, goal, 0.001), 0.001, "wait(2^20, 0.001)")
            semaphore.signal(value + 1)

    semaphore.signal(1)
    threads.run(partial(come_and_go, first) for first in range(1, 5))
    assert blocked(patient)()
    semaphore.signal(goal)
    patient.result()
