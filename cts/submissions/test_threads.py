"""Any thread may do anything, also the first thing it ever does, and many at once."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill, Timepoint

from ..support import Buffers, Cause, Effort, ObservedDevice, Semaphores, Tasks, clause, expect_failed, requires


@clause("Q-19")
def test_each_step_on_a_thread_of_its_own(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks
) -> None:
    """Each call is the first and the last of its thread; what a dead thread submitted runs all the same.

    copy(b → c) ──done@1──▶   then fill(b, 7) ──made@1──▶   then gate ← 1   then wait, query and read
    """
    b, c = buffers.filled(0, count=2)
    gate, made, done = semaphores(3)
    wait, signal = [made @ 1], [done @ 1]
    threads.start(lambda: device.queue_copy(b, c, wait=wait, signal=signal)).result()
    threads.start(lambda: device.queue_fill(b, 7, wait=[gate @ 1], signal=[made @ 1])).result()
    threads.start(lambda: gate.signal(1)).result()
    threads.start(lambda: done.wait(1)).result()
    assert threads.start(done.query).result() == 1
    assert threads.start(c.read).result() == bytes([7]) * c.size


@clause("Q-19")
@pytest.mark.parametrize("first_call", ["execute", "recorded", "update", "create"])
def test_first_call_of_a_thread(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, first_call: str
) -> None:
    """Whatever a new thread begins with works as it does on the thread that opened the device."""
    b, c = buffers.filled(0, count=2)
    [done] = semaphores(1)
    source = buffers.filled(7)

    def new_thread() -> None:
        match first_call:
            case "execute":
                device.queue_execute([Fill(b, 7), Copy(b, c)], signal=[done @ 1])
            case "recorded":
                commands = device.create_command_buffer([Copy(source, c)], one_shot=True)
                device.queue_execute(commands, signal=[done @ 1])
            case "update":
                device.queue_update(c, bytes([7]) * c.size, signal=[done @ 1])
            case "create":
                made, own = device.create_semaphore(0), device.allocate_buffer(c.size)
                device.queue_fill(own, 7, signal=[made @ 1])
                device.queue_copy(own, c, wait=[made @ 1], signal=[done @ 1])

    threads.start(new_thread).result()
    done.wait(1)
    assert c.holds(7)


@clause("Q-19", "F-6")
def test_a_new_thread_fails_a_wait(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, cause: Cause
) -> None:
    """A thread whose first call fails a semaphore ends what waits for it; another one sees that."""
    b = buffers.filled(0)
    gate, done = semaphores(2)
    error = cause("failed by a new thread")
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[done @ 1])
    threads.start(lambda: gate.fail(error)).result()
    threads.start(lambda: expect_failed(done, 1, error)).result()
    assert b.untouched


@clause("Q-19", "Q-2")
@requires(Capability.ASYNC_SUBMIT, Capability.SAME_QUEUE_OUT_OF_ORDER)
def test_many_threads_at_once(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Eight threads, each with a timeline of its own, submit, wait and read, on all queues at once."""
    rounds = effort.loops(20, 60)

    def work(number: int) -> None:
        a, b = buffers.filled(0, count=2)
        [s] = semaphores(1)
        for turn in range(rounds):
            byte, queue = (number * rounds + turn) % 251, (number + turn) % device.queue_count
            device.queue_copy(a, b, wait=[s @ (2 * turn + 1)], signal=[s @ (2 * turn + 2)], queue=queue)
            device.queue_fill(a, byte, wait=[s @ (2 * turn)], signal=[s @ (2 * turn + 1)])
            if turn % 3 == 0:
                s.wait(2 * turn + 2)
                assert b.holds(byte)
        s.wait(2 * rounds)

    threads.run([partial(work, number) for number in range(8)])


@clause("Q-19", "Q-20")
@requires(Capability.ASYNC_SUBMIT, Capability.SAME_QUEUE_OUT_OF_ORDER)
def test_threads_build_one_chain_together(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks
) -> None:
    """Eight threads submit the links of one chain in whatever order they happen to come; the word passes all links.

    host ──s@1──▶ copy(cells[0] → cells[1]) ──s@2──▶ copy(cells[1] → cells[2]) ──s@3──▶ …; link k by thread k % 8
    """
    count, links = 8, 200
    cells = buffers.filled(0, size=4 * (links + 1))
    cells.write(b"word")
    [s] = semaphores(1)

    def submit(number: int) -> None:
        for k in range(number, links, count):
            command = Copy(cells, cells, 4 * k, 4 * (k + 1), 4)
            queue = number % device.queue_count
            device.queue_execute([command], wait=[s @ (k + 1)], signal=[s @ (k + 2)], queue=queue)

    tasks = [threads.start(partial(submit, number)) for number in range(count)]
    s.signal(1)
    for task in tasks:
        task.result()
    s.wait(links + 1)
    assert cells.holds(b"word")


@clause("Q-19", "Q-8")
@requires(Capability.ASYNC_SUBMIT)
def test_threads_signal_and_submit_against_each_other(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """In each round one thread submits the producer, one the consumer and one signals the gate, all at the same time.

    host ──gate@turn──┐
    copy(news → b) ───┴─made@turn──▶ copy(b → c) ──done@turn──▶ host
    """
    if device.queue_count == 1:
        device.need(Capability.SAME_QUEUE_OUT_OF_ORDER)
    news, b, c = buffers.filled(0, count=3)
    gate, made, done = semaphores(3)
    rounds = effort.loops(40, 150)
    together = threading.Barrier(3)
    queue = device.queue_count - 1

    def each_round(step: str) -> None:
        for turn in range(1, rounds + 1):
            if step == "signal":
                news.fill_by_host(turn % 251)
            together.wait(device.deadline)
            point: list[Timepoint] = [done @ turn]
            match step:
                case "produce":
                    device.queue_copy(news, b, wait=[gate @ turn], signal=[made @ turn], queue=queue)
                case "consume":
                    device.queue_copy(b, c, wait=[made @ turn, gate @ turn], signal=point)
                case "signal":
                    gate.signal(turn)
            done.wait(turn)
            if step == "signal":
                assert c.holds(turn % 251)

    steps = ("produce", "consume", "signal")
    for task in [threads.start(partial(each_round, step), step) for step in steps]:
        task.result()
