"""The promises about one host call, kept many times: what goes wrong one time in fifty shows here."""

from __future__ import annotations

from collections import Counter
from functools import partial

from pytest_cuda2hal.hal import HalError, StatusCode

from ..support import (
    AskVariation,
    Cause,
    Effort,
    ObservedDevice,
    Semaphores,
    Settle,
    clause,
    expect_failed,
    submit_behind_failure,
)
from .conftest import CallCount

#: How many calls wait for the same semaphore.
GROUP = 20


@clause("H-1")
def test_each_of_many_calls_behind_a_reached_wait_is_made_once(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort, settle: Settle
) -> None:
    """The wait is reached before the submission: nothing is left to wait for, and nothing to make a call a second time.

    host ──gate@1──▶ │ call(k) ──ends[k]@1──▶ host
    """
    made: list[int] = []
    (gate,) = semaphores(1)
    gate.signal(1)
    ends = semaphores(effort.loops(50, 600))
    for number, end in enumerate(ends):
        queue = number % device.queue_count
        device.queue_host_call(partial(made.append, number), wait=[gate @ 1], signal=[end @ 1], queue=queue)
    for end in ends:
        end.wait(1)
    twice = sorted(number for number, times in Counter(made).items() if times > 1)
    assert not twice, f"expected each call to be made once; seen made again: calls {twice[:5]}"
    settle(lambda: CallCount(len(ends), len(made)))


@clause("H-1", "F-6")
def test_none_of_many_calls_behind_a_failed_wait_is_made(
    device: ObservedDevice,
    semaphores: Semaphores,
    effort: Effort,
    settle: Settle,
    cause: Cause,
    variation: AskVariation,
) -> None:
    """Groups of calls that are pending when their gate fails, and others submitted behind it afterwards.

    host ──fail(gate)──▶ 20 calls ──done──▶ fails
    """
    device.need_to_fail()
    why = cause("no call must be made")
    made: list[int] = []
    ends = []
    for _ in range(effort.loops(3, 15)):
        (gate,) = semaphores(1)
        pending, behind = semaphores(GROUP), semaphores(GROUP)
        for number, end in enumerate(pending):
            device.queue_host_call(partial(made.append, number), wait=[gate @ 1], signal=[end @ 1])
        gate.fail(why)
        for number, end in enumerate(behind):
            submit_behind_failure(
                variation,
                partial(device.queue_host_call, partial(made.append, number), wait=[gate @ 1], signal=[end @ 1]),
            )
        ends += [*pending, *behind]
    for end in ends:
        expect_failed(end, 1, why)
    settle(lambda: CallCount(0, len(made)))


@clause("H-2")
def test_each_of_many_calls_that_raise_fails_its_signals(
    device: ObservedDevice, semaphores: Semaphores, effort: Effort
) -> None:
    """Every call raises an error of its own, and its signals carry that one."""

    def raises(error: HalError) -> None:
        raise error

    ends = semaphores(effort.loops(50, 500))
    errors = [HalError(StatusCode.DATA_LOSS, f"raised by call {number}.") for number in range(len(ends))]
    for error, end in zip(errors, ends, strict=True):
        device.queue_host_call(partial(raises, error), signal=[end @ 1])
    for error, end in zip(errors, ends, strict=True):
        expect_failed(end, 1, error)
