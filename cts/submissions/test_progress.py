"""Submitting does not block, and what can run does run, whatever else cannot."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill, Hold, StatusCode

from ..support import (
    AskVariation,
    Buffers,
    Effort,
    Latches,
    ObservedBuffer,
    ObservedDevice,
    Poll,
    Semaphores,
    Settle,
    Tasks,
    clause,
    mark,
    requires,
    status_of,
)

#: Seconds of a wait in vain, in which nobody has anything to do.
IDLE = 0.2


@clause("Q-3")
@pytest.mark.parametrize("what", ["execute", "recorded", "fill", "copy", "update"])
def test_one_thread_submits_then_signals(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, what: str
) -> None:
    """The thread that submits is the one that will signal: a submission that waits for it never returns.

    this thread: submit work that waits for gate@1, then gate ← 1, then wait for done@1
    """
    source, target = buffers.filled(7), buffers.filled(0)
    gate, done = semaphores(2)
    wait, signal = [gate @ 1], [done @ 1]

    def submit() -> None:
        match what:
            case "execute":
                device.queue_execute([Copy(source, target)], wait=wait, signal=signal)
            case "recorded":
                commands = device.create_command_buffer([Copy(source, target)], one_shot=True)
                device.queue_execute(commands, wait=wait, signal=signal)
            case "fill":
                device.queue_fill(target, 7, wait=wait, signal=signal)
            case "copy":
                device.queue_copy(source, target, wait=wait, signal=signal)
            case "update":
                device.queue_update(target, bytes([7]) * target.size, wait=wait, signal=signal)

    def one_thread() -> None:
        submit()
        gate.signal(1)
        done.wait(1)

    threads.start(one_thread).result()
    assert target.holds(7)


@clause("Q-3", "Q-5")
def test_one_thread_submits_a_chain_from_its_end(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks
) -> None:
    """A hundred submissions, each behind one that this thread has yet to submit.

    copy(cells[k] → cells[k + 1]) waits for s@k and signals s@(k + 1); k = 99 … 0
    """
    hops = 100
    cells = buffers.filled(0, size=4 * (hops + 1))
    [s] = semaphores(1)
    cells.write(b"word")

    def one_thread() -> None:
        for k in reversed(range(1, hops)):
            command = Copy(cells, cells, 4 * k, 4 * (k + 1), 4)
            device.queue_execute([command], wait=[s @ k], signal=[s @ (k + 1)], queue=k % device.queue_count)
        device.queue_execute([Copy(cells, cells, 0, 4, 4)], signal=[s @ 1])
        s.wait(hops)

    threads.start(one_thread).result()
    assert cells.holds(b"word")


@clause("Q-14")
@requires(Capability.SIDE_ACCESS)
@pytest.mark.parametrize("last_call", ["submit", "signal"])
def test_runs_without_any_further_call(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll, effort: Effort, last_call: str
) -> None:
    """On an idle device: one submission, or one signal that releases it, and from then on nobody calls the HAL.

    The bytes themselves, read past the queues, say that it has run, and then the value says so. Now and then there is
    nothing to do before for so long that whoever looks after the device goes to sleep.
    """
    b = buffers.filled(0)
    never, done = semaphores(2)
    for turn in range(1, effort.loops(10, 30) + 1):
        [gate] = semaphores(1)
        if turn % 5 == 0:
            assert status_of(lambda: never.wait(1, timeout=IDLE)) is StatusCode.DEADLINE_EXCEEDED
        if last_call == "submit":
            device.queue_fill(b, mark(turn), signal=[done @ turn])
        else:
            device.queue_fill(b, mark(turn), wait=[gate @ 1], signal=[done @ turn])
            gate.signal(1)
        poll(partial(b.holds, mark(turn)))
        poll(partial(done.reads, turn))


@clause("Q-14")
@requires(Capability.SIDE_ACCESS)
def test_chain_runs_without_any_further_call(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, poll: Poll, effort: Effort
) -> None:
    """The end of each piece of work starts the next, through every queue and back, with nobody calling.

    host ──s@1──▶ copy(b0 → b1) ──s@2──▶ copy(b1 → b2) ──s@3──▶ … copy(b5 → b6), and then nothing but reading b6
    """
    hops = 6
    for turn in range(1, effort.loops(5, 20) + 1):
        chain: list[ObservedBuffer] = [buffers.filled(turn), *buffers.filled(0, count=hops)]
        [s] = semaphores(1)
        for k in range(1, hops + 1):
            queue = k % device.queue_count
            device.queue_copy(chain[k - 1], chain[k], wait=[s @ k], signal=[s @ (k + 1)], queue=queue)
        s.signal(1)
        poll(partial(chain[-1].holds, turn))


@clause("Q-14")
@requires(Capability.HOST_CALL)
def test_host_call_runs_without_any_further_call(
    device: ObservedDevice, semaphores: Semaphores, deadline: float
) -> None:
    """A host call behind device work happens although its submitter does nothing but listen for it."""
    happened = threading.Event()
    [s] = semaphores(1)
    device.queue_execute([], signal=[s @ 1])
    device.queue_host_call(happened.set, wait=[s @ 1], queue=device.queue_count - 1)
    assert happened.wait(deadline), "expected the host call; it did not happen while nobody called the HAL"


@clause("Q-14")
@requires(Capability.SAME_QUEUE_OUT_OF_ORDER)
def test_waiting_for_the_host_holds_back_nobody(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Fifty submissions wait on every queue for the host, which takes its time; a newcomer passes them all."""
    b = buffers.filled(0)
    cells = buffers.filled(0, size=4 * 50 * device.queue_count)
    gate, done = semaphores(2)
    waiting = semaphores(50 * device.queue_count)
    for k, s in enumerate(waiting):
        queue = k % device.queue_count
        device.queue_fill(cells, 9, offset=4 * k, length=4, wait=[gate @ 1], signal=[s @ 1], queue=queue)
    for queue in range(device.queue_count):
        device.queue_fill(b, queue + 1, signal=[done @ (queue + 1)], queue=queue)
        done.wait(queue + 1)
        assert b.holds(queue + 1)
    gate.signal(1)
    for s in waiting:
        s.wait(1)
    assert cells.holds(9)


