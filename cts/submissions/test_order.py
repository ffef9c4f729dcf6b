"""Order between submissions, and between them and the host: nothing runs before its wait list is reached."""

from __future__ import annotations

import random
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill

from ..support import Buffers, Effort, ObservedDevice, Semaphores, Settle, clause
from .pace import nudge


@clause("Q-1", "Q-5")
def test_consumer_submitted_before_its_producer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """A consumer that is on the queue first still runs after its producer.

    host ──gate@1──▶ fill(b, 7) ──made@1──▶ copy(b → c) ──done@1──▶ host
                     submitted 2nd          submitted 1st
    """
    b, c = buffers.filled(0, count=2)
    gate, made, done = semaphores(3)
    device.queue_execute([Copy(b, c)], wait=[made @ 1], signal=[done @ 1])
    device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[made @ 1])

    settle(lambda: c.untouched)  # watches: a queue that does not wait has shown itself

    gate.signal(1)
    done.wait(1)
    assert c.holds(7)


@clause("Q-5")
@pytest.mark.parametrize("where", ["same-queue", "other-queue"])
def test_consumer_submitted_after_its_producer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort, where: str
) -> None:
    """The producer may be pending, running or finished by the time the consumer comes.

    fill(b, round) ──made@round──▶ copy(b → c) ──done@round──▶ host
    """
    if where == "other-queue":
        device.need_queues(2)
    queue = 0 if where == "same-queue" else device.queue_count - 1
    b, c = buffers.filled(0, count=2, size=64 * 1024)
    made, done = semaphores(2)
    for turn in range(1, effort.loops(20, 100) + 1):
        device.queue_fill(b, turn % 251, signal=[made @ turn])
        device.queue_copy(b, c, wait=[made @ turn], signal=[done @ turn], queue=queue)
        done.wait(turn)
        assert c.holds(turn % 251)


@clause("Q-1")
def test_work_waits_for_the_host(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Neither the source is read nor the target written before the host has signaled.

    host: a ← new ──ready@1──▶ copy(a → b) ──done@101──▶ host
    """
    old, new = 1, 2
    a, b = buffers.filled(old), buffers.filled(0)
    [ready] = semaphores(1)
    done = semaphores.at(100)
    device.queue_copy(a, b, wait=[ready @ 1], signal=[done @ 101])

    settle(lambda: b.untouched, lambda: done.reads(100))

    a.fill_by_host(new)
    ready.signal(1)
    done.wait(101)
    assert b.holds(new)


@clause("Q-1", "Q-16")
def test_work_waits_for_the_whole_list(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """One of two reached is not enough, whichever stands first in the list.

    host ──first@1──▶ ┬▶ fill(a, 7) ──▶ done_a@1, also_a@1
    host ──last@1───▶ ┴▶ fill(b, 8) ──▶ done_b@1, also_b@1
    """
    a, b = buffers.filled(0, count=2)
    first, last, done_a, also_a, done_b, also_b = semaphores(6)
    device.queue_fill(a, 7, wait=[first @ 1, last @ 1], signal=[done_a @ 1, also_a @ 1])
    device.queue_fill(b, 8, wait=[last @ 1, first @ 1], signal=[done_b @ 1, also_b @ 1])
    first.signal(1)

    signals = [done_a, also_a, done_b, also_b]
    settle(lambda: a.untouched, lambda: b.untouched, *(partial(s.reads, 0) for s in signals))

    last.signal(1)
    for signal in signals:
        signal.wait(1)
    assert a.holds(7)
    assert b.holds(8)


@clause("Q-1")
def test_every_kind_of_work_waits(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Transfers, command lists and recorded command buffers all wait; each is submitted in its own way."""
    source = buffers.filled(7)
    filled, copied, listed, recorded, updated = buffers.filled(0, count=5)
    [gate] = semaphores(1)
    done = semaphores(5)
    wait = [gate @ 1]
    device.queue_fill(filled, 7, wait=wait, signal=[done[0] @ 1])
    device.queue_copy(source, copied, wait=wait, signal=[done[1] @ 1])
    device.queue_execute([Fill(listed, 7, length=128), Copy(source, listed)], wait=wait, signal=[done[2] @ 1])
    device.queue_execute(
        device.create_command_buffer([Copy(source, recorded)], one_shot=True), wait=wait, signal=[done[3] @ 1]
    )
    if device.has(Capability.UPDATE):
        device.queue_update(updated, bytes([7]) * updated.size, wait=wait, signal=[done[4] @ 1])
    else:
        device.queue_fill(updated, 7, wait=wait, signal=[done[4] @ 1])

    targets = [filled, copied, listed, recorded, updated]
    settle(*(lambda target=target: target.untouched for target in targets))

    gate.signal(1)
    for semaphore, target in zip(done, targets, strict=True):
        semaphore.wait(1)
        assert target.holds(7)


@clause("Q-1")
def test_no_wait_of_a_long_list_is_forgotten(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """Twelve gates are signaled in any order. Work that forgot one reads what is there before the last."""
    a, b = buffers.filled(0, count=2)
    choice = random.Random(12)
    for turn in range(1, effort.loops(20, 100) + 1):
        gates = semaphores(12)
        [done] = semaphores(1)
        device.queue_copy(a, b, wait=[gate @ 1 for gate in gates], signal=[done @ 1])
        choice.shuffle(gates)
        for gate in gates[:-1]:
            gate.signal(1)
        nudge(device)
        a.fill_by_host(turn % 251)
        gates[-1].signal(1)
        done.wait(1)
        assert b.holds(turn % 251)


@clause("Q-1")
def test_each_of_many_waiters_runs_in_its_own_turn(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Two hundred copies of one word wait for two hundred values of one timeline, submitted in no order at all.

    host: word ← k ──clock@k──▶ copy(word → cells[k]) ──done_k@1──▶ host, for k = 1 … 200

    A copy that runs early finds a smaller number, one that runs late a larger one.
    """
    count = 200
    word, cells = buffers.filled(0, size=4), buffers.filled(0, size=4 * (count + 1))
    [clock] = semaphores(1)
    done = semaphores(count + 1)
    order = list(range(1, count + 1))
    random.Random(200).shuffle(order)
    for k in order:
        queue = k % device.queue_count
        device.queue_copy(word, cells, target_offset=4 * k, wait=[clock @ k], signal=[done[k] @ 1], queue=queue)
    for k in range(1, count + 1):
        nudge(device, k % device.queue_count)
        word.write(k.to_bytes(4, "little"))
        clock.signal(k)
        done[k].wait(1)
    assert cells.holds_bytes(b"".join(k.to_bytes(4, "little") for k in range(count + 1)))


@clause("Q-1", "Q-2", "Q-5")
def test_chain_in_which_everything_comes_late(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """The data must pass four submissions, each submitted before the one that it waits for.

    host: b0 ← 9 ──s@1──▶ copy(b0 → b1) ──s@2──▶ copy(b1 → b2) ──s@3──▶ … ──s@5──▶ host
    """
    chain = buffers.filled(0, count=5)
    [s] = semaphores(1)
    for k in reversed(range(1, 5)):
        device.queue_copy(chain[k - 1], chain[k], wait=[s @ k], signal=[s @ (k + 1)], queue=k % device.queue_count)

    settle(lambda: s.reads(0), *(lambda b=b: b.untouched for b in chain))

    chain[0].fill_by_host(9)
    s.signal(1)
    s.wait(5)
    assert chain[4].holds(9)
