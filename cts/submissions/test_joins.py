"""Work that waits for the host and for the device at once."""

from __future__ import annotations

import itertools

import pytest

from pytest_cuda2hal.hal import Capability, Command, Copy, Fill, Hold

from ..support import (
    Buffers,
    Effort,
    Latches,
    ObservedDevice,
    ObservedSemaphore,
    Semaphores,
    Settle,
    Tasks,
    clause,
    mark,
    requires,
)


@clause("Q-8")
@pytest.mark.parametrize("listed_first", ["host", "device"])
@pytest.mark.parametrize("signaled_first", ["host", "device"])
def test_host_and_device_to_device(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    settle: Settle,
    threads: Tasks,
    signaled_first: str,
    listed_first: str,
) -> None:
    """A join of a host signal and a device signal runs after both, whichever comes first and whichever is listed first.

    host ──gate@1──▶ fill(b, 7) ──made@1──┐
    host ─────────────go@1────────────────┴▶ copy(b → c) ──done@1──▶ host
    """
    b, c = buffers.filled(0, count=2)
    gate, made, go, done = semaphores(4)
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[made @ 1])
    waits = [go @ 1, made @ 1] if listed_first == "host" else [made @ 1, go @ 1]
    device.queue_copy(b, c, wait=waits, signal=[done @ 1], queue=device.queue_count - 1)

    if signaled_first == "host":
        threads.start(lambda: go.signal(1)).result()
    else:
        gate.signal(1)
        made.wait(1)
    settle(lambda: c.untouched, lambda: done.reads(0))

    if signaled_first == "host":
        gate.signal(1)
    else:
        threads.start(lambda: go.signal(1)).result()
    done.wait(1)
    assert c.holds(7)