@clause("Q-14", "Q-7")
@requires(Capability.SAME_QUEUE_OUT_OF_ORDER)
def test_waiting_for_an_unstarted_producer_holds_back_nobody(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Nor does work whose producer itself waits for the host, nor that producer, nor one that is not even submitted.

    host ─ ─gate@1─ ▶ fill(b) ──made@1──▶ copy(b → c)      and on the same queue, meanwhile:  copy(x → y) ──done@1──▶
    """
    b, c, y = buffers.filled(0, count=3)
    x = buffers.filled(8)
    gate, made, also_made, done, end = semaphores(5)
    device.queue_copy(b, c, wait=[also_made @ 1, made @ 1], signal=[end @ 1])
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[made @ 1])
    device.queue_copy(x, y, signal=[done @ 1])
    done.wait(1)
    assert y.holds(8)
    device.queue_execute([], wait=[made @ 1], signal=[also_made @ 1])
    gate.signal(1)
    end.wait(1)
    assert c.holds(7)


@clause("Q-14")
@requires(Capability.HOLD)
@pytest.mark.parametrize(("behind", "consumers"), [("consumer", 1), ("independent", 2)])
def test_head_of_line_among_consumers(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    variation: AskVariation,
    settle: Settle,
    behind: str,
    consumers: int,
) -> None:
    """Whether work that waits for a running producer delays what is behind it on its queue.

    queue 0: hold ──a@1──▶ queue 1: one barrier, or two ──end@k──▶
    queue 2: hold ──b@1──▶ queue 1: fill(c, 7) ──done@1──▶ host      this one is let go of first, or not waited for

    Where there are two queues only, the second producer is on queue 1.
    """
    device.need_queues(2)
    head_of_line = variation("head-of-line")
    c = buffers.filled(0)
    a, b, done = semaphores(3)
    ends = semaphores(consumers)
    first, second = latches(), latches()
    second_queue = min(2, device.queue_count - 1)
    device.queue_execute([Hold(first)], signal=[a @ 1], queue=0)
    if behind == "consumer":
        device.queue_execute([Hold(second)], signal=[b @ 1], queue=second_queue)
    for end in ends:
        device.queue_execute([], wait=[a @ 1], signal=[end @ 1], queue=1)
    device.queue_fill(c, 7, wait=[b @ 1] if behind == "consumer" else [], signal=[done @ 1], queue=1)
    second.open()
    if head_of_line.permits("may"):  # no need to wait for long: this is observed, not judged
        delayed = status_of(lambda: done.wait(1, timeout=0.5)) is StatusCode.DEADLINE_EXCEEDED
    else:
        done.wait(1)
        delayed = False
    settle(*(partial(end.reads, 0) for end in ends))
    head_of_line.check("may" if delayed else "never")
    first.open()
    for end in ends:
        end.wait(1)
    done.wait(1)
    assert c.holds(7)


@clause("Q-14")
@requires(Capability.HOLD)
def test_head_of_line_behind_running_work(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, variation: AskVariation
) -> None:
    """Whether work that waits for a running producer delays what comes after it on its queue.

    queue 1:  hold ──made@1──┐
    queue 0:                 └▶ barrier ──▶ end@1     and behind it   fill(b, 7) ──done@1──▶ host
    """
    device.need_queues(2)
    head_of_line = variation("head-of-line")
    b = buffers.filled(0)
    made, end, done = semaphores(3)
    latch = latches()
    device.queue_execute([Hold(latch)], signal=[made @ 1], queue=1)
    device.queue_execute([], wait=[made @ 1], signal=[end @ 1], queue=0)
    device.queue_fill(b, 7, signal=[done @ 1], queue=0)
    if head_of_line.permits("may"):  # no need to wait for long: this is observed, not judged
        delayed = status_of(lambda: done.wait(1, timeout=0.5)) is StatusCode.DEADLINE_EXCEEDED
    else:
        done.wait(1)
        delayed = False
    assert end.query() == 0
    head_of_line.check("may" if delayed else "never")
    latch.open()
    end.wait(1)
    done.wait(1)
    assert b.holds(7)


def take_the_first_value(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    *,
    made_by: str,
    consumer: str,
    held_waits: bool,
) -> None:
    """Let a submission consume s@1 while another, on queue 1, is held before it signals s@2."""
    device.need_queues(2)
    b, c = buffers.filled(0, count=2)
    s, done = semaphores(2)
    latch = latches()

    def hold() -> None:
        device.queue_execute([Hold(latch)], wait=[s @ 1] if held_waits else [], signal=[s @ 2], queue=1)

    if not held_waits:
        hold()
    if consumer == "before":
        device.queue_copy(b, c, wait=[s @ 1], signal=[done @ 1], queue=0)
    if held_waits:
        hold()
    if made_by == "device":
        device.queue_fill(b, 7, signal=[s @ 1], queue=0)
    else:
        b.fill_by_host(7)
        s.signal(1)
    if consumer == "after":
        s.wait(1)
        device.queue_copy(b, c, wait=[s @ 1], signal=[done @ 1], queue=0)
    done.wait(1)
    assert s.query() == 1
    assert c.holds(7)
    latch.open()
    s.wait(2)


@clause("Q-12")
@requires(Capability.HOLD)
@pytest.mark.parametrize("made_by", ["device", "host"])
@pytest.mark.parametrize("consumer", ["before", "after"])
def test_later_producer_of_the_timeline_is_held(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    made_by: str,
    consumer: str,
) -> None:
    """A consumer of s@1 is no concern of who will signal s@2, submitted before it or after it.

    fill(b, 7) or host ──s@1──▶ queue 0: copy(b → c) ──done@1──▶ host
                       └─s@1──▶ queue 1: hold ──s@2──▶ host
    """
    take_the_first_value(device, buffers, semaphores, latches, made_by=made_by, consumer=consumer, held_waits=True)


@clause("Q-12")
@requires(Capability.HOLD)
@pytest.mark.parametrize("made_by", ["device", "host"])
@pytest.mark.parametrize("consumer", ["before", "after"])
def test_smaller_value_comes_while_a_larger_one_is_held(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    made_by: str,
    consumer: str,
) -> None:
    """Running work will signal s@2, and waits for nobody; whoever waits for s@1 is none of those who wait for it.

    queue 1:             hold ──s@2──▶ host
    fill(b, 7) or host ──s@1──▶ queue 0: copy(b → c) ──done@1──▶ host
    """
    if consumer == "before" and made_by == "device":  # the consumer is before its producer on one queue
        device.need(Capability.SAME_QUEUE_OUT_OF_ORDER)
    take_the_first_value(device, buffers, semaphores, latches, made_by=made_by, consumer=consumer, held_waits=False)


@clause("Q-12")
@requires(Capability.HOLD)
def test_earlier_of_two_held_producers_ends(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches
) -> None:
    """Both producers are there, and held, when the consumer of s@1 comes; then only the first of them may end.

    queue 0: hold, fill(b, 7) ──s@1──▶ queue 0: copy(b → c) ──done@1──▶ host
                              └─s@1──▶ queue 1: hold ──s@2──▶ host
    """
    device.need_queues(2)
    b, c = buffers.filled(0, count=2)
    s, done = semaphores(2)
    first, second = latches(), latches()
    device.queue_execute([Hold(first), Fill(b, 7)], signal=[s @ 1], queue=0)
    device.queue_execute([Hold(second)], wait=[s @ 1], signal=[s @ 2], queue=1)
    device.queue_copy(b, c, wait=[s @ 1], signal=[done @ 1], queue=0)
    first.open()
    done.wait(1)
    assert s.query() == 1
    assert c.holds(7)
    second.open()
    s.wait(2)


@clause("Q-14", "Q-2")
@requires(Capability.HOLD)
@pytest.mark.parametrize("count", [2, 3, 7])
def test_running_work_is_over_before_what_follows_it(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, threads: Tasks, count: int
) -> None:
    """Work is seen to be done, by a thread that waits, while what follows it on its queue is held.

    queue 0: hold, fill(b0, 1) ──s@1──▶ hold, fill(b1, 2) ──s@2──▶ …      the holds end one by one
                                └─▶ host                    └─▶ host
    """
    targets = buffers.filled(0, count=count)
    [s] = semaphores(1)
    held = [latches() for _ in range(count)]
    for k in range(count):
        device.queue_execute([Hold(held[k]), Fill(targets[k], k + 1)], wait=[s @ k], signal=[s @ (k + 1)])
    waits = [threads.start(partial(s.wait, k + 1), f"wait {k + 1}") for k in range(count)]
    for k in range(count):
        held[k].open()
        waits[k].result()
        assert s.query() == k + 1
    for k in range(count):  # not while a queue is held, which not every HAL can read beside
        assert targets[k].holds(k + 1)


@clause("Q-2", "Q-14")
@requires(Capability.HOLD)
def test_several_pieces_of_running_work_end_at_once(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, latches: Latches, settle: Settle
) -> None:
    """Of twelve pieces of work on a queue several end at once; these are seen to be done, and no others.

    queue 0: hold, fill(b0, 1) ──s@1──▶ hold, fill(b1, 2) ──s@2──▶ …      the holds end two, one, four, three at a time
    """
    count = 12
    targets = buffers.filled(0, count=count)
    [s] = semaphores(1)
    held = [latches() for _ in range(count)]
    for k in range(count):
        device.queue_execute([Hold(held[k]), Fill(targets[k], k + 1)], wait=[s @ k], signal=[s @ (k + 1)])
    ended = 0
    for more in (2, 1, 4, 3):
        for latch in held[ended : ended + more]:
            latch.open()
        ended += more
        s.wait(ended)
        settle(partial(s.reads, ended))
    for latch in held[ended:]:
        latch.open()
    s.wait(count)
    for k in range(count):
        assert targets[k].holds(k + 1)


@clause("Q-14", "Q-7")
@requires(Capability.SAME_QUEUE_OUT_OF_ORDER)
def test_later_producer_of_the_timeline_waits_for_the_host(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """The same with a later producer that has not started, so that no queue need be held."""
    b, c = buffers.filled(0, count=2)
    gate, s, done = semaphores(3)
    device.queue_execute([], wait=[gate @ 1, s @ 1], signal=[s @ 2], queue=device.queue_count - 1)
    device.queue_fill(b, 7, signal=[s @ 1])
    device.queue_copy(b, c, wait=[s @ 1], signal=[done @ 1])
    done.wait(1)
    assert s.query() == 1
    assert c.holds(7)
    gate.signal(1)
    s.wait(2)


@clause("Q-14")
def test_burst_of_every_size_completes(device: ObservedDevice, semaphores: Semaphores, effort: Effort) -> None:
    """So many become ready at once, and nothing follows: a ring that is just full is not mistaken for an empty one.

    host ──gate@1──▶ 1, 2, 3 … submissions ──done[k]@1──▶ host
    """
    for size in range(1, effort.loops(40, 140, 300) + 1):
        (gate,) = semaphores(1)
        done = semaphores(size)
        queue = size % device.queue_count
        for each in done:
            device.queue_execute([], wait=[gate @ 1], signal=[each @ 1], queue=queue)
        gate.signal(1)
        for each in done:
            each.wait(1)
