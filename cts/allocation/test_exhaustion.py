"""What cannot be allocated."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, HalError, Hold, StatusCode, Timepoint

from ..support import (
    Buffers,
    Effort,
    Latches,
    ObservedDevice,
    ObservedSemaphore,
    Semaphores,
    Settle,
    Tasks,
    clause,
    failure_of,
    requires,
    status_of,
)

#: 4 EiB: more than any device has, and less than what the arithmetic of sizes overflows at.
HUGE = 2**62


def expect_exhausted(semaphore: ObservedSemaphore) -> None:
    """Wait until the semaphore fails, and check with what."""
    status_of(lambda: semaphore.wait(1))
    failure = failure_of(semaphore)
    assert failure.code is StatusCode.RESOURCE_EXHAUSTED, f"expected RESOURCE_EXHAUSTED; seen {failure}"


def is_made(semaphore: ObservedSemaphore) -> bool:
    """Whether a signal of 1 has been made; not if it has failed."""
    try:
        return semaphore.query() == 1
    except HalError:
        return False


def try_alloca(device: ObservedDevice, size: int, wait: list[Timepoint], ready: ObservedSemaphore) -> bool:
    """Ask for too much; return whether the call was accepted, and check the code if it was not."""
    code = status_of(lambda: device.queue_alloca(size, wait=wait, signal=[ready @ 1]))
    assert code in (StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED), f"expected RESOURCE_EXHAUSTED; seen {code.name}"
    return code is StatusCode.OK


@clause("A-5")
@pytest.mark.parametrize("gated", [False, True], ids=["at-once", "behind-a-gate"])
def test_size_that_no_device_could_serve(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, gated: bool
) -> None:
    """It is refused at once, or accepted and fails its signal; either way the code says why, and others go on."""
    b = buffers.filled(1)
    gate, ready, before, after, freed = semaphores(5)
    device.queue_fill(b, 7, length=128, wait=[gate @ 1] if gated else [], signal=[before @ 1])
    accepted = try_alloca(device, HUGE, [gate @ 1] if gated else [], ready)
    gate.signal(1)
    if accepted:
        expect_exhausted(ready)
    before.wait(1)
    a = device.queue_alloca(1024, signal=[after @ 1])
    device.queue_fill(b, 8, offset=128, wait=[after @ 1], signal=[after @ 2])
    device.queue_dealloca(a, wait=[after @ 2], signal=[freed @ 1])
    freed.wait(1)
    assert b.holds(7, 0, 128)
    assert b.holds(8, 128)


def unservable_now(device: ObservedDevice) -> int:
    """Return a size that cannot be served while something is allocated: all of the memory, where it is bounded."""
    if device.has(Capability.BOUNDED_MEMORY) and device.has(Capability.STATISTICS):
        statistics = device.statistics()
        if statistics.memory_in_use:
            return statistics.memory_total
    return HUGE


@clause("A-5", "F-6")
def test_consumers_of_a_failed_alloca_fail(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Work behind an allocation that failed never runs, and carries the cause on.

    alloca(too much) ──ready@1──▶ fill(b, 7) ──done@1──▶ fails with RESOURCE_EXHAUSTED
    """
    b = buffers.filled(0)
    gate, ready, done = semaphores(3)
    if not try_alloca(device, unservable_now(device), [gate @ 1], ready):
        pytest.skip("unsupported: the allocation is refused at once, so there is nothing to be behind")
    device.queue_fill(b, 7, wait=[ready @ 1], signal=[done @ 1])
    gate.signal(1)
    expect_exhausted(ready)
    expect_exhausted(done)
    settle(lambda: b.untouched)
    assert b.holds(0)


