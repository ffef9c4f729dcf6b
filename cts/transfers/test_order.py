"""Order between transfers, visible in what they leave behind."""

from __future__ import annotations

import random

from pytest_cuda2hal.hal import Capability, Timepoint

from ..support import Buffers, Effort, ObservedBuffer, ObservedDevice, Semaphores, clause, mark, requires
from .programs import Program, initial_contents, random_program
from .ranges import granule, noise


@clause("T-3")
def test_fill_copy_fill_keeps_what_the_copy_read(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Write after read: the second fill waits for the copy, so the copy takes the first fill's bytes.

    fill(a, AA) ──s@1──▶ copy(a → b) ──s@2──▶ fill(a, BB) ──s@3──▶ host
    """
    a, b = buffers.filled(0, count=2, size=2**20)
    s = semaphores.at(0)
    device.queue_fill(a, 0xAA, signal=[s @ 1])
    device.queue_copy(a, b, wait=[s @ 1], signal=[s @ 2])
    device.queue_fill(a, 0xBB, wait=[s @ 2], signal=[s @ 3])
    s.wait(3)
    assert b.holds(0xAA)
    assert a.holds(0xBB)


@clause("T-3")
def test_write_after_read_again_and_again(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """One buffer is filled and copied out 64 times; every copy holds the fill just before it.

    fill(a, 1) ──▶ copy(a → out[1]) ──▶ fill(a, 2) ──▶ copy(a → out[2]) ──▶ …   on every queue in turn
    """
    a = buffers.filled(0, size=4096)
    out = buffers.filled(0, count=64, size=4096)
    s = semaphores.at(0)
    for number, kept in enumerate(out):
        queue = number % device.queue_count
        device.queue_fill(a, number + 1, wait=[s @ (2 * number)], signal=[s @ (2 * number + 1)], queue=queue)
        device.queue_copy(a, kept, wait=[s @ (2 * number + 1)], signal=[s @ (2 * number + 2)])
    s.wait(2 * len(out))
    for number, kept in enumerate(out):
        assert kept.holds(number + 1), f"copy {number + 1} of {len(out)}"


@clause("T-3")
def test_later_fill_wins(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Write after write: of chained fills of overlapping ranges each covers what came before."""
    b = buffers.filled(0, size=256)
    s = semaphores.at(0)
    for number in range(32):
        offset, queue = 4 * number, number % device.queue_count
        device.queue_fill(b, number + 1, offset=offset, wait=[s @ number], signal=[s @ (number + 1)], queue=queue)
    s.wait(32)
    assert b.holds_bytes(b"".join(bytes([number + 1]) * 4 for number in range(31)) + bytes([32]) * 132)


@clause("T-3")
def test_barrier_keeps_fill_before_copy(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Order goes through a submission without commands.

    fill(a, 7) ──s@1──▶ barrier ──t@1──▶ copy(a → b) ──u@1──▶ host
    """
    a, b = buffers.filled(0, count=2, size=2**18)
    s, t, u = semaphores(3)
    device.queue_fill(a, 7, signal=[s @ 1])
    device.queue_execute([], wait=[s @ 1], signal=[t @ 1])
    device.queue_copy(a, b, wait=[t @ 1], signal=[u @ 1])
    u.wait(1)
    assert b.holds(7)


@clause("T-3")
@requires(Capability.UPDATE)
def test_update_then_copy(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """update(a) ──s@1──▶ copy(a → b) ──s@2──▶ update(a) ──s@3──▶ host: the copy has the first update's bytes."""
    a, b = buffers.filled(0, count=2, size=4096)
    s = semaphores.at(0)
    device.queue_update(a, noise(4096, 1), signal=[s @ 1])
    device.queue_copy(a, b, wait=[s @ 1], signal=[s @ 2])
    device.queue_update(a, noise(4096, 2), wait=[s @ 2], signal=[s @ 3])
    s.wait(3)
    assert b.holds_bytes(noise(4096, 1))
    assert a.holds_bytes(noise(4096, 2))


@clause("T-3")
def test_bytes_handed_on_through_sixteen_buffers(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """copy(0 → 1) ──▶ copy(1 → 2) ──▶ … ──▶ copy(14 → 15) ──▶ host, each on another queue if there are several."""
    chain = [buffers.holding(noise(65536)), *buffers.filled(0, count=15, size=65536)]
    s = semaphores.at(0)
    for hop in range(15):
        queue = hop % device.queue_count
        device.queue_copy(chain[hop], chain[hop + 1], wait=[s @ hop], signal=[s @ (hop + 1)], queue=queue)
    s.wait(15)
    for hop, buffer in enumerate(chain):
        assert buffer.holds_bytes(noise(65536)), f"buffer {hop} of the chain"


@clause("T-3")
def test_independent_copies_in_flight(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """64 copies of 4 KiB, each with a semaphore of its own, submitted before any is waited for; 64 times."""
    pairs = [(buffers.holding(noise(4096, key)), buffers.filled(0, size=4096)) for key in range(64)]
    for burst in range(effort.loops(8, 64)):
        done = semaphores(len(pairs))
        for key, ((source, target), finished) in enumerate(zip(pairs, done, strict=True)):
            source.write(bytes([mark(burst)]), key)
            device.queue_copy(source, target, signal=[finished @ 1], queue=key % device.queue_count)
        for finished in done:
            finished.wait(1)
        for key, (source, target) in enumerate(pairs):
            assert target.holds_bytes(source.read()), f"copy {key} of burst {burst}"


@clause("T-3")
def test_random_legal_programs(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """Transfers that semaphores order just as far as their ranges meet give what the sequential program gives.

    Where the HAL lets a submission overtake others, the steps are submitted in any order, all behind one gate.
    """
    for seed in range(effort.loops(20, 120)):
        choice = random.Random(seed)
        unit = granule(device)
        program = random_program(choice, buffers=4, steps=24, unit=unit, updates=device.has(Capability.UPDATE))
        contents = initial_contents(4)
        memory = [buffers.holding(content) for content in contents]
        last = submit(program, memory, device, semaphores, choice)
        for timepoint in last:
            timepoint.semaphore.wait(timepoint.value)
        for number, (buffer, expected) in enumerate(zip(memory, program.expected(contents), strict=True)):
            assert buffer.holds_bytes(expected), f"buffer {number} after the program of seed {seed}:\n{program}"


def submit(
    program: Program,
    memory: list[ObservedBuffer],
    device: ObservedDevice,
    semaphores: Semaphores,
    choice: random.Random,
) -> list[Timepoint]:
    """Submit every step, ordered by as few timepoints as will do; return the timepoint of each step.

    A step takes over the timeline of one that it comes after, so that the signals of each timeline are ordered.
    """
    gate = semaphores.at(0)
    made: list[Timepoint] = []
    for after in program.after:
        free = next((made[earlier] for earlier in after if is_last_of_its_timeline(made[earlier], made)), None)
        made.append(free.semaphore @ (free.value + choice.randint(1, 9)) if free else semaphores.at(0) @ 1)
    order = list(range(len(made)))
    first: list[Timepoint] = []  # what the steps wait for that come after no other
    if device.has(Capability.ASYNC_SUBMIT):
        first.append(gate @ 1)
        if device.has(Capability.SAME_QUEUE_OUT_OF_ORDER):
            choice.shuffle(order)
    for index in order:
        command = program.steps[index].command(memory)
        wait = [made[earlier] for earlier in program.after[index]] or first
        device.queue_execute([command], wait=wait, signal=[made[index]], queue=choice.randrange(device.queue_count))
    gate.signal(1)
    return made


def is_last_of_its_timeline(point: Timepoint, made: list[Timepoint]) -> bool:
    return all(other.semaphore is not point.semaphore or other.value <= point.value for other in made)
