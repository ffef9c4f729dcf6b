"""What becomes of each signal of a submission, and semaphores that occur more than once."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, HalError, Hold, StatusCode, Timepoint

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    Latches,
    ObservedDevice,
    ObservedSemaphore,
    Semaphores,
    Settle,
    clause,
    expect_failed,
    requires,
)


def became_of(point: Timepoint) -> str:
    """Wait until a timepoint is reached or its semaphore has failed, and say which."""
    try:
        point.semaphore.wait(point.value)
    except HalError:
        return "failed"
    return "reached"


@clause("Q-13", "F-11")
@pytest.mark.parametrize("failed", ["before-the-submit", "while-pending"])
def test_every_signal_is_made_although_a_sibling_has_failed(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, failed: str
) -> None:
    """A signal semaphore that somebody else has failed keeps neither the work nor the other signals from happening.

    host ──gate@1──▶ fill(b, 7) ──▶ a@1, b@1, c@1, of which the host has failed one: the first, the second, the third
    """
    error = cause("failed by somebody else")
    for position in range(3):
        b = buffers.filled(0)
        [gate] = semaphores(1)
        signals = semaphores(3)
        victim = signals[position]
        if failed == "before-the-submit":
            victim.fail(error)
        device.queue_fill(b, 7, wait=[gate @ 1], signal=[s @ 1 for s in signals])
        if failed == "while-pending":
            victim.fail(error)
        gate.signal(1)
        for s in signals:
            if s is not victim:
                s.wait(1)
        assert b.holds(7)
        expect_failed(victim, 1, error)


@clause("Q-13")
def test_signal_overtaken_by_the_host(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    settle: Settle,
    variation: AskVariation,
    deadline: float,
) -> None:
    """The host has passed one of three signals by the time it is made; the other two end all the same.

    host ──gate@1──▶ fill(b, 7) ──▶ a@3, b@3, c@3, of which the host has signaled one to 5 already
    """
    overtaken = variation("overtaken-signal")
    overtaken.need_defined()
    passed: list[ObservedSemaphore] = []
    siblings: list[str] = []
    for position in range(3):
        b = buffers.filled(0)
        [gate] = semaphores(1)
        signals = semaphores(3)
        device.queue_fill(b, 7, wait=[gate @ 1], signal=[s @ 3 for s in signals])
        passed.append(signals.pop(position))
        passed[-1].signal(5)
        gate.signal(1)
        siblings += [became_of(s @ 3) for s in signals]
        assert b.holds(7)
    fate = fate_of_overtaken(passed, 5, settle, 0 if overtaken.permits("no-op") else deadline)
    overtaken.check(fate)
    if fate == "no-op":
        assert siblings == ["reached"] * 6, "nothing has failed, so each sibling must have been made"


@clause("Q-13")
def test_signal_overtaken_by_the_device(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    settle: Settle,
    variation: AskVariation,
    deadline: float,
) -> None:
    """A later submission signals less than an earlier one of the same timeline; its other signals end all the same.

    barrier ──s@5, first@1──▶ fill(b, 7) ──▶ before@1, s@3, after@1
    """
    overtaken = variation("overtaken-signal")
    overtaken.need_defined()
    b = buffers.filled(0)
    s, first, before, after = semaphores(4)
    device.queue_execute([], signal=[s @ 5, first @ 1])
    device.queue_fill(b, 7, wait=[first @ 1, s @ 5], signal=[before @ 1, s @ 3, after @ 1])
    siblings = [became_of(before @ 1), became_of(after @ 1)]
    assert b.holds(7)
    fate = fate_of_overtaken([s], 5, settle, 0 if overtaken.permits("no-op") else deadline)
    overtaken.check(fate)
    if fate == "no-op":
        assert siblings == ["reached", "reached"], "nothing has failed, so each sibling must have been made"


@clause("Q-13")
@requires(Capability.HOLD)
def test_value_that_two_running_producers_signal(
    device: ObservedDevice,
    semaphores: Semaphores,
    latches: Latches,
    settle: Settle,
    variation: AskVariation,
    deadline: float,
) -> None:
    """Whichever comes first makes the value; the other one is overtaken, and signals its sibling all the same.

    queue 0: hold ──s@1, early@1──▶ host
    queue 1: hold ──s@1, late@1──▶ host, and this one is let go of first
    """
    device.need_queues(2)
    overtaken = variation("overtaken-signal")
    overtaken.need_defined()
    s, early, late = semaphores(3)
    latch, other = latches(), latches()
    device.queue_execute([Hold(latch)], signal=[s @ 1, early @ 1], queue=0)
    device.queue_execute([Hold(other)], signal=[s @ 1, late @ 1], queue=1)
    other.open()
    s.wait(1)
    late.wait(1)
    latch.open()
    sibling = became_of(early @ 1)
    fate = fate_of_overtaken([s], 1, settle, 0 if overtaken.permits("no-op") else deadline)
    overtaken.check(fate)
    if fate == "no-op":
        assert sibling == "reached", "nothing has failed, so the sibling must have been made"


def fate_of_overtaken(semaphores: list[ObservedSemaphore], value: int, settle: Settle, failing_within: float) -> str:
    """Say what an overtaken signal did to semaphores at ``value``. Its siblings have been made, it perhaps not yet.

    :param failing_within: seconds that a failure may take to show; 0 when none is expected: then settling is enough.
    """
    try:
        if not failing_within:
            settle(*(partial(s.reads, value) for s in semaphores))
        for s in semaphores:
            s.wait(value + 1, timeout=failing_within)
    except HalError as error:
        return "no-op" if error.code is StatusCode.DEADLINE_EXCEEDED else "fails"
    return f"a signal above {value}"


@clause("Q-13", "Q-16")
@pytest.mark.parametrize("values", [(1, 2), (2, 1), (3, 1, 2), (2, 2)], ids=lambda v: "-".join(map(str, v)))
def test_semaphore_twice_in_a_signal_list(
    device: ObservedDevice, semaphores: Semaphores, variation: AskVariation, values: tuple[int, ...]
) -> None:
    """One submission signals several values of one timeline, between two others; those end reached or failed."""
    duplicate = variation("duplicate-signal")
    duplicate.need_defined()
    s, before, after = semaphores(3)
    device.queue_execute([], signal=[before @ 1, *(s @ value for value in values), after @ 1])
    siblings = [became_of(before @ 1), became_of(after @ 1)]
    fate = became_of(s @ max(values))
    if values == tuple(sorted(set(values))):  # ascending: every answer says the same
        assert fate == "reached"
    else:
        duplicate.check("maximum" if fate == "reached" else "fails-unless-ascending")
    if fate == "reached":
        assert s.query() == max(values)
        assert siblings == ["reached", "reached"], "nothing has failed, so each sibling must have been made"


@clause("Q-16", "Q-1")
def test_semaphore_several_times_in_a_wait_list(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Every value must be reached, in whatever order they are listed, and whoever else is in the list.

    host ──s@1──▶ ──s@2──▶ nothing yet ──s@3──▶ one copy for each list
    """
    a, other = buffers.filled(1), semaphores.at(1)
    [s] = semaphores(1)
    lists = [
        [s @ 1, s @ 3],
        [s @ 3, s @ 1],
        [s @ 3, s @ 3],
        [s @ 1, s @ 2, s @ 3],
        [s @ 2, s @ 3, s @ 1, s @ 2],
        [s @ 1, other @ 1, s @ 3, other @ 0, s @ 0],
    ]
    targets, done = buffers.filled(0, count=len(lists)), semaphores(len(lists))
    for waits, target, semaphore in zip(lists, targets, done, strict=True):
        device.queue_copy(a, target, wait=waits, signal=[semaphore @ 1])
    s.signal(1)
    s.signal(2)

    settle(*(lambda target=target: target.untouched for target in targets))

    a.fill_by_host(2)
    s.signal(3)
    for target, semaphore in zip(targets, done, strict=True):
        semaphore.wait(1)
        assert target.holds(2)


