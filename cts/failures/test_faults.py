"""Work that fails while it runs."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest

from pytest_cuda2hal.hal import Capability, Command, Copy, Fault, Fill, HalError, StatusCode

from ..support import (
    AskVariation,
    Buffers,
    Cause,
    ObservedDevice,
    Semaphores,
    Settle,
    clause,
    expect_failed,
    requires,
    submit_behind_failure,
)
from .support import FAILURE_CODES, expect_at, expect_reached


@clause("F-7")
@pytest.mark.parametrize("code", FAILURE_CODES, ids=lambda code: code.name.lower())
def test_fault_fails_every_signal(code: StatusCode, device: ObservedDevice, semaphores: Semaphores) -> None:
    """Three signal semaphores fail with the status of the command, code and message."""
    fault = HalError(code, f"the kernel said {code.name}")
    signals = semaphores(3)
    device.queue_execute([Fault(fault)], signal=[s @ (number + 1) for number, s in enumerate(signals)])
    for s in signals:
        expect_failed(s, 1, fault)


@clause("F-7")
@pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "middle", "last"])
def test_fault_among_commands(position: int, device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Wherever the faulting command stands in its list, every signal fails; what the others did is left open."""
    b, c = buffers.filled(0, count=2)
    x, y = semaphores(2)
    fault = HalError(StatusCode.INTERNAL, f"command {position}")
    commands: list[Command] = [Fill(b, 7), Fill(c, 9)]
    commands.insert(position, Fault(fault))
    device.queue_execute(commands, signal=[x @ 1, y @ 1])
    expect_failed(x, 1, fault)
    expect_failed(y, 1, fault)


@clause("F-7")
def test_fault_behind_a_wait(device: ObservedDevice, semaphores: Semaphores, settle: Settle) -> None:
    """Work that is going to fail has not failed while it waits."""
    gate, done = semaphores(2)
    fault = HalError(StatusCode.DATA_LOSS, "when it ran")
    device.queue_execute([Fault(fault)], wait=[gate @ 1], signal=[done @ 1])
    settle(lambda: done.query() == 0)
    gate.signal(1)
    expect_failed(done, 1, fault)
    expect_at(1, gate)


@clause("F-6", "F-7")
def test_dependents_of_a_fault_fail(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle, variation: AskVariation
) -> None:
    """Submitted before and after the fault, on its queue and on another, they fail with its status and never run.

    fault ──┬─x@1──▶ copy(b → c) ──near@1──▶ copy(b → d) ──far@1──▶ host
            └─y@1──▶ copy(b → e) ──late@1──▶ host      submitted after the fault was seen
    """
    b = buffers.filled(7)
    c, d, e = buffers.filled(0, count=3)
    gate, x, y, near, far, late = semaphores(6)
    fault = HalError(StatusCode.DATA_LOSS, "in the producer")
    last = device.queue_count - 1
    device.queue_execute([Fault(fault)], wait=[gate @ 1], signal=[x @ 1, y @ 1])
    device.queue_execute([Copy(b, c)], wait=[x @ 1], signal=[near @ 1])
    device.queue_execute([Copy(b, d)], wait=[near @ 1], signal=[far @ 1], queue=last)
    gate.signal(1)
    expect_failed(y, 1, fault)
    submit = partial(device.queue_execute, [Copy(b, e)], wait=[y @ 1], signal=[late @ 1], queue=last)
    submit_behind_failure(variation, submit)
    for s in (x, near, far, late):
        expect_failed(s, 1, fault)
    settle(lambda: c.untouched, lambda: d.untouched, lambda: e.untouched)


@clause("F-7", "F-8")
def test_fault_in_the_middle_of_a_chain(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Links before the faulting one have run and stay so, links behind it fail.

    fill(b[0]) ──s[1]@1──▶ fill(b[1]) ──s[2]@1──▶ fault ──s[3]@1──▶ fill(b[3]) ──s[4]@1──▶ fill(b[4]) ──s[5]@1──▶
    """
    targets = buffers.filled(0, count=5)
    s = semaphores(6)
    fault = HalError(StatusCode.INTERNAL, "the third link")
    for number, (target, (earlier, later)) in enumerate(zip(targets, pairwise(s), strict=True)):
        command = Fault(fault) if number == 2 else Fill(target, 7)
        queue = number % device.queue_count
        device.queue_execute([command], wait=[earlier @ 1], signal=[later @ 1], queue=queue)
    s[0].signal(1)
    for semaphore in s[3:]:
        expect_failed(semaphore, 1, fault)
    expect_at(1, *s[:3])
    assert [bool(target.holds(7)) for target in targets] == [True, True, False, False, False]


@clause("F-7")
@requires(Capability.REUSABLE_COMMANDS)
def test_fault_in_a_reused_command_buffer(device: ObservedDevice, semaphores: Semaphores) -> None:
    """Each run of the command buffer fails its own signals."""
    fault = HalError(StatusCode.ABORTED, "every time")
    commands = device.create_command_buffer([Fault(fault)])
    signals = semaphores(5)
    for s in signals:
        device.queue_execute(commands, signal=[s @ 1])
    for s in signals:
        expect_failed(s, 1, fault)


@clause("F-6", "F-7")
def test_fault_that_is_never_run(device: ObservedDevice, semaphores: Semaphores, cause: Cause) -> None:
    """A submission whose wait fails gives the cause of that, not the status of the command that did not run."""
    gate, done = semaphores(2)
    error = cause("the gate is broken")
    device.queue_execute([Fault(HalError(StatusCode.INTERNAL, "it ran"))], wait=[gate @ 1], signal=[done @ 1])
    gate.fail(error)
    expect_failed(done, 1, error)


@clause("F-7", "F-8")
def test_fault_without_signals(device: ObservedDevice, buffers: Buffers, semaphores: Semaphores) -> None:
    """Nobody hears of it, and nothing else is in its way; the same queue goes on."""
    for queue in range(device.queue_count):
        device.queue_execute([Fault(HalError(StatusCode.INTERNAL, "unheard"))], queue=queue)
        c = buffers.filled(0)
        [done] = semaphores(1)
        device.queue_execute([Fill(c, 7)], signal=[done @ 1], queue=queue)
        expect_reached(done, 1)
        assert c.holds(7)


@clause("F-8", "Q-13")
@pytest.mark.parametrize("position", range(4))
def test_fault_among_submissions_that_one_signal_releases(
    position: int, device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Of four that wait for the same value one fails when it runs; each of the others does its work."""
    targets = buffers.filled(0, count=4)
    (gate,) = semaphores(1)
    signals = semaphores(4)
    fault = HalError(StatusCode.INTERNAL, f"number {position}")
    for number, (target, done) in enumerate(zip(targets, signals, strict=True)):
        command = Fault(fault) if number == position else Fill(target, number + 1)
        device.queue_execute([command], wait=[gate @ 1], signal=[done @ 1], queue=number % device.queue_count)
    gate.signal(1)
    for number, (target, done) in enumerate(zip(targets, signals, strict=True)):
        if number == position:
            expect_failed(done, 1, fault)
        else:
            done.wait(1)
            assert target.holds(number + 1)
