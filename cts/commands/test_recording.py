"""What may be recorded before it exists."""

from __future__ import annotations

from pytest_cuda2hal.hal import Capability, Copy, Fill

from ..support import Buffers, ObservedDevice, Semaphores, clause, requires


@clause("C-2")
def test_recorded_before_its_buffer_is_allocated(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """A one-shot command buffer names a buffer whose allocation is still to come.

    host ──gate@1──▶ alloca(a) ──ready@1──▶ fill(a, 7), copy(a → out) ──done@1──▶ dealloca(a) ──freed@1──▶ host
                                            recorded while gate = 0
    """
    out = buffers.filled(0, size=1024)
    gate, ready, done, freed = semaphores(4)
    a = device.queue_alloca(1024, wait=[gate @ 1], signal=[ready @ 1])
    commands = device.create_command_buffer([Fill(a, 7), Copy(a, out)], one_shot=True)
    device.queue_execute(commands, wait=[ready @ 1], signal=[done @ 1])
    device.queue_dealloca(a, wait=[done @ 1], signal=[freed @ 1])
    gate.signal(1)
    freed.wait(1)
    assert out.holds(7)


@clause("C-2")
def test_list_submitted_before_its_buffer_is_allocated(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """The same with a plain list of commands, which the HAL records when it is submitted."""
    out = buffers.filled(0, size=1024)
    gate, ready, done, freed = semaphores(4)
    a = device.queue_alloca(1024, wait=[gate @ 1], signal=[ready @ 1])
    device.queue_execute([Fill(a, 7), Copy(a, out)], wait=[ready @ 1], signal=[done @ 1])
    device.queue_dealloca(a, wait=[done @ 1], signal=[freed @ 1])
    gate.signal(1)
    freed.wait(1)
    assert out.holds(7)


@clause("C-2", "C-1")
@requires(Capability.REUSABLE_COMMANDS, Capability.ASYNC_ALLOC)
def test_recorded_before_allocation_and_used_again(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """A reusable one, recorded before both of its buffers are allocated, runs three times with new contents each."""
    out = buffers.filled(0, count=3, size=512)
    gate, s, freed = semaphores(3)
    a = device.queue_alloca(512, wait=[gate @ 1], signal=[s @ 1])
    b = device.queue_alloca(512, wait=[s @ 1], signal=[s @ 2])
    commands = device.create_command_buffer([Copy(a, b)])
    for number, kept in enumerate(out):
        at = 2 + 3 * number
        device.queue_fill(a, number + 1, wait=[s @ at], signal=[s @ (at + 1)])
        device.queue_execute(commands, wait=[s @ (at + 1)], signal=[s @ (at + 2)])
        device.queue_copy(b, kept, wait=[s @ (at + 2)], signal=[s @ (at + 3)])
    end = 2 + 3 * len(out)
    device.queue_dealloca(a, wait=[s @ end], signal=[freed @ 1])
    device.queue_dealloca(b, wait=[freed @ 1], signal=[freed @ 2])
    gate.signal(1)
    freed.wait(2)
    for number, kept in enumerate(out):
        assert kept.holds(number + 1), f"execution {number + 1}"
