"""Whatever a submission is given, it has taken: the caller may change or drop everything when the call is over."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import pytest

from pytest_cuda2hal.hal import Capability, Command, Copy, Fill, Timepoint, Update

from ..support import (
    Buffers,
    Effort,
    ObservedBuffer,
    ObservedDevice,
    ObservedSemaphore,
    Poll,
    Semaphores,
    Settle,
    clause,
    requires,
)


@clause("Q-15")
def test_lists_may_be_changed_after_the_call(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Waits cleared, signals replaced, commands exchanged: the submission does what it was given.

    host ──gate@1──▶ fill(b, 7) ──▶ done@1, not fill(other, 9) and not wrong@1
    """
    b, other = buffers.filled(0, count=2)
    gate, done, wrong = semaphores(3)
    wait, signal = [gate @ 1], [done @ 1]
    commands: list[Command] = [Fill(b, 7)]
    device.queue_execute(commands, wait=wait, signal=signal)
    wait.clear()
    signal[:] = [wrong @ 1]
    commands[:] = [Fill(other, 9)]

    settle(lambda: b.untouched, lambda: done.reads(0))

    gate.signal(1)
    done.wait(1)
    assert b.holds(7)
    assert other.untouched
    assert wrong.query() == 0


@clause("Q-15")
def test_lists_may_be_used_again_and_again(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """One list object for each purpose serves a hundred pending submissions, and a generator serves as well as a list.

    host ──gate@1──▶ copy(source → cells[k]) ──done@(k + 1)──▶ copy(source → cells[k + 1]) ──▶ …
    """
    count = effort.loops(50, 100)
    source, cells = (
        buffers.holding(b"".join(k.to_bytes(4, "big") for k in range(count))),
        buffers.filled(0, size=4 * count),
    )
    gate, done = semaphores(2)
    wait: list[Timepoint] = []
    signal: list[Timepoint] = []
    commands: list[Command] = []
    for k in range(count):
        wait[:] = [gate @ 1, done @ k]
        signal[:] = [done @ (k + 1)]
        commands[:] = [Copy(source, cells, 4 * k, 4 * k, 4)]
        if k % 2:
            device.queue_execute(commands, wait=wait, signal=signal)
        else:
            device.queue_execute(commands, wait=(point for point in wait), signal=iter(signal))
    wait.clear()
    signal.clear()
    commands.clear()
    gate.signal(1)
    done.wait(count)
    assert cells.holds_bytes(source.read())


@clause("Q-15")
@requires(Capability.UPDATE)
@pytest.mark.parametrize("size", [4, 1000, 65536])  # IREE ends here: IREE_HAL_COMMAND_BUFFER_MAX_UPDATE_SIZE
def test_update_bytes_may_be_changed_after_the_call(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, size: int
) -> None:
    """A queued update writes the bytes as they were at the call."""
    data: Any = bytearray(k * 7 % 251 for k in range(size))  # an update takes bytes; these can be changed afterwards
    expected = bytes(data)
    b = buffers.filled(0, size=size)
    gate, done = semaphores(2)
    device.queue_update(b, data, wait=[gate @ 1], signal=[done @ 1])
    data[:] = bytes(size)
    del data
    gc.collect()
    gate.signal(1)
    done.wait(1)
    assert b.holds_bytes(expected)


@clause("Q-15")
@requires(Capability.UPDATE)
def test_update_commands_keep_their_bytes(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """So does an update in a command list, and one that was recorded, from when the command is made."""
    data: Any = bytearray(k * 7 % 251 for k in range(256))
    expected = bytes(data)
    listed, recorded = buffers.filled(0, count=2)
    gate, done = semaphores(2)
    commands = device.create_command_buffer([Update(recorded, data)], one_shot=True)
    device.queue_execute([Update(listed, data)], wait=[gate @ 1], signal=[done @ 1])
    data[:] = bytes(256)
    device.queue_execute(commands, wait=[gate @ 1, done @ 1], signal=[done @ 2])
    del data, commands
    gc.collect()
    gate.signal(1)
    done.wait(2)
    assert listed.holds_bytes(expected)
    assert recorded.holds_bytes(expected)


@clause("Q-15")
@requires(Capability.UPDATE)
def test_each_of_many_updates_keeps_its_bytes(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """One array is changed and used again for hundreds of pending updates: each writes what it was given.

    host ──gate@1──▶ update(cells[k], k) ──done@(k + 1)──▶ update(cells[k + 1], k + 1) ──▶ …
    """
    size, count = 4, effort.loops(50, 500)
    data: Any = bytearray(size)
    cells = buffers.filled(0, size=size * count)
    gate, done = semaphores(2)
    for k in range(count):
        data[:] = k.to_bytes(size, "little")
        device.queue_update(
            cells,
            data,
            offset=size * k,
            wait=[gate @ 1, done @ k],
            signal=[done @ (k + 1)],
            queue=k % device.queue_count,
        )
    data[:] = bytes([0xEE]) * size
    gate.signal(1)
    done.wait(count)
    assert cells.holds_bytes(b"".join(k.to_bytes(size, "little") for k in range(count)))


@clause("Q-15", "L-3")
def test_each_of_many_sources_may_be_dropped(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """Hundreds of pending copies, of whose sources the caller keeps none.

    host ──gate@1──▶ copy(source k → cells[k]) ──done@(k + 1)──▶ copy(source k + 1 → cells[k + 1]) ──▶ …
    """
    size, count = 4, effort.loops(50, 500)
    cells = buffers.filled(0, size=size * count)
    gate, done = semaphores(2)
    for k in range(count):
        source = buffers.holding(k.to_bytes(size, "little"))
        command = Copy(source, cells, length=size, target_offset=size * k)
        wait, signal = [gate @ 1, done @ k], [done @ (k + 1)]
        device.queue_execute([command], wait=wait, signal=signal, queue=k % device.queue_count)
        del source, command
    gc.collect()
    intruders = buffers.filled(0xEE, count=50, size=size)
    gate.signal(1)
    done.wait(count)
    assert cells.holds_bytes(b"".join(k.to_bytes(size, "little") for k in range(count)))
    for intruder in intruders:
        assert intruder.untouched


@clause("Q-15", "L-3")
def test_handles_may_be_dropped_after_the_call(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """A chain through buffers and semaphores of which the caller keeps only the first gate and the last result.

    host ──gate@1──▶ copy(a → b) ──x@1──▶ copy(b → c) ──y@1──▶ copy(c → result) ──done@1──▶ host
                          a, b, c, x, y, the lists and the command buffers are gone
    """

    def submit(byte: int, result: ObservedBuffer, gate: ObservedSemaphore, done: ObservedSemaphore) -> None:
        a, b, c = buffers.filled(byte), buffers.filled(0), buffers.filled(0)
        x, y = semaphores(2)
        recorded = device.create_command_buffer([Copy(c, result)], one_shot=True)
        device.queue_execute(recorded, wait=[y @ 1], signal=[done @ 1])
        device.queue_execute([Copy(a, b)], wait=[gate @ 1], signal=[x @ 1], queue=device.queue_count - 1)
        device.queue_copy(b, c, wait=[x @ 1], signal=[y @ 1])

    for turn in range(1, effort.loops(5, 20) + 1):
        result = buffers.filled(0)
        gate, done = semaphores(2)
        submit(turn, result, gate, done)
        gc.collect()
        intruders = buffers.filled(0xEE, count=4)
        gate.signal(1)
        done.wait(1)
        assert result.holds(turn)
        for intruder in intruders:
            assert intruder.untouched


@clause("Q-15", "Q-14", "L-3")
@requires(Capability.SIDE_ACCESS)
def test_every_handle_may_be_dropped(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll, effort: Effort
) -> None:
    """The caller keeps no semaphore at all, not even the gate that it has signaled; the work is done nevertheless."""
    targets = buffers.filled(0, count=effort.loops(5, 20))

    def submit(k: int) -> None:
        source = buffers.filled(k + 1)
        gate, made, done = semaphores(3)
        last = device.queue_count - 1
        device.queue_copy(source, targets[k], wait=[made @ 1], signal=[done @ 1], queue=last)
        device.queue_execute([], wait=[gate @ 1], signal=[made @ 1])
        gate.signal(1)

    for k in range(len(targets)):
        submit(k)
        gc.collect()
    for k, target in enumerate(targets):
        poll(partial(target.holds, k + 1))


@clause("Q-15")
@requires(Capability.REUSABLE_COMMANDS)
def test_recorded_commands_may_be_dropped_while_they_run(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """A command buffer in use eight times is dropped before the first use begins."""
    a, b = buffers.filled(7), buffers.filled(0)
    gate, done = semaphores(2)
    commands = device.create_command_buffer([Copy(a, b)])
    for k in range(8):
        queue = k % device.queue_count
        device.queue_execute(commands, wait=[gate @ 1, done @ k], signal=[done @ (k + 1)], queue=queue)
    del commands, a
    gc.collect()
    intruders = buffers.filled(0xEE, count=4)
    gate.signal(1)
    done.wait(8)
    assert b.holds(7)
    assert intruders[0].untouched
