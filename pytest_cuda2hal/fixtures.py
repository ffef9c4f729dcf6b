"""The fixtures, as a plugin object made for one run: `hal_backend` is parametrized over the backends asked for.

Parametrization belongs to the fixture's definition, so a suite that defines a `hal_backend` of its own gets its own.
Public names begin with `hal_`; the short ones exist in the suite's own conftest only.

Every pytest run of an environment registers these, so the module imports pytest only, and each fixture what it needs.
"""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from .settings import SETTINGS, Effort

if TYPE_CHECKING:
    from .case import Quality, Variation
    from .hal import HalError
    from .observation import ObservedDevice, Tasks
    from .observation.device import ObservedLatch
    from .observation.makers import Buffers as Buffers
    from .observation.makers import Semaphores as Semaphores
    from .observation.settle import Settle
    from .registry import Resolved


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


@pytest.fixture
def hal_open_device(request: pytest.FixtureRequest, hal_backend: Resolved) -> Iterator[Callable[[], ObservedDevice]]:
    """A function that opens one more device; whatever it opened is closed when the case ends."""
    from .case import CaseState
    from .lifetime import finish_device, open_observed

    opened: list[ObservedDevice] = []

    def open_device() -> ObservedDevice:
        opened.append(open_observed(request, hal_backend))
        return opened[-1]

    yield open_device
    passed = CaseState.of(request.node).passed
    with contextlib.ExitStack() as each:  # finishes every one, whatever the others raise
        for device in opened:
            each.callback(finish_device, device, None, passed=passed)


@pytest.fixture
def hal_device(request: pytest.FixtureRequest, hal_backend: Resolved) -> Iterator[ObservedDevice]:
    """A device of the backend, opened for this case alone and closed after it.

    A case that passed must have left nothing pending; where the HAL counts what is alive, nothing may be left.
    """
    from .case import CaseState
    from .hal import Capability
    from .lifetime import finish_device, open_observed

    device = open_observed(request, hal_backend)
    before = device.inner.statistics() if device.has(Capability.STATISTICS) else None
    yield device
    finish_device(device, before, passed=CaseState.of(request.node).passed)


@pytest.fixture
def hal_semaphores(hal_device: ObservedDevice) -> Semaphores:
    """Make semaphores: ``hal_semaphores(3)``, ``hal_semaphores.at(5)``."""
    from .observation.makers import Semaphores

    return Semaphores(hal_device)


@pytest.fixture
def hal_buffers(hal_device: ObservedDevice) -> Buffers:
    """Make buffers whose bytes the host has set: ``hal_buffers.filled(0, count=2)``."""
    from .observation.makers import Buffers

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
    from .observation.settle import Settle

    return Settle(hal_device, pytestconfig.stash[SETTINGS].settle_seconds)


@pytest.fixture
def hal_threads(request: pytest.FixtureRequest, hal_device: ObservedDevice) -> Iterator[Tasks]:
    """Start threads; at the end of the case all must have ended, and none may have failed unnoticed."""
    from .case import CaseState
    from .lifetime import end_unfinished_work
    from .observation import Tasks

    tasks = Tasks(hal_device.deadline)
    yield tasks
    try:
        if CaseState.of(request.node).passed:
            tasks.finish()
    finally:
        if tasks.running():  # let them go, so that they are not in the next case's way
            end_unfinished_work(hal_device)


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

    from .hal import Capability, HalError, StatusCode

    def cause(message: str = "injected by the case", code: StatusCode = StatusCode.DATA_LOSS) -> HalError:
        hal_device.need(Capability.HOST_FAIL)
        return HalError(code if hal_device.has(Capability.FAIL_CODE) else StatusCode.UNKNOWN, message)

    return cause


@pytest.fixture
def hal_variation(request: pytest.FixtureRequest, hal_device: ObservedDevice) -> Callable[[str], Variation]:
    """Ask what the backend's profile answers: ``hal_variation("overtaken-signal").check("no-op")``."""
    from .case import CaseState, Variation

    state = CaseState.of(request.node)
    return lambda point: Variation(point, hal_device.rules, state)


@pytest.fixture
def hal_quality(request: pytest.FixtureRequest, hal_backend: Resolved) -> Quality:
    """Judge a quality clause: ``hal_quality("W-10q", used < 0.2, f"{used:.0%} of a core")``."""
    from .case import CaseState, Quality

    strict = request.config.stash[SETTINGS].strict_quality or hal_backend.backend.own
    return Quality(CaseState.of(request.node), strict=strict)
