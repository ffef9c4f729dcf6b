"""A dealloca whose wait fails has not happened."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.hal import StatusCode

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    ObservedBuffer,
    ObservedDevice,
    Semaphores,
    clause,
    expect_failed,
    status_of,
)


def expect_usable(device: ObservedDevice, a: ObservedBuffer, out: ObservedBuffer, semaphores: Semaphores) -> None:
    """Fill the buffer and copy it out."""
    s = semaphores.at(0)
    device.queue_fill(a, 9, signal=[s @ 1])
    device.queue_copy(a, out, length=out.size, wait=[s @ 1], signal=[s @ 2])
    s.wait(2)
    assert out.holds(9)


@clause("A-4", "F-6")
@pytest.mark.parametrize("failed_first", [True, False], ids=["failed-before", "failed-after"])
def test_failed_wait_leaves_a_dealloca_undone(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    failed_first: bool,
) -> None:
    """The dealloca's signal fails, the buffer keeps its bytes and can be used, and a second dealloca succeeds.

    host ──fail(gate)──▶ dealloca(a) ──undone@1──▶ fails        fill(a, 9) ──▶ copy ──▶ dealloca(a) ──freed@1──▶ host
    """
    why = cause("the dealloca must not happen")
    out = buffers.filled(0, size=1024)
    gate, ready, undone, freed = semaphores(4)
    a = device.queue_alloca(1024, signal=[ready @ 1])
    device.queue_fill(a, 7, wait=[ready @ 1], signal=[ready @ 2])
    ready.wait(2)
    if failed_first:
        gate.fail(why)
    code = status_of(lambda: device.queue_dealloca(a, wait=[gate @ 1], signal=[undone @ 1]))
    if failed_first:
        variation("failed-at-submit").check("accepted" if code is StatusCode.OK else "raises")
    else:
        assert code is StatusCode.OK, f"expected the dealloca to be accepted; seen {code.name}"
        gate.fail(why)
    expect_failed(undone, 1, why)

    assert a.holds(7)
    expect_usable(device, a, out, semaphores)
    device.queue_dealloca(a, signal=[freed @ 1])
    freed.wait(1)


@clause("A-4")
def test_dealloca_undone_by_one_of_two_waits(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause
) -> None:
    """One wait is reached, the other fails: the dealloca is undone all the same."""
    why = cause("one of two")
    out = buffers.filled(0, size=1024)
    reached, gate, ready, undone, freed = semaphores(5)
    a = device.queue_alloca(1024, signal=[ready @ 1])
    ready.wait(1)
    reached.signal(1)
    device.queue_dealloca(a, wait=[reached @ 1, gate @ 1], signal=[undone @ 1])
    gate.fail(why)
    expect_failed(undone, 1, why)
    expect_usable(device, a, out, semaphores)
    device.queue_dealloca(a, signal=[freed @ 1])
    freed.wait(1)


@clause("A-4")
def test_dealloca_undone_several_times(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause
) -> None:
    """Three deallocas in a row are undone; the fourth frees the buffer."""
    out = buffers.filled(0, size=1024)
    ready, freed = semaphores(2)
    a = device.queue_alloca(1024, signal=[ready @ 1])
    ready.wait(1)
    for attempt in range(3):
        why = cause(f"attempt {attempt}")
        gate, undone = semaphores(2)
        device.queue_dealloca(a, wait=[gate @ 1], signal=[undone @ 1])
        gate.fail(why)
        expect_failed(undone, 1, why)
    expect_usable(device, a, out, semaphores)
    device.queue_dealloca(a, signal=[freed @ 1])
    freed.wait(1)
