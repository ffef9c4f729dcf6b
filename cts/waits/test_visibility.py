"""What can be seen when a wait has returned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Copy, Fill, Semaphore

from ..support import Buffers, Effort, ObservedBuffer, ObservedDevice, Semaphores, Tasks, clause, mark
from .watching import END, followed, rounds

#: Large enough that the end of a transfer can come noticeably later than its beginning.
SIZE = 64 * 1024


def expect_reached(semaphore: Semaphore, value: int) -> None:
    """Check that a query gives at least the value that has been waited for."""
    seen = semaphore.query()
    assert seen >= value, f"expected at least {value} from query() after wait({value}); seen {seen}"


def lead_and_follow(
    threads: Tasks, signal: Callable[[int], object], semaphore: Semaphore, seen: Semaphore, values: Iterable[int]
) -> None:
    """Let one thread cause the signals of a semaphore, each when the last was seen, and another wait for each."""

    def lead() -> None:
        for value in values:
            signal(value)
            seen.wait(value)
        semaphore.signal(END)

    def follow() -> None:
        for value in followed(semaphore):
            expect_reached(semaphore, value)
            seen.signal(value)

    threads.run([lead, follow])


@clause("W-2")
@pytest.mark.usefixtures("restless")
def test_query_after_a_wait_for_the_host(
    semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """However close wait and signal are, a query after the wait gives what was waited for."""
    semaphore, seen = semaphores(2)
    lead_and_follow(threads, semaphore.signal, semaphore, seen, rounds(effort.loops(100, 500), deadline))


@clause("W-2")
@pytest.mark.usefixtures("restless")
def test_query_after_a_wait_for_the_device(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """The same where a submission signals, for which a thread waits already when it runs.

    thread 1 ──gate@v──▶ │ ──semaphore@v──▶ thread 2 ──seen@v──▶ thread 1
    """
    gate, semaphore, seen = semaphores(3)

    def release(value: int) -> None:
        queue = value % device.queue_count
        device.queue_execute([], wait=[gate @ value], signal=[semaphore @ value], queue=queue)
        gate.signal(value)

    lead_and_follow(threads, release, semaphore, seen, rounds(effort.loops(100, 600), deadline))


@clause("W-2")
def test_work_is_visible_after_a_wait_for_it(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, effort: Effort
) -> None:
    """After each wait the value can be queried, and every byte that was written before it can be read."""
    [semaphore] = semaphores(1)
    target = buffers.filled(0, size=SIZE)
    for value in range(1, effort.loops(20, 200) + 1):
        queue = value % device.queue_count
        device.queue_fill(target, value % 251, signal=[semaphore @ value], queue=queue)
        semaphore.wait(value)
        expect_reached(semaphore, value)
        assert target.holds(value % 251)


@clause("W-2")
def test_work_is_visible_to_each_of_several_threads(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, threads: Tasks, effort: Effort
) -> None:
    """The same for four threads at once, each with a semaphore and a buffer of its own."""

    def work(semaphore: Semaphore, target: ObservedBuffer, queue: int) -> None:
        for value in range(1, effort.loops(10, 50) + 1):
            device.queue_fill(target, mark(value), signal=[semaphore @ value], queue=queue)
            semaphore.wait(value)
            expect_reached(semaphore, value)
            assert target.holds(mark(value))

    made, targets = semaphores(4), buffers.filled(0, count=4, size=SIZE)
    threads.run([partial(work, made[n], targets[n], n % device.queue_count) for n in range(4)])


@clause("W-2")
def test_all_work_of_a_chain_is_visible_after_a_wait_for_its_end(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers
) -> None:
    """What is waited for is the last of eight links over all queues; what can be seen is the work of all.

    fill(b0) ──s@1──▶ copy(b0 → b1) ──s@2──▶ … copy(b6 → b7) ──s@8──▶ host
    """
    [semaphore] = semaphores(1)
    chain = buffers.filled(0, count=8, size=SIZE)
    device.queue_execute([Fill(chain[0], 7)], signal=[semaphore @ 1])
    for link in range(1, 8):
        device.queue_execute(
            [Copy(chain[link - 1], chain[link])],
            wait=[semaphore @ link],
            signal=[semaphore @ (link + 1)],
            queue=link % device.queue_count,
        )
    semaphore.wait(8)
    expect_reached(semaphore, 8)
    for buffer in chain:
        assert buffer.holds(7)


@clause("W-2", "W-12")
def test_work_is_visible_after_a_wait_for_all(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, effort: Effort
) -> None:
    """After a wait for all of four submissions, every value can be queried and every byte read."""
    made, targets = semaphores(4), buffers.filled(0, count=4, size=SIZE)
    for value in range(1, effort.loops(5, 30) + 1):
        for n in range(4):
            device.queue_fill(targets[n], mark(value), signal=[made[n] @ value], queue=n % device.queue_count)
        device.wait_semaphores([semaphore @ value for semaphore in made])
        for semaphore, target in zip(made, targets, strict=True):
            expect_reached(semaphore, value)
            assert target.holds(mark(value))
