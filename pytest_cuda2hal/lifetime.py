"""The devices of cases: opened for a case, checked for what it left, closed."""

from __future__ import annotations

import contextlib
import gc
import threading
import time

import pytest

from .abandonment import abandon
from .case import CaseState
from .collection import check_requirements
from .hal import Capability, Device, HalError, Statistics, StatusCode
from .observation import DeadlineExpired, ObservedDevice
from .registry import Resolved
from .settings import SETTINGS

#: Seconds that an empty submission may take where it is asked whether a device still works.
TRY_SECONDS = 0.5


def open_observed(request: pytest.FixtureRequest, backend: Resolved) -> ObservedDevice:
    """Open a device for the requesting case; end the case if the backend lacks what it requires."""
    state = CaseState.of(request.node)
    settings = request.config.stash[SETTINGS]
    device = ObservedDevice(backend.open_device(), own=backend.backend.own, deadline=settings.deadline)
    if settings.profile is not None:
        device.profile = settings.profile
    state.devices.append(device)
    try:
        check_requirements(request.node, device)
    except BaseException:
        device.close()
        raise
    return device


def finish_device(device: ObservedDevice, before: Statistics | None, *, passed: bool) -> None:
    """Close a device after its case, and after a passed one check that it left nothing behind."""
    if device.closed:
        return
    clean = False
    try:
        if passed and before is not None:
            _check_nothing_left(device, before)
        elif passed:
            _check_nothing_pending(device)
        clean = passed
    finally:
        if not clean:
            end_unfinished_work(device)
        is_at_rest = clean or not device.log.may_have_unfinished(if_gone=True)
        if is_at_rest or device.declared_rules.usual("close-with-pending") is not None:
            _close(device)
        else:
            # Closing would be undefined, and was seen to hang the process with the GIL held.
            abandon(device.inner)


def _unfinished(device: ObservedDevice) -> list[str]:
    """Return lines about submissions with a signal semaphore that is neither reached nor failed."""
    log = device.log
    return [log.describe(r) for r in log.records if any(log.is_reached(point) is False for point in r.signals)]


def end_unfinished_work(device: ObservedDevice) -> None:
    """Fail whatever somebody still waits for, so that the device can be closed."""
    for latch in list(device.latches):
        latch.open()
    if not device.has(Capability.HOST_FAIL):
        return
    for semaphore in device.log.live_semaphores():
        # Whatever state the HAL is in by now, the next case must get its turn.
        with contextlib.suppress(Exception):
            semaphore.inner.fail(HalError(StatusCode.CANCELLED, "the case is over"))


def loss(device: ObservedDevice) -> str:
    """Say how an empty submission fails on a device after a case that deviated; empty if it does not fail.

    One that does not complete says nothing: what the case left may hold it up.
    """
    held = device.held_queues()
    free = next((queue for queue in range(device.queue_count) if queue not in held), None)
    return "" if free is None else _try_out(device.inner, free)


def health(backend: Resolved) -> str:
    """Open a new device and say what is wrong with it; empty if it works."""
    try:
        device = backend.open_device()
    except Exception as error:  # noqa: BLE001 - whatever it is, the next case would meet it too
        return f"no new device opens: {type(error).__name__}: {error}"
    wrong = _try_out(device, 0)
    if not wrong:
        device.close()
    return wrong and f"on a new device an empty submission fails: {wrong}"


def _try_out(device: Device, queue: int) -> str:
    """Return how an empty submission fails, if it does within the time of a try."""
    said: list[str] = []

    def submit() -> None:
        try:
            semaphore = device.create_semaphore(0)
            device.queue_execute([], signal=[semaphore @ 1], queue=queue)
            semaphore.wait(1, TRY_SECONDS)
        except HalError as error:
            if error.code is not StatusCode.DEADLINE_EXCEEDED:
                said.append(str(error))
        except Exception as error:  # noqa: BLE001 - a HAL may raise anything
            said.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=submit, name="empty submission", daemon=True)
    thread.start()
    thread.join(2 * TRY_SECONDS)
    if said:  # it does answer; perhaps only the thread that opened a device can use it, which is another matter
        said.clear()
        submit()
    return said[0] if said else ""


def _check_nothing_pending(device: ObservedDevice) -> None:
    end = time.monotonic() + device.deadline
    while unfinished := _unfinished(device):
        if time.monotonic() >= end:
            pytest.fail("the case left work pending:\n" + "\n".join(unfinished[:8]), pytrace=False)
        time.sleep(0.001)


def _check_nothing_left(device: ObservedDevice, before: Statistics) -> None:
    """Compare what is alive with what was alive before the case (L-1)."""
    end = time.monotonic() + device.deadline
    while True:
        after = device.inner.statistics()
        left = {
            name: (getattr(before, name), getattr(after, name))
            for name in (
                "semaphores",
                "buffers",
                "events",
                "timepoints",
                "pending",
                "in_flight",
                "threads",
                "memory_in_use",
            )
            if getattr(after, name) > getattr(before, name)
        }
        if not left:
            return
        if time.monotonic() >= end:
            text = ", ".join(f"{name}: {was} before, {now} after" for name, (was, now) in left.items())
            pytest.fail(f"L-1: the case left something alive in the device: {text}", pytrace=False)
        gc.collect()  # only now: it costs more than all else here, and most cases leave no cycles
        time.sleep(0.001)


def _close(device: ObservedDevice) -> None:
    """Close on a thread of its own, so that a close that hangs is noticed."""
    errors: list[BaseException] = []

    def close() -> None:
        try:
            device.close()
        except BaseException as error:  # noqa: BLE001 - raised again below, on the right thread
            errors.append(error)

    thread = threading.Thread(target=close, name="device.close()", daemon=True)
    thread.start()
    thread.join(device.deadline)
    if thread.is_alive():
        abandon(device.inner)
        raise DeadlineExpired(f"L-2: device.close() did not return within {device.deadline:.1f} s")
    if errors:
        raise errors[0]
