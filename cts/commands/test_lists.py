"""Long lists: all of them before the signal, and in the order in which they stand."""

from __future__ import annotations

import random

import pytest

from pytest_cuda2hal.hal import Capability, Command, Copy, Fill, Hold, StatusCode

from ..support import Buffers, Effort, Latches, ObservedDevice, Semaphores, Settle, Tasks, clause, requires, status_of
from ..transfers.programs import initial_contents, random_program
from ..transfers.ranges import granule

#: Commands in one submission, from the contract.
MANY = 512


def numbered(index: int) -> bytes:
    """Return four bytes that no other index below 65,536 gives."""
    return b"\xc0" + index.to_bytes(2, "little") + b"\x0c"


@clause("C-3")
@pytest.mark.parametrize("recorded", [False, True], ids=["list", "command-buffer"])
def test_512_fills_precede_the_signal(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, recorded: bool
) -> None:
    """Each command fills four bytes of its own; who waits for the signal, host or device, sees all of them.

    512 fills(b) ──done@1──▶ copy(b → seen) ──copied@1──▶ host
    """
    b, seen = buffers.filled(0, count=2, size=4 * MANY)
    done, copied = semaphores(2)
    fills = [Fill(b, numbered(index), 4 * index, 4) for index in range(MANY)]
    commands = device.create_command_buffer(fills, one_shot=True) if recorded else fills
    device.queue_execute(commands, signal=[done @ 1])
    device.queue_copy(b, seen, wait=[done @ 1], signal=[copied @ 1], queue=device.queue_count - 1)
    done.wait(1)
    expected = b"".join(map(numbered, range(MANY)))
    assert b.holds_bytes(expected)
    copied.wait(1)
    assert seen.holds_bytes(expected)


