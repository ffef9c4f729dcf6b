"""A CUDA device on a simulated driver of whose calls the n-th one fails: what the fault loop opens.

The calls of all devices that share a :class:`Plan` are counted together, from the moment when each has been opened.
``tools/fault_loop.py`` makes a plan for every run of a case; a run by hand gives the options of :func:`open_failing`.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

from pytest_cuda2hal.hal import Backend, BadOption

from ..cuda.device import CudaDevice
from ..cuda.driver import STICKY
from ..cuda.parameters import EVENT, Parameters
from ..cuda.simulator import CUresult, SimulatedDriver
from ..cuda.simulator.checker import Checker

#: Bytes of device memory, as of ``cuda-sim``.
MEMORY = 64 * 2**20
#: Which errors can be ordered, by name.
ERRORS = {error.name: error for error in CUresult if error.value}


@dataclass(slots=True)
class Plan:
    """Which calls fail, and what came of it. Changed under the lock of a driver."""

    #: The first call that fails; 0 for none, which only counts.
    n: int = 0
    error: CUresult = CUresult.CUDA_ERROR_UNKNOWN
    #: How many calls fail in a row; 0 for all from there on.
    times: int = 1
    #: Count and fail calls that are made while a device is opened, too.
    opening: bool = False
    #: Calls are neither counted nor failed: somebody looks at what there is.
    paused: bool = False
    seen: int = 0
    #: The names of the calls that failed, the first few.
    failed: list[str] = field(default_factory=list)
    drivers: list[SimulatedDriver] = field(default_factory=list)
    devices: list[weakref.ref[CudaDevice]] = field(default_factory=list)

    @property
    def is_sticky(self) -> bool:
        """Whether the device is lost with the error."""
        return self.error.value in STICKY

    def next_call_fails(self, name: str) -> bool:
        """Count a call; tell whether it is to fail."""
        if self.paused:
            return False
        self.seen += 1
        if not self.n or self.seen < self.n or (self.times and self.seen >= self.n + self.times):
            return False
        if len(self.failed) < 4:
            self.failed.append(name)
        return True


class PlannedChecker(Checker):
    """Fails calls by their number, whatever function they are of."""

    def __init__(self, driver: SimulatedDriver, plan: Plan) -> None:
        super().__init__(enabled=True, record_calls=False)
        self._driver = driver
        self._plan = plan
        self.is_armed = plan.opening
        self.failures = {"": []}  # not empty: else nobody asks

    def planned_failure(self, name: str) -> CUresult | None:
        if not self.is_armed or not self._plan.next_call_fails(name):
            return None
        if self._plan.is_sticky:
            for context in self._driver.contexts.values():
                self._driver.engine.lose(context, self._plan.error)
        return self._plan.error


class Loop:
    """What the fault loop leaves for the devices that its cases open."""

    plan: Plan | None = None


def open_with(plan: Plan, device_class: type[CudaDevice] = CudaDevice, *, completion: str = EVENT) -> CudaDevice:
    """Open a device whose calls fail as planned.

    :raises HalError: a call of opening failed as planned.
    :raises BackendUnavailable: the same.
    """
    driver = SimulatedDriver(memory=MEMORY)
    plan.drivers.append(driver)
    driver.checker = checker = PlannedChecker(driver, plan)
    parameters = Parameters(memory=MEMORY, completion=completion, check_locks=True).check("faulty-calls")
    device = device_class(driver, ordinal=0, parameters=parameters, versions={})
    plan.devices.append(weakref.ref(device))
    checker.is_armed = True
    return device


def open_failing(
    *, n: int = 0, error: str = "CUDA_ERROR_UNKNOWN", times: int = 1, opening: bool = False, completion: str = EVENT
) -> CudaDevice:
    """Open a simulated CUDA device of whose driver calls the ``n``-th one fails.

    :param n: the call that fails, counted from when the device is open; 0 for none.
    :param error: the name of the CUresult that it returns. With a sticky one the device is lost.
    :param times: how many calls fail from there on; 0 for all.
    :param opening: count the calls of opening, too.
    :raises BadOption: there is no such error.
    """
    if error not in ERRORS:
        raise BadOption(f"backend 'faulty-calls': option 'error' is one of {', '.join(ERRORS)}, not '{error}'")
    plan = Loop.plan if Loop.plan is not None and not n else Plan(n, ERRORS[error], times, opening)
    return open_with(plan, completion=completion)


BACKEND = Backend(
    name="faulty-calls",
    summary="cuda-sim, of whose driver calls the n-th one fails",
    open=open_failing,
)
