"""Outside its life: before the allocation, after the deallocation, and deallocations that make no sense."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_cuda2hal.hal import Capability, HalError, Hold, StatusCode

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    Latches,
    ObservedBuffer,
    ObservedDevice,
    ObservedSemaphore,
    Poll,
    Semaphores,
    clause,
    expect_failed,
    failure_of,
    requires,
    status_of,
)

Use = Callable[[ObservedDevice, ObservedBuffer, ObservedBuffer, ObservedSemaphore], None]

#: Ways in which work uses a buffer ``a``; ``b`` is a plain one.
USES: dict[str, Use] = {
    "fill": lambda device, a, b, done: device.queue_fill(a, 7, signal=[done @ 1]),
    "copy-from": lambda device, a, b, done: device.queue_copy(a, b, length=256, signal=[done @ 1]),
    "copy-to": lambda device, a, b, done: device.queue_copy(b, a, length=256, signal=[done @ 1]),
}
#: After the deallocation another one is no use but an odd one (A-7).
USES_BEFORE: dict[str, Use] = {
    **USES,
    "dealloca": lambda device, a, _, done: device.queue_dealloca(a, signal=[done @ 1]),
}


def outcome(use: Use, device: ObservedDevice, a: ObservedBuffer, b: ObservedBuffer, done: ObservedSemaphore) -> str:
    """Use the buffer, and say what became of it in the words of the variation point ``use-outside-life``."""
    try:
        use(device, a, b, done)
    except HalError:
        return "refused"
    if status_of(lambda: done.wait(1)) is StatusCode.OK:
        return "carried out"
    return "FAILED_PRECONDITION" if failure_of(done).code is StatusCode.FAILED_PRECONDITION else "fails"


@clause("A-6")
@pytest.mark.parametrize("use", USES_BEFORE)
def test_use_before_the_allocation(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation, use: str
) -> None:
    """Work that does not wait for the alloca runs while the alloca is still behind its gate."""
    life = variation("use-outside-life")
    life.need_defined()
    b = buffers.filled(1)
    gate, ready, done, after = semaphores(4)
    a = device.queue_alloca(256, wait=[gate @ 1], signal=[ready @ 1])
    life.check(outcome(USES_BEFORE[use], device, a, b, done))
    assert b.holds(1), "what failed must not have written"

    gate.signal(1)
    device.queue_fill(a, 9, wait=[ready @ 1], signal=[after @ 1])
    after.wait(1)
    assert a.holds(9), "the allocation itself is unaffected"
    device.queue_dealloca(a, signal=[after @ 2])
    after.wait(2)


@clause("A-6")
@pytest.mark.parametrize("use", USES)
def test_use_after_the_deallocation(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation, use: str
) -> None:
    """Work that is submitted when the dealloca has been waited for; what else is on the device goes on."""
    life = variation("use-outside-life")
    life.need_defined()
    b = buffers.filled(1)
    s, done, after = semaphores(3)
    a = device.queue_alloca(256, signal=[s @ 1])
    device.queue_dealloca(a, wait=[s @ 1], signal=[s @ 2])
    s.wait(2)
    life.check(outcome(USES[use], device, a, b, done))
    assert b.holds(1), "what failed must not have written"

    device.queue_fill(b, 9, signal=[after @ 1])
    after.wait(1)
    assert b.holds(9)


@clause("A-6")
def test_use_queued_before_the_deallocation_and_run_after_it(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation
) -> None:
    """The use is submitted while the buffer lives, but semaphores put it behind the dealloca.

    host ──gate@1──▶ dealloca(a) ──freed@1──▶ copy(a → b) ──done@1──▶ fails
    """
    life = variation("use-outside-life")
    life.need_defined()
    b = buffers.filled(1)
    gate, ready, freed, done = semaphores(4)
    a = device.queue_alloca(256, signal=[ready @ 1])
    device.queue_fill(a, 7, wait=[ready @ 1], signal=[ready @ 2])
    ready.wait(2)
    device.queue_dealloca(a, wait=[gate @ 1], signal=[freed @ 1])
    try:
        device.queue_copy(a, b, length=256, wait=[freed @ 1], signal=[done @ 1])
    except HalError:
        life.check("refused")
        gate.signal(1)
        freed.wait(1)
        return
    gate.signal(1)
    if status_of(lambda: done.wait(1)) is StatusCode.OK:
        life.check("carried out")
    is_usual = failure_of(done).code is StatusCode.FAILED_PRECONDITION
    life.check("FAILED_PRECONDITION" if is_usual else "fails")
    assert b.holds(1), "what failed must not have written"


def dealloca_outcome(device: ObservedDevice, a: ObservedBuffer, signal: ObservedSemaphore) -> str:
    """Free the buffer, and say what became of it in the words of the variation point ``odd-dealloca``."""
    try:
        device.queue_dealloca(a, signal=[signal @ 1])
    except HalError as error:
        assert signal.query() == 0, "the dealloca was refused, so its signal must not be made"
        return error.code.name
    status = status_of(lambda: signal.wait(1))
    return "barrier" if status is StatusCode.OK else f"its signal fails with {status.name}"


@clause("A-7")
def test_second_dealloca(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation
) -> None:
    """A buffer is deallocated again after the first dealloca has been waited for; nothing else is freed by it."""
    odd = variation("odd-dealloca")
    odd.need_defined()
    s, again, after = semaphores(3)
    neighbour = device.queue_alloca(4096, signal=[s @ 1])
    a = device.queue_alloca(4096, wait=[s @ 1], signal=[s @ 2])
    device.queue_dealloca(a, wait=[s @ 2], signal=[s @ 3])
    s.wait(3)
    odd.check(dealloca_outcome(device, a, again))

    device.queue_fill(neighbour, 7, signal=[after @ 1])
    after.wait(1)
    assert neighbour.holds(7)
    device.queue_dealloca(neighbour, signal=[after @ 2])
    after.wait(2)


@clause("A-7", "A-4", "A-6")
@requires(Capability.ASYNC_ALLOC, Capability.HOLD, Capability.HOST_FAIL)
def test_second_dealloca_after_one_behind_running_work(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    variation: AskVariation,
    poll: Poll,
) -> None:
    """The first may be on the device when the host fails its wait. It is done then, or undone: nothing in between.

    hold ──made@1──▶ dealloca(a) ──undone@1──▶ fails        dealloca(a) ──freed@1──▶ host, if the first one was undone
         └─held@1──▶ host                                   dealloca(a): it has been deallocated
    """
    odd, life = variation("odd-dealloca"), variation("use-outside-life")
    odd.need_defined()
    b = buffers.filled(1)
    memory = memory_in_use(device)
    ready, made, held, undone, freed, again = semaphores(6)
    why = cause("failed while it was made")
    latch = latches()
    a = device.queue_alloca(4096, signal=[ready @ 1])
    ready.wait(1)
    device.queue_execute([Hold(latch)], signal=[made @ 1, held @ 1])
    device.queue_dealloca(a, wait=[made @ 1], signal=[undone @ 1], queue=device.queue_count - 1)
    made.fail(why)
    latch.open()
    held.wait(1)
    expect_failed(undone, 1, why)

    def use() -> str:
        return outcome(USES["fill"], device, a, b, semaphores.at(0))

    used = use() if life.is_defined else "not asked"
    second = dealloca_outcome(device, a, freed)
    if used in ("carried out", "not asked") and second == "barrier":
        odd.check(dealloca_outcome(device, a, again))
    else:
        assert variation("recall").permits("may"), (
            "expected the first dealloca to be taken back; seen a buffer that is not"
        )
        if life.is_defined:
            poll(lambda: use() != "carried out")  # the device may have been about to
            life.check(use())
        odd.check(second)
    poll(lambda: memory_in_use(device) <= memory)


def memory_in_use(device: ObservedDevice) -> int:
    """Return the bytes of device memory that are in use, 0 where that is not known."""
    return device.statistics().memory_in_use if device.has(Capability.STATISTICS) else 0


@clause("A-7")
def test_dealloca_of_a_plain_buffer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation
) -> None:
    """A buffer that no queue allocated is no queue's to free: it stays and can be used."""
    odd = variation("odd-dealloca")
    odd.need_defined()
    b = buffers.filled(3)
    signal, after = semaphores(2)
    odd.check(dealloca_outcome(device, b, signal))
    assert b.untouched
    device.queue_fill(b, 7, signal=[after @ 1])
    after.wait(1)
    assert b.holds(7)
