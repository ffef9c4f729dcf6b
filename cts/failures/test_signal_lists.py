"""Signal lists in which a semaphore has failed already, or has passed the value."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fault, Fill, HalError, StatusCode

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    ObservedDevice,
    ObservedSemaphore,
    Poll,
    Semaphores,
    clause,
    expect_failed,
    failure_of,
    requires,
)
from .support import expect_cause, expect_reached, failure_so_far

LENGTH = 3


@clause("F-11")
@pytest.mark.parametrize("before", [True, False], ids=["failed-before-submit", "failed-after-submit"])
def test_work_whose_signal_semaphore_has_failed(
    before: bool, device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause
) -> None:
    """Wherever the failed one stands in the signal list, the work is done and the other signals are made.

    host ──gate@1──▶ fill(b, 7) ──▶ three signals, one of them failed by the host
    """
    for position in range(LENGTH):
        b = buffers.filled(0)
        [gate], signals = semaphores(1), semaphores(LENGTH)
        if before:
            signals[position].fail(cause("failed by the host"))
        device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[s @ 1 for s in signals])
        signals[position].fail(cause("failed by the host"))
        gate.signal(1)
        for s in signals[:position] + signals[position + 1 :]:
            expect_reached(s, 1)
        assert b.holds(7)
        expect_cause(failure_of(signals[position]), cause("failed by the host"))


@clause("F-11")
@requires(Capability.SIDE_ACCESS)
def test_ready_work_whose_only_signal_semaphore_has_failed(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, poll: Poll
) -> None:
    """It has nobody to tell, and runs."""
    b = buffers.filled(0)
    [s] = semaphores(1)
    s.fail(cause("failed by the host"))
    device.queue_execute([Fill(b, 7)], signal=[s @ 1])
    poll(lambda: b.holds(7))
    expect_cause(failure_of(s), cause("failed by the host"))


@clause("F-6", "F-11")
def test_dependents_of_a_failed_and_of_a_good_signal(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause
) -> None:
    """What waits for the failed signal semaphore fails, what waits for its sibling runs.

    host ──gate@1──▶ fill(b, 7) ──┬─good@1──▶ copy(b → c) ──done@1──▶ host
                                  └─bad, failed──▶ copy(b → d) ──lost@1──▶ host
    """
    b, c, d = buffers.filled(0, count=3)
    gate, good, bad, done, lost = semaphores(5)
    device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[bad @ 1, good @ 1])
    device.queue_execute([Copy(b, c)], wait=[good @ 1], signal=[done @ 1])
    device.queue_execute([Copy(b, d)], wait=[bad @ 1], signal=[lost @ 1])
    bad.fail(cause("one of two"))
    expect_failed(lost, 1, cause("one of two"))
    gate.signal(1)
    expect_reached(done, 1)
    assert c.holds(7)
    assert d.holds(0)


@clause("F-1", "F-11")
def test_failing_work_whose_signal_semaphore_has_failed(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause
) -> None:
    """The submission fails as well: the others get its cause, the failed one keeps its own."""
    for position in range(LENGTH):
        [gate], signals = semaphores(1), semaphores(LENGTH)
        device.queue_execute([], wait=[gate @ 1], signal=[s @ 1 for s in signals])
        signals[position].fail(cause("its own"))
        gate.fail(cause("the submission's"))
        for number, s in enumerate(signals):
            expect_failed(s, 1, cause("its own" if number == position else "the submission's"))


def check_fails_though_passed(s: ObservedSemaphore, error: HalError, poll: Poll) -> None:
    """Wait until ``s`` fails; a wait for its passed value may be satisfied until then."""
    poll(lambda: failure_so_far(s))
    expect_cause(failure_of(s), error)


@clause("F-13")
def test_failing_work_whose_value_has_been_passed(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation, poll: Poll
) -> None:
    """The values to signal were passed before the submit, or while it was pending: the semaphores fail all the same.

    host ──gate, failed──▶ barrier ──┬─below@3, is at 5 from the start
                                     ├─equal@5, is at 5 from the start
                                     ├─overtaken@3, the host signals 5 meanwhile
                                     └─ahead@6
    """
    variation("overtaken-signal").need_defined()
    below, equal, overtaken, ahead = (semaphores.at(value) for value in (5, 5, 0, 5))
    [gate] = semaphores(1)
    error = cause("behind its time")
    signals = [below @ 3, equal @ 5, overtaken @ 3, ahead @ 6]
    device.queue_execute([], wait=[gate @ 1], signal=signals)
    overtaken.signal(5)
    gate.fail(error)
    for s in (below, equal, overtaken, ahead):
        check_fails_though_passed(s, error, poll)


@clause("F-7", "F-13")
@requires(Capability.FAULT_INJECTION)
def test_faulting_work_whose_value_has_been_passed(
    device: ObservedDevice, semaphores: Semaphores, variation: AskVariation, poll: Poll
) -> None:
    """The same when the work fails while it runs."""
    variation("overtaken-signal").need_defined()
    passed, ahead = semaphores.at(5), semaphores.at(5)
    fault = HalError(StatusCode.DATA_LOSS, "behind its time")
    device.queue_execute([Fault(fault)], signal=[passed @ 3, ahead @ 6])
    for s in (passed, ahead):
        check_fails_though_passed(s, fault, poll)