@clause("Q-11", "Q-8")
def test_host_signals_while_the_producer_runs(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, effort: Effort
) -> None:
    """The host signals at some moment of the producer's run; meanwhile unrelated work comes and goes.

    fill(x) × 16 ──made@1──┐         barrier ──noise@1──▶
    host ────────go@1──────┴▶ copy(x → y) ──done@1──▶ host
    """
    size = 1024 * 1024
    x, y = buffers.filled(0, count=2, size=size)
    for turn in range(1, effort.loops(12, 40) + 1):
        made, go, done, noise = semaphores(4)
        producer = [Fill(x, mark(turn), offset, size // 16) for offset in range(0, size, size // 16)]
        if turn % 2:
            device.queue_execute(producer, signal=[made @ 1], queue=device.queue_count - 1)
        device.queue_copy(x, y, wait=[made @ 1, go @ 1], signal=[done @ 1])
        if not turn % 2:
            device.queue_execute(producer, signal=[made @ 1], queue=device.queue_count - 1)
        if turn % 3:
            device.queue_execute([], signal=[noise @ 1], queue=turn % device.queue_count)
            if turn % 3 == 1:
                noise.wait(1)
        go.signal(1)
        done.wait(1)
        if turn % 3:
            noise.wait(1)
        assert y.holds(mark(turn))


@clause("Q-11")
@requires(Capability.HOLD)
def test_host_signals_while_the_producer_is_held(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """The wait for a running producer outlives the host's signal, and whatever is submitted and completed after it.

    queue 1:  hold, fill(x, 7) ──made@1──┐
    host ──────────────go@1──────────────┴▶ queue 0: copy(x → y) ──done@1──▶ host
    """
    device.need_queues(2)
    x, y = buffers.filled(0, count=2)
    made, go, done, noise = semaphores(4)
    latch = latches()
    device.queue_execute([Hold(latch), Fill(x, 7)], signal=[made @ 1], queue=1)
    device.queue_copy(x, y, wait=[made @ 1, go @ 1], signal=[done @ 1], queue=0)
    go.signal(1)
    noise.signal(1)

    settle(lambda: y.untouched, lambda: done.reads(0))

    latch.open()
    done.wait(1)
    assert y.holds(7)


@clause("Q-11")
def test_three_producers_and_the_host_in_every_order(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Three producers and the host release a join, in each of the 24 orders, unrelated work completing in between.

    host ──gates[k]@1──▶ copy(news → cells[k]) ──made[k]@1──┐ k = 0, 1, 2
    host ────────────────────go@1───────────────────────────┴▶ copy(cells → result) ──done@1──▶ host

    What a producer copies is written just before its gate opens, so a join that runs early has old data.
    """
    word = 4
    news, cells, result = (buffers.filled(0, size=3 * word) for _ in range(3))
    [noise] = semaphores(1)
    for turn, order in enumerate(itertools.permutations(["first", "second", "third", "host"]), start=1):
        gates, made = semaphores(3), semaphores(3)
        go, done = semaphores(2)
        release: dict[str, ObservedSemaphore] = dict(zip(["first", "second", "third"], gates, strict=True))
        release["host"] = go
        waits = [go @ 1, *(s @ 1 for s in made)]
        waits = waits[turn % 4 :] + waits[: turn % 4]
        if turn % 2:  # the join comes first, then its producers
            device.queue_copy(cells, result, wait=waits, signal=[done @ 1])
        for k in range(3):
            device.queue_copy(
                *(news, cells),
                source_offset=word * k,
                target_offset=word * k,
                length=word,
                wait=[gates[k] @ 1],
                signal=[made[k] @ 1],
                queue=(k + 1) % device.queue_count,
            )
        if not turn % 2:
            device.queue_copy(cells, result, wait=waits, signal=[done @ 1])
        for step, who in enumerate(order):
            assert done.query() == 0, f"the join ran after {order[:step]} of {order}"
            if who != "host":
                news.write(bytes([turn]) * word, word * gates.index(release[who]))
            release[who].signal(1)
            noise_value = 4 * turn + step
            device.queue_execute([], signal=[noise @ noise_value], queue=step % device.queue_count)
            noise.wait(noise_value)
        done.wait(1)
        assert result.holds(turn), f"the order was {order}"


@clause("Q-11")
@requires(Capability.HOLD)
def test_three_held_producers_end_in_every_order(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """As many running producers as there are other queues, up to three, let go in every order after the host's signal.

    queue k:  hold, fill(cell k) ──made[k]@1──┐ k = 1, 2, 3
    host ─────────────────go@1────────────────┴▶ queue 0: copy(cells → result) ──done@1──▶ host
    """
    device.need_queues(2)
    producers = min(3, device.queue_count - 1)
    word = 4
    cells, result = buffers.filled(0, count=2, size=word * producers)
    for turn, order in enumerate(itertools.permutations(range(producers)), start=1):
        made, held = semaphores(producers), [latches() for _ in range(producers)]
        go, done, noise = semaphores(3)
        for k in range(producers):
            work: list[Command] = [Hold(held[k]), Fill(cells, turn, word * k, word)]
            device.queue_execute(work, signal=[made[k] @ 1], queue=k + 1)
        waits = [go @ 1, *(s @ 1 for s in made)]
        device.queue_execute([Copy(cells, result)], wait=waits, signal=[done @ 1], queue=0)
        go.signal(1)
        for k in order[:-1]:
            held[k].open()
            made[k].wait(1)
            noise.signal(noise.query() + 1)
        if turn == 1:
            settle(lambda: result.untouched)
        else:
            assert done.query() == 0, f"the join ran although producer {order[-1]} is held"
        held[order[-1]].open()
        done.wait(1)
        assert result.holds(turn), f"the order was {order}"


@clause("Q-1", "Q-5")
@requires(Capability.HOLD)
def test_two_running_producers_of_one_consumer_among_many(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """More work of a queue waits for running work than a device has ways to wait; the last of it waits for two pieces.

    queue 0: hold ──x@1──▶ queue 1: hold, fill(b, 7) ──near@1──┐
    queue 1: hold ──far@1──┬───────────────────────────────────┴▶ queue 0: copy(b → c) ──done@1──▶ host
                           └▶ queue 0: barrier ──ends@k──▶, for k = 1 … 40, submitted before the copy
    """
    device.need_queues(2)
    count = 40
    b, c = buffers.filled(0, count=2)
    x, far, near, done = semaphores(4)
    ends = semaphores(count)
    first, second, third = latches(), latches(), latches()
    device.queue_execute([Hold(first)], signal=[x @ 1], queue=0)
    device.queue_execute([Hold(second)], signal=[far @ 1], queue=1)
    device.queue_execute([Hold(third), Fill(b, 7)], wait=[x @ 1], signal=[near @ 1], queue=1)
    for end in ends:
        device.queue_execute([], wait=[far @ 1], signal=[end @ 1], queue=0)
    device.queue_copy(b, c, wait=[far @ 1, near @ 1], signal=[done @ 1], queue=0)
    second.open()
    far.wait(1)
    first.open()
    for end in ends:
        end.wait(1)

    settle(lambda: done.reads(0), lambda: c.untouched)

    third.open()
    done.wait(1)
    assert c.holds(7)
