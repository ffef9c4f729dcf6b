"""What goes on while threads are blocked in waits."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pytest_cuda2hal.hal import Capability, Hold, StatusCode, Timepoint, WaitMode

from ..support import (
    Buffers,
    Effort,
    Latches,
    ObservedDevice,
    Poll,
    Quality,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    failing,
    mark,
    requires,
    status_of,
)
from .watching import expect_timeout

#: How many threads wait in each way.
CROWD = 10
#: Of a thread that spins: for which part of the time it is ready to run. One that sleeps now and then is below.
NEVER_ASLEEP = 0.95


class Blocked:
    """Threads in every kind of wait for ``semaphore@100``, which the case does not signal until it lets them go."""

    def __init__(self, device: ObservedDevice, semaphores: Semaphores, threads: Tasks) -> None:
        self.semaphore, self.other = semaphores(2)
        points = [self.semaphore @ 100, self.other @ 100]
        waits: dict[str, Callable[[], object]] = {
            "wait": partial(self.semaphore.wait, 100),
            "endless wait": partial(self.semaphore.wait, 100, timeout=None),
        }
        if device.has(Capability.WAIT_ALL):
            waits["wait for all"] = partial(device.wait_semaphores, points, timeout=None)
        if device.has(Capability.WAIT_ANY):
            waits["wait for any"] = partial(device.wait_semaphores, points, mode=WaitMode.ANY, timeout=None)
        self.tasks = [threads.start(call, f"{what} {n}") for what, call in waits.items() for n in range(CROWD)]

    def release(self) -> None:
        """Check that everybody is still waiting, and let them go."""
        assert blocked(*self.tasks)()
        self.other.signal(100)
        self.semaphore.signal(100)
        for task in self.tasks:
            task.result()


def elsewhere(threads: Tasks, what: str, call: Callable[[], object]) -> None:
    """Make a call on a thread of its own, so that one which blocks is noticed and named."""
    threads.start(call, f"{what}, while others wait").result()


@clause("W-10")
def test_blocked_waits_block_nobody(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, threads: Tasks
) -> None:
    """While threads are blocked in every kind of wait, others query, signal, wait, submit and make things."""
    crowd = Blocked(device, semaphores, threads)
    gate, done = semaphores(2)
    target = buffers.filled(0)
    call = partial(elsewhere, threads)
    call("query of the semaphore", crowd.semaphore.query)
    call("query of another", gate.query)
    call("signal of a smaller value", partial(crowd.semaphore.signal, 5))
    call("wait for a smaller value", partial(crowd.semaphore.wait, 5, timeout=None))
    call("expired wait", partial(status_of, partial(crowd.semaphore.wait, 100, timeout=0)))
    call("signal of another", partial(gate.signal, 1))
    for queue in range(device.queue_count):
        wait, point = [gate @ 1, done @ queue], done @ (queue + 1)
        submit = partial(device.queue_fill, target, 7, wait=wait, signal=[point], queue=queue)
        call(f"submission to queue {queue}", submit)
        call("wait for it", partial(done.wait, point.value, timeout=None))
    call("read of a buffer", target.read)
    call("new semaphore", partial(semaphores, 1))
    call("new buffer", partial(buffers.filled, 0))
    assert target.holds(7)
    assert crowd.semaphore.query() == 5
    crowd.release()


@clause("W-10")
def test_work_goes_on_while_threads_are_blocked(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, threads: Tasks, effort: Effort
) -> None:
    """Several threads submit, signal and wait in rounds, past forty that are blocked, and none of these is let go."""
    crowd = Blocked(device, semaphores, threads)

    def work(queue: int) -> None:
        gate, done = semaphores(2)
        target = buffers.filled(0)
        for value in range(1, effort.loops(10, 50) + 1):
            gate.signal(value)
            device.queue_fill(target, mark(value), wait=[gate @ value], signal=[done @ value], queue=queue)
            done.wait(value, timeout=None)
            assert target.holds(mark(value))

    threads.run(partial(work, queue % device.queue_count) for queue in range(4))
    crowd.release()


@clause("W-10")
@requires(Capability.HOLD)
def test_wait_for_running_work_blocks_nobody(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, latches: Latches
) -> None:
    """The same while what is waited for is running, and does not end."""
    made, other = semaphores(2)
    latch = latches()
    device.queue_execute([Hold(latch)], signal=[made @ 1])
    waiters = [threads.start(partial(made.wait, 1, timeout=None), f"wait {n}") for n in range(CROWD)]
    call = partial(elsewhere, threads)
    call("query of the semaphore", made.query)
    call("signal of another", partial(other.signal, 1))
    call("submission", partial(device.queue_execute, [], wait=[made @ 1], signal=[made @ 2]))
    if device.queue_count > 1:
        call("submission to another queue", partial(device.queue_execute, [], signal=[other @ 2], queue=1))
        call("wait for it", partial(other.wait, 2, timeout=None))
    assert blocked(*waiters)()
    latch.open()
    for waiter in waiters:
        waiter.result()
    made.wait(2)


@clause("L-1")
@requires(Capability.STATISTICS)
def test_blocked_waits_can_be_counted(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, settle: Settle, poll: Poll
) -> None:
    """The counts can be taken while threads are blocked in every kind of wait, and come back when all that has gone."""
    before = device.statistics()
    crowd = Blocked(device, semaphores, threads)
    settle(blocked(*crowd.tasks))
    threads.start(device.statistics, "statistics, while others wait").result()
    crowd.release()
    del crowd
    gc.collect()
    poll(lambda: device.statistics().timepoints <= before.timepoints)


def share_of_a_core(threads: Tasks, *calls: Callable[[], object]) -> float:
    """Return how much of a core the process uses while nothing goes on in it but these calls.

    A caller that was ready to run nearly all of the time counts as a whole core: on a full machine it has little of the
    processor, and would look like one that sleeps.
    """
    ready: list[float] = []
    processor, clock = time.process_time(), time.monotonic()
    for task in [threads.start(partial(note_ready, call, ready)) for call in calls]:
        task.result()
    share = (time.process_time() - processor) / (time.monotonic() - clock)
    return max(share, 1.0) if max(ready) > NEVER_ASLEEP else share


def note_ready(call: Callable[[], object], ready: list[float]) -> None:
    """Make a call, and note for which part of it this thread ran or waited for a processor; 0 if nobody tells."""
    before, clock = ready_seconds(), time.monotonic()
    try:
        call()
    finally:
        ready.append((ready_seconds() - before) / (time.monotonic() - clock))


def ready_seconds() -> float:
    try:
        running, delayed, _ = map(int, Path("/proc/thread-self/schedstat").read_text().split())
    except (OSError, ValueError):
        return 0.0
    return (running + delayed) / 1e9


def idle_share(threads: Tasks) -> float:
    """Return how much of a core the process uses in half a second of nothing: a HAL may use some all the time."""
    return share_of_a_core(threads, partial(threading.Event().wait, 0.5))


def expect_sleep(
    threads: Tasks, quality: Quality, waits: dict[str, Callable[[float], object]], idle: float | None = None
) -> None:
    """Check that waits of half a second leave the processor alone: all at once, and if they do not, one by one.

    :param idle: what the process used before there was anything to wait for; by default that is measured when needed.
    """
    calls = {what: partial(expect_timeout, partial(wait, 0.5), 0.5, what) for what, wait in waits.items()}
    together = share_of_a_core(threads, *calls.values())
    if together < 0.2:
        quality("W-10q", True, f"{together:.0%} of a core over 0.5 s in {len(waits)} kinds of blocked waits")
        return
    if idle is None:
        idle = idle_share(threads)
    for what, call in calls.items():
        share = share_of_a_core(threads, call)
        quality("W-10q", share - idle < 0.2, f"{share:.0%} of a core over 0.5 s in a {what}, {idle:.0%} without it")


@clause("W-10q")
def test_blocked_waits_leave_the_processor_alone(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, quality: Quality
) -> None:
    """A wait for one semaphore, for all of several, or for any of them, sleeps."""
    made = semaphores(3)
    points = [semaphore @ 1 for semaphore in made]
    waits: dict[str, Callable[[float], object]] = {"wait": partial(made[0].wait, 1)}
    for mode, capability in ((WaitMode.ALL, Capability.WAIT_ALL), (WaitMode.ANY, Capability.WAIT_ANY)):
        if device.has(capability):
            waits[f"wait for {mode.value} of three"] = partial(wait_for_list, device, points, mode)
    expect_sleep(threads, quality, waits)


def wait_for_list(device: ObservedDevice, points: list[Timepoint], mode: WaitMode, timeout: float) -> None:
    """Wait with the timeout as the last argument."""
    device.wait_semaphores(points, mode=mode, timeout=timeout)


@clause("W-10q")
@requires(Capability.HOLD)
def test_wait_for_running_work_leaves_the_processor_alone(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, latches: Latches, quality: Quality
) -> None:
    """Nor does a wait, or the HAL beside it, poll for work that runs and does not end."""
    [made] = semaphores(1)
    latch = latches()
    idle = idle_share(threads)
    device.queue_execute([Hold(latch)], signal=[made @ 1])
    expect_sleep(threads, quality, {"wait for running work": partial(made.wait, 1)}, idle)
    latch.open()
    made.wait(1)


@clause("W-10q")
@requires(Capability.HOLD)
def test_submissions_behind_running_work_leave_the_processor_alone(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, latches: Latches, quality: Quality
) -> None:
    """Nor do submissions that wait for such work, however many, be there streams for all of them or not.

    queue 0: hold ──made[k]@1──▶ queue 1: 24 consumers ──done[k]@1──▶ host
    """
    device.need_queues(2)
    made, done = semaphores(24), semaphores(24)
    latch = latches()
    idle = idle_share(threads)
    device.queue_execute([Hold(latch)], signal=[each @ 1 for each in made], queue=0)
    for each, end in zip(made, done, strict=True):
        device.queue_execute([], wait=[each @ 1], signal=[end @ 1], queue=1)
    expect_sleep(threads, quality, {"wait for the last of them": partial(done[-1].wait, 1)}, idle)
    latch.open()
    for end in done:
        end.wait(1)


@clause("W-10", "Q-14")
@requires(Capability.HOLD)
@pytest.mark.usefixtures("restless")
def test_work_goes_on_beside_a_thread_that_looks_for_running_work(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, latches: Latches, effort: Effort
) -> None:
    """One thread waits for running work again and again, not for long; what another submits runs all the same.

    queue 0: hold ──held@1──▶ host, 20 µs at a time        queue 1: barrier ──done@k──▶ host
    """
    device.need_queues(2)
    held, done = semaphores(2)
    latch, over = latches(), threading.Event()
    device.queue_execute([Hold(latch)], signal=[held @ 1], queue=0)

    def look() -> None:
        while not over.is_set():
            with failing(StatusCode.DEADLINE_EXCEEDED):
                held.wait(1, timeout=2e-5)

    looker = threads.start(look)
    try:
        for value in range(1, effort.loops(300, 1000) + 1):
            device.queue_execute([], signal=[done @ value], queue=1)
            done.wait(value)
    finally:
        over.set()
    looker.result()
    latch.open()
    held.wait(1)
