"""The fixtures, as a plugin object made for one run: `hal_backend` is parametrized over the backends asked for.

Parametrization belongs to the fixture's definition, so a suite that defines a `hal_backend` of its own gets its own.
Public names begin with `hal_`; the short ones exist in the suite's own conftest only.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .case import CaseState, Quality, Variation
from .collection import check_requirements
from .hal import Capability, Device, HalError, Statistics, StatusCode
from .observation import ObservedBuffer, ObservedDevice, ObservedSemaphore, Tasks
from .observation.device import ObservedLatch
from .observation.settle import Settle
from .registry import Resolved
from .settings import SETTINGS, Effort

#: Devices of failed cases whose unfinished work cannot be ended: closing them would be undefined.
_ABANDONED: list[Device] = []


class Semaphores:
    """``semaphores(3)`` makes three at 0; ``semaphores.at(5)`` makes one at 5."""

    def __init__(self, device: ObservedDevice) -> None:
        self._device = device

    def __call__(self, count: int) -> list[ObservedSemaphore]:
        return [self._device.create_semaphore(0) for _ in range(count)]

    def at(self, initial_value: int) -> ObservedSemaphore:
        """Make one semaphore with an initial value."""
        return self._device.create_semaphore(initial_value)


class Buffers:
    """``buffers.filled(0, count=2)`` makes two, every byte 0, written by the host; without ``count`` it makes one."""

    #: Bytes, where a case does not care.
    SIZE = 256

    def __init__(self, device: ObservedDevice) -> None:
        self._device = device

    def filled(self, byte: int, *, count: int | None = None, size: int = SIZE) -> Any:
        """Make one buffer, or a list of ``count``, every byte set from the host."""
        made: list[ObservedBuffer] = []
        for _ in range(1 if count is None else count):
            buffer = self._device.allocate_buffer(size)
            buffer.fill_by_host(byte)
            made.append(buffer)
        return made[0] if count is None else made

    def holding(self, data: bytes) -> ObservedBuffer:
        """Make one buffer with the given bytes, set from the host."""
        buffer = self._device.allocate_buffer(len(data))
        buffer.write(data)
        return buffer


def backend_fixture(specs: list[str], resolve: Callable[[str], Resolved]) -> types.ModuleType:
    """Return a plugin whose `hal_backend` runs over ``specs``."""

    @pytest.fixture(scope="session", params=specs, ids=specs)
    def hal_backend(request: pytest.FixtureRequest) -> Resolved:
        """The backend under test: name, options and how to open a device."""
        return resolve(request.param)

    # A module, made here, because pytest looks for fixtures in modules and classes, and a session-scoped fixture must
    # not be a method.
    plugin = types.ModuleType("pytest_cuda2hal.backend_fixture")
    plugin.__dict__["hal_backend"] = hal_backend
    return plugin


@pytest.fixture
def hal_deadline(pytestconfig: pytest.Config) -> float:
    """Seconds after which a wait without a timeout of its own counts as hanging."""
    return pytestconfig.stash[SETTINGS].deadline


@pytest.fixture
def hal_effort(pytestconfig: pytest.Config) -> Effort:
    """How often loops run; it never changes what is checked."""
    return pytestconfig.stash[SETTINGS].effort


def _observed(request: pytest.FixtureRequest, backend: Resolved) -> ObservedDevice:
    """Open a device for the requesting case; end the case if the backend lacks what it requires."""
    state = CaseState.of(request.node)
    deadline = request.config.stash[SETTINGS].deadline
    device = ObservedDevice(backend.open_device(), own=backend.backend.own, deadline=deadline)
    state.devices.append(device)
    try:
        check_requirements(request.node, device)
    except BaseException:
        device.close()
        raise
    return device


@pytest.fixture
def hal_open_device(request: pytest.FixtureRequest, hal_backend: Resolved) -> Iterator[Callable[[], ObservedDevice]]:
    """A function that opens one more device; whatever it opened is closed when the case ends."""
    opened: list[ObservedDevice] = []
    state = CaseState.of(request.node)

    def open_device() -> ObservedDevice:
        opened.append(_observed(request, hal_backend))
        return opened[-1]

    yield open_device
    for device in opened:
        finish_device(device, None, passed=state.passed)


@pytest.fixture
def hal_device(request: pytest.FixtureRequest, hal_backend: Resolved) -> Iterator[ObservedDevice]:
    """A device of the backend, opened for this case alone and closed after it.

    A case that passed must have left nothing pending; where the HAL counts what is alive, nothing may be left.
    """
    device = _observed(request, hal_backend)
    before = device.inner.statistics() if device.has(Capability.STATISTICS) else None
    yield device
    finish_device(device, before, passed=CaseState.of(request.node).passed)


@pytest.fixture
def hal_semaphores(hal_device: ObservedDevice) -> Semaphores:
    """Make semaphores: ``hal_semaphores(3)``, ``hal_semaphores.at(5)``."""
    return Semaphores(hal_device)


@pytest.fixture
def hal_buffers(hal_device: ObservedDevice) -> Buffers:
    """Make buffers whose bytes the host has set: ``hal_buffers.filled(0, count=2)``."""
    return Buffers(hal_device)


@pytest.fixture
def hal_latches(hal_device: ObservedDevice) -> Iterator[Callable[[], ObservedLatch]]:
    """Make latches; each is opened at the latest when the case ends."""
    made: list[ObservedLatch] = []

    def create() -> ObservedLatch:
        made.append(hal_device.create_latch())
        return made[-1]

    yield create
    for latch in made:
        latch.open()


@pytest.fixture
def hal_settle(pytestconfig: pytest.Config, hal_device: ObservedDevice) -> Settle:
    """Watch that something has not happened: ``hal_settle(lambda: buffer.untouched)``."""
    return Settle(hal_device, pytestconfig.stash[SETTINGS].settle_seconds)


@pytest.fixture
def hal_threads(request: pytest.FixtureRequest, hal_device: ObservedDevice) -> Iterator[Tasks]:
    """Start threads; at the end of the case all must have ended, and none may have failed unnoticed."""
    tasks = Tasks(hal_device.deadline)
    yield tasks
    if CaseState.of(request.node).passed:
        tasks.finish()
    else:  # let them go, so that they are not in the next case's way; why they hang has been said
        _end_unfinished_work(hal_device)


@pytest.fixture
def hal_poll(pytestconfig: pytest.Config) -> Callable[[Callable[[], object]], None]:
    """Look until something is true: ``hal_poll(lambda: semaphore.query() == 3)``; fails at the deadline."""

    deadline = pytestconfig.stash[SETTINGS].deadline

    def poll(predicate: Callable[[], object]) -> None:
        end = time.monotonic() + deadline
        while not (seen := predicate()):
            if time.monotonic() >= end:
                pytest.fail(f"still not so after {deadline:.1f} s: {seen!r}")
            time.sleep(0.0005)

    return poll


@pytest.fixture
def hal_cause(hal_device: ObservedDevice) -> Callable[..., HalError]:
    """Make an error to fail semaphores with; its code is one that the HAL can carry."""

    def cause(message: str = "injected by the case", code: StatusCode = StatusCode.DATA_LOSS) -> HalError:
        hal_device.need(Capability.HOST_FAIL)
        return HalError(code if hal_device.has(Capability.FAIL_CODE) else StatusCode.UNKNOWN, message)

    return cause


@pytest.fixture
def hal_variation(request: pytest.FixtureRequest, hal_device: ObservedDevice) -> Callable[[str], Variation]:
    """Ask what the backend's profile answers: ``hal_variation("overtaken-signal").check("no-op")``."""
    state = CaseState.of(request.node)
    return lambda point: Variation(point, hal_device.rules, state)


