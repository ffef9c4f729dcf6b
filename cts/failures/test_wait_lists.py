"""Host waits for several semaphores of which one fails."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, StatusCode, WaitMode

from ..support import (
    AskVariation,
    Cause,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    requires,
    status_of,
)
from .support import expect_at, expect_failing_wait, need_mode

#: How many semaphores a list has; the failed one stands at each position once.
LENGTH = 5
both_modes = pytest.mark.parametrize("mode", list(WaitMode), ids=["all", "any"])


@clause("F-3")
@both_modes
def test_failing_member_ends_a_blocked_list_wait(
    mode: WaitMode,
    device: ObservedDevice,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    settle: Settle,
    threads: Tasks,
) -> None:
    """Wherever it stands; the other members are as before (IREE: MultiWaitThenFail, DeviceMultiWaitThenFail)."""
    need_mode(device, mode)
    error = cause("one of five")
    lists = [semaphores(LENGTH) for _ in range(LENGTH)]
    waiters = [threads.start(partial(device.wait_semaphores, [s @ 1 for s in members], mode=mode)) for members in lists]

    settle(blocked(*waiters))

    for position, (members, waiter) in enumerate(zip(lists, waiters, strict=True)):
        members[position].fail(error)
        expect_failing_wait(variation, error, waiter.result)
        others = members[:position] + members[position + 1 :]
        expect_at(0, *others)
        for s in others:
            s.signal(1)
        device.wait_semaphores([s @ 1 for s in others], mode=mode)


@clause("F-3")
@requires(Capability.WAIT_ALL)
def test_wait_all_over_reached_members_and_a_failed_one(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """It fails with every timeout, wherever the failed one stands, also if that one had reached its value."""
    error = cause("failed before the wait")
    for position in range(LENGTH):
        for value in (0, 1):
            members = [semaphores.at(value if number == position else 1) for number in range(LENGTH)]
            members[position].fail(error)
            for timeout in (0, -1.0, device.deadline):
                wait = partial(device.wait_semaphores, [s @ 1 for s in members], timeout=timeout)
                expect_failing_wait(variation, error, wait)


@clause("F-3")
@requires(Capability.WAIT_ALL)
def test_wait_all_whose_last_member_fails(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation, threads: Tasks
) -> None:
    """All members but one are reached while the wait is on; then that one fails."""
    error = cause("failed in place of the last signal")
    members = semaphores(LENGTH)
    waiter = threads.start(partial(device.wait_semaphores, [s @ 1 for s in members]))
    for s in members[1:]:
        s.signal(1)
    members[0].fail(error)
    expect_failing_wait(variation, error, waiter.result)


@clause("F-3")
@both_modes
def test_list_wait_over_unreached_members_and_a_failed_one(
    mode: WaitMode, device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """It fails at once, wherever the failed one stands, instead of blocking for the others."""
    need_mode(device, mode)
    error = cause("failed before the wait")
    for position in range(LENGTH):
        members = semaphores(LENGTH)
        members[position].fail(error)
        expect_failing_wait(variation, error, partial(device.wait_semaphores, [s @ 1 for s in members], mode=mode))


@clause("F-3")
@both_modes
def test_list_wait_that_names_the_failed_semaphore_twice(
    mode: WaitMode,
    device: ObservedDevice,
    semaphores: Semaphores,
    cause: Cause,
    variation: AskVariation,
    threads: Tasks,
) -> None:
    """Two values of one semaphore: its failure ends the wait, begun before or after."""
    need_mode(device, mode)
    error = cause("failed, and named twice")
    [s] = semaphores(1)
    wait = partial(device.wait_semaphores, [s @ 2, s @ 1], mode=mode)
    waiter = threads.start(wait)
    s.fail(error)
    expect_failing_wait(variation, error, waiter.result)
    expect_failing_wait(variation, error, wait)


@clause("F-3")
@both_modes
@requires(Capability.FAIL_CODE)
def test_list_wait_over_several_failed_members(
    mode: WaitMode, device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """It ends with the failure of one of them."""
    need_mode(device, mode)
    errors = [cause("first", StatusCode.DATA_LOSS), cause("second", StatusCode.UNAVAILABLE)]
    a, unreached, b = semaphores(3)
    a.fail(errors[0])
    b.fail(errors[1])
    code = status_of(partial(device.wait_semaphores, [a @ 1, unreached @ 1, b @ 1], mode=mode))
    cause_seen = next((error for error in errors if error.code is code), None)
    variation("failed-wait-code").check("cause" if cause_seen else code.name)


@clause("F-3")
@requires(Capability.WAIT_ANY)
def test_wait_any_over_a_reached_and_a_failed_member(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """Either may count: the failure wherever it stands, or what stands first in the list."""
    reached, failed = semaphores.at(1), semaphores.at(0)
    failed.fail(cause("failed beside a reached one"))
    for timeout in (0, device.deadline):
        wait_any = partial(device.wait_semaphores, mode=WaitMode.ANY, timeout=timeout)
        behind = status_of(partial(wait_any, [reached @ 1, failed @ 1])) is not StatusCode.OK
        ahead = status_of(partial(wait_any, [failed @ 1, reached @ 1])) is not StatusCode.OK
        answers = {
            (True, True): "failure",
            (False, True): "list-order",
            (False, False): "success wherever it stands",
            (True, False): "what stands last in the list",
        }
        variation("any-satisfied-and-failed").check(answers[behind, ahead])


@clause("F-3")
@requires(Capability.WAIT_ALL)
def test_expired_wait_all_over_an_unreached_and_a_failed_member(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """With an expired timeout the failure may count, or the time that is over; wherever the failed one stands."""
    error = cause("failed beside an unreached one")
    unreached, failed = semaphores(2)
    failed.fail(error)
    for members in ([unreached @ 1, failed @ 1], [failed @ 1, unreached @ 1]):
        for timeout in (0, -1.0):
            code = status_of(partial(device.wait_semaphores, members, timeout=timeout))
            seen = {StatusCode.OK: "success", StatusCode.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED"}.get(code, "failure")
            variation("all-unreached-and-failed").check(seen)
