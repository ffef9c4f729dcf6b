"""What a host call may do."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Capability, HalError, StatusCode

from ..support import AskVariation, Buffers, Effort, ObservedDevice, Semaphores, Tasks, clause, expect_failed, requires
from .conftest import LongCall


@clause("H-2")
def test_host_call_may_query_and_signal(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """It reads values as they are, and what it signals releases device work.

    call: queries start and done, signals inside@1 and inside@2 ──done@1──▶ host
                                               └──▶ fill(b, 7) ──filled@1──▶ host
    """
    b = buffers.filled(0)
    start, inside, filled, done = semaphores.at(5), *semaphores(3)
    seen: list[int] = []

    def call() -> None:
        seen.append(start.query())
        seen.append(done.query())
        inside.signal(1)
        inside.signal(2)
        seen.append(inside.query())

    device.queue_fill(b, 7, wait=[inside @ 2], signal=[filled @ 1])
    device.queue_host_call(call, signal=[done @ 1])
    done.wait(1)
    filled.wait(1)
    assert seen == [5, 0, 2]
    assert b.holds(7)


@clause("H-2", "Q-14")
def test_work_released_by_a_host_call_runs_while_it_runs(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, long_call: LongCall
) -> None:
    """The call signals and then goes on; what it released does not wait for its return.

    call: signals inside@1, blocked ──done@1──▶ host
                   └──▶ fill(b, 7) ──filled@1──▶ host, which only then lets the call return
    """
    b = buffers.filled(0)
    inside, filled, done = semaphores(3)

    def call() -> None:
        inside.signal(1)
        long_call()

    device.queue_fill(b, 7, wait=[inside @ 1], signal=[filled @ 1])
    device.queue_host_call(call, signal=[done @ 1])
    filled.wait(1)
    assert b.holds(7)
    assert done.query() == 0
    long_call.let_return()
    done.wait(1)


@clause("H-2")
@requires(Capability.HOST_CALL, Capability.HOST_FAIL)
def test_host_call_may_fail_a_semaphore(device: ObservedDevice, semaphores: Semaphores) -> None:
    """What it fails is failed, and its own signals are made all the same."""
    other, behind, done = semaphores(3)
    error = HalError(StatusCode.DATA_LOSS, "failed by a host call")
    device.queue_execute([], wait=[other @ 1], signal=[behind @ 1])
    device.queue_host_call(lambda: other.fail(error), signal=[done @ 1])
    done.wait(1)
    expect_failed(behind, 1, error)


@clause("H-2")
def test_host_calls_and_host_play_ping_pong(
    device: ObservedDevice, semaphores: Semaphores, threads: Tasks, effort: Effort
) -> None:
    """Each call signals a host thread, which signals the wait of the next call.

    host ──a@n──▶ call: signals b@n ──▶ host thread ──a@n+1──▶ …
    """
    rounds = effort.loops(50, 300)
    a, b, done = semaphores(3)
    for number in range(1, rounds + 1):
        device.queue_host_call(
            partial(b.signal, number), wait=[a @ number, done @ (number - 1)], signal=[done @ number]
        )

    def answer() -> None:
        for number in range(1, rounds + 1):
            a.signal(number)
            b.wait(number)

    threads.start(answer).result()
    done.wait(rounds)
    assert b.query() == rounds


@clause("H-2")
def test_host_call_may_submit(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, variation: AskVariation
) -> None:
    """Where the profile lets it, a host call submits further work, and that runs.

    call: submits fill(b, 7) ──filled@1──▶ host
    """
    may = variation("host-call-may-submit")
    may.need_defined()
    if not may.permits("yes"):
        pytest.skip(f"unsupported: in profile '{device.profile}' a host call must not submit")
    b = buffers.filled(0)
    filled, done = semaphores(2)
    device.queue_host_call(lambda: device.queue_fill(b, 7, signal=[filled @ 1]), signal=[done @ 1])
    done.wait(1)
    filled.wait(1)
    assert b.holds(7)
    may.check("yes")


@clause("H-2")
def test_host_call_may_submit_the_next_host_call(
    device: ObservedDevice, semaphores: Semaphores, variation: AskVariation, effort: Effort
) -> None:
    """A chain that builds itself: each call submits the next one before it returns."""
    may = variation("host-call-may-submit")
    may.need_defined()
    if not may.permits("yes"):
        pytest.skip(f"unsupported: in profile '{device.profile}' a host call must not submit")
    count = effort.loops(20, 100)
    made: list[int] = []
    turn, end = semaphores(2)

    def call() -> None:
        number = len(made)
        made.append(number)
        if number + 1 < count:
            device.queue_host_call(call, wait=[turn @ (number + 1)], signal=[turn @ (number + 2)])
        else:
            end.signal(1)

    device.queue_host_call(call, signal=[turn @ 1])
    end.wait(1)
    turn.wait(count)
    assert made == list(range(count))
