"""Codes and messages: what a semaphore is failed with is what is read from it, and from what depends on it."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.hal import Capability, HalError, StatusCode

from ..support import Cause, ObservedDevice, Semaphores, clause, expect_failed, failure_of, requires
from .support import FAILURE_CODES, expect_cause

MESSAGES = {
    "empty": "",
    "plain": "the link is down",
    "unicode": "Verbindung verloren — 接続が失われた 💥",
    "newlines": "first line\n\nthird line\n",
    "10-kB": "".join(f"{number:04d} " for number in range(2000)),
}


def check_round_trip(device: ObservedDevice, semaphores: Semaphores, error: HalError) -> None:
    """Fail ``gate`` and read the error from it and from two submissions that wait for it, directly and behind.

    host ──gate@1──▶ barrier ──near@1──▶ barrier ──far@1──▶ host
    """
    gate, near, far = semaphores(3)
    device.queue_execute([], wait=[gate @ 1], signal=[near @ 1])
    device.queue_execute([], wait=[near @ 1], signal=[far @ 1])
    gate.fail(error)
    expect_cause(failure_of(gate), error)
    for semaphore in (near, far):
        expect_failed(semaphore, 1, error)
        expect_cause(failure_of(semaphore), error)


@clause("F-4")
@requires(Capability.FAIL_CODE)
@pytest.mark.parametrize("code", FAILURE_CODES, ids=lambda code: code.name.lower())
def test_code_round_trips(code: StatusCode, device: ObservedDevice, semaphores: Semaphores) -> None:
    """Every code, with every message, is read again, here and behind two hops (IREE: FailurePreservesStatusCode)."""
    for message in MESSAGES.values():
        check_round_trip(device, semaphores, HalError(code, message))


@clause("F-1", "F-4", "F-6")
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_message_round_trips(message: str, device: ObservedDevice, semaphores: Semaphores, cause: Cause) -> None:
    """Every message comes back, also from a HAL that fails with one fixed code."""
    check_round_trip(device, semaphores, cause(message))
