"""Several queues, which only semaphores put in order."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill, Hold

from ..support import Buffers, Effort, Latches, ObservedDevice, Semaphores, Settle, clause, requires


@clause("Q-20", "Q-5")
@pytest.mark.parametrize("direction", ["up", "down"])
def test_consumer_on_another_queue_comes_first(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle, direction: str
) -> None:
    """The consumer is on its queue before its producer is on another.

    one queue: fill(b, 7) ──made@1──▶ the other queue: copy(b → c) ──done@1──▶ host
    """
    device.need_queues(2)
    first, last = 0, device.queue_count - 1
    producer, consumer = (first, last) if direction == "up" else (last, first)
    b, c = buffers.filled(0, count=2)
    made, done = semaphores(2)
    device.queue_copy(b, c, wait=[made @ 1], signal=[done @ 1], queue=consumer)

    settle(lambda: c.untouched, lambda: done.reads(0))

    device.queue_fill(b, 7, signal=[made @ 1], queue=producer)
    done.wait(1)
    assert c.holds(7)


@clause("Q-20", "Q-7")
def test_consumers_of_different_values_on_all_queues(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Each queue has a consumer of a value of its own, all are there first, and one signal of queue 0 passes all."""
    device.need_queues(2)
    b, targets = buffers.filled(0), buffers.filled(0, count=device.queue_count)
    [made] = semaphores(1)
    done = semaphores(device.queue_count)
    for queue, target in enumerate(targets):
        value = device.queue_count - queue
        device.queue_copy(b, target, wait=[made @ value], signal=[done[queue] @ 1], queue=queue)
    device.queue_fill(b, 7, signal=[made @ (device.queue_count + 1)], queue=0)
    for semaphore, target in zip(done, targets, strict=True):
        semaphore.wait(1)
        assert target.holds(7)
    assert made.query() == device.queue_count + 1


@clause("Q-20")
def test_two_queues_swap_roles(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """One queue signals 1, another waits for it and signals 2; then that one begins, with 3 and 4 of the same timeline.

    queue 0:     fill(b, 1) ──s@1──┐                          ┌▶ copy(b → c) ──s@4──▶ host
    last queue:                    └▶ copy(b → c) ──s@2──▶ host ──▶ fill(b, 2) ──s@3──┘
    """
    device.need_queues(2)
    b, c = buffers.filled(0, count=2)
    [s] = semaphores(1)
    queues = (0, device.queue_count - 1)
    for turn, (one, other) in enumerate([queues, queues[::-1]] * 5):
        at = 2 * turn
        device.queue_fill(b, turn + 1, wait=[s @ at], signal=[s @ (at + 1)], queue=one)
        device.queue_copy(b, c, wait=[s @ (at + 1)], signal=[s @ (at + 2)], queue=other)
        s.wait(at + 2)
        assert c.holds(turn + 1)


@clause("Q-20", "Q-1")
def test_queues_unblock_one_after_another(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """A chain over every queue, each link submitted before the one that it waits for; the host starts it all.

    host ──s@1──▶ queue 0: fill(b0) ──s@2──▶ queue 1: copy(b0 → b1) ──s@3──▶ … last queue ──▶ host
    """
    device.need_queues(2)
    count = device.queue_count
    chain = buffers.filled(0, count=count)
    [s] = semaphores(1)
    for queue in reversed(range(count)):
        work = [Copy(chain[queue - 1], chain[queue])] if queue else [Fill(chain[0], 7)]
        device.queue_execute(work, wait=[s @ (queue + 1)], signal=[s @ (queue + 2)], queue=queue)

    settle(*(lambda b=b: b.untouched for b in chain))

    s.signal(1)
    s.wait(count + 1)
    assert chain[-1].holds(7)


@clause("Q-20")
@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_ring_over_all_queues(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort, direction: str, order: str
) -> None:
    """A word goes round through all queues, many times, in either direction, submitted forward or from the end.

    ┌▶ queue 0 ──▶ queue 1 ──▶ … ──▶ last queue ─┐
    └────────────────────────────────────────────┘   step k: copy(cells[k] → cells[k + 1]), s@k ──▶ s@(k + 1)
    """
    device.need_queues(2)
    steps = device.queue_count * effort.loops(5, 25)
    cells = buffers.filled(0, size=4 * (steps + 1))
    [s] = semaphores(1)
    numbers = range(steps)
    for k in numbers if order == "forward" else reversed(numbers):
        queue = k % device.queue_count if direction == "up" else -k % device.queue_count
        command = Copy(cells, cells, 4 * k, 4 * (k + 1), 4)
        device.queue_execute([command], wait=[s @ (k + 1)], signal=[s @ (k + 2)], queue=queue)
    cells.write(b"word")
    s.signal(1)
    s.wait(steps + 1)
    assert cells.holds(b"word")


@clause("Q-20")
def test_two_rings_in_opposite_directions(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Two words pass each other on all queues, each on a timeline of its own, submitted alternately from the end."""
    device.need_queues(2)
    steps = 10 * device.queue_count
    rings = [buffers.filled(0, size=4 * (steps + 1)) for _ in range(2)]
    timelines = semaphores(2)
    for k in reversed(range(steps)):
        for cells, s, queue in zip(rings, timelines, (k, -k), strict=True):
            command = Copy(cells, cells, 4 * k, 4 * (k + 1), 4)
            device.queue_execute([command], wait=[s @ (k + 1)], signal=[s @ (k + 2)], queue=queue % device.queue_count)
    for cells, s, word in zip(rings, timelines, (b"this", b"that"), strict=True):
        cells.write(word)
        s.signal(1)
    for cells, s, word in zip(rings, timelines, (b"this", b"that"), strict=True):
        s.wait(steps + 1)
        assert cells.holds(word)


@clause("Q-20")
@requires(Capability.HOLD)
def test_held_queue_holds_no_other(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """While one queue is held, each other one works, and what is behind the hold waits; for each queue in turn."""
    device.need_queues(2)
    for held in range(device.queue_count):
        behind, free = buffers.filled(0), buffers.filled(0)
        end, made, done = semaphores(3)
        latch = latches()
        device.queue_execute([Hold(latch), Fill(behind, 7)], signal=[end @ 1], queue=held)
        others = [queue for queue in range(device.queue_count) if queue != held]
        for k, queue in enumerate(others):
            device.queue_fill(free, k + 1, wait=[made @ k], signal=[made @ (k + 1)], queue=queue)
        device.queue_execute([], wait=[made @ len(others)], signal=[done @ 1], queue=others[0])
        done.wait(1)
        assert free.holds(len(others))
        if held == 0:
            settle(partial(getattr, behind, "untouched"))
        latch.open()
        end.wait(1)
        assert behind.holds(7)
