"""Many submissions behind one that does not end, from the thread that will end it.

A device takes only so many that cannot start, and then blocks whoever submits: about a thousand on a CUDA stream. If
that is the thread that opens the latch, nobody ever does. So a supervised thread submits, and lets go at its end.
"""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Fill, Hold, Latch, StatusCode, Timepoint

from ..support import Buffers, Latches, ObservedDevice, Semaphores, Tasks, clause, requires, status_of
from .pace import wait_in_steps

COUNT = 5000
EXPECTED = b"".join(k.to_bytes(4, "big") for k in range(COUNT))
#: Of a stream that never rests: how often work ends behind which there is more, and how many fills and empty
#: submissions that is each time, few enough to be on the stream at once. All together a HAL that counts one too few for
#: each of either is off by about as many as a stream takes.
ROUNDS, EACH = 12, 75


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


@clause("Q-24")
@requires(Capability.HOLD)
def test_submissions_behind_a_held_one_on_a_stream_that_never_rests(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, threads: Tasks
) -> None:
    """What counts its work in flight, to take no more than a stream does, still counts right after a lot of it.

    hold ──s──▶ fill, barrier, … ──s──▶ hold ──s──▶ …      a hold ends when the next one has been submitted
    """
    cells = buffers.filled(0, size=4 * COUNT)
    [s] = semaphores(1)
    value = 0

    def follow() -> tuple[list[Timepoint], list[Timepoint]]:
        """Return what the next submission waits for, and what it signals."""
        nonlocal value
        value += 1
        return [s @ (value - 1)], [s @ value]

    def hold() -> Latch:
        latch = latches()
        wait, signal = follow()
        device.queue_execute([Hold(latch)], wait=wait, signal=signal)
        return latch

    def submit_and_let_go(ended: Latch) -> Latch:
        for _ in range(EACH):
            wait, signal = follow()
            device.queue_fill(cells, 9, wait=wait, signal=signal)
            wait, signal = follow()
            device.queue_execute([], wait=wait, signal=signal)
        following = hold()
        ended.open()
        return following

    def submit_many_and_let_go() -> None:
        for k in range(COUNT // 4):
            wait, signal = follow()
            device.queue_fill(cells, k.to_bytes(4, "big"), offset=4 * k, length=4, wait=wait, signal=signal)
        latch.open()

    latch = hold()
    for _ in range(ROUNDS):
        latch = threads.start(partial(submit_and_let_go, latch)).result()
        s.wait(value - 1)
    threads.start(submit_many_and_let_go).result()
    wait_in_steps(s, value)
    assert cells.holds_bytes(EXPECTED[:COUNT])


@clause("Q-24")
@requires(Capability.HOLD)
def test_submissions_behind_a_long_list_that_is_held(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, threads: Tasks
) -> None:
    """A list with more commands than a stream takes is itself what is in the way of those that come later.

    It is longer than C-3 promises, so a HAL may refuse it, or fail it for want of room.

    hold ──s@1──▶ 2048 fills ──s@2──▶ host
             └──▶ 200 barriers ──done@1──▶ host
    """
    many = 2048
    cells = buffers.filled(0, size=4 * many)
    [s] = semaphores(1)
    behind = semaphores(200)
    latch = latches()
    fills = [Fill(cells, k.to_bytes(4, "big"), 4 * k, 4) for k in range(many)]

    def submit_and_let_go() -> StatusCode:
        device.queue_execute([Hold(latch)], signal=[s @ 1])
        code = status_of(lambda: device.queue_execute(fills, wait=[s @ 1], signal=[s @ 2]))
        if code is StatusCode.OK:
            for done in behind:
                device.queue_execute([], wait=[s @ 1], signal=[done @ 1])
        latch.open()
        return code

    code = threads.start(submit_and_let_go).result()
    s.wait(1)
    if code is StatusCode.OK:
        for done in behind:
            done.wait(1)
        code = status_of(lambda: s.wait(2))
        assert code in (StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED), f"expected the list to run; seen {code.name}"
    if code is not StatusCode.OK:
        pytest.skip(f"unsupported: this HAL takes no list of {many} commands")
    assert cells.holds_bytes(EXPECTED[: 4 * many])
