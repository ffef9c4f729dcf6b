"""A long call is nobody's business but that of who waits for it."""

from __future__ import annotations

import threading
from functools import partial

from pytest_cuda2hal.hal import Capability

from ..support import Buffers, Effort, ObservedDevice, Semaphores, Tasks, clause, requires
from .conftest import LongCall


@clause("H-3", "Q-14")
def test_long_call_holds_back_no_work_of_its_queue(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, long_call: LongCall
) -> None:
    """Work submitted behind it on every queue, its own included, runs and is waited for while the call is blocked.

    call (blocked) ──called@1──▶ host
    fill(a) ──s@1──▶ copy(a → b) ──s@2──▶ host      on each queue, submitted behind the call
    """
    called = semaphores.at(0)
    device.queue_host_call(long_call, signal=[called @ 1], queue=0)
    long_call.wait_until_it_runs()
    for queue in range(device.queue_count):
        a, b = buffers.filled(0, count=2)
        s = semaphores.at(0)
        device.queue_fill(a, 7, signal=[s @ 1], queue=queue)
        device.queue_copy(a, b, wait=[s @ 1], signal=[s @ 2], queue=queue)
        s.wait(2)
        assert b.holds(7)
    assert called.query() == 0
    long_call.let_return()
    called.wait(1)


@clause("H-3")
def test_long_call_holds_back_no_work_that_was_there_before(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, long_call: LongCall
) -> None:
    """Work that was pending when the call began is released by the host and runs."""
    b = buffers.filled(0)
    gate, filled, called = semaphores(3)
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[filled @ 1])
    device.queue_host_call(long_call, signal=[called @ 1])
    long_call.wait_until_it_runs()
    gate.signal(1)
    filled.wait(1)
    assert b.holds(7)
    long_call.let_return()
    called.wait(1)


@clause("H-3")
def test_long_call_holds_back_no_other_call(
    device: ObservedDevice, semaphores: Semaphores, long_call: LongCall
) -> None:
    """Sixteen short calls are made while the long one is blocked, on its queue and on others."""
    made: list[int] = []
    called = semaphores.at(0)
    done = semaphores(16)
    device.queue_host_call(long_call, signal=[called @ 1])
    long_call.wait_until_it_runs()
    for number, finished in enumerate(done):
        queue = number % device.queue_count
        device.queue_host_call(partial(made.append, number), signal=[finished @ 1], queue=queue)
    for finished in done:
        finished.wait(1)
    assert sorted(made) == list(range(16))
    long_call.let_return()
    called.wait(1)


@clause("H-3")
def test_calls_that_wait_for_each_other(
    device: ObservedDevice, semaphores: Semaphores, deadline: float, effort: Effort
) -> None:
    """Independent calls meet at a barrier inside: they must be able to run at the same time.

    call 0: meets the others ──done[0]@1──▶ host
    call 1: meets the others ──done[1]@1──▶ host   …
    """
    for _ in range(effort.loops(2, 10)):
        meeting = threading.Barrier(8, timeout=2 * deadline)
        done = semaphores(8)
        for number, finished in enumerate(done):
            queue = number % device.queue_count
            device.queue_host_call(meeting.wait, signal=[finished @ 1], queue=queue)
        for finished in done:
            finished.wait(1)


@clause("H-3", "W-10")
def test_long_call_holds_back_no_host_thread(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, long_call: LongCall
) -> None:
    """While it is blocked, other threads create, signal, query, wait, submit and fail as ever."""
    called = semaphores.at(0)
    device.queue_host_call(long_call, signal=[called @ 1])
    long_call.wait_until_it_runs()

    def play() -> None:
        s, t = semaphores(2)
        device.queue_execute([], wait=[s @ 1], signal=[t @ 1])
        s.signal(1)
        t.wait(1)
        assert t.query() == 1

    threads.run([play] * 4)
    long_call.let_return()
    called.wait(1)


@clause("H-3", "A-1")
@requires(Capability.HOST_CALL, Capability.ASYNC_ALLOC)
def test_long_call_holds_back_no_allocation(
    device: ObservedDevice, semaphores: Semaphores, long_call: LongCall
) -> None:
    """Queues allocate and free while the call is blocked."""
    called, s = semaphores(2)
    device.queue_host_call(long_call, signal=[called @ 1])
    long_call.wait_until_it_runs()
    a = device.queue_alloca(4096, signal=[s @ 1])
    device.queue_fill(a, 7, wait=[s @ 1], signal=[s @ 2])
    s.wait(2)
    assert a.holds(7)
    device.queue_dealloca(a, signal=[s @ 3])
    s.wait(3)
    long_call.let_return()
    called.wait(1)
