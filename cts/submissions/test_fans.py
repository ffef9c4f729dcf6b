"""One signal and several who wait for it; one value and several below it."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Copy, Fill

from ..support import Buffers, ObservedDevice, Semaphores, Settle, Tasks, clause

#: A distance that every profile allows between a value and what is waited for.
FAR = 2**31 - 2


@clause("Q-6", "Q-5")
def test_two_consumers_of_one_of_two_producers(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Both consumers of a signal run. Another producer stands between, which waits for nothing and signals nothing.

                      ┌▶ copy(b → c) ──c_done@1──▶ host
    fill(b) ──made@1──┤                                       fill(other)
                      └▶ copy(b → d) ──d_done@1──▶ host
    """
    b, c, d, other = buffers.filled(0, count=4)
    made, c_done, d_done = semaphores(3)
    device.queue_copy(b, c, wait=[made @ 1], signal=[c_done @ 1])
    device.queue_copy(b, d, wait=[made @ 1], signal=[d_done @ 1])
    device.queue_fill(other, 9)

    settle(lambda: c.untouched, lambda: d.untouched, lambda: made.reads(0))

    device.queue_fill(b, 7, signal=[made @ 1])
    d_done.wait(1)
    c_done.wait(1)
    assert made.query() == 1
    assert c.holds(7)
    assert d.holds(7)


@clause("Q-6")
def test_consumers_from_before_and_after_the_signal(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """One value is waited for before its producer is submitted, while it is pending, and when it is long reached."""
    each = 8
    b = buffers.filled(0)
    targets = buffers.filled(0, count=3 * each)
    gate, made = semaphores(2)
    done = semaphores(3 * each)

    def consume(first: int) -> None:
        for k in range(first, first + each):
            queue = k % device.queue_count
            device.queue_copy(b, targets[k], wait=[made @ 1], signal=[done[k] @ 1], queue=queue)

    consume(0)
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[made @ 1])
    consume(each)
    gate.signal(1)
    made.wait(1)
    made.wait(1)
    consume(2 * each)
    for semaphore, target in zip(done, targets, strict=True):
        semaphore.wait(1)
        assert target.holds(7)


@clause("Q-7")
@pytest.mark.parametrize("where", ["same-queue", "other-queue"])
def test_producer_signals_above_what_is_waited_for(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle, where: str
) -> None:
    """One signal of 3 releases who waits for 2 and who waits for 1; both came first.

                      ┌ made@2 ▶ copy(b → c) ──c_done@1──▶ host
    fill(b) ──made@3──┤
                      └ made@1 ▶ copy(b → d) ──d_done@1──▶ host
    """
    if where == "other-queue":
        device.need_queues(2)
    queue = 0 if where == "same-queue" else device.queue_count - 1
    b, c, d = buffers.filled(0, count=3)
    made, c_done, d_done = semaphores(3)
    device.queue_copy(b, c, wait=[made @ 2], signal=[c_done @ 1], queue=queue)
    device.queue_copy(b, d, wait=[made @ 1], signal=[d_done @ 1])

    settle(lambda: c.untouched, lambda: d.untouched)

    device.queue_fill(b, 7, signal=[made @ 3])
    c_done.wait(1)
    d_done.wait(1)
    assert made.query() == 3
    assert c.holds(7)
    assert d.holds(7)


