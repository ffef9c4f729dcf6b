"""What a failure does not touch: everything that does not depend on it."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fault, Fill, HalError, Hold, StatusCode

from ..support import (
    Buffers,
    Cause,
    Effort,
    Latches,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    expect_failed,
    mark,
    requires,
)
from .support import expect_at, expect_reached, until_failed, untouched


@clause("F-8")
def test_pending_bystanders_complete(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """On every queue one submission waits for each of two gates, before and behind one that fails.

    host ──gate@1──▶ fill(b, 7) ──done@1──▶ host          twice on each queue
    host ──bad, failed──▶ fill(c, 7) ──lost@1──▶ host     once on each queue, between the two
    """
    gate, bad = semaphores(2)
    good, lost = [], []
    for queue in range(device.queue_count):
        b, c, d = buffers.filled(0, count=3)
        first, second, third = semaphores(3)
        device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[first @ 1], queue=queue)
        device.queue_execute([Fill(c, 7)], wait=[bad @ 1], signal=[second @ 1], queue=queue)
        device.queue_execute([Fill(d, 7)], wait=[gate @ 1], signal=[third @ 1], queue=queue)
        good += [(b, first), (d, third)]
        lost += [(c, second)]
    bad.fail(cause("in the middle of every queue"))
    for _, semaphore in lost:
        until_failed(semaphore, 1)
    expect_at(0, gate, *(semaphore for _, semaphore in good))
    gate.signal(1)
    for b, semaphore in good:
        expect_reached(semaphore, 1)
        assert b.holds(7)
    settle(untouched([c for c, _ in lost]))
    for c, _ in lost:
        assert c.holds(0)


@clause("F-8")
def test_new_work_after_failures(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, effort: Effort
) -> None:
    """No number of failures poisons a queue: after each, new work on it runs, with the same buffers as the failed."""
    b, c = buffers.filled(0, count=2)
    for number in range(effort.loops(10, 50)):
        queue = number % device.queue_count
        gate, lost, made, done = semaphores(4)
        device.queue_execute([Fill(b, mark(number + 100)), Copy(b, c)], wait=[gate @ 1], signal=[lost @ 1], queue=queue)
        gate.fail(cause("again and again"))
        until_failed(lost, 1)
        device.queue_execute([Fill(b, mark(number))], signal=[made @ 1], queue=queue)
        device.queue_execute([Copy(b, c)], wait=[made @ 1], signal=[done @ 1], queue=queue)
        expect_reached(done, 1)
        assert b.holds(mark(number))
        assert c.holds(mark(number))


@clause("F-8")
@requires(Capability.FAULT_INJECTION)
def test_new_work_after_faults(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """Work that fails while it runs poisons its queue as little."""
    c = buffers.filled(0)
    fault = HalError(StatusCode.INTERNAL, "again and again")
    for number in range(effort.loops(10, 50)):
        queue = number % device.queue_count
        lost, done = semaphores(2)
        device.queue_execute([Fault(fault)], signal=[lost @ 1], queue=queue)
        until_failed(lost, 1)
        device.queue_execute([Fill(c, mark(number))], signal=[done @ 1], queue=queue)
        expect_reached(done, 1)
        assert c.holds(mark(number))


@clause("F-8")
def test_failure_does_not_travel_upwards(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, threads: Tasks, settle: Settle
) -> None:
    """The host fails what a submission is to signal; what it waits for, and who else waits for that, notice nothing.

    host ──gate@1──┬──▶ fill(b, 7) ──done, failed by the host
                   ├──▶ fill(c, 7) ──sibling@1──▶ host
                   └──▶ host
    """
    b, c = buffers.filled(0, count=2)
    gate, done, sibling, elsewhere = semaphores(4)
    device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[done @ 1])
    device.queue_execute([Fill(c, 7)], wait=[gate @ 1], signal=[sibling @ 1])
    waiters = [threads.start(partial(s.wait, 1)) for s in (gate, sibling, elsewhere)]
    done.fail(cause("below"))
    settle(blocked(*waiters))
    expect_at(0, gate, sibling)
    gate.signal(1)
    elsewhere.signal(1)
    for waiter in waiters:
        waiter.result()
    assert c.holds(7)


@clause("F-8")
def test_finished_work_stays_finished(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """A semaphore fails after a submission that waited for it has completed; the result of that one stands."""
    c = buffers.filled(0)
    gate, done, lost = semaphores(3)
    device.queue_execute([Fill(c, 7)], wait=[gate @ 1], signal=[done @ 1])
    device.queue_execute([Fill(c, 9)], wait=[gate @ 2], signal=[lost @ 1])
    gate.signal(1)
    expect_reached(done, 1)
    gate.fail(cause("too late for the first"))
    until_failed(lost, 1)
    settle(lambda: done.reads(1))  # and meanwhile the second fill does not run late
    assert c.holds(7)


@clause("F-8")
@requires(Capability.HOLD)
def test_failure_around_held_work(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    settle: Settle,
) -> None:
    """Work is held on one queue; what fails there and on the others leaves it alone.

    hold, fill(b, 7) ──done@1──▶ host         running all the while
    host ──gate, failed──▶ fill(c, 7) ──lost──▶ host         on every queue
    """
    b, c = buffers.filled(0, count=2)
    gate, done = semaphores(2)
    lost = semaphores(device.queue_count)
    latch = latches()
    device.queue_execute([Hold(latch), Fill(b, 7)], signal=[done @ 1])
    for queue, semaphore in enumerate(lost):
        device.queue_execute([Fill(c, 7)], wait=[gate @ 1], signal=[semaphore @ 1], queue=queue)
    gate.fail(cause("around it"))
    for semaphore in lost:
        until_failed(semaphore, 1)
    expect_at(0, done)
    latch.open()
    expect_reached(done, 1)
    settle(lambda: c.untouched)
    assert b.holds(7)
    assert c.holds(0)


@clause("F-6", "F-8")
@requires(Capability.HOLD)
@pytest.mark.usefixtures("restless")
def test_semaphore_fails_while_its_consumers_get_room(
    device: ObservedDevice, semaphores: Semaphores, latches: Latches, cause: Cause, effort: Effort
) -> None:
    """A semaphore fails as a full queue takes in those who wait for it: they fail, and nobody else.

    hold ──first@1──▶ chain of 220 barriers ──front@220──▶ hold ──s@1──▶ 400 barriers ──ends[k]@1──▶ host
    host ──╳ s, as the chain runs, or when it has run         └─front@220──▶ barrier ──apart@1──▶ host
    """
    why, count, turns = cause("as there is room again"), 220, effort.loops(6, 20)
    for turn in range(turns):
        s, first, front, apart = semaphores(4)
        opened, closed = latches(), latches()
        device.queue_execute([Hold(opened)], signal=[first @ 1])
        for value in range(1, count + 1):
            device.queue_execute([], wait=[front @ (value - 1) if value > 1 else first @ 1], signal=[front @ value])
        device.queue_execute([Hold(closed)], wait=[front @ count], signal=[s @ 1])
        ends = semaphores(400)
        for end in ends:
            device.queue_execute([], wait=[s @ 1], signal=[end @ 1])
        device.queue_execute([], wait=[front @ count], signal=[apart @ 1])
        opened.open()
        expect_reached(front, count * (turns - turn) // turns)
        s.fail(why)
        closed.open()
        for end in ends:
            expect_failed(end, 1, why)
        expect_reached(front, count)
        expect_reached(apart, 1)
