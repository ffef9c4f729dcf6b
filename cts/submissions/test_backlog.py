"""Five thousand submissions behind one that does not end, from the thread that will end it.

A device takes only so many that cannot start, and then blocks whoever submits: about a thousand on a CUDA stream. If
that is the thread that opens the latch, nobody ever does. So a supervised thread submits, and lets go when it is done.
"""

from __future__ import annotations

from pytest_cuda2hal.hal import Hold

from ..support import Buffers, Latches, ObservedDevice, Semaphores, Tasks, clause
from .pace import wait_in_steps

COUNT = 5000
EXPECTED = b"".join(k.to_bytes(4, "big") for k in range(COUNT))


@clause("Q-24")
def test_dependent_submissions_behind_a_held_one(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, threads: Tasks
) -> None:
    """Each waits for the one before it, and the first for the held one.

    hold ──s@1──▶ fill(cell 0) ──s@2──▶ fill(cell 1) ──s@3──▶ … fill(cell 4999) ──s@5001──▶ host
    """
    cells = buffers.filled(0, size=4 * COUNT)
    [s] = semaphores(1)
    latch = latches()

    def submit_and_let_go() -> None:
        device.queue_execute([Hold(latch)], signal=[s @ 1])
        for k in range(COUNT):
            wait, signal = [s @ (k + 1)], [s @ (k + 2)]
            device.queue_fill(cells, k.to_bytes(4, "big"), offset=4 * k, length=4, wait=wait, signal=signal)
        latch.open()

    threads.start(submit_and_let_go).result()
    wait_in_steps(s, COUNT + 1)
    assert cells.holds_bytes(EXPECTED)


@clause("Q-24")
def test_ready_submissions_behind_a_held_one(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, threads: Tasks
) -> None:
    """Nothing but the queue stands between each of them and its run: all are ready, none waits for anything."""
    cells = buffers.filled(0, size=4 * COUNT)
    latch = latches()
    [held] = semaphores(1)
    done = semaphores(COUNT)

    def submit_and_let_go() -> None:
        device.queue_execute([Hold(latch)], signal=[held @ 1])
        for k in range(COUNT):
            device.queue_fill(cells, k.to_bytes(4, "big"), offset=4 * k, length=4, signal=[done[k] @ 1])
        latch.open()

    threads.start(submit_and_let_go).result()
    for s in [held, *done]:
        s.wait(1)
    assert cells.holds_bytes(EXPECTED)


@clause("Q-24", "Q-3")
def test_submissions_behind_a_gate(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks
) -> None:
    """The same behind a host signal, for a HAL that cannot be held.

    host ──gate@1──▶ fill(cell 0) ──s@1──▶ fill(cell 1) ──s@2──▶ … fill(cell 4999) ──s@5000──▶ host; all wait for gate@1
    """
    cells = buffers.filled(0, size=4 * COUNT)
    gate, s = semaphores(2)

    def submit_and_let_go() -> None:
        for k in range(COUNT):
            wait, signal = [gate @ 1, s @ k], [s @ (k + 1)]
            device.queue_fill(cells, k.to_bytes(4, "big"), offset=4 * k, length=4, wait=wait, signal=signal)
        gate.signal(1)

    threads.start(submit_and_let_go).result()
    wait_in_steps(s, COUNT)
    assert cells.holds_bytes(EXPECTED)