@clause("A-5")
@requires(Capability.BOUNDED_MEMORY, Capability.STATISTICS)
def test_one_byte_more_than_the_memory(device: ObservedDevice, semaphores: Semaphores) -> None:
    """The first size that can never be served, and the largest one that could, were all of it free."""
    ready, served = semaphores(2)
    statistics = device.statistics()
    if try_alloca(device, statistics.memory_total + 1, [], ready):
        expect_exhausted(ready)
    a = device.queue_alloca((statistics.memory_total - statistics.memory_in_use) // 2, signal=[served @ 1])
    served.wait(1)
    device.queue_dealloca(a, signal=[served @ 2])
    served.wait(2)


@clause("A-5", "Q-13")
@requires(Capability.BOUNDED_MEMORY, Capability.STATISTICS, Capability.HOLD)
def test_size_for_which_room_is_being_made(device: ObservedDevice, semaphores: Semaphores, latches: Latches) -> None:
    """An alloca that finds no room while memory is being freed is served or fails, and is not forgotten.

    queue 0:    hold ──gate@1──▶ dealloca(60%) ──freed@1──▶ host
    last queue: alloca(60%) ──second@1──▶ host, submitted before the hold ends
    """
    size = int(device.statistics().memory_total * 0.6)
    first, gate, freed, second = semaphores(4)
    latch = latches()
    a = device.queue_alloca(size, signal=[first @ 1])
    first.wait(1)
    device.queue_execute([Hold(latch)], signal=[gate @ 1], queue=0)
    device.queue_dealloca(a, wait=[gate @ 1], signal=[freed @ 1], queue=0)
    b = device.queue_alloca(size, signal=[second @ 1], queue=device.queue_count - 1)
    latch.open()
    freed.wait(1)
    if status_of(lambda: second.wait(1)) is StatusCode.OK:
        device.queue_dealloca(b, signal=[second @ 2])
        second.wait(2)
    else:
        expect_exhausted(second)


@clause("A-5", "Q-13")
@requires(Capability.BOUNDED_MEMORY, Capability.STATISTICS, Capability.HOLD)
def test_several_for_which_room_is_being_made(device: ObservedDevice, semaphores: Semaphores, latches: Latches) -> None:
    """Three allocas find no room while memory is being freed that does for two: none of the three is forgotten.

    queue 0:    hold ──gate@1──▶ dealloca(60%) ──freed@1──▶ host
    last queue: alloca(45%) ──served[0]@1──▶, alloca(45%) ──served[1]@1──▶, alloca(45%) ──served[2]@1──▶ host
    """
    total = device.statistics().memory_total
    first, gate, freed, *served = semaphores(6)
    latch = latches()
    a = device.queue_alloca(int(total * 0.6), signal=[first @ 1])
    first.wait(1)
    device.queue_execute([Hold(latch)], signal=[gate @ 1], queue=0)
    device.queue_dealloca(a, wait=[gate @ 1], signal=[freed @ 1], queue=0)
    last = device.queue_count - 1
    several = [device.queue_alloca(int(total * 0.45), signal=[ready @ 1], queue=last) for ready in served]
    latch.open()
    freed.wait(1)
    for buffer, ready in zip(several, served, strict=True):
        if status_of(partial(ready.wait, 1)) is StatusCode.OK:
            device.queue_dealloca(buffer, signal=[ready @ 2])
            ready.wait(2)
        else:
            expect_exhausted(ready)


@clause("A-5", "Q-1", "F-6")
@requires(Capability.BOUNDED_MEMORY, Capability.STATISTICS, Capability.HOLD)
def test_alloca_for_which_room_was_made_still_waits(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """An alloca behind running work may find no room; when there is some its wait is still to be met.

    queue 0: hold ──gate@1──▶ dealloca(60%) ──freed@1──▶ host
    queue 1: hold ──x@1──▶ queue 0: alloca(60%) ──ready@1──▶ fill(b, 7) ──done@1──▶ host
             x@1 ──▶ queue 0: barrier ──other@1──▶ host
    """
    device.need_queues(2)
    size = int(device.statistics().memory_total * 0.6)
    b = buffers.filled(0)
    first, gate, freed, x, ready, done, other = semaphores(7)
    freeing, producing = latches(), latches()
    a = device.queue_alloca(size, signal=[first @ 1])
    first.wait(1)
    device.queue_execute([Hold(freeing)], signal=[gate @ 1], queue=0)
    device.queue_dealloca(a, wait=[gate @ 1], signal=[freed @ 1], queue=0)
    device.queue_execute([Hold(producing)], signal=[x @ 1], queue=1)
    c = device.queue_alloca(size, wait=[x @ 1], signal=[ready @ 1], queue=0)
    device.queue_fill(b, 7, wait=[ready @ 1], signal=[done @ 1], queue=0)
    device.queue_execute([], wait=[x @ 1], signal=[other @ 1], queue=0)
    freeing.open()
    freed.wait(1)
    settle(lambda: b.untouched, lambda: not is_made(ready))
    producing.open()
    other.wait(1)
    if status_of(lambda: done.wait(1)) is StatusCode.OK:
        assert b.holds(7)
        device.queue_dealloca(c, signal=[ready @ 2])
        ready.wait(2)
    else:
        expect_exhausted(ready)
        assert b.holds(0)


@clause("A-5", "F-8")
@requires(Capability.BOUNDED_MEMORY, Capability.STATISTICS)
def test_size_that_cannot_be_served_at_that_moment(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """With 60% of the memory taken another 60% fails its signal; when the first is freed the same size succeeds.

    alloca(60%) ──first@1──▶ alloca(60%) ──second@1──▶ fails        dealloca ──first@2──▶ alloca(60%) ──third@1──▶ host
    """
    size = int(device.statistics().memory_total * 0.6)
    b = buffers.filled(0)
    first, second, third, other = semaphores(4)
    a = device.queue_alloca(size, signal=[first @ 1])
    device.queue_alloca(size, wait=[first @ 1], signal=[second @ 1])
    expect_exhausted(second)

    device.queue_fill(b, 7, wait=[first @ 1], signal=[other @ 1])
    other.wait(1)
    assert b.holds(7)
    a.write(b"still there", size - 11)
    assert a.holds_bytes(b"still there", size - 11)

    device.queue_dealloca(a, signal=[first @ 2])
    c = device.queue_alloca(size, wait=[first @ 2], signal=[third @ 1])
    third.wait(1)
    device.queue_dealloca(c, signal=[third @ 2])
    third.wait(2)


@clause("A-5", "L-3")
@requires(Capability.BOUNDED_MEMORY, Capability.STATISTICS)
@pytest.mark.usefixtures("restless")
def test_buffers_are_dropped_while_others_find_no_room(
    device: ObservedDevice, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """One thread makes small buffers and drops them; another asks for more than there is, and is refused each time."""
    total = device.statistics().memory_total
    kept, begun, over = device.allocate_buffer(total // 2), threading.Event(), threading.Event()

    def ask() -> StatusCode:
        return status_of(partial(device.allocate_buffer, total // 4 * 3))

    if ask() is StatusCode.OK:
        pytest.skip("unsupported: plain buffers are not taken from the memory that the statistics speak of")

    def drop() -> None:
        while not over.is_set():
            for _ in range(50):
                device.allocate_buffer(64)
            begun.set()

    dropper = threads.start(drop)
    try:
        assert begun.wait(deadline), f"expected fifty small buffers within {deadline:.1f} s"
        for _ in range(effort.loops(300, 1000)):
            code = ask()
            assert code is StatusCode.RESOURCE_EXHAUSTED, f"expected RESOURCE_EXHAUSTED; seen {code.name}"
    finally:
        over.set()
    dropper.result()
    del kept
