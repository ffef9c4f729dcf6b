"""A semaphore that has failed: it stays so, whatever is done to it afterwards."""

from __future__ import annotations

from functools import partial

import pytest

from pytest_cuda2hal.hal import Fill, HalError, StatusCode

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    Effort,
    ObservedDevice,
    ObservedSemaphore,
    Semaphores,
    Settle,
    Tasks,
    clause,
    failure_of,
    status_of,
)
from .support import expect_cause, expect_failing_wait, expect_reached, failure_so_far


@clause("F-1")
def test_failed_semaphore_raises_its_failure(semaphores: Semaphores, cause: Cause, threads: Tasks) -> None:
    """From the failure on every query raises it, code and message, on any thread, whatever the value was."""
    for value in (0, 3):
        s = semaphores.at(value)
        s.fail(cause("the link is down"))
        for failure in (failure_of(s), failure_of(s), threads.start(partial(failure_of, s)).result()):
            expect_cause(failure, cause("the link is down"))


@clause("F-1")
def test_first_failure_wins(semaphores: Semaphores, cause: Cause) -> None:
    """A second failure is accepted and changes nothing (IREE: DoubleFailurePreservesFirst)."""
    s = semaphores.at(2)
    s.fail(cause("the first"))
    s.fail(cause("the second", StatusCode.CANCELLED))
    expect_cause(failure_of(s), cause("the first"))


@clause("F-1")
@pytest.mark.usefixtures("restless")
def test_one_of_many_failures_at_once_wins(
    semaphores: Semaphores, cause: Cause, threads: Tasks, effort: Effort
) -> None:
    """Eight threads fail one semaphore at the same moment: one failure wins, and everybody sees that one, always."""

    def fail_and_look(s: ObservedSemaphore, message: str) -> list[str]:
        s.fail(cause(message))
        return [failure_of(s).message for _ in range(3)]

    messages = [f"from thread {number}" for number in range(8)]
    for _ in range(effort.loops(10, 50)):
        [s] = semaphores(1)
        seen = threads.run([partial(fail_and_look, s, message) for message in messages])
        winners = {message for looks in seen for message in looks}
        assert len(winners) == 1, f"expected every look after a failure to see the same one; seen {sorted(winners)}"
        assert winners <= set(messages), f"expected one of the eight messages; seen {winners}"


@clause("F-1", "F-5")
@pytest.mark.usefixtures("restless")
def test_failure_at_the_moment_of_a_signal(
    semaphores: Semaphores, cause: Cause, threads: Tasks, effort: Effort
) -> None:
    """A signal and a failure race: in either order the semaphore ends failed."""
    for _ in range(effort.loops(20, 200)):
        [s] = semaphores(1)
        threads.run([partial(status_of, partial(s.signal, 1)), partial(status_of, partial(s.fail, cause("lost")))])
        expect_cause(failure_of(s), cause("lost"))


@clause("F-1")
def test_failure_is_captured(semaphores: Semaphores, cause: Cause) -> None:
    """What becomes of the error object after the call is no concern of the semaphore."""
    [s] = semaphores(1)
    error = cause("as it was at the call")
    s.fail(error)
    error.code, error.message = StatusCode.CANCELLED, "changed later"
    failure_of(s).message = "changed by a reader"
    expect_cause(failure_of(s), cause("as it was at the call"))


@clause("F-5")
def test_host_signal_does_not_revive(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """Signals below, at and above the last value leave a failed semaphore failed, for queries and for waits."""
    s = semaphores.at(2)
    s.fail(cause("broken"))
    for value in (1, 2, 3, 4, device.rules.value_max):
        status_of(partial(s.signal, value))  # what the caller hears is another case's matter
        expect_cause(failure_of(s), cause("broken"))
        expect_failing_wait(variation, cause("broken"), partial(s.wait, value, timeout=0))


@clause("F-5")
def test_what_signaling_a_failed_semaphore_raises(
    semaphores: Semaphores, cause: Cause, variation: AskVariation
) -> None:
    """The caller of a signal that would have advanced the timeline hears of the failure, as the profile has it."""
    error = cause("broken")
    s = semaphores.at(2)
    s.fail(error)
    code = status_of(partial(s.signal, 3))
    seen = {error.code: "failure", StatusCode.OK: "ignored"}.get(code, code.name)
    variation("signal-after-failure").check(seen)


@clause("F-5", "F-11")
def test_device_signal_does_not_revive(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, cause: Cause, settle: Settle
) -> None:
    """A submission signals a semaphore that the host has failed meanwhile.

    host ──gate@1──▶ fill(b, 7) ──┬─ before@1 ──▶ host
                                  ├─ s@1          failed by the host before the gate opens
                                  └─ after@1 ───▶ host
    """
    b = buffers.filled(0)
    gate, before, s, after = semaphores(4)
    device.queue_execute([Fill(b, 7)], wait=[gate @ 1], signal=[before @ 1, s @ 1, after @ 1])
    s.fail(cause("failed by the host"))

    gate.signal(1)
    expect_reached(before, 1)
    expect_reached(after, 1)
    settle(lambda: failure_so_far(s))
    expect_cause(failure_of(s), cause("failed by the host"))
    assert b.holds(7)


@clause("F-12")
def test_failing_with_ok_is_refused(semaphores: Semaphores, threads: Tasks) -> None:
    """No error with the code OK can be made; a status that turns out to be one is refused and changes nothing."""
    [s] = semaphores(1)
    waiter = threads.start(partial(s.wait, 2))

    with pytest.raises(ValueError, match="failure code"):
        HalError(StatusCode.OK)
    with pytest.raises(TypeError):
        s.fail(StatusCode.OK)  # type: ignore[arg-type]
    status = HalError(StatusCode.UNKNOWN)
    status.code = StatusCode.OK  # what our own layer does not make; the HAL has to refuse it as well
    try:
        s.fail(status)
    except (HalError, TypeError, ValueError):
        refused = True
    else:
        refused = False

    code = status_of(s.query)
    assert code is StatusCode.OK, f"expected s unchanged by fail(OK); seen failed with {code.name}"
    assert s.query() == 0, f"expected s unchanged by fail(OK); seen {s.query()}"
    assert refused, "expected fail(OK) to be refused; seen accepted"
    s.signal(1)
    s.signal(2)
    waiter.result()
