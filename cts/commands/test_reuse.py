"""One command buffer, recorded once and executed many times."""

from __future__ import annotations

from pytest_cuda2hal.hal import Capability, CommandBuffer, Copy, Fill, Hold

from ..support import (
    Buffers,
    Cause,
    Latches,
    ObservedBuffer,
    ObservedDevice,
    Semaphores,
    Settle,
    clause,
    expect_failed,
    requires,
)

#: Executions of one command buffer, from the contract.
TIMES = 200
#: Bytes of one cell of a counter; 4 is in everybody's transfer granularity.
CELL = 4


class Counter:
    """Counts its executions in data: each sets one cell more.

    The cells hold 1 up to the first that holds 0. An execution copies the cells to the side and back one cell further
    on; the first always holds 1. So one that is left out, made twice, or overlaps another shows in the number of ones.
    """

    def __init__(self, device: ObservedDevice, buffers: Buffers, *, room: int = TIMES + 8) -> None:
        one = b"\x01\x00\x00\x00"
        self.cells: ObservedBuffer = buffers.holding(one + bytes(CELL * room))
        self._side: ObservedBuffer = buffers.filled(0, size=CELL * room)
        self.commands: CommandBuffer = device.create_command_buffer(
            [Copy(self.cells, self._side, 0, 0, CELL * room), Copy(self._side, self.cells, 0, CELL, CELL * room)]
        )

    def expect(self, executions: int) -> None:
        """Check that the data shows so many executions."""
        cells = self.cells
        shown = cells.read().count(b"\x01") - 1
        expected = (b"\x01\x00\x00\x00" * (1 + executions)).ljust(cells.size, b"\0")
        assert cells.holds_bytes(expected), f"expected the data of {executions} executions; seen that of {shown}"


@clause("C-1")
def test_same_command_buffer_200_times_in_turn(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Each execution is waited for before the next is submitted; the data counts them."""
    counter = Counter(device, buffers)
    done = semaphores.at(0)
    for execution in range(1, TIMES + 1):
        device.queue_execute(counter.commands, signal=[done @ execution])
        done.wait(execution)
    counter.expect(TIMES)


@clause("C-1")
def test_same_command_buffer_200_times_in_flight(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """All executions are submitted before the first may run, on every queue in turn; semaphores chain them.

    host ──gate@1──▶ run ──turn@1──▶ run ──turn@2──▶ … ──turn@200──▶ host
    """
    counter = Counter(device, buffers)
    gate, turn = semaphores(2)
    for execution in range(TIMES):
        before = turn @ execution if execution else gate @ 1
        queue = execution % device.queue_count
        device.queue_execute(counter.commands, wait=[before], signal=[turn @ (execution + 1)], queue=queue)
    gate.signal(1)
    turn.wait(TIMES)
    counter.expect(TIMES)


@clause("C-1")
def test_each_execution_reads_its_inputs_anew(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Between two executions the input is filled anew and the output kept: each execution made its own.

    fill(a, n) ──▶ run: copy(a → b) ──▶ copy(b → kept[n]) ──▶ fill(a, n + 1) ──▶ …   all queued behind one gate
    """
    a, b = buffers.filled(0, count=2, size=1024)
    kept = buffers.filled(0, count=48, size=1024)
    commands = device.create_command_buffer([Copy(a, b)])
    gate, s = semaphores(2)
    for number, output in enumerate(kept):
        device.queue_fill(a, number + 1, wait=[s @ (3 * number), gate @ 1], signal=[s @ (3 * number + 1)])
        device.queue_execute(commands, wait=[s @ (3 * number + 1)], signal=[s @ (3 * number + 2)])
        device.queue_copy(b, output, wait=[s @ (3 * number + 2)], signal=[s @ (3 * number + 3)])
    gate.signal(1)
    s.wait(3 * len(kept))
    for number, output in enumerate(kept):
        assert output.holds(number + 1), f"execution {number + 1}"


@clause("C-1")
@requires(Capability.HOLD)
def test_same_command_buffer_running_on_every_queue(
    device: ObservedDevice, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """Executions of one command buffer are held at the same time, one on each queue, and all of them complete.

    It writes nothing: what unordered executions of one list write, they would all write at once.

    run on queue 0: hold ──done[0]@1──▶ host
    run on queue 1: hold ──done[1]@1──▶ host   …
    """
    device.need_queues(2)
    latch = latches()
    commands = device.create_command_buffer([Hold(latch)])
    done = semaphores(device.queue_count)
    for queue, finished in enumerate(done):
        device.queue_execute(commands, signal=[finished @ 1], queue=queue)

    settle(lambda: all(finished.query() == 0 for finished in done))

    latch.open()
    for finished in done:
        finished.wait(1)


@clause("C-1", "Q-15")
def test_command_buffer_dropped_while_in_flight(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """The caller lets go of the command buffer, and of one that it only recorded, as soon as it has submitted."""
    counter = Counter(device, buffers)
    gate, turn = semaphores(2)
    device.queue_execute(counter.commands, wait=[gate @ 1], signal=[turn @ 1])
    device.queue_execute(counter.commands, wait=[turn @ 1], signal=[turn @ 2])
    device.create_command_buffer([Fill(counter.cells, 0)])  # recorded, never executed, has no effect
    del counter.commands
    gate.signal(1)
    turn.wait(2)
    counter.expect(2)


@clause("C-1")
def test_failed_wait_leaves_a_command_buffer_usable(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause
) -> None:
    """An execution that never ran because a wait failed does not spoil the next one of the same command buffer."""
    counter = Counter(device, buffers)
    gate, spoilt, done = semaphores(3)
    device.queue_execute(counter.commands, wait=[gate @ 1], signal=[spoilt @ 1])
    why = cause("the first execution must not run")
    gate.fail(why)
    expect_failed(spoilt, 1, why)
    device.queue_execute(counter.commands, signal=[done @ 1])
    done.wait(1)
    counter.expect(1)
