"""Allocation, work and deallocation, ordered by semaphores and by nothing else."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability

from ..support import (
    Buffers,
    Effort,
    ObservedBuffer,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    clause,
    requires,
)


@clause("A-3")
@pytest.mark.parametrize("gated", [False, True], ids=["at-once", "behind-a-gate"])
def test_alloca_fill_copy_dealloca(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, gated: bool
) -> None:
    """One host wait at the end of the chain.

    alloca(a) ──s@1──▶ fill(a, 7) ──s@2──▶ copy(a → out) ──s@3──▶ dealloca(a) ──s@4──▶ host
    """
    out = buffers.filled(0, size=65536)
    gate, s = semaphores(2)
    a = device.queue_alloca(65536, wait=[gate @ 1] if gated else [], signal=[s @ 1])
    device.queue_fill(a, 7, wait=[s @ 1], signal=[s @ 2])
    device.queue_copy(a, out, length=out.size, wait=[s @ 2], signal=[s @ 3])
    device.queue_dealloca(a, wait=[s @ 3], signal=[s @ 4])
    gate.signal(1)
    s.wait(4)
    assert out.holds(7)


@clause("A-3", "Q-5")
def test_chain_submitted_out_of_order(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """The same chain with the copy submitted before the fill; the dealloca is last, nothing uses a buffer after it."""
    out = buffers.filled(0, size=65536)
    gate, s = semaphores(2)
    a = device.queue_alloca(65536, wait=[gate @ 1], signal=[s @ 1])
    device.queue_copy(a, out, length=out.size, wait=[s @ 2], signal=[s @ 3])
    device.queue_fill(a, 7, wait=[s @ 1], signal=[s @ 2])
    device.queue_dealloca(a, wait=[s @ 3], signal=[s @ 4])
    gate.signal(1)
    s.wait(4)
    assert out.holds(7)


@clause("A-3")
def test_alloca_and_dealloca_with_host_waits_between(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Three rounds in which the host waits for every step; memory may be the same, contents are those of the round."""
    out = buffers.filled(0, size=4096)
    s = semaphores.at(0)
    for number in range(3):
        at = 4 * number
        a = device.queue_alloca(4096, signal=[s @ (at + 1)])
        s.wait(at + 1)
        device.queue_fill(a, number + 1, signal=[s @ (at + 2)])
        s.wait(at + 2)
        device.queue_copy(a, out, length=4096, signal=[s @ (at + 3)])
        s.wait(at + 3)
        assert out.holds(number + 1), f"round {number + 1}"
        device.queue_dealloca(a, signal=[s @ (at + 4)])
        s.wait(at + 4)


@clause("A-3")
def test_alloca_dealloca_chained_32_times(device: ObservedDevice, semaphores: Semaphores) -> None:
    """alloca ──▶ dealloca ──▶ alloca ──▶ …: 32 times, no host wait between, and the buffers are never used."""
    s = semaphores.at(0)
    for number in range(32):
        a = device.queue_alloca(4096, wait=[s @ (2 * number)], signal=[s @ (2 * number + 1)])
        device.queue_dealloca(a, wait=[s @ (2 * number + 1)], signal=[s @ (2 * number + 2)])
    s.wait(64)


@clause("A-3")
def test_reused_memory_is_not_written_before_it_is_free(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """Each round's buffer likely has the memory of the one before it: its fill must not overtake that one's copy.

    alloca(a) ──▶ fill(a) ──▶ copy(a → kept[n]) ──▶ dealloca(a) ──▶ alloca(b) ──▶ fill(b) ──▶ …   all queued at once
    """
    kept = buffers.filled(0, count=effort.loops(16, 64, 200), size=16384)
    gate, s = semaphores(2)
    async_submit = device.has(Capability.ASYNC_SUBMIT)
    handles: list[ObservedBuffer] = []
    for number, out in enumerate(kept):
        at = 4 * number
        wait = [s @ at] if number or not async_submit else [gate @ 1]
        a = device.queue_alloca(out.size, wait=wait, signal=[s @ (at + 1)])
        device.queue_fill(a, number % 251 + 1, wait=[s @ (at + 1)], signal=[s @ (at + 2)])
        device.queue_copy(a, out, length=out.size, wait=[s @ (at + 2)], signal=[s @ (at + 3)])
        device.queue_dealloca(a, wait=[s @ (at + 3)], signal=[s @ (at + 4)])
        handles.append(a)
    gate.signal(1)
    s.wait(4 * len(kept))
    for number, out in enumerate(kept):
        assert out.holds(number % 251 + 1), f"round {number}"


@clause("A-2")
@requires(Capability.ASYNC_ALLOC)
def test_dealloca_takes_effect_after_its_wait_list(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """While a dealloca waits, its buffer stays: work that is submitted later still uses it.

    fill(a, 7) ──s@2──▶ copy(a → out) ──s@3──┐
                                     host ──gate@1──▶ dealloca(a) ──freed@1──▶ host     submitted before the copy
    """
    out = buffers.filled(0, size=4096)
    gate, s, freed = semaphores(3)
    a = device.queue_alloca(4096, signal=[s @ 1])
    device.queue_fill(a, 7, wait=[s @ 1], signal=[s @ 2])
    s.wait(2)
    device.queue_dealloca(a, wait=[s @ 3, gate @ 1], signal=[freed @ 1])

    settle(lambda: freed.query() == 0)

    # The one use that is submitted after its buffer's dealloca. That is what A-2 is about: the dealloca takes effect
    # after its wait list, which this copy is part of, not when it is submitted. All other cases submit it last.
    device.queue_copy(a, out, length=4096, signal=[s @ 3])
    s.wait(3)
    assert out.holds(7)
    gate.signal(1)
    freed.wait(1)


@clause("A-3", "Q-19")
def test_chains_on_many_threads(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Four threads allocate, fill, copy and free at once; nobody gets memory that is somebody else's."""
    rounds = effort.loops(5, 25)

    def chain(number: int) -> None:
        out = buffers.filled(0, size=16384)
        s = semaphores.at(0)
        for turn in range(rounds):
            at, byte = 4 * turn, 50 * number + turn % 50
            a = device.queue_alloca(16384, signal=[s @ (at + 1)], queue=number % device.queue_count)
            device.queue_fill(a, byte, wait=[s @ (at + 1)], signal=[s @ (at + 2)])
            device.queue_copy(a, out, length=16384, wait=[s @ (at + 2)], signal=[s @ (at + 3)])
            device.queue_dealloca(a, wait=[s @ (at + 3)], signal=[s @ (at + 4)])
            s.wait(at + 4)
            assert out.holds(byte), f"thread {number}, round {turn}"

    threads.run([partial(chain, number) for number in range(4)])
