"""What a host call raises."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import NoReturn

import pytest

from pytest_cuda2hal.hal import HalError, StatusCode

from ..support import Buffers, ObservedDevice, Poll, Semaphores, Settle, clause, expect_failed, failure_of, status_of
from .conftest import Calls

CODES = [code for code in StatusCode if code is not StatusCode.OK]


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def call() -> NoReturn:
        raise error

    return call


@clause("H-2")
@pytest.mark.parametrize("gated", [False, True], ids=["at-once", "behind-a-gate"])
def test_error_of_a_host_call_fails_every_signal(device: ObservedDevice, semaphores: Semaphores, gated: bool) -> None:
    """A HalError comes with its own code and message, every code, at each of three signals."""
    gate = semaphores.at(0)
    signals = [semaphores(3) for _ in CODES]
    for code, (a, b, c) in zip(CODES, signals, strict=True):
        error = HalError(code, f"raised by the call with {code.name}")
        wait = [gate @ 1] if gated else []
        device.queue_host_call(raises(error), wait=wait, signal=[a @ 1, b @ 7, c @ 2])
    gate.signal(1)
    for code, (a, b, c) in zip(CODES, signals, strict=True):
        error = HalError(code, f"raised by the call with {code.name}")
        expect_failed(a, 1, error)
        expect_failed(b, 7, error)
        expect_failed(c, 2, error)


class Odd(BaseException):
    """Not an Exception, as KeyboardInterrupt, asyncio's CancelledError and pytest's own outcomes are not."""


@clause("H-2")
@pytest.mark.parametrize("kind", [ValueError, KeyError, SystemExit, Odd])
def test_other_exception_fails_the_signals_with_unknown(
    device: ObservedDevice, semaphores: Semaphores, kind: type[BaseException]
) -> None:
    """Whatever is raised, the signals fail, and the next call is made.

    With UNKNOWN and the exception's text: the clause says less, the interface promises it (Device.queue_host_call).
    """
    done, after = semaphores(2)
    device.queue_host_call(raises(kind("seventeen is prime")), signal=[done @ 1])
    status_of(lambda: done.wait(1))
    failure = failure_of(done)
    assert failure.code is StatusCode.UNKNOWN, f"expected UNKNOWN; seen {failure}"
    assert "seventeen is prime" in failure.message, f"expected the text of the exception; seen {failure}"
    device.queue_host_call(lambda: None, signal=[after @ 1])
    after.wait(1)


class Unprintable(Exception):
    """Its text cannot be had, as of one whose arguments have gone, or that a proxy stands for."""

    def __str__(self) -> str:
        raise ValueError("no text")


@clause("H-2")
def test_exception_that_cannot_be_printed_fails_the_signals(device: ObservedDevice, semaphores: Semaphores) -> None:
    """To say what was raised is no condition of failing the signals, and the next call is made."""
    done, after = semaphores(2)
    device.queue_host_call(raises(Unprintable()), signal=[done @ 1])
    status_of(lambda: done.wait(1))
    failure = failure_of(done)
    assert failure.code is StatusCode.UNKNOWN, f"expected UNKNOWN; seen {failure}"
    device.queue_host_call(lambda: None, signal=[after @ 1])
    after.wait(1)


@clause("H-2", "F-6")
def test_work_behind_a_failed_host_call_never_runs(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores, settle: Settle
) -> None:
    """call (raises) ──called@1──▶ fill(b, 7) ──filled@1──▶ copy(b → c) ──done@1──▶ fails with what was raised"""
    b, c = buffers.filled(0, count=2)
    gate, called, filled, done = semaphores(4)
    error = HalError(StatusCode.PERMISSION_DENIED, "not today")
    device.queue_host_call(raises(error), wait=[gate @ 1], signal=[called @ 1])
    device.queue_fill(b, 7, wait=[called @ 1], signal=[filled @ 1])
    device.queue_copy(b, c, wait=[filled @ 1], signal=[done @ 1])
    gate.signal(1)
    expect_failed(done, 1, error)
    expect_failed(filled, 1, error)
    settle(lambda: b.untouched, lambda: c.untouched)


@clause("H-2", "F-8")
def test_failed_host_call_touches_nothing_else(
    device: ObservedDevice, buffers: Buffers, semaphores: Semaphores
) -> None:
    """Work that is pending beside it, and a later call on the same queue, go their way."""
    b = buffers.filled(0)
    made = Calls()
    gate, failed, filled, after = semaphores(4)
    error = HalError(StatusCode.ABORTED, "only this one")
    device.queue_fill(b, 7, wait=[gate @ 1], signal=[filled @ 1])
    device.queue_host_call(raises(error), signal=[failed @ 1])
    expect_failed(failed, 1, error)
    device.queue_host_call(made.call, signal=[after @ 1])
    after.wait(1)
    gate.signal(1)
    filled.wait(1)
    assert made.count == 1
    assert b.holds(7)


@clause("H-2", "L-1")
def test_host_call_is_let_go_of(device: ObservedDevice, semaphores: Semaphores, poll: Poll) -> None:
    """When it has returned or raised, or was never made, the device keeps neither the function nor what it holds."""

    class Held:
        calls = 0

    def submit(error: HalError | None, number: int) -> weakref.ref[Held]:
        held = Held()

        def call() -> None:
            held.calls += 1
            if error:
                raise error

        device.queue_host_call(call, signal=[done @ number] if error is None else [failed @ 1])
        return weakref.ref(held)

    done, failed = semaphores(2)
    error = HalError(StatusCode.INTERNAL, "raised by the call")
    references = [submit(None, 1), submit(error, 1)]
    done.wait(1)
    expect_failed(failed, 1, error)
    del error

    def let_go() -> bool:
        gc.collect()  # an exception and the frame that raised it may hold each other
        return all(reference() is None for reference in references)

    poll(let_go)
