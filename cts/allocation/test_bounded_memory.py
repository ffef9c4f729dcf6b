"""Memory comes back: more is allocated, in rounds, than there is."""

from __future__ import annotations

from functools import partial

from pytest_cuda2hal.hal import Capability

from ..lifetime.rest import Rest
from ..support import Buffers, Effort, ObservedBuffer, ObservedDevice, Poll, Semaphores, clause, mark, requires

#: What a round takes of the memory: no two rounds fit at the same time.
SHARE = 0.6
#: Rounds whose sizes sum to more than four times the memory.
ROUNDS = 7


def round_size(device: ObservedDevice) -> int:
    """Return the bytes of a round, a multiple of 4."""
    statistics = device.statistics()
    free = statistics.memory_total - statistics.memory_in_use
    size = int(statistics.memory_total * SHARE) // 4 * 4
    assert size < free < 2 * size, f"expected room for one round and not for two; seen {statistics}"
    return size


@clause("A-2")
@requires(Capability.STATISTICS)
def test_rounds_that_sum_to_four_times_the_memory(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Alloca, use, dealloca, with the host waiting for the end of each round."""
    size = round_size(device)
    out = buffers.filled(0, size=4096)
    s = semaphores.at(0)
    handles: list[ObservedBuffer] = []  # a handle that is kept does not keep the memory
    for number in range(ROUNDS):
        at = 4 * number
        a = device.queue_alloca(size, signal=[s @ (at + 1)])
        device.queue_fill(a, number + 1, offset=size - 4096, length=4096, wait=[s @ (at + 1)], signal=[s @ (at + 2)])
        device.queue_copy(a, out, source_offset=size - 4096, length=4096, wait=[s @ (at + 2)], signal=[s @ (at + 3)])
        device.queue_dealloca(a, wait=[s @ (at + 3)], signal=[s @ (at + 4)])
        s.wait(at + 4)
        assert out.holds(number + 1), f"round {number + 1}"
        handles.append(a)


@clause("A-2")
@requires(Capability.STATISTICS, Capability.ASYNC_SUBMIT)
def test_rounds_queued_behind_one_unreached_wait(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """All rounds are queued before the first may run: memory is taken when its turn comes, not when it is asked for.

    host ──gate@1──▶ alloca(60%) ──▶ fill ──▶ copy ──▶ dealloca ──▶ alloca(60%) ──▶ …
    """
    size = round_size(device)
    out = buffers.filled(0, count=ROUNDS, size=4096)
    gate, s = semaphores(2)
    handles: list[ObservedBuffer] = []
    for number, kept in enumerate(out):
        at, queue = 4 * number, number % device.queue_count
        a = device.queue_alloca(size, wait=[s @ at if number else gate @ 1], signal=[s @ (at + 1)], queue=queue)
        device.queue_fill(a, number + 1, length=4096, wait=[s @ (at + 1)], signal=[s @ (at + 2)])
        device.queue_copy(a, kept, length=4096, wait=[s @ (at + 2)], signal=[s @ (at + 3)])
        device.queue_dealloca(a, wait=[s @ (at + 3)], signal=[s @ (at + 4)], queue=queue)
        handles.append(a)
    gate.signal(1)
    s.wait(4 * ROUNDS)
    for number, kept in enumerate(out):
        assert kept.holds(number + 1), f"round {number + 1}"


@clause("L-1")
@requires(Capability.ASYNC_ALLOC, Capability.BOUNDED_MEMORY)
def test_dropped_handle_gives_its_memory_back(device: ObservedDevice, semaphores: Semaphores, poll: Poll) -> None:
    """A buffer that is never deallocated is freed with its last handle: the next round fits again."""
    size = round_size(device)
    s = semaphores.at(0)
    before = device.statistics().memory_in_use
    for number in range(ROUNDS):
        a = device.queue_alloca(size, signal=[s @ (number + 1)])
        s.wait(number + 1)
        del a
        poll(lambda: device.statistics().memory_in_use <= before)


@clause("A-2", "L-1")
@requires(Capability.STATISTICS, Capability.ASYNC_ALLOC)
def test_thousands_of_rounds_end_where_they_began(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort, poll: Poll
) -> None:
    """Small rounds, a hundred in flight at a time, leave no memory in use and no buffer alive."""
    s = semaphores.at(0)
    rest = Rest(device, poll)
    number = 0
    for _ in range(effort.loops(5, 30, 100)):
        for _ in range(100):
            a = device.queue_alloca(1024, wait=[s @ (2 * number)], signal=[s @ (2 * number + 1)])
            device.queue_dealloca(a, wait=[s @ (2 * number + 1)], signal=[s @ (2 * number + 2)])
            number += 1
        s.wait(2 * number)
    del a

    rest.expect()


@clause("A-2")
@requires(Capability.STATISTICS)
def test_a_deallocation_frees_its_memory_once(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll, effort: Effort
) -> None:
    """Beside a buffer that stays, each round ends at exactly the figure where it began: no more than that is free.

    Hundreds of rounds: where memory is given back a second time now and then, others hide it soon.
    """
    kept = buffers.filled(7, size=4096)
    s = semaphores.at(0)
    before = device.statistics().memory_in_use
    for number in range(effort.loops(50, 600)):
        at = 3 * number
        a = device.queue_alloca(4096, signal=[s @ (at + 1)])
        device.queue_fill(a, mark(number), wait=[s @ (at + 1)], signal=[s @ (at + 2)])
        device.queue_dealloca(a, wait=[s @ (at + 2)], signal=[s @ (at + 3)])
        s.wait(at + 3)
        poll(partial(device.uses_memory, before))
    assert kept.holds(7)