@clause("C-3")
def test_512_copies_precede_the_signal(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """A chain in one list: each command copies four bytes to the place behind, so the last needs all before it."""
    b = buffers.holding(numbered(1).ljust(4 * (MANY + 1), b"\0"))
    done = semaphores.at(0)
    device.queue_execute([Copy(b, b, 4 * index, 4 * index + 4, 4) for index in range(MANY)], signal=[done @ 1])
    done.wait(1)
    assert b.holds(numbered(1))


@clause("C-3")
def test_large_last_command_precedes_the_signal(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """The last of 512 commands takes much longer than the others; its last bytes are there when the signal is."""
    b, large = buffers.filled(0, size=4 * MANY), buffers.filled(0, size=2**23)
    done = semaphores.at(0)
    fills: list[Command] = [Fill(b, numbered(index), 4 * index, 4) for index in range(MANY - 1)]
    for number in range(1, effort.loops(4, 12) + 1):
        device.queue_execute([*fills, Fill(large, number)], signal=[done @ number])
        done.wait(number)
        assert large.holds(number, large.size - 256), f"the end of the last command, round {number}"
        assert large.holds(number), f"the last command, round {number}"


@clause("C-3", "C-4")
@requires(Capability.HOLD)
def test_signal_waits_for_the_last_of_512_commands(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """Held before the last command: no signal, and what stands behind the hold has not run.

    fill(b), … 510 …, hold, fill(c) ──done@1──▶ host
    """
    b, c = buffers.filled(0, count=2, size=4 * MANY)
    done = semaphores.at(0)
    latch = latches()
    before: list[Command] = [Fill(b, numbered(index), 4 * index, 4) for index in range(MANY - 2)]
    device.queue_execute([*before, Hold(latch), Fill(c, 7)], signal=[done @ 1])

    settle(lambda: done.query() == 0, lambda: c.untouched)

    latch.open()
    done.wait(1)
    assert b.holds_bytes(b"".join(map(numbered, range(MANY - 2))))
    assert c.holds(7)


@clause("C-3", "Q-3")
@requires(Capability.HOLD)
@pytest.mark.parametrize("held", ["its-own-queue", "another"])
def test_long_list_is_submitted_while_its_queue_is_held(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    threads: Tasks,
    settle: Settle,
    held: str,
) -> None:
    """A list longer than what a queue takes that cannot start yet: the submission returns, and all of it runs later.

    It is longer than C-3 promises, so a HAL may refuse it, or fail it for want of room.

    hold ──held@1──▶ 2048 fills(b) ──done@1──▶ last queue: copy(b → seen) ──copied@1──▶ host
    """
    if held == "another":
        device.need_queues(2)
    many = 4 * MANY
    b, seen = buffers.filled(0, count=2, size=4 * many)
    begun, done, copied = semaphores(3)
    latch = latches()
    fills = [Fill(b, numbered(index), 4 * index, 4) for index in range(many)]

    def submit() -> StatusCode:
        device.queue_execute([Hold(latch)], signal=[begun @ 1], queue=0)
        queue = 0 if held == "its-own-queue" else 1
        code = status_of(lambda: device.queue_execute(fills, wait=[begun @ 1], signal=[done @ 1], queue=queue))
        if code is StatusCode.OK:
            device.queue_copy(b, seen, wait=[done @ 1], signal=[copied @ 1], queue=device.queue_count - 1)
        return code

    code = threads.start(submit, "the submissions").result()
    if code is StatusCode.OK:
        settle(lambda: done.reads(0), lambda: b.untouched)

    latch.open()
    begun.wait(1)
    if code is StatusCode.OK:
        code = status_of(lambda: done.wait(1))
        assert code in (StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED), f"expected the list to run; seen {code.name}"
    if code is not StatusCode.OK:
        pytest.skip(f"unsupported: this HAL takes no list of {many} commands")
    expected = b"".join(map(numbered, range(many)))
    assert b.holds_bytes(expected)
    copied.wait(1)
    assert seen.holds_bytes(expected)


@clause("C-4")
@pytest.mark.parametrize("size", [256, 2**20])
def test_copy_in_a_list_takes_what_stands_before_it(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, size: int
) -> None:
    """Read after write and write after read in one list: each copy takes the fill just before it, not the next one."""
    a = buffers.filled(0, size=size)
    out = buffers.filled(0, count=8, size=size)
    done = semaphores.at(0)
    commands: list[Command] = []
    for number, kept in enumerate(out):
        commands += [Fill(a, number + 1), Copy(a, kept)]
    device.queue_execute([*commands, Fill(a, 0xFF)], signal=[done @ 1])
    done.wait(1)
    for number, kept in enumerate(out):
        assert kept.holds(number + 1), f"copy {number + 1} of the list"
    assert a.holds(0xFF)


@clause("C-4")
def test_overlapping_fills_in_a_list(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Write after write in one list: where fills overlap, the later one in the list is what remains."""
    b = buffers.filled(0, size=2**20)
    done = semaphores.at(0)
    step = b.size // 256
    device.queue_execute([Fill(b, number, number * step) for number in range(256)], signal=[done @ 1])
    done.wait(1)
    for number in range(256):
        assert b.holds(number, number * step, step), f"fill {number} of the list, up to where the next one begins"


@clause("C-4")
def test_swap_in_a_list(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Two buffers change places through a third, 101 times in one list."""
    a, b, aside = (buffers.filled(byte, size=4096) for byte in (1, 2, 3))
    done = semaphores.at(0)
    device.queue_execute([Copy(a, aside), Copy(b, a), Copy(aside, b)] * 101, signal=[done @ 1])
    done.wait(1)
    assert a.holds(2)
    assert b.holds(1)


@clause("C-4")
def test_random_lists(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort) -> None:
    """Random transfers in one list, most of them in conflict, give what the list gives in its order."""
    for seed in range(effort.loops(20, 60)):
        unit, updates = granule(device), device.has(Capability.UPDATE)
        program = random_program(random.Random(seed), buffers=3, steps=40, unit=unit, updates=updates)
        contents = initial_contents(3)
        memory = [buffers.holding(content) for content in contents]
        done = semaphores.at(0)
        device.queue_execute([step.command(memory) for step in program.steps], signal=[done @ 1])
        done.wait(1)
        for number, (buffer, expected) in enumerate(zip(memory, program.expected(contents), strict=True)):
            assert buffer.holds_bytes(expected), f"buffer {number} after the list of seed {seed}:\n{program}"
