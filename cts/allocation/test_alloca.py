"""A buffer that is allocated in queue order."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.hal import Capability

from ..support import (
    Buffers,
    ObservedBuffer,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    clause,
    requires,
)
from ..transfers.ranges import granule

#: The first few, one that is no power of two, and a large one.
SIZES = [1, 7, 256, 4097, 2**20]


@clause("A-1")
@pytest.mark.parametrize("size", SIZES)
def test_alloca_gives_a_usable_buffer(device: ObservedDevice, semaphores: Semaphores, size: int) -> None:
    """The buffer has at least the size asked for, and after the signal host and device may use all of it."""
    ready, done, freed = semaphores(3)
    a = device.queue_alloca(size, signal=[ready @ 1])
    assert a.size >= size
    ready.wait(1)
    a.fill_by_host(0x33)
    assert a.holds(0x33)
    length = a.size - a.size % granule(device)
    device.queue_fill(a, 7, length=length, signal=[done @ 1])
    done.wait(1)
    assert a.holds(7, 0, length)
    assert a.holds(0x33, length)
    device.queue_dealloca(a, signal=[freed @ 1])
    freed.wait(1)


@clause("A-1")
@requires(Capability.ASYNC_SUBMIT)
def test_alloca_behind_an_unreached_wait_returns_at_once(
    device: ObservedDevice, semaphores: Semaphores, settle: Settle, threads: Tasks
) -> None:
    """The call neither waits for its wait list nor makes its signal; the buffer is there to be named.

    host ──gate@1──▶ alloca ──ready@1──▶ fill(a, 7) ──done@1──▶ host
    """
    gate, ready, done, freed = semaphores(4)
    a = threads.start(lambda: device.queue_alloca(4096, wait=[gate @ 1], signal=[ready @ 1]), "alloca").result()
    assert a.size >= 4096
    device.queue_fill(a, 7, wait=[ready @ 1], signal=[done @ 1])

    settle(lambda: ready.query() == 0, lambda: done.query() == 0)

    gate.signal(1)
    done.wait(1)
    assert a.holds(7)
    device.queue_dealloca(a, signal=[freed @ 1])
    freed.wait(1)


@clause("A-1")
@requires(Capability.ASYNC_SUBMIT)
def test_many_allocas_behind_one_wait(device: ObservedDevice, semaphores: Semaphores, threads: Tasks) -> None:
    """Sixteen buffers asked for by one thread behind one gate, on every queue in turn; each has memory of its own."""
    gate, freed = semaphores(2)
    ready, done = semaphores(16), semaphores(16)

    def ask() -> None:
        for number, allocated in enumerate(ready):
            queue = number % device.queue_count
            made.append(device.queue_alloca(8192, wait=[gate @ 1], signal=[allocated @ 1], queue=queue))

    made: list[ObservedBuffer] = []
    threads.start(ask, "alloca").result()
    for number, buffer in enumerate(made):
        device.queue_fill(buffer, number, wait=[ready[number] @ 1], signal=[done[number] @ 1])
    gate.signal(1)
    for finished in done:
        finished.wait(1)
    for number, buffer in enumerate(made):
        assert buffer.holds(number), f"buffer {number} of {len(made)} that live at the same time"
    for number, buffer in enumerate(made):
        device.queue_dealloca(buffer, wait=[freed @ number], signal=[freed @ (number + 1)])
    freed.wait(len(made))


@clause("A-1", "A-3")
def test_alloca_on_one_queue_used_on_another(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Allocated on the first queue, filled on the last, read on the first, freed on the last."""
    last = device.queue_count - 1
    out = buffers.filled(0, size=4096)
    s = semaphores.at(0)
    a = device.queue_alloca(4096, signal=[s @ 1], queue=0)
    device.queue_fill(a, 7, wait=[s @ 1], signal=[s @ 2], queue=last)
    device.queue_copy(a, out, length=4096, wait=[s @ 2], signal=[s @ 3], queue=0)
    device.queue_dealloca(a, wait=[s @ 3], signal=[s @ 4], queue=last)
    s.wait(4)
    assert out.holds(7)