@clause("Q-16")
def test_values_of_one_wait_list_come_from_the_device(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """The two values of a list come from two producers; the consumer sees both.

    fill(left) ──s@1──▶ fill(right) ──s@2──▶ host and a consumer that waits for [s@2, s@1] or [s@1, s@2]
    """
    for turn in range(1, 21):
        cells, result = buffers.filled(0, count=2)
        s, done = semaphores(2)
        half = cells.size // 2
        waits = [s @ 2, s @ 1] if turn % 2 else [s @ 1, s @ 2]
        device.queue_copy(cells, result, wait=waits, signal=[done @ 1], queue=device.queue_count - 1)
        device.queue_fill(cells, turn, length=half, signal=[s @ 1])
        device.queue_fill(cells, turn, offset=half, wait=[s @ 1, s @ 1], signal=[s @ 2], queue=device.queue_count - 1)
        done.wait(1)
        assert result.holds(turn)


@clause("Q-16")
def test_semaphore_in_both_lists(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """Host and device pass one timeline between them: the device waits for odd values and signals even ones.

    host ──s@1──▶ copy ──s@2──▶ host ──s@3──▶ copy ──s@4──▶ host …, all submitted at the beginning
    """
    a, b = buffers.filled(0, count=2)
    [s] = semaphores(1)
    rounds = 12
    for turn in range(rounds):
        queue = turn % device.queue_count
        device.queue_copy(a, b, wait=[s @ (2 * turn + 1)], signal=[s @ (2 * turn + 2)], queue=queue)

    settle(lambda: b.untouched, lambda: s.reads(0))

    for turn in range(rounds):
        a.fill_by_host(turn + 1)
        s.signal(2 * turn + 1)
        s.wait(2 * turn + 2)
        assert b.holds(turn + 1)
    assert s.query() == 2 * rounds
