"""What the fault loop looks at when a case is over: whether anything hangs, leaks or was lost."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pytest_cuda2hal.backends.cuda.driver import CudaError
from pytest_cuda2hal.backends.faulty.failing_calls import Plan
from pytest_cuda2hal.hal import HalError, StatusCode
from pytest_cuda2hal.observation import ObservedDevice
from pytest_cuda2hal.observation.log import Record

#: Seconds for what must happen; after the longer time the process is given up.
SOON, STUCK = 3.0, 40.0
#: How often one looks at the least: a machine that stood still has not given anybody those seconds.
LOOKS = 100
#: Where these fail, what they were to give back may stay; that is no defect of who called them.
RELEASES = frozenset(
    {"cuEventDestroy", "cuStreamDestroy", "cuMemFreeAsync", "cuMemFreeHost", "cuGraphExecDestroy", "cuGraphDestroy"}
    | {"cuMemPoolDestroy", "cuDevicePrimaryCtxRelease", "cuStreamSynchronize", "cuStreamEndCapture"}
)
#: Where these fail nobody can tell any more what is done, so the device counts as lost whatever the error.
LOSING = frozenset({"cuEventQuery", "cuEventSynchronize", "cuCtxSetCurrent"})


def end_waiting_for_the_host(device: ObservedDevice) -> list[Record]:
    """Do what the interrupted case owes: open latches, fail what only the host would signal. Return what stays.

    Left out of what stays is what waits for a semaphore without a handle, or for a host call that may wait for the
    case: it is nobody's fault.
    """
    log = device.log
    for latch in list(device.latches):
        latch.open()
    rest = [record for record in log.records if any(log.is_reached(point) is False for point in record.signals)]
    coming: dict[int, int] = {}  # the largest value of each semaphore that a submission will signal by itself
    # Of a signal without a handle nobody can say whether it was made.
    stuck = [r for r in log.records if not r.signals or any(log.is_reached(point) is not True for point in r.signals)]
    before: list[Record] = []
    while len(stuck) != len(before):
        before = stuck
        stuck = []
        for record in before:
            if any(log.is_reached(p) is False and coming.get(p.serial, -1) < p.value for p in record.waits):
                stuck.append(record)
            else:
                coming |= {p.serial: max(p.value, coming.get(p.serial, 0)) for p in record.signals}
    for record in stuck:
        for point in record.waits:
            semaphore = log.semaphore(point.serial)
            if semaphore is not None and log.is_reached(point) is False and coming.get(point.serial, -1) < point.value:
                with contextlib.suppress(HalError):
                    semaphore.inner.fail(HalError(StatusCode.CANCELLED, "the case is over"))
    excused: set[int] = set()
    while True:
        new = [
            record
            for record in rest
            if record.what == "host call"
            or any(log.semaphore(point.serial) is None or point.serial in excused for point in record.waits)
        ]
        if not new:
            return rest
        excused |= {point.serial for record in new for point in record.signals}
        rest = [record for record in rest if record not in new]


def what_is_wrong(device: ObservedDevice, plan: Plan) -> list[str]:
    """Look at a device whose case is over, before it is closed."""
    inner: Any = device.inner
    patience = Patience()
    while rest := end_waiting_for_the_host(device):
        if patience.is_over():
            return [f"lost signal: {device.log.describe(rest[0])} is neither reached nor failed"]
    lost = inner.engine.lost
    if lost is not None:
        by_case = not isinstance(lost, CudaError) and lost.code is not StatusCode.INTERNAL  # that of a dead completer
        may = by_case or plan.is_sticky or not plan.times or not plan.failed or not LOSING.isdisjoint(plan.failed)
        return [] if may else [f"the device is lost: {lost}"]
    if not plan.times:
        return []
    for queue in range(device.queue_count):
        try:
            done = inner.create_semaphore(0)
            inner.queue_execute([], signal=[done @ 1], queue=queue)
            done.wait(1, SOON)
        except HalError as error:
            if not plan.is_sticky and (inner.engine.lost is None or LOSING.isdisjoint(plan.failed)):
                return [f"unrelated work on queue {queue}: {error}"]
    patience = Patience()
    while (now := inner.statistics()).pending or now.in_flight or now.events:
        if patience.is_over():
            return [] if inner.engine.host_calls else [f"left in the device: {now}"]
    return []


def what_is_left(plan: Plan) -> list[str]:
    """Look at the drivers when every device of a case is closed."""
    excused = not plan.times or not RELEASES.isdisjoint(plan.failed)
    found: list[str] = []
    for driver in plan.drivers:
        if not excused:
            unbound = "cuCtxSetCurrent" in plan.failed  # then a lost device has no context to call the driver with
            lines = [line for line in driver.violations if not (unbound and "without a current context" in line)]
            found += [f"violation: {line}" for line in lines[:3]]
        if not excused and not soon(lambda driver=driver: not driver.contexts):  # type: ignore[misc]
            found.append(f"leak: {dict(driver.live()) or 'a context'} after close")
    # No name here may keep a device: one that the case never closed ends when nobody has it.
    threads = [thread for reference in plan.devices for thread in getattr(reference(), "_completers", ())]
    if not soon(lambda: not any(thread.is_alive() for thread in threads)):
        found.append("leak: threads of a closed device go on")
    return found


class Patience:
    """How long one looks for something that must come: :data:`SOON`, and :data:`LOOKS` times, but not for ever."""

    def __init__(self, pause: float = 0.001) -> None:
        self._pause = pause
        self._end = time.monotonic() + SOON
        self._looks = 0

    def is_over(self) -> bool:
        """Wait a moment; tell whether that was the last one."""
        now = time.monotonic()
        if (now > self._end and self._looks >= LOOKS) or now > self._end + 3 * SOON:
            return True
        self._looks += 1
        time.sleep(self._pause)
        return False


def soon(condition: Callable[[], bool]) -> bool:
    """Tell whether something comes true in time, when nothing of the case is alive any more."""
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        sys.__dict__.pop(name, None)  # pytest leaves the last failure there, and it has the case's handles
    patience = Patience(0.01)
    while not condition() and not patience.is_over():
        gc.collect()
    return condition()


def guarded(function: Callable[[], list[str]]) -> list[str]:
    """Call on a thread of its own, so that what hangs is noticed."""
    found: list[str] = ["hang: the device answers nothing any more"]

    def call() -> None:
        try:
            found[:] = function()
        except Exception as error:  # noqa: BLE001 - it is a finding
            found[:] = [f"exception: {type(error).__name__}: {error}"]

    thread = threading.Thread(target=call, name="fault loop", daemon=True)
    thread.start()
    thread.join(4 * SOON)
    return found