@clause("Q-7", "Q-10")
def test_producer_signals_far_above_many_values(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Values next to the signaled one, far below it and in between, all different, some waited for by latecomers."""
    b = buffers.filled(0)
    values = [FAR, 1, FAR - 1, 2, 1000, FAR // 2, 65536, 3]
    targets, done = buffers.filled(0, count=len(values)), semaphores(len(values))
    gate, made = semaphores(2)

    def consume(k: int) -> None:
        queue = k % device.queue_count
        device.queue_copy(b, targets[k], wait=[made @ values[k]], signal=[done[k] @ 1], queue=queue)

    for k in range(0, len(values), 2):
        consume(k)
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[made @ FAR])
    for k in range(1, len(values), 2):
        consume(k)
    gate.signal(1)
    for semaphore, target in zip(done, targets, strict=True):
        semaphore.wait(1)
        assert target.holds(7)


@clause("Q-10")
def test_larger_value_before_the_smaller_wait(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """A wait for 1 that is enqueued when the value is 2 is satisfied, whether the host or the device signaled.

    host ──by_host@2──▶ …            by_host@1 ──▶ fill(a, 7) ──▶ done_a@1
    barrier ──by_device@2──▶ …     by_device@1 ──▶ fill(b, 8) ──▶ done_b@1
    """
    a, b = buffers.filled(0, count=2)
    by_host, by_device, done_a, done_b = semaphores(4)
    by_host.signal(2)
    device.queue_execute([], signal=[by_device @ 2])
    by_device.wait(2)
    device.queue_fill(a, 7, wait=[by_host @ 1], signal=[done_a @ 1])
    device.queue_fill(b, 8, wait=[by_device @ 1], signal=[done_b @ 1], queue=device.queue_count - 1)
    done_a.wait(1)
    done_b.wait(1)
    assert a.holds(7)
    assert b.holds(8)


@clause("Q-10")
@pytest.mark.parametrize("value", [2, FAR], ids=["next", "far"])
def test_larger_value_after_the_smaller_wait(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, value: int
) -> None:
    """A wait for 1 is satisfied by a later signal of more, from another thread or from the device."""
    a, b = buffers.filled(0, count=2)
    by_host, by_device, done_a, done_b = semaphores(4)
    device.queue_fill(a, 7, wait=[by_host @ 1], signal=[done_a @ 1])
    device.queue_fill(b, 8, wait=[by_device @ 1], signal=[done_b @ 1])
    threads.start(lambda: by_host.signal(value)).result()
    device.queue_execute([], signal=[by_device @ value], queue=device.queue_count - 1)
    done_a.wait(1)
    done_b.wait(1)
    assert (by_host.query(), by_device.query()) == (value, value)
    assert a.holds(7)
    assert b.holds(8)


@clause("Q-9")
def test_one_producer_releases_host_and_device(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks
) -> None:
    """Host threads and a later submission wait for the signals of one producer, and each goes on.

                      ┌──made@1──▶ three host threads, and copy(b → c) ──done@1──▶ a host thread
    gate ──▶ fill(b) ─┤
                      └──also@1──▶ a host thread
    """
    b, c = buffers.filled(0, count=2)
    gate, made, also, done = semaphores(4)
    waiting = [threads.start(partial(s.wait, 1)) for s in (made, made, also, done, made)]
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[made @ 1, also @ 1])
    device.queue_copy(b, c, wait=[made @ 1], signal=[done @ 1], queue=device.queue_count - 1)
    gate.signal(1)
    for thread in waiting:
        thread.result()
    assert [s.query() for s in (made, also, done)] == [1, 1, 1]
    assert c.holds(7)


@clause("Q-9")
def test_host_and_device_wait_for_many_values_of_one_timeline(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks
) -> None:
    """For each of twenty values of one timeline a host thread and a consumer wait; every signal releases its two."""
    count = 20
    cells, results = buffers.filled(0, count=2, size=4 * count)
    [s] = semaphores(1)
    done = semaphores(count)
    waiting = [threads.start(partial(s.wait, k + 2)) for k in range(count)]
    for k in range(count):
        device.queue_copy(
            *(cells, results),
            source_offset=4 * k,
            target_offset=4 * k,
            length=4,
            wait=[s @ (k + 2)],
            signal=[done[k] @ 1],
            queue=k % device.queue_count,
        )
    for k in range(count):
        device.queue_fill(cells, k + 1, offset=4 * k, length=4, wait=[s @ (k + 1)], signal=[s @ (k + 2)])
    s.signal(1)
    for k in range(count):
        waiting[k].result()
        done[k].wait(1)
    assert results.holds_bytes(b"".join(bytes([k + 1]) * 4 for k in range(count)))


@clause("Q-6", "Q-16")
def test_tree_of_copies_on_one_timeline(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """One write, a copy of it on every queue, a copy of each copy on the next queue; all on one timeline.

    host ──s@1──▶ fill(root) ──s@2──▶ copy(root → twigs[k]) ──s@…──▶ copy(twigs[k] → leaves[k]) ──s@…──▶ host

    Each waits for two values of the timeline: of its parent, and of who signals before it.
    """
    width = max(4, device.queue_count)
    root = buffers.filled(0, size=4096)
    twigs, leaves = (buffers.filled(0, count=width, size=4096) for _ in range(2))
    [s] = semaphores(1)
    device.queue_execute([Fill(root, 7)], wait=[s @ 1], signal=[s @ 2])
    last = 2
    twig_made = []
    for k in range(width):
        wait, signal = [s @ 2, s @ last], [s @ (last + 10)]
        device.queue_execute([Copy(root, twigs[k])], wait=wait, signal=signal, queue=k % device.queue_count)
        last += 10
        twig_made.append(last)
    for k in range(width):
        wait, signal = [s @ twig_made[k], s @ last], [s @ (last + 1)]
        device.queue_execute([Copy(twigs[k], leaves[k])], wait=wait, signal=signal, queue=(k + 1) % device.queue_count)
        last += 1
    s.signal(1)
    s.wait(last)
    assert s.query() == last
    for leaf in leaves:
        assert leaf.holds(7)
