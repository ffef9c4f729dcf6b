"""A signal says that the work is done, and that everyone who learns of the signal sees what it did."""

from __future__ import annotations

import random
from functools import partial

from pytest_cuda2hal.hal import Capability, Copy, Fill, Hold

from ..support import (
    AskVariation,
    Buffers,
    Effort,
    Latches,
    ObservedDevice,
    Poll,
    Semaphores,
    Settle,
    Tasks,
    clause,
    mark,
    requires,
)

#: Bytes that take a device a moment to move.
LARGE = 1024 * 1024


@clause("Q-2")
def test_value_is_there_when_a_wait_returns(device: ObservedDevice, semaphores: Semaphores) -> None:
    """A thousand times: wait for a device signal, then look at once. A wait must not return ahead of the value."""
    [s] = semaphores(1)
    for value in range(1, 1001):
        device.queue_execute([], signal=[s @ value])
        s.wait(value)
        seen = s.query()
        assert seen >= value, f"wait({value}) returned while query() gave {seen}"


@clause("Q-2", "Q-5")
def test_consumer_submitted_right_after_the_wait(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """What the host has just seen signaled, the device must see as well.

    fill(b, turn) ──made@turn──▶ host waits, then submits ──▶ copy(b → c) ──done@turn──▶ host
    """
    b, c = buffers.filled(0, count=2)
    made, done = semaphores(2)
    for turn in range(1, effort.loops(50, 200) + 1):
        device.queue_fill(b, turn % 251, signal=[made @ turn])
        made.wait(turn)
        device.queue_copy(b, c, wait=[made @ turn], signal=[done @ turn], queue=device.queue_count - 1)
        done.wait(turn)
        assert c.holds(turn % 251)


@clause("Q-2")
def test_host_sees_all_of_a_large_fill(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """When a host wait returns, the last bytes of a long piece of work are there, too."""
    b = buffers.filled(0, size=LARGE)
    [s] = semaphores(1)
    for turn in range(1, effort.loops(5, 20) + 1):
        commands = [Fill(b, turn, offset, LARGE // 64) for offset in range(0, LARGE, LARGE // 64)]
        device.queue_execute(commands, signal=[s @ turn])
        s.wait(turn)
        assert b.holds(turn)


@clause("Q-2")
def test_host_that_only_looks_sees_all(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    poll: Poll,
    effort: Effort,
) -> None:
    """A host that never waits, but sees the value by `query`, may read just as well."""
    b = buffers.filled(0, size=LARGE)
    [s] = semaphores(1)
    for turn in range(1, effort.loops(5, 20) + 1):
        commands = [Fill(b, turn, offset, LARGE // 64) for offset in range(0, LARGE, LARGE // 64)]
        device.queue_execute(commands, signal=[s @ turn])
        poll(partial(s.reads, turn))
        assert b.holds(turn)


@clause("Q-2")
@requires(Capability.HOLD)
def test_held_work_signals_nobody(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """As long as a part of the work is missing, neither the host nor another queue hears of it.

    hold, fill(b, 7) ──made@1──▶ copy(b → c) ──done@1──▶ host
    """
    b, c = buffers.filled(0, count=2)
    made, done = semaphores(2)
    latch = latches()
    device.queue_execute([Hold(latch), Fill(b, 7)], signal=[made @ 1])
    device.queue_copy(b, c, wait=[made @ 1], signal=[done @ 1], queue=device.queue_count - 1)

    settle(lambda: made.reads(0), lambda: c.untouched)

    latch.open()
    done.wait(1)
    assert c.holds(7)


@clause("Q-2", "Q-19")
def test_consumers_of_long_producers_of_two_threads(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Two threads submit chains of large copies at once, so that what a HAL recycles is in use elsewhere.

    per thread:  fill(b0, hop) ──s@1──▶ copy(b0 → b1) ──s@2──▶ copy(b1 → b2) ──s@3──▶ … each hop on the next queue
    """
    hops = effort.loops(12, 40)

    def chain(first_queue: int) -> None:
        a, b, c = buffers.filled(0, count=3, size=LARGE // 4)
        [s] = semaphores(1)
        for hop in range(hops):
            at = 3 * hop
            queue = first_queue + hop
            device.queue_fill(a, mark(hop), wait=[s @ at], signal=[s @ (at + 1)], queue=queue % device.queue_count)
            device.queue_copy(a, b, wait=[s @ (at + 1)], signal=[s @ (at + 2)], queue=(queue + 1) % device.queue_count)
            device.queue_copy(b, c, wait=[s @ (at + 2)], signal=[s @ (at + 3)], queue=(queue + 2) % device.queue_count)
            if hop % 4 == 3:
                s.wait(at + 3)
                assert c.holds(mark(hop))
        s.wait(3 * hops)
        assert c.holds(mark(hops - 1))

    threads.run([lambda: chain(0), lambda: chain(1)])


@clause("Q-2", "Q-1")
def test_device_and_host_take_turns(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks
) -> None:
    """Twelve round trips of data, all device work submitted before anything runs, the values far apart.

    copy(there → way) ──s──▶ copy(way → back) ──s──▶ host: there ← back + 1 ──s──▶ copy(there → way) ──s──▶ …

    Seen in both directions: what the device wrote before the host reads it, what the host wrote before the device does.
    """
    rounds, size = 12, 256
    there, way, back = buffers.filled(0, count=3, size=size)
    [s] = semaphores(1)
    choice = random.Random(7)
    value = 0
    host_turns: list[tuple[int, int]] = []  # wait for, then signal
    for _ in range(rounds):
        asked, written, read = (value := value + choice.randint(1, 100) for _ in range(3))
        device.queue_copy(there, way, wait=[s @ asked], signal=[s @ written])
        device.queue_copy(way, back, wait=[s @ written], signal=[s @ read], queue=device.queue_count - 1)
        host_turns.append((asked, read))

    def host() -> None:
        for number, (asked, read) in enumerate(host_turns):
            there.fill_by_host(number + 1)
            s.signal(asked)
            s.wait(read)
            assert back.holds(number + 1)

    threads.start(host).result()
    assert s.query() == value


@clause("Q-23")
def test_last_of_twelve_signals_implies_all(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation, effort: Effort
) -> None:
    """A consumer that waits only for the last of twelve signals gathers what all twelve producers wrote.

    host ──gate@1──▶ fill(cell 1) ──s@1──▶ fill(cell 2) ──s@2──▶ … fill(cell 12) ──s@12──▶ copy(cells → result)

    Between the producers there are waits only where the order of submission promises nothing.
    """
    promised = not variation("submission-order").permits("none-promised")
    count, cell = 12, LARGE // 32
    for turn in range(effort.loops(3, 8)):
        cells, result = buffers.filled(0, count=2, size=count * cell)
        gate, s, done = semaphores(3)
        # The consumer is submitted last, as it must be where queues are in order.
        for k in range(1, count + 1):
            before = [gate @ 1] if promised else [gate @ 1, s @ (k - 1)]
            device.queue_fill(
                cells, 100 * turn % 97 + k, offset=(k - 1) * cell, length=cell, wait=before, signal=[s @ k]
            )
        device.queue_copy(cells, result, wait=[s @ count], signal=[done @ 1], queue=device.queue_count - 1)
        gate.signal(1)
        done.wait(1)
        expected = b"".join(bytes([100 * turn % 97 + k]) * cell for k in range(1, count + 1))
        assert result.holds_bytes(expected)


@clause("Q-23")
@requires(Capability.HOLD)
def test_last_of_twelve_signals_implies_all_made_ready_in_reverse(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, variation: AskVariation
) -> None:
    """While the queue is held, what was submitted last becomes ready first. That changes no promise about the order.

    gates[k]@1 ──▶ fill(cell k to the end) ──s@k──▶ …; s@12 ──▶ copy(cells → result). The gates are signaled from the
    last to the first. Between the producers there are waits only where the order of submission promises nothing.
    """
    promised = not variation("submission-order").permits("none-promised")
    count, cell = 12, 4096
    cells, result = buffers.filled(0, count=2, size=count * cell)
    gates = semaphores(count)
    s, done = semaphores(2)
    latch = latches()
    device.queue_execute([Hold(latch)])
    for k, gate in enumerate(gates, 1):
        before = [gate @ 1] if promised else [gate @ 1, s @ (k - 1)]
        device.queue_fill(cells, k, offset=(k - 1) * cell, wait=before, signal=[s @ k])
    device.queue_copy(cells, result, wait=[s @ count], signal=[done @ 1])
    for gate in reversed(gates):
        gate.signal(1)
    latch.open()
    done.wait(1)
    assert result.holds_bytes(b"".join(bytes([k]) * cell for k in range(1, count + 1)))


@clause("Q-23", "Q-20")
def test_last_of_twelve_signals_implies_all_across_queues(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """The same with each producer on the next queue, chained, and submitted last to first."""
    device.need_queues(2)
    count, cell = 12, 4096
    for turn in range(effort.loops(3, 8)):
        cells, result = buffers.filled(0, count=2, size=count * cell)
        s, done = semaphores(2)
        device.queue_copy(cells, result, wait=[s @ (count + 1)], signal=[done @ 1], queue=device.queue_count - 1)
        for k in reversed(range(1, count + 1)):
            offset, queue = (k - 1) * cell, k % device.queue_count
            device.queue_fill(
                cells, turn + k, offset=offset, length=cell, wait=[s @ k], signal=[s @ (k + 1)], queue=queue
            )
        s.signal(1)
        done.wait(1)
        assert result.holds_bytes(b"".join(bytes([turn + k]) * cell for k in range(1, count + 1)))


@clause("Q-2")
def test_every_signal_of_a_list_comes_after_the_work(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """Whichever signal a consumer or the host waits for, the first of the list or the last, the data is there.

    copy(a → b) ──▶ signals[0] … signals[7]; signals[k] ──▶ copy(b → targets[k]) ──▶ done[k]
    """
    width = 8
    for turn in range(1, effort.loops(10, 30) + 1):
        a, b = buffers.filled(mark(turn), size=LARGE // 8), buffers.filled(0, size=LARGE // 8)
        targets = buffers.filled(0, count=width, size=LARGE // 8)
        signals, done = semaphores(width), semaphores(width)
        device.queue_execute([Copy(a, b)], signal=[s @ turn for s in signals])
        for k in range(width):
            queue = (k + 1) % device.queue_count
            device.queue_copy(b, targets[k], wait=[signals[k] @ turn], signal=[done[k] @ 1], queue=queue)
        signals[turn % width].wait(turn)
        assert b.holds(mark(turn))
        for k in range(width):
            done[k].wait(1)
            assert targets[k].holds(mark(turn))


@clause("Q-1", "Q-2")
def test_nobody_sees_a_consumer_before_its_producer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """A submission ran after its waits were reached, so whoever sees its signal sees them reached.

    queue 0: fill(b, turn) ──made@turn──▶ last queue: copy(b → c) ──done@turn──▶ host, which looks at made
    """
    b, c = buffers.filled(0, count=2)
    made, done = semaphores(2)
    last = device.queue_count - 1
    for turn in range(1, effort.loops(300, 2000) + 1):
        device.queue_fill(b, turn % 251, signal=[made @ turn], queue=0)
        device.queue_copy(b, c, wait=[made @ turn], signal=[done @ turn], queue=last)
        done.wait(turn)
        seen = made.query()
        assert seen >= turn, f"done@{turn} is reached while made, for which its submission waits, reads {seen}"


@clause("Q-1", "Q-2")
def test_nobody_sees_a_consumer_before_either_producer(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """The same with a producer on the consumer's own queue beside that on another.

    queue 0:    fill(b, turn) ──near@turn──┐
    last queue: fill(c, turn) ──far@turn───┴▶ queue 0: copy(b → d), copy(c → e) ──done@turn──▶ host, which looks at both
    """
    b, c, d, e = buffers.filled(0, count=4)
    near, far, done = semaphores(3)
    last = device.queue_count - 1
    for turn in range(1, effort.loops(300, 2000) + 1):
        device.queue_fill(c, turn % 251, signal=[far @ turn], queue=last)
        device.queue_fill(b, turn % 251, signal=[near @ turn], queue=0)
        both = [near @ turn, far @ turn]
        device.queue_execute([Copy(b, d), Copy(c, e)], wait=both, signal=[done @ turn], queue=0)
        done.wait(turn)
        seen = near.query(), far.query()
        assert min(seen) >= turn, f"done@{turn} is reached while near and far, for which it waits, read {seen}"
    assert d.holds(turn % 251)
    assert e.holds(turn % 251)


@clause("Q-1", "Q-2")
def test_nobody_sees_a_consumer_before_a_producer_with_work_behind_it(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """The same where the producer's queue has gone on by then.

    queue 0: fill(b, turn) ──made@turn──▶ last queue: copy(b → c) ──done@turn──▶ host, which looks at made
    queue 0: fill(d, turn) ──later@turn──▶ host, when it has looked
    """
    b, c, d = buffers.filled(0, count=3)
    made, later, done = semaphores(3)
    last = device.queue_count - 1
    for turn in range(1, effort.loops(300, 2000) + 1):
        device.queue_fill(b, turn % 251, signal=[made @ turn], queue=0)
        device.queue_fill(d, turn % 251, signal=[later @ turn], queue=0)
        device.queue_copy(b, c, wait=[made @ turn], signal=[done @ turn], queue=last)
        done.wait(turn)
        seen = made.query()
        assert seen >= turn, f"done@{turn} is reached while made, for which its submission waits, reads {seen}"
        later.wait(turn)
    assert c.holds(turn % 251)
