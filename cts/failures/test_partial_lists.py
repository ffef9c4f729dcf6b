"""Wait lists of which one member fails while others are reached, unreached or failed as well."""

from __future__ import annotations

import random
from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill, Hold, StatusCode

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    Effort,
    Latches,
    ObservedBuffer,
    ObservedDevice,
    Poll,
    Semaphores,
    Settle,
    clause,
    expect_failed,
    failure_of,
    requires,
    status_of,
    submit_behind_failure,
)
from .support import NotYet, expect_reached, messages_of, untouched

LENGTH = 4


@clause("F-6")
@pytest.mark.parametrize("before", [True, False], ids=["failed-before-submit", "failed-after-submit"])
def test_one_failed_among_reached_waits(
    before: bool,
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """All other waits are reached; wherever the failed one stands, the work does not run and its signals fail."""
    targets = buffers.filled(0, count=LENGTH)
    error = cause("one of four")
    for position, c in enumerate(targets):
        waits = [semaphores.at(0 if number == position else 1) for number in range(LENGTH)]
        x, y = semaphores(2)
        submit = partial(device.queue_fill, c, 7, wait=[s @ 1 for s in waits], signal=[x @ 1, y @ 1])
        if before:
            waits[position].fail(error)
            submit_behind_failure(variation, submit)
        else:
            submit()
            waits[position].fail(error)
        expect_failed(x, 1, error)
        expect_failed(y, 1, error)
    settle(untouched(targets))
    for c in targets:
        assert c.holds(0)


@clause("F-6")
def test_last_outstanding_wait_fails(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """Everything else is reached one by one while the submission is pending; the last wait fails instead."""
    targets = buffers.filled(0, count=LENGTH)
    error = cause("in place of the last signal")
    for position, c in enumerate(targets):
        waits = semaphores(LENGTH)
        [done] = semaphores(1)
        device.queue_fill(c, 7, wait=[s @ 1 for s in waits], signal=[done @ 1])
        for s in waits[:position] + waits[position + 1 :]:
            s.signal(1)
        waits[position].fail(error)
        expect_failed(done, 1, error)
    settle(untouched(targets))
    for c in targets:
        assert c.holds(0)


@clause("F-6")
def test_failed_semaphore_whose_value_had_been_reached(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """Failed before the submit, it counts as failed, also for values that it had reached."""
    error = cause("reached, then failed")
    c = buffers.filled(0)
    s, [done] = semaphores.at(5), semaphores(1)
    s.fail(error)
    submit_behind_failure(variation, partial(device.queue_fill, c, 7, wait=[s @ 3], signal=[done @ 1]))
    expect_failed(done, 1, error)
    settle(lambda: c.untouched)
    assert c.holds(0)


@clause("F-6")
def test_failed_beside_an_unreached_wait(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """The signals fail when the one wait fails, or when the other is resolved too; the work never runs.

    host ──bad, failed──┐
                        copy(b → c) ──done@1──▶ host
    host ──late@1───────┘
    """
    promptness = variation("failure-promptness")
    b, c = buffers.filled(7), buffers.filled(0)
    bad, late, done = semaphores(3)
    error = cause("beside an unreached wait")
    device.queue_execute([Copy(b, c)], wait=[bad @ 1, late @ 1], signal=[done @ 1])
    bad.fail(error)

    # Where the profile lets the HAL take its time, that can only be seen by watching for a while.
    patience = settle.seconds if promptness.permits("when-resolved") else device.deadline
    code = status_of(partial(done.wait, 1, timeout=patience))
    promptness.check("when-resolved" if code is StatusCode.DEADLINE_EXCEEDED else "at-once")

    late.signal(1)
    expect_failed(done, 1, error)
    settle(lambda: c.untouched)


@clause("F-6")
def test_failed_at_submit_beside_an_unreached_wait(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """One wait has failed before the submit, the other is never going to be reached in time; in either order."""
    at_once = not variation("failure-promptness").permits("when-resolved")
    targets = buffers.filled(0, count=2)
    error = cause("failed before the submit")
    for failed_first, c in zip((True, False), targets, strict=True):
        bad, late, done = semaphores(3)
        bad.fail(error)
        waits = [bad @ 1, late @ 1] if failed_first else [late @ 1, bad @ 1]
        submit = partial(device.queue_fill, c, 7, wait=waits, signal=[done @ 1])
        submit_behind_failure(variation, submit)
        if not at_once:
            late.signal(1)
        expect_failed(done, 1, error)
        if at_once:
            late.signal(1)
    settle(untouched(targets))
    for c in targets:
        assert c.holds(0)


@clause("F-6")
@pytest.mark.parametrize("before", [True, False], ids=["failed-before-submit", "failed-after-submit"])
def test_several_failed_waits(
    before: bool, device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """The cause is one of theirs, and the same one for every signal."""
    errors = {f"number {number}": cause(f"number {number}") for number in range(LENGTH)}
    waits, signals = semaphores(LENGTH), semaphores(3)
    submit = partial(device.queue_execute, [], wait=[s @ 1 for s in waits], signal=[s @ 1 for s in signals])
    if not before:
        submit()
    for s, error in zip(waits, errors.values(), strict=True):
        s.fail(error)
    if before:
        submit_behind_failure(variation, submit)

    for s in signals:
        status_of(partial(s.wait, 1))
    messages = messages_of(signals)
    assert len(set(messages)) == 1, f"expected one cause for all signals; seen {messages}"
    assert messages[0] in errors, f"expected one of {list(errors)}; seen {messages[0]!r}"
    assert failure_of(signals[0]).code is errors[messages[0]].code, "expected the code of the same failure"


@clause("F-6")
def test_wait_that_is_reached_just_before_it_fails(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    effort: Effort,
    settle: Settle,
) -> None:
    """Signal, then failure: the submission runs and signals, or fails and leaves no trace; nothing between, no hang."""
    error = cause("failed right after the signal")
    spared: list[ObservedBuffer] = []
    for _ in range(effort.loops(20, 100)):
        c = buffers.filled(0)
        gate, done = semaphores(2)
        device.queue_fill(c, 7, wait=[gate @ 1], signal=[done @ 1])
        gate.signal(1)
        gate.fail(error)
        if status_of(partial(done.wait, 1)) is StatusCode.OK:
            assert c.holds(7)
        else:
            expect_failed(done, 1, error)
            spared.append(c)
    settle(untouched(spared))
    for c in spared:
        assert c.holds(0)


@clause("F-6")
@requires(Capability.HOLD)
def test_wait_of_running_work_that_was_reached_fails(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """The consumer may run, of right, when what it has waited for fails: then it says that it has done its work.

    queue 0: hold, let go ──made@1──▶ last queue: fill(c, 7), hold ──done@1──▶ host
    """
    c = buffers.filled(0)
    made, done = semaphores(2)
    first, second = latches(), latches()
    device.queue_execute([Hold(first)], signal=[made @ 1], queue=0)
    last = device.queue_count - 1
    device.queue_execute([Fill(c, 7), Hold(second)], wait=[made @ 1], signal=[done @ 1], queue=last)
    error = cause("failed when it was reached")
    first.open()
    made.wait(1)
    made.fail(error)
    second.open()
    if status_of(partial(done.wait, 1)) is StatusCode.OK:
        assert c.holds(7)
        return
    expect_failed(done, 1, error)
    if variation("recall").permits("may"):
        settle(lambda: True)  # it may still run, and must be done before the case ends
    else:
        settle(lambda: c.untouched)


@clause("F-6", "Q-1")
@requires(Capability.HOST_FAIL, Capability.SAME_QUEUE_OUT_OF_ORDER)
def test_waits_that_stay_among_many_that_are_given_up(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, effort: Effort, settle: Settle
) -> None:
    """Of 150 submissions that wait for values of one timeline 120 fail; the others run one by one, each at its value.

    host ──gate@v──┬▶ submission v ──done[v]@1──▶ host
    host ──╳ bad[v]┘ for most v
    """
    error = cause("given up")
    for turn in range(effort.loops(4, 20)):
        choice = random.Random(turn)
        gate = semaphores.at(0)
        values = choice.sample(range(1, 151), 150)
        done = dict(zip(values, semaphores(150), strict=True))
        bad = dict(zip(choice.sample(values, 120), semaphores(120), strict=True))
        for v in values:
            wait = [gate @ v, bad[v] @ 1] if v in bad else [gate @ v]
            device.queue_execute([], wait=wait, signal=[done[v] @ 1], queue=v % device.queue_count)
        for each in bad.values():
            each.fail(error)
        staying = sorted(set(values) - set(bad))
        half = len(staying) // 2
        for v in staying[:half]:
            gate.signal(v)
            done[v].wait(1)
        settle(*(partial(done[v].reads, 0) for v in staying[half:]))
        for v in staying[half:]:
            gate.signal(v)
            done[v].wait(1)
        gate.signal(200)
        for v in bad:
            expect_failed(done[v], 1, error)


@clause("F-6")
def test_semaphore_that_its_producer_has_yet_to_signal_fails(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """The host fails ``made`` while its producer is pending; the consumer fails, and the producer does not help it.

    host ──gate@1──▶ fill(b, 7) ──┬─made@1, failed by the host──▶ copy(b → c) ──done@1──▶ host
                                  └─also@1──▶ host
    """
    b, c = buffers.filled(0, count=2)
    gate, made, also, done = semaphores(4)
    error = cause("failed before it was made")
    device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[made @ 1, also @ 1])
    device.queue_execute([Copy(b, c)], wait=[made @ 1], signal=[done @ 1], queue=device.queue_count - 1)
    made.fail(error)
    expect_failed(done, 1, error)
    gate.signal(1)
    expect_reached(also, 1)
    settle(lambda: c.untouched)
    expect_failed(made, 1, error)
    assert b.holds(7)


@clause("F-6", "F-11")
@requires(Capability.HOLD)
@pytest.mark.parametrize("more", [False, True], ids=["sole-wait", "beside-an-unreached-wait"])
def test_semaphore_that_a_held_producer_will_signal_fails(
    more: bool,
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    settle: Settle,
    variation: AskVariation,
) -> None:
    """The same while the producer is running: it finishes its work, and the consumer fails all the same.

    A consumer that has nothing else to wait for may be on the device by now, and what can be recalled from there is a
    variation point; one that waits for the host as well is not, and never runs.
    """
    b, c = buffers.filled(0, count=2)
    made, also, late, done = semaphores(4)
    latch = latches()
    error = cause("failed while it was made")
    device.queue_execute([Hold(latch), Fill(b, 7)], signal=[made @ 1, also @ 1])
    waits = [made @ 1, late @ 1] if more else [made @ 1]
    device.queue_execute([Copy(b, c)], wait=waits, signal=[done @ 1], queue=device.queue_count - 1)
    made.fail(error)
    latch.open()
    expect_reached(also, 1)
    late.signal(1)
    expect_failed(done, 1, error)
    expect_failed(made, 1, error)
    recall = variation("recall")
    if more or not recall.permits("may"):
        settle(lambda: c.untouched)
    else:
        settle(lambda: True)  # it may still run, and must be done before the case ends
    assert b.holds(7)


@clause("F-6")
@requires(Capability.HOLD, Capability.MULTI_QUEUE)
def test_failure_beside_a_held_producer(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    latches: Latches,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """A consumer of running work has another wait, and that fails: the running work is not disturbed.

    hold, fill(b, 7) ──made@1──┐
                               copy(b → c) ──done@1──▶ host
    host ──bad, failed─────────┘
    """
    b, c = buffers.filled(0, count=2)
    made, bad, done = semaphores(3)
    latch = latches()
    error = cause("beside work that runs")
    device.queue_execute([Hold(latch), Fill(b, 7)], signal=[made @ 1])
    device.queue_execute([Copy(b, c)], wait=[made @ 1, bad @ 1], signal=[done @ 1], queue=1)
    bad.fail(error)
    if not variation("failure-promptness").permits("when-resolved"):
        expect_failed(done, 1, error)
    latch.open()
    expect_reached(made, 1)
    expect_failed(done, 1, error)
    settle(lambda: c.untouched)
    assert b.holds(7)
    assert c.holds(0)


@clause("F-6", "L-1")
@requires(Capability.STATISTICS)
def test_failed_submission_lets_go_of_its_other_waits(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation, poll: Poll
) -> None:
    """Nothing of a failed submission stays registered with a semaphore that lives on."""
    at_once = not variation("failure-promptness").permits("when-resolved")
    before = device.statistics()
    late, *rest = semaphores(41)
    for bad, done in zip(rest[::2], rest[1::2], strict=True):
        device.queue_execute([], wait=[late @ 1, bad @ 1], signal=[done @ 1])
        bad.fail(cause("one after another"))
    if not at_once:
        late.signal(1)
    for done in rest[1::2]:
        expect_failed(done, 1, cause("one after another"))

    def idle() -> object:
        now = device.statistics()
        left = (now.timepoints, now.pending, now.in_flight)
        usual = (before.timepoints, before.pending, before.in_flight)
        return left == usual or NotYet(f"(timepoints, pending, in flight) = {usual}", left)

    poll(idle)
    if at_once:
        late.signal(1)
