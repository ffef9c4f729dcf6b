"""Opening a driver of IREE, and saying what is missing when that does not work."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from pytest_cuda2hal.hal import BackendUnavailable, DeviceInfo

from .device import IreeDevice
from .route import Route
from .status import STATUS_ERRORS, status_of

_REMEDIES = {
    "vulkan": "Install a Vulkan driver; on Debian, 'apt-get install libvulkan1 mesa-vulkan-drivers' has one for CPUs",
    "cuda": "Install the NVIDIA driver (libcuda.so), or use iree:local-task, which needs no GPU",
    "hip": "Install ROCm's HIP runtime (libamdhip64.so), or use iree:local-task, which needs no GPU",
}


def open_driver(variant: str, queues: int) -> IreeDevice:
    """Open the default device of a driver.

    :raises BackendUnavailable: the package, a library or a device is missing.
    """
    runtime = _runtime()
    if variant not in runtime.HalDriver.query():
        raise BackendUnavailable(f"this build of iree-base-runtime has no driver '{variant}'", "Install another build")
    if queues > 1:
        # local-task makes one queue ("executor") for each NUMA node in this list, and a node may stand in it several
        # times. The flag is the process's own and is read when the driver is first made.
        runtime.flags.parse_flags("--task_topology_nodes=" + ",".join(["0"] * queues))
    try:
        driver = runtime.get_driver(variant)
        route = Route(runtime, driver.create_default_device())
    except STATUS_ERRORS as error:
        status = status_of(str(error))
        said = str(error) if status is None else str(status)
        reason = f"IREE's driver '{variant}' does not open: {_first_line(said)}"
        raise BackendUnavailable(reason, _REMEDIES.get(variant, "")) from error
    if queues > 1 and (total := route.queue_total()) != queues:
        raise BackendUnavailable(
            f"IREE's driver '{variant}' has {total} queue(s) in this process, not {queues}",
            "The number is fixed when a process first opens the driver: open it in a process of its own",
        )
    return IreeDevice(variant, route, _info(variant, driver), queues)


def _runtime() -> Any:
    try:
        import iree.runtime as runtime
    except ModuleNotFoundError as error:
        if error.name not in ("iree", "iree.runtime"):
            raise BackendUnavailable(f"iree.runtime cannot be imported: {_first_line(str(error))}") from error
        raise BackendUnavailable(
            "the package iree-base-runtime is not installed", "pip install 'pytest-cuda2hal[iree]'"
        ) from error
    except ImportError as error:
        raise BackendUnavailable(f"iree.runtime cannot be imported: {_first_line(str(error))}") from error
    return runtime


def _info(variant: str, driver: Any) -> DeviceInfo:
    versions = {"iree-base-runtime": importlib.metadata.version("iree-base-runtime")}
    name = variant
    # What the drivers say about their devices differs and may change: of the lines "key: value" take what is there.
    devices = driver.query_available_devices()
    for device in devices[:1]:
        name = str(device.get("name") or variant)
        try:
            lines = str(driver.dump_device_info(device["device_id"])).splitlines()
        except STATUS_ERRORS:
            continue
        said = dict(line.split(": ", 1) for line in lines if line[:1].isalpha() and ": " in line)
        if variant == "vulkan":
            versions["vulkan"] = said.get("api", "unknown")
            versions[said.get("driver", "driver")] = said.get("driver_info", "unknown")
    title = f"IREE {variant}" if name in (variant, "default") else f"IREE {variant}: {name}"
    return DeviceInfo(title, versions, count=max(1, len(devices)))


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip().rstrip(":")
