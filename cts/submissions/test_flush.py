"""Flushing: allowed at any time, and without consequence for any result."""

from __future__ import annotations

from pytest_cuda2hal.hal import Capability, Copy, Hold

from ..support import (
    Buffers,
    Effort,
    Latches,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    clause,
    requires,
)


def flush_all(device: ObservedDevice) -> None:
    """Flush every queue."""
    for queue in range(device.queue_count):
        device.queue_flush(queue)


@clause("Q-21")
def test_flush_of_idle_queues(device: ObservedDevice, semaphores: Semaphores) -> None:
    """With nothing submitted, with everything done, and many times over."""
    for _ in range(20):
        flush_all(device)
    [s] = semaphores(1)
    device.queue_execute([], signal=[s @ 1])
    s.wait(1)
    for _ in range(20):
        flush_all(device)
    assert s.query() == 1


@clause("Q-21", "Q-1")
def test_flush_starts_nothing_early(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """What waits goes on waiting, for the host, and for a producer before and after it is submitted.

    host ──gate@1──▶ copy(a → b) ──made@1──▶ copy(b → c) ──done@1──▶ host, flushing all the while
    """
    a, b, c = buffers.filled(1), buffers.filled(0), buffers.filled(0)
    gate, made, done = semaphores(3)
    flush_all(device)
    device.queue_copy(b, c, wait=[made @ 1], signal=[done @ 1], queue=device.queue_count - 1)
    flush_all(device)
    device.queue_copy(a, b, wait=[gate @ 1], signal=[made @ 1])
    flush_all(device)

    settle(lambda: b.untouched, lambda: c.untouched, lambda: made.reads(0), lambda: done.reads(0))

    a.fill_by_host(7)
    gate.signal(1)
    flush_all(device)
    done.wait(1)
    flush_all(device)
    assert c.holds(7)


@clause("Q-21")
@requires(Capability.HOLD)
def test_flush_of_a_held_queue_returns(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, threads: Tasks, settle: Settle
) -> None:
    """A flush pushes work on; it does not wait for it."""
    b, c = buffers.filled(7), buffers.filled(0)
    [done] = semaphores(1)
    latch = latches()
    device.queue_execute([Hold(latch), Copy(b, c)], signal=[done @ 1])
    threads.start(lambda: flush_all(device)).result()
    settle(lambda: c.untouched, lambda: done.reads(0))
    latch.open()
    done.wait(1)
    assert c.holds(7)


@clause("Q-21", "Q-19")
def test_flush_from_other_threads(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Two threads do nothing but flush while a third runs chains, each submitted from its end."""
    hops = 10
    cells = buffers.filled(0, size=4 * (hops + 1))

    def flush() -> None:
        for _ in range(effort.loops(500, 2000)):
            flush_all(device)

    flushing = [threads.start(flush) for _ in range(2)]
    for turn in range(1, effort.loops(5, 15) + 1):
        [s] = semaphores(1)
        for k in reversed(range(hops)):
            command = Copy(cells, cells, 4 * k, 4 * (k + 1), 4)
            queue = k % device.queue_count
            device.queue_execute([command], wait=[s @ (k + 1)], signal=[s @ (k + 2)], queue=queue)
        cells.write(turn.to_bytes(4, "little"))
        s.signal(1)
        s.wait(hops + 1)
        assert cells.holds(turn.to_bytes(4, "little"))
    for thread in flushing:
        thread.result()
