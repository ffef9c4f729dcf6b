"""What happens to a wait list while it is being submitted: a HAL looks at a wait, and then registers for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Hold, StatusCode

from ..support import (
    AskVariation,
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


def submit_takes(submit: Callable[[], object]) -> float:
    """Return the seconds that a submit may take while another thread looks at the time: twice what it takes alone."""
    seconds: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        submit()
        seconds.append(time.perf_counter() - start)
    return min(0.1, 2 * min(seconds))


@clause("Q-14", "Q-16", "Q-17")
def test_last_wait_of_a_long_list_is_reached_during_the_submit(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort, deadline: float
) -> None:
    """The host signals the last of a thousand waits, a little later into the submit each time.

    host ──ready@1, 999 times, and last@1──▶ barrier ──done@1──▶ host
    """
    ready, never = semaphores.at(1), semaphores.at(0)
    reached = [ready @ 1] * 999
    takes = submit_takes(partial(device.queue_execute, [], wait=[*reached, never @ 1]))
    turns = effort.loops(40, 120)
    for turn in range(turns):
        last, done = semaphores(2)
        submit = partial(device.queue_execute, [], wait=[*reached, last @ 1], signal=[done @ 1])
        meanwhile(threads, deadline, takes * turn / turns, partial(last.signal, 1), submit)
        done.wait(1)
    never.signal(1)


@clause("F-6", "Q-16", "Q-17")
@requires(Capability.HOLD)
def test_last_wait_for_running_work_fails_during_the_submit(
    device: ObservedDevice,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    threads: Tasks,
    variation: AskVariation,
    effort: Effort,
    deadline: float,
) -> None:
    """The host fails the last of 301 waits for running work, a little later into the submit each time.

    queue 1: hold ──far@1, s[k]@1──▶ queue 0: 8 barriers ──ends[k]@1──▶ host
                    └─far@1, 300 times, and s[k]@1──▶ queue 0: barrier ──╳ done[k]@1
    """
    device.need_queues(2)
    why, latch, turns = cause("during the submit"), latches(), effort.loops(30, 100)
    [far] = semaphores(1)
    s, done, ends = semaphores(turns), semaphores(turns), semaphores(CONSUMERS)
    device.queue_execute([Hold(latch)], signal=[far @ 1, *(each @ 1 for each in s)], queue=1)
    for end in ends:
        device.queue_execute([], wait=[far @ 1], signal=[end @ 1], queue=0)
    running = [far @ 1] * 300
    takes = submit_takes(partial(device.queue_execute, [], wait=[*running, far @ 1], queue=0))
    codes = {StatusCode.OK}
    for turn in range(turns):
        submit = partial(device.queue_execute, [], wait=[*running, s[turn] @ 1], signal=[done[turn] @ 1], queue=0)
        call = partial(lambda submit: codes.add(status_of(submit)), submit)
        meanwhile(threads, deadline, takes * turn / turns, partial(s[turn].fail, why), call)
    latch.open()
    for end in ends:
        end.wait(1)
    for end in done:
        expect_failed(end, 1, why)
    if codes != {StatusCode.OK}:
        variation("failed-at-submit").check("raises")
