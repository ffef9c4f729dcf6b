"""What happens to a wait list while it is being submitted: a HAL looks at a wait, and then registers for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Hold

from ..support import (
    Cause,
    Effort,
    Latches,
    ObservedDevice,
    Semaphores,
    Tasks,
    clause,
    expect_failed,
    requires,
    status_of,
)

pytestmark = pytest.mark.usefixtures("restless")

#: More waits for running work of another queue than a queue is likely to have streams, rings or threads for.
CONSUMERS = 8


def meanwhile(
    threads: Tasks, deadline: float, delay: float, other: Callable[[], object], submit: Callable[[], object]
) -> None:
    """Call ``submit``, and ``other`` on another thread when it has been under way for ``delay`` seconds."""
    begun = threading.Barrier(2, timeout=deadline)

    def call_other() -> None:
        begun.wait()
        end = time.perf_counter() + delay
        while time.perf_counter() < end:  # a sleep would be longer than the submit
            pass
        other()

    task = threads.start(call_other)
    begun.wait()
    submit()
    task.result()


def seconds_of(submit: Callable[[], object]) -> float:
    """Return the seconds that a submit may take while another thread looks at the time: twice what it takes alone."""
    start = time.perf_counter()
    submit()
    return 2 * (time.perf_counter() - start)


@clause("Q-14", "Q-17")
def test_last_wait_of_a_long_list_is_reached_during_the_submit(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """The host signals the last of a thousand waits, a little later into the submit each time.

    host ──ready@1, 999 times, and last@1──▶ barrier ──done@1──▶ host
    """
    ready = semaphores.at(1)
    turns, took = effort.loops(40, 120), 0.0
    for turn in range(turns + 1):
        last, done = semaphores(2)
        wait = [*[ready @ 1] * 999, last @ 1]
        submit = partial(device.queue_execute, [], wait=wait, signal=[done @ 1])
        if turn:
            meanwhile(threads, deadline, took * turn / turns, partial(last.signal, 1), submit)
        else:
            took = seconds_of(submit)
            last.signal(1)
        done.wait(1)


@clause("F-6", "Q-17")
@requires(Capability.HOLD)
def test_last_wait_for_running_work_fails_during_the_submit(
    device: ObservedDevice,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    threads: Tasks,
    effort: Effort,
    deadline: float,
) -> None:
    """The host fails the last of three hundred waits for running work, a little later into the submit each time.

    queue 1: hold ──far@1, s[k]@1──▶ queue 0: 8 barriers ──ends[k]@1──▶ host
    queue 1: hold ──far@1, 300 times, and s[k]@1──▶ queue 0: barrier ──╳ done[k]@1
    """
    device.need_queues(2)
    why, latch, turns, took = cause("during the submit"), latches(), effort.loops(30, 100), 0.0
    [far] = semaphores(1)
    s, done, ends = semaphores(turns + 1), semaphores(turns + 1), semaphores(CONSUMERS)
    device.queue_execute([Hold(latch)], signal=[far @ 1, *(each @ 1 for each in s)], queue=1)
    for end in ends:
        device.queue_execute([], wait=[far @ 1], signal=[end @ 1], queue=0)
    for turn in range(turns + 1):
        wait = [*[far @ 1] * 300, s[turn] @ 1]
        submit = partial(device.queue_execute, [], wait=wait, signal=[done[turn] @ 1], queue=0)
        fail = partial(s[turn].fail, why)
        if turn:
            meanwhile(threads, deadline, took * turn / turns, fail, partial(status_of, submit))
        else:
            took = seconds_of(submit)
            fail()
    latch.open()
    for end in ends:
        end.wait(1)
    for end in done:
        expect_failed(end, 1, why)
