"""Once, after the wait list, before the signals."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Hold

from ..lifetime.rest import Grown
from ..support import (
    AskVariation,
    Buffers,
    Cause,
    Effort,
    Latches,
    ObservedDevice,
    Poll,
    Semaphores,
    Settle,
    Tasks,
    clause,
    expect_failed,
    mark,
    requires,
    submit_behind_failure,
)
from .conftest import CallCount, Calls, LongCall


@clause("H-1")
def test_host_call_without_waits_is_made_once(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort, settle: Settle
) -> None:
    """Many independent calls: each is made, none twice, and each before its signal."""
    made: list[int] = []
    done = semaphores(effort.loops(50, 300))
    for number, finished in enumerate(done):
        queue = number % device.queue_count
        device.queue_host_call(partial(made.append, number), signal=[finished @ 1], queue=queue)
    for number, finished in enumerate(done):
        finished.wait(1)
        assert number in made, f"the signal of call {number} was made before the call"
    assert sorted(made) == list(range(len(done)))
    settle(lambda: CallCount(len(done), len(made)))


@clause("H-1", "Q-1")
def test_host_call_is_not_made_before_its_waits(device: ObservedDevice, semaphores: Semaphores, settle: Settle) -> None:
    """Two waits: with one of them reached the call is still not made.

    host ──first@1──▶ call ──done@1──▶ host
    host ──second@1──┘
    """
    made = Calls()
    first, second, done = semaphores(3)
    device.queue_host_call(made.call, wait=[first @ 1, second @ 1], signal=[done @ 1])
    first.signal(1)

    settle(lambda: made.none_yet, lambda: done.query() == 0)

    second.signal(1)
    done.wait(1)
    settle(lambda: made.once)


@clause("H-1")
def test_chained_host_calls_are_made_in_turn(device: ObservedDevice, semaphores: Semaphores, effort: Effort) -> None:
    """call 0 ──turn@1──▶ call 1 ──turn@2──▶ call 2 ──▶ …, all queued behind one gate."""
    made: list[int] = []
    gate, turn = semaphores(2)
    count = effort.loops(50, 200)
    for number in range(count):
        before = turn @ number if number else gate @ 1
        queue = number % device.queue_count
        device.queue_host_call(partial(made.append, number), wait=[before], signal=[turn @ (number + 1)], queue=queue)
    gate.signal(1)
    turn.wait(count)
    assert made == list(range(count))


@clause("H-1", "Q-2")
def test_host_call_sees_the_work_before_it(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """What device work wrote before the call's wait is there when the call reads it.

    fill(b, n) ──s@1──▶ call: reads b ──s@2──▶ fill(b, n + 1) ──▶ …
    """
    device.need(Capability.SIDE_ACCESS)
    rounds = effort.loops(10, 50)
    b = buffers.filled(0, size=2**18)
    s = semaphores.at(0)
    seen: list[bytes] = []
    for number in range(rounds):
        at = 2 * number
        device.queue_fill(b, mark(number), wait=[s @ at], signal=[s @ (at + 1)], queue=number % device.queue_count)
        device.queue_host_call(lambda: seen.append(b.read(b.size - 64, 64)), wait=[s @ (at + 1)], signal=[s @ (at + 2)])
    s.wait(2 * rounds)
    assert seen == [bytes([mark(number)]) * 64 for number in range(rounds)]


@clause("H-1", "Q-2")
def test_work_behind_a_host_call_sees_what_it_wrote(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """call: writes b ──called@1──▶ copy(b → c) ──done@1──▶ host"""
    device.need(Capability.SIDE_ACCESS)
    b, c = buffers.filled(0, count=2)
    gate, called, done = semaphores(3)
    device.queue_host_call(lambda: b.fill_by_host(7), wait=[gate @ 1], signal=[called @ 1])
    device.queue_copy(b, c, wait=[called @ 1], signal=[done @ 1], queue=device.queue_count - 1)
    gate.signal(1)
    done.wait(1)
    assert c.holds(7)


@clause("H-1", "Q-2")
def test_no_signal_while_the_host_call_runs(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle, long_call: LongCall
) -> None:
    """Neither of its signals is made, and nothing behind them runs, until the call has returned.

    call (blocked) ──a@1──▶ fill(c, 7) ──done@1──▶ host
                   ──b@5──▶ host
    """
    c = buffers.filled(0)
    a, b, done = semaphores(3)
    device.queue_host_call(long_call, signal=[a @ 1, b @ 5])
    device.queue_fill(c, 7, wait=[a @ 1], signal=[done @ 1])
    long_call.wait_until_it_runs()

    settle(lambda: a.query() == 0, lambda: b.query() == 0, lambda: c.untouched)

    long_call.let_return()
    done.wait(1)
    b.wait(5)
    assert c.holds(7)


@clause("L-1")
@requires(Capability.HOST_CALL, Capability.STATISTICS)
def test_host_call_counts_as_in_flight_while_it_runs(
    device: ObservedDevice, semaphores: Semaphores, poll: Poll, long_call: LongCall
) -> None:
    """The cases that look for what is left of host calls would find nothing if a call never counted.

    call (blocked) ──called@1──▶ host
    """
    called = semaphores.at(0)
    before = device.statistics()
    device.queue_host_call(long_call, signal=[called @ 1])
    long_call.wait_until_it_runs()
    poll(partial(Grown, device, before, semaphores=0, buffers=0, unretired=1, in_flight=1))

    long_call.let_return()
    called.wait(1)
    poll(partial(Grown, device, before, semaphores=0, buffers=0, unretired=0))


@clause("H-1")
@requires(Capability.HOST_CALL, Capability.HOLD)
@pytest.mark.parametrize("submitted", ["after-it", "before-it"])
def test_host_call_waits_for_held_work(
    device: ObservedDevice, semaphores: Semaphores, latches: Latches, settle: Settle, submitted: str
) -> None:
    """Work that runs will signal the value, and has not yet, whichever of the two was submitted first.

    hold (until the latch opens) ──held@1──▶ call ──done@1──▶ host
    """
    made = Calls()
    held, done = semaphores(2)
    latch = latches()
    if submitted == "before-it":
        device.need_queues(2)
        device.queue_host_call(made.call, wait=[held @ 1], signal=[done @ 1], queue=1)
        device.queue_execute([Hold(latch)], signal=[held @ 1])
    else:
        device.queue_execute([Hold(latch)], signal=[held @ 1])
        device.queue_host_call(made.call, wait=[held @ 1], signal=[done @ 1])

    settle(lambda: made.none_yet)

    latch.open()
    done.wait(1)
    settle(lambda: made.once)


@clause("H-1", "F-6")
@pytest.mark.parametrize("failed_first", [True, False], ids=["failed-before", "failed-after"])
def test_host_call_is_not_made_when_a_wait_failed(
    device: ObservedDevice,
    semaphores: Semaphores,
    settle: Settle,
    cause: Cause,
    variation: AskVariation,
    failed_first: bool,
) -> None:
    """One wait is reached and the other fails: no call, and every signal fails with the cause.

    host ──reached@1──▶ call ──a@1──▶ fails
    host ──fail(gate)──┘      ──b@1──▶ fails
    """
    why = cause("no call must be made")
    made = Calls()
    reached, gate, a, b = semaphores(4)
    reached.signal(1)
    submit = partial(device.queue_host_call, made.call, wait=[reached @ 1, gate @ 1], signal=[a @ 1, b @ 1])
    if failed_first:
        gate.fail(why)
        submit_behind_failure(variation, submit)
    else:
        submit()
        gate.fail(why)
    expect_failed(a, 1, why)
    expect_failed(b, 1, why)
    settle(lambda: made.none_yet)


@clause("H-1")
def test_host_call_without_signals_is_made(
    device: ObservedDevice, semaphores: Semaphores, poll: Poll, settle: Settle
) -> None:
    """Nobody waits for it, and it is made all the same, once."""
    made = Calls()
    gate = semaphores.at(0)
    device.queue_host_call(made.call, wait=[gate @ 1])
    gate.signal(1)
    poll(lambda: made.count)
    settle(lambda: made.once)


@clause("H-1", "Q-19")
def test_host_calls_submitted_by_many_threads(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Four threads submit calls at once; each call of each thread is made once, and in the thread's order."""
    rounds = effort.loops(20, 100)
    made: list[list[int]] = [[], [], [], []]

    def submit(calls: list[int]) -> None:
        s = semaphores.at(0)
        for number in range(rounds):
            device.queue_host_call(partial(calls.append, number), wait=[s @ number], signal=[s @ (number + 1)])
        s.wait(rounds)

    threads.run([partial(submit, calls) for calls in made])
    assert made == [list(range(rounds))] * 4
