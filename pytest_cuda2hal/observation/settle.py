"""Watching that something does not happen."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..hal import Capability, HalError, StatusCode
from .calls import in_call
from .device import ObservedDevice

#: Seconds between two looks; the first and the last look are at the beginning and the end of the settling time.
LOOK_EVERY = 0.001


class NotYetViolated(AssertionError):
    """Something happened that must not have happened yet."""


class Settle:
    """``settle(observe)``: give the HAL every chance to do wrong, and look all the while.

    It flushes every queue, sends an empty submission round each queue that is not held and may overtake, so that the
    HAL's machinery turns at least once, and then watches until ``seconds`` are over. ``observe`` returns something true
    as long as all is well; the case fails at the first look that finds otherwise. This is the only place in the suite
    where time is allowed to pass.
    """

    def __init__(self, device: ObservedDevice, seconds: float) -> None:
        self._device = device
        self.seconds = seconds

    def __call__(self, *observations: Callable[[], object]) -> None:
        end = time.monotonic() + self.seconds
        self._look(observations)
        if self._device.has(Capability.FLUSH):
            with in_call(self._device.calls, "settle"):
                for queue in range(self._device.queue_count):
                    self._device.inner.queue_flush(queue)
        self._round_trip()
        while True:
            last = time.monotonic() >= end
            self._look(observations)
            if last:
                return
            time.sleep(LOOK_EVERY)

    def _look(self, observations: tuple[Callable[[], object], ...]) -> None:
        for observe in observations:
            seen = observe()
            if not seen:
                text = repr(seen) if type(seen) is not bool else "the observation turned false"
                raise NotYetViolated(f"happened too early, seen while settling: {text}")

    def _round_trip(self) -> None:
        device = self._device
        if not device.has(Capability.SAME_QUEUE_OUT_OF_ORDER):
            return
        held = device.held_queues()
        with in_call(device.calls, "settle"):
            for queue in range(device.queue_count):
                if queue in held:
                    continue
                semaphore = device.inner.create_semaphore(0)
                device.inner.queue_execute([], signal=[semaphore @ 1], queue=queue)
                try:
                    semaphore.wait(1, self.seconds)
                except HalError as error:
                    if error.code is not StatusCode.DEADLINE_EXCEEDED:
                        raise
