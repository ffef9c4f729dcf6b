"""Failure through chains so long that a propagation which recurses would run out of stack."""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise

import pytest

from pytest_cuda2hal.hal import Capability, Fault, HalError, StatusCode

from ..support import Cause, ObservedDevice, ObservedSemaphore, Semaphores, Tasks, clause, expect_failed, requires
from .support import failure_so_far, until_failed

LINKS = 20_000
#: Bytes of stack for the thread that fails the head: plenty for a loop, and less than 30 for each link of the chain.
STACK = 512 * 1024


def submit_chain(device: ObservedDevice, s: list[ObservedSemaphore]) -> None:
    """Submit barriers from each semaphore to the next, over all queues in turn."""
    for number, (earlier, later) in enumerate(pairwise(s)):
        device.queue_execute([], wait=[earlier @ 1], signal=[later @ 1], queue=number % device.queue_count)


def check_all_failed(s: list[ObservedSemaphore], error: HalError) -> None:
    """The failure passes each thousandth link and, with the cause, the last; by then all others have failed."""
    for semaphore in s[::1000]:  # each has the deadline for itself: this is about stack, not about speed
        until_failed(semaphore, 1)
    expect_failed(s[-1], 1, error)
    alive = [number for number, semaphore in enumerate(s) if not failure_so_far(semaphore)]
    assert not alive, (
        f"expected all {len(s)} semaphores failed; seen {len(alive)} alive, the first is number {alive[0]}"
    )


@clause("F-9")
def test_failure_of_the_head_of_a_long_chain(
    device: ObservedDevice, semaphores: Semaphores, cause: Cause, threads: Tasks
) -> None:
    """The host fails the head of 20,000 pending links on a thread with a small stack.

    host ──s[0], failed──▶ barrier ──s[1]@1──▶ barrier ──s[2]@1──▶ … ──s[20,000]@1──▶ host
    """
    s = semaphores(LINKS + 1)
    submit_chain(device, s)
    error = cause("at the head of 20,000")
    usual = threading.stack_size(STACK)
    try:
        failing = threads.start(partial(s[0].fail, error))
    finally:
        threading.stack_size(usual)
    try:
        check_all_failed(s, error)
    finally:
        try:
            failing.result()
        except RecursionError:
            pytest.fail(f"expected a failure to travel along {LINKS} links in bounded stack; seen RecursionError")


@clause("F-9")
@requires(Capability.FAULT_INJECTION)
def test_fault_at_the_head_of_a_long_chain(device: ObservedDevice, semaphores: Semaphores) -> None:
    """The failure begins on a thread of the HAL, with whatever stack that has."""
    s = semaphores(LINKS + 2)
    fault = HalError(StatusCode.DATA_LOSS, "at the head of 20,000")
    device.queue_execute([Fault(fault)], wait=[s[0] @ 1], signal=[s[1] @ 1])
    submit_chain(device, s[1:])
    s[0].signal(1)
    check_all_failed(s[1:], fault)
