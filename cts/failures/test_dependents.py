"""Submissions behind a failure: they never run, and hand the failure on."""

from __future__ import annotations

import gc
from functools import partial
from itertools import pairwise

import pytest

from pytest_cuda2hal.hal import Capability, Copy, Fill, StatusCode, Timepoint, Update

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    Effort,
    ObservedBuffer,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    expect_failed,
    failure_of,
    requires,
    status_of,
    submit_behind_failure,
)
from .support import expect_at, expect_failing_wait, expect_reached, untouched

before_or_after = pytest.mark.parametrize("before", [True, False], ids=["failed-before-submit", "failed-after-submit"])


@clause("F-6")
@before_or_after
def test_work_behind_a_failure_never_runs(
    before: bool,
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """Its bytes stay as they are, and each of its signal semaphores fails with the cause, code and message.

    host ──gate, failed──▶ copy(b → c) ──┬─ x@1 ──▶ host
                                         ├─ y@5 ──▶ host
                                         └─ z@3 ──▶ host, which waits for z@1
    """
    b, c = buffers.filled(7), buffers.filled(0)
    gate, x, y, z = semaphores(4)
    error = cause("the gate is broken")
    submit = partial(device.queue_execute, [Copy(b, c)], wait=[gate @ 1], signal=[x @ 1, y @ 5, z @ 3])
    if before:
        gate.fail(error)
        submit_behind_failure(variation, submit)
    else:
        submit()
        gate.fail(error)

    for semaphore, value in ((x, 1), (y, 5), (z, 1)):
        expect_failed(semaphore, value, error)
    settle(lambda: c.untouched)
    assert b.holds(7)


def submit_operation(
    operation: str, device: ObservedDevice, b: ObservedBuffer, c: ObservedBuffer, wait: Timepoint, signal: Timepoint
) -> None:
    """Submit one kind of work that would write 7 into ``c`` (a barrier and an allocation write nothing)."""
    match operation:
        case "barrier":
            device.queue_execute([], wait=[wait], signal=[signal])
        case "execute":
            device.queue_execute([Fill(c, 7), Copy(b, c)], wait=[wait], signal=[signal])
        case "one-shot":
            commands = device.create_command_buffer([Fill(c, 7), Copy(b, c)], one_shot=True)
            device.queue_execute(commands, wait=[wait], signal=[signal])
        case "reusable":
            commands = device.create_command_buffer([Fill(c, 7), Copy(b, c)])
            device.queue_execute(commands, wait=[wait], signal=[signal])
        case "command-update":
            device.queue_execute([Update(c, b"\7" * c.size)], wait=[wait], signal=[signal])
        case "fill":
            device.queue_fill(c, 7, wait=[wait], signal=[signal])
        case "copy":
            device.queue_copy(b, c, wait=[wait], signal=[signal])
        case "update":
            device.queue_update(c, b"\7" * c.size, wait=[wait], signal=[signal])
        case "alloca":
            device.queue_alloca(256, wait=[wait], signal=[signal])
        case _:
            raise AssertionError(operation)


OPERATIONS = [
    "barrier", "execute", "one-shot", "reusable", "command-update", "fill", "copy", "update", "alloca",
]  # fmt: skip


@clause("F-6")
@before_or_after
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_fails_with_its_wait(
    operation: str,
    before: bool,
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """Whatever the work is, its signal fails with the cause and its target keeps its bytes."""
    b, c = buffers.filled(7), buffers.filled(0)
    gate, done = semaphores(2)
    error = cause(f"nothing to {operation}")
    submit = partial(submit_operation, operation, device, b, c, gate @ 1, done @ 1)
    if before:
        gate.fail(error)
        submit_behind_failure(variation, submit)
    else:
        submit()
        gate.fail(error)
    expect_failed(done, 1, error)
    settle(lambda: c.untouched)
    assert c.holds(0)


@clause("F-6")
@before_or_after
@pytest.mark.parametrize("hops", [1, 3, 50])
def test_failure_travels_along_a_chain(
    hops: int,
    before: bool,
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
) -> None:
    """Link by link, over all queues in turn, with the cause of the first.

    host ──s[0], failed──▶ fill(b[0], 7) ──s[1]@1──▶ fill(b[1], 7) ──s[2]@1──▶ …
    """
    targets = buffers.filled(0, count=hops)
    s = semaphores(hops + 1)
    error = cause("at the head of the chain")
    if before:
        s[0].fail(error)
    for number, (target, (earlier, later)) in enumerate(zip(targets, pairwise(s), strict=True)):
        submit = partial(
            device.queue_fill,
            target,
            7,
            wait=[earlier @ 1],
            signal=[later @ 1],
            queue=number % device.queue_count,
        )
        if before:
            submit_behind_failure(variation, submit)
        else:
            submit()
    s[0].fail(error)

    for semaphore in s[1:]:
        expect_failed(semaphore, 1, error)
    settle(untouched(targets))
    for target in targets:
        assert target.holds(0)


@clause("F-6", "F-8")
def test_failure_in_the_middle_of_a_chain(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """What comes before the failed link has run and stays; what comes after fails.

    host ──s[0]@1──▶ fill(b[0]) ──s[1]@1──▶ fill(b[1]) ──s[2]@1──▶ fill(b[2]) ──s[3]@1──▶ fill(b[3]) ──s[4]@1──▶
                                            and gate, failed
    """
    targets = buffers.filled(0, count=4)
    s, [gate] = semaphores(5), semaphores(1)
    error = cause("in the middle")
    for number, target in enumerate(targets):
        waits = [s[number] @ 1, gate @ 1] if number == 1 else [s[number] @ 1]
        device.queue_execute([Fill(target, 7)], wait=waits, signal=[s[number + 1] @ 1])
    s[0].signal(1)
    expect_reached(s[1], 1)
    gate.fail(error)

    for semaphore in s[2:]:
        expect_failed(semaphore, 1, error)
    settle(untouched(targets[1:]))
    expect_at(1, *s[:2])
    assert targets[0].holds(7)
    for target in targets[1:]:
        assert target.holds(0)


@clause("F-6")
@requires(Capability.SAME_QUEUE_OUT_OF_ORDER)
def test_failure_travels_along_a_chain_submitted_backwards(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause
) -> None:
    """Every consumer was on the queue before its producer."""
    s = semaphores(21)
    error = cause("at the head, which was submitted last")
    for earlier, later in reversed(list(pairwise(s))):
        device.queue_execute([], wait=[earlier @ 1], signal=[later @ 1])
    s[0].fail(error)
    for semaphore in s[1:]:
        expect_failed(semaphore, 1, error)


@clause("F-6")
def test_failure_fans_out(device: ObservedDevice, semaphores: Semaphores, cause: Cause) -> None:
    """32 submissions wait for one semaphore, for different values and on all queues; each has three signals.

                          ┌──▶ barrier ──▶ 3 signals
    host ──gate, failed───┼──▶ …
                          └──▶ barrier ──▶ 3 signals
    """
    [gate] = semaphores(1)
    error = cause("in one place")
    fans = [semaphores(3) for _ in range(32)]
    for number, fan in enumerate(fans):
        signals = [semaphore @ (number + 1) for semaphore in fan]
        device.queue_execute([], wait=[gate @ (1 + number % 4)], signal=signals, queue=number % device.queue_count)
    gate.fail(error)
    for fan in fans:
        for semaphore in fan:
            expect_failed(semaphore, 1, error)


@clause("F-6")
def test_failure_passes_through_a_diamond(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """Both branches fail and their join fails once more, with the one cause there is.

                               ┌─ a@1 ──▶ fill(x) ── left@1 ───┐
    host ──gate, failed──▶ split                               join(x → y) ── done@1 ──▶ host
                               └─ a@2 ──▶ barrier ── right@1 ──┘
    """
    x, y = buffers.filled(0, count=2)
    gate, a, left, right, done = semaphores(5)
    error = cause("above the diamond")
    last = device.queue_count - 1
    device.queue_execute([], wait=[gate @ 1], signal=[a @ 2])
    device.queue_execute([Fill(x, 7)], wait=[a @ 1], signal=[left @ 1])
    device.queue_execute([], wait=[a @ 2], signal=[right @ 1], queue=last)
    device.queue_execute([Copy(x, y)], wait=[left @ 1, right @ 1], signal=[done @ 1])
    gate.fail(error)
    for semaphore in (a, left, right, done):
        expect_failed(semaphore, 1, error)
    settle(lambda: x.untouched, lambda: y.untouched)
    assert x.holds(0)
    assert y.holds(0)


@clause("F-6", "F-8")
def test_failure_reaches_a_join_from_one_branch(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """One branch fails and the other succeeds: the join fails, the good branch does not.

    host ──open@1──▶ fill(x, 7) ──good@1──┐
                                          join(x → y) ──done@1──▶ host
    host ──gate, failed──▶ barrier ──bad@1┘
    """
    x, y = buffers.filled(0, count=2)
    open_gate, gate, good, bad, done = semaphores(5)
    error = cause("in one branch")
    device.queue_execute([Fill(x, 7)], wait=[open_gate @ 1], signal=[good @ 1])
    device.queue_execute([], wait=[gate @ 1], signal=[bad @ 1])
    device.queue_execute([Copy(x, y)], wait=[good @ 1, bad @ 1], signal=[done @ 1])
    open_gate.signal(1)
    expect_reached(good, 1)
    gate.fail(error)
    expect_failed(bad, 1, error)
    expect_failed(done, 1, error)
    settle(lambda: y.untouched)
    expect_at(1, good)
    assert x.holds(7)
    assert y.holds(0)


@clause("F-2", "F-6")
def test_failure_reaches_blocked_host_waits_at_every_hop(
    device: ObservedDevice,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    threads: Tasks,
    settle: Settle,
) -> None:
    """Threads that wait for the links of a chain are all released by the failure (IREE: PropagateFailSignal)."""
    s = semaphores(6)
    error = cause("hops away from the waiter")
    for earlier, later in pairwise(s):
        device.queue_execute([], wait=[earlier @ 1], signal=[later @ 1])
    waiters = [threads.start(partial(semaphore.wait, 1)) for semaphore in s]
    settle(blocked(*waiters))
    threads.start(partial(s[0].fail, error)).result()
    for waiter in waiters:
        expect_failing_wait(variation, error, waiter.result)


@clause("F-6")
def test_failure_travels_through_links_that_nobody_holds(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause
) -> None:
    """The caller has dropped every handle but the first and the last."""
    gate, done = semaphores(2)
    error = cause("through the dark")
    earlier = gate
    for _ in range(4):
        [later] = semaphores(1)
        device.queue_execute([], wait=[earlier @ 1], signal=[later @ 1])
        earlier = later
    device.queue_execute([], wait=[earlier @ 1], signal=[done @ 1])
    del earlier, later
    gate.fail(error)
    del gate
    gc.collect()
    expect_failed(done, 1, error)


@clause("F-6")
@requires(Capability.ASYNC_SUBMIT)
@pytest.mark.usefixtures("restless")
def test_failure_at_the_moment_of_the_submit(
    device: ObservedDevice,
    buffers: Buffers,
    semaphores: Semaphores,
    cause: Cause,
    threads: Tasks,
    effort: Effort,
    settle: Settle,
) -> None:
    """Before, after or in the middle of the submit: the work does not run, and its signal fails."""
    c = buffers.filled(0)
    error = cause("just now")
    for _ in range(effort.loops(30, 200)):
        gate, done = semaphores(2)
        # Where the call may raise as well, it may here; other cases look at that.
        submit = partial(device.queue_execute, [Fill(c, 7)], wait=[gate @ 1], signal=[done @ 1])
        threads.run([partial(status_of, partial(gate.fail, error)), partial(status_of, submit)])
        expect_failed(done, 1, error)
    settle(lambda: c.untouched)
    assert c.holds(0)


@clause("F-6")
def test_failure_is_captured_by_what_depends_on_it(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause
) -> None:
    """The error object is changed between the failure and a later hop; the later hop has it as it was."""
    gate, near, far = semaphores(3)
    device.queue_execute([], wait=[gate @ 1], signal=[near @ 1])
    error = cause("as it was")
    gate.fail(error)
    error.code, error.message = StatusCode.CANCELLED, "changed"
    expect_failed(near, 1, cause("as it was"))
    failure_of(near).message = "changed by a reader"
    status_of(partial(device.queue_execute, [], wait=[near @ 1], signal=[far @ 1]))
    expect_failed(far, 1, cause("as it was"))
