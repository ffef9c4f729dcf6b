"""Values as many threads see them while the timeline moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest

from pytest_cuda2hal.hal import Capability, HalError, Semaphore, StatusCode

from ..support import AskVariation, Effort, ObservedDevice, Semaphores, Tasks, clause, requires

pytestmark = pytest.mark.usefixtures("restless")

#: Between two signals, so that a value that nobody signaled can be told.
STEP = 7
OBSERVERS = 3


def watch(semaphore: Semaphore, end: int) -> list[int]:
    """Query until the timeline is at ``end``; return the distinct values seen, in the order in which they were seen."""
    seen = [semaphore.query()]
    while seen[-1] < end:
        value = semaphore.query()
        if value != seen[-1]:
            seen.append(value)
            if value < seen[-2]:
                break
    return seen


def expect_growth(seen: Sequence[int], signaled: Sequence[int]) -> None:
    """Check that values only grow and are values that were signaled, or 0."""
    for before, after in pairwise(seen):
        assert before < after, f"expected values that grow; seen {before} and then {after}"
    strangers = set(seen) - {0, *signaled}
    assert not strangers, f"expected only values that were signaled; seen {sorted(strangers)[:8]}"


def observe(
    threads: Tasks, semaphore: Semaphore, signaled: Sequence[int], signalers: Sequence[Callable[[], object]]
) -> None:
    """Run the signalers while others watch, and check what these saw."""
    calls: list[Callable[[], object]] = [*signalers, *[partial(watch, semaphore, signaled[-1])] * OBSERVERS]
    for seen in threads.run(calls)[len(signalers) :]:
        assert isinstance(seen, list)
        expect_growth(seen, signaled)


def signal_in_turn(semaphore: Semaphore, turns: Sequence[int]) -> None:
    """Signal each value of ``turns`` as soon as the one before it, somebody else's, is reached."""
    for value in turns:
        semaphore.wait(value - STEP)
        semaphore.signal(value)


@clause("TL-4")
def test_values_grow_while_threads_signal_in_turn(semaphores: Semaphores, threads: Tasks, effort: Effort) -> None:
    """Four threads pass the signaling on from one to the next; whoever looks sees the values grow, and only those.

    thread 0 ──7──▶ thread 1 ──14──▶ thread 2 ──21──▶ thread 3 ──28──▶ thread 0 …
    """
    [semaphore] = semaphores(1)
    signaled = [STEP * (turn + 1) for turn in range(effort.loops(80, 200))]
    observe(threads, semaphore, signaled, [partial(signal_in_turn, semaphore, signaled[i::4]) for i in range(4)])


@clause("TL-4")
def test_values_grow_while_queues_signal_in_turn(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """A chain of submissions over all queues moves the timeline while others look at it.

    queue 0 ──7──▶ queue 1 ──14──▶ queue 2 ──21──▶ queue 0 …
    """
    [semaphore] = semaphores(1)
    signaled = [STEP * (turn + 1) for turn in range(effort.loops(80, 200))]

    def submit() -> None:
        for turn, value in enumerate(signaled):
            queue = turn % device.queue_count
            device.queue_execute([], wait=[semaphore @ (value - STEP)], signal=[semaphore @ value], queue=queue)

    observe(threads, semaphore, signaled, [submit])


@clause("TL-4")
@requires(Capability.ASYNC_SUBMIT)
def test_values_grow_while_host_and_queues_signal_in_turn(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Host and queues signal in turn, every submission queued beforehand.

    host ──7──▶ queue 0 ──14──▶ host ──21──▶ queue 1 ──28──▶ host …
    """
    [semaphore] = semaphores(1)
    signaled = [STEP * (turn + 1) for turn in range(2 * effort.loops(40, 100))]
    for turn, value in enumerate(signaled[1::2]):
        queue = turn % device.queue_count
        device.queue_execute([], wait=[semaphore @ (value - STEP)], signal=[semaphore @ value], queue=queue)
    observe(threads, semaphore, signaled, [partial(signal_in_turn, semaphore, signaled[::2])])


def signal_all(semaphore: Semaphore, values: Sequence[int]) -> None:
    """Signal every value, and ignore what is said to those that come too late."""
    for value in values:
        try:
            semaphore.signal(value)
        except HalError as error:
            if error.code not in (StatusCode.OUT_OF_RANGE, StatusCode.INVALID_ARGUMENT):
                raise


@clause("TL-4", "TL-3")
def test_racing_signals_never_take_the_value_back(
    semaphores: Semaphores, threads: Tasks, effort: Effort, variation: AskVariation
) -> None:
    """Four threads signal growing values of their own as fast as they can: the timeline follows the greatest."""
    variation("non-advancing-signal").need_defined()
    for _ in range(effort.loops(2, 5)):
        [semaphore] = semaphores(1)
        signaled = [STEP * (turn + 1) for turn in range(400)]
        observe(threads, semaphore, signaled, [partial(signal_all, semaphore, signaled[i::4]) for i in range(4)])
        assert semaphore.query() == signaled[-1], f"expected {signaled[-1]} in the end; seen {semaphore.query()}"
