"""Giving what runs too early its chance to show, and what is slow its time, without a sleep."""

from __future__ import annotations

from pytest_cuda2hal.hal import Capability

from ..support import ObservedDevice, ObservedSemaphore


def nudge(device: ObservedDevice, queue: int = 0) -> None:
    """Send an empty submission round a queue on which submissions wait.

    What the HAL wrongly holds for ready on that queue has most likely run when this returns. Where a queue is in order
    the empty submission would itself wait, so nothing is sent.
    """
    if device.has(Capability.SAME_QUEUE_OUT_OF_ORDER):
        done = device.create_semaphore(0)
        device.queue_execute([], signal=[done @ 1], queue=queue)
        done.wait(1)


def wait_in_steps(semaphore: ObservedSemaphore, value: int) -> None:
    """Wait for the end of a long chain; the deadline is for every thousand links, since slow is not hanging."""
    for step in range(1000, value, 1000):
        semaphore.wait(step)
    semaphore.wait(value)