@pytest.fixture
def hal_quality(request: pytest.FixtureRequest, hal_backend: Resolved) -> Quality:
    """Judge a quality clause: ``hal_quality("W-10q", used < 0.2, f"{used:.0%} of a core")``."""
    strict = request.config.stash[SETTINGS].strict_quality or hal_backend.backend.own
    return Quality(CaseState.of(request.node), strict=strict)


def finish_device(device: ObservedDevice, before: Statistics | None, *, passed: bool) -> None:
    """Close a device after its case, and after a passed one check that it left nothing behind."""
    if device.closed:
        return
    if not passed:
        _end_unfinished_work(device)
        if _unfinished(device) and device.rules.usual("close-with-pending") is None:
            _ABANDONED.append(device.inner)
            return
    try:
        if passed:
            if before is not None:
                _check_nothing_left(device, before)
            else:
                _check_nothing_pending(device)
    finally:
        _close(device)


def _unfinished(device: ObservedDevice) -> list[str]:
    """Return lines about submissions with a signal semaphore that is neither reached nor failed."""
    log = device.log
    return [log.describe(r) for r in log.records if any(log.is_reached(point) is False for point in r.signals)]


def _end_unfinished_work(device: ObservedDevice) -> None:
    """Fail whatever somebody still waits for, so that the device can be closed."""
    for latch in list(device.latches):
        latch.open()
    if not device.has(Capability.HOST_FAIL):
        return
    for semaphore in device.log.live_semaphores():
        # Whatever state the HAL is in by now, the next case must get its turn.
        with contextlib.suppress(Exception):
            semaphore.inner.fail(HalError(StatusCode.CANCELLED, "the case is over"))


def _check_nothing_pending(device: ObservedDevice) -> None:
    end = time.monotonic() + device.deadline
    while unfinished := _unfinished(device):
        if time.monotonic() >= end:
            pytest.fail("the case left work pending:\n" + "\n".join(unfinished[:8]), pytrace=False)
        time.sleep(0.001)


def _check_nothing_left(device: ObservedDevice, before: Statistics) -> None:
    """Compare what is alive with what was alive before the case (L-1)."""
    end = time.monotonic() + device.deadline
    looks = 0
    while True:
        looks += 1
        if looks != 2:  # collecting costs much more than looking; most cases need one of each
            gc.collect()
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
        _ABANDONED.append(device.inner)
        pytest.fail(f"L-2: device.close() did not return within {device.deadline:.1f} s", pytrace=False)
    if errors:
        raise errors[0]
