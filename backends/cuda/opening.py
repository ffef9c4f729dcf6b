"""Finding the driver, and opening a device on it."""

from __future__ import annotations

import importlib.metadata
import os
import threading

from pytest_cuda2hal.hal import BackendUnavailable

from .device import CudaDevice
from .driver import Driver
from .parameters import CONNECTIONS, SIDE_STREAMS, Parameters

_REMEDY = 'Install the NVIDIA driver, and the bindings with: pip install "pytest-cuda2hal[cuda]"'

#: The driver reads it when a context is made: how many streams work side by side. Its default is 8; of more streams
#: with work, two share a connection, and a held one then holds the other (seen on an H100, driver 580).
CONNECTIONS_VARIABLE = "CUDA_DEVICE_MAX_CONNECTIONS"

_kept: set[int] = set()
_kept_lock = threading.Lock()


def load_driver(parameters: Parameters) -> tuple[Driver, dict[str, str]]:
    """Return ``cuda.bindings.driver`` and the version of the bindings.

    Sets ``CUDA_DEVICE_MAX_CONNECTIONS`` to the most, unless it is set. A context that the process made before has what
    it was made with.

    :raises BackendUnavailable: bindings or driver library are not installed, or too few connections are allowed.
    """
    allowed = os.environ.setdefault(CONNECTIONS_VARIABLE, str(CONNECTIONS))
    needed = parameters.queues * parameters.streams + SIDE_STREAMS
    if allowed.isdecimal() and int(allowed) < needed:
        raise BackendUnavailable(
            f"{CONNECTIONS_VARIABLE} is {allowed}: too few for {parameters.queues} queues of {parameters.streams} "
            "streams, of which a held one would hold another",
            f"Unset it, or set it to {needed} or more (at most {CONNECTIONS})",
        )
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise BackendUnavailable(f"the CUDA bindings cannot be imported ({error})", _REMEDY) from None
    try:
        driver.cuInit(0)
    except (RuntimeError, OSError, AttributeError) as error:  # the bindings load libcuda at the first call
        raise BackendUnavailable(f"the CUDA driver library cannot be loaded ({_first_line(error)})", _REMEDY) from None
    return driver, {"cuda-bindings": importlib.metadata.version("cuda-bindings")}


def open_on(driver: Driver, *, ordinal: int, parameters: Parameters, versions: dict[str, str]) -> CudaDevice:
    """Open device ``ordinal`` of a driver."""
    return CudaDevice(driver, ordinal=ordinal, parameters=parameters, versions=versions)


def keep_primary_context(driver: Driver, ordinal: int) -> None:
    """Hold the primary context of a device until the process ends.

    Making and releasing it anew takes 0.16 s on an H100; a program that opens many devices in turn pays it each time.
    """
    with _kept_lock:
        if ordinal in _kept:
            return
        error, device = driver.cuDeviceGet(ordinal)
        if not error and not driver.cuDevicePrimaryCtxRetain(device)[0]:
            _kept.add(ordinal)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
