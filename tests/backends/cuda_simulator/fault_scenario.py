"""A context is lost, in a process of its own: run with ``model`` or ``real``, prints what each call then returns.

A stream is held, a fault is enqueued on it, then an event, a host function and a thread that waits for the event. The
hold is opened, and the driver is asked for one thing after the other.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import threading
import time
from typing import Any

#: Writes to address 0.
PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry wild()
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    mov.u64 %rd1, 0;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
"""


def values(result: tuple[Any, ...]) -> Any:
    """Return a successful call's value."""
    status, *rest = result
    if status.name != "CUDA_SUCCESS":
        raise RuntimeError(status.name)
    return rest[0] if rest else None


def name(result: tuple[Any, ...]) -> str:
    """Return the name of a call's status."""
    text: str = result[0].name
    return text.removeprefix("CUDA_ERROR_")


def run(which: str) -> dict[str, Any]:
    """Lose a context and ask for everything."""
    if which == "real":
        os.environ["CUDA_MODULE_LOADING"] = "EAGER"  # loading behind a hold would block
        driver: Any = importlib.import_module("cuda.bindings.driver")
    else:
        driver = importlib.import_module("pytest_cuda2hal.backends.cuda.simulator").SimulatedDriver()
    values(driver.cuInit(0))
    device = values(driver.cuDeviceGet(0))
    context = values(driver.cuDevicePrimaryCtxRetain(device))
    values(driver.cuCtxSetCurrent(context))
    stream, other = (values(driver.cuStreamCreate(1)) for _ in range(2))
    event, later, spare = (values(driver.cuEventCreate(2)) for _ in range(3))
    memory = int(values(driver.cuMemAlloc(4096)))
    pinned = int(values(driver.cuMemHostAlloc(4096, 0)))
    word = ctypes.c_uint32.from_address(pinned)
    word.value = 0
    kernel = None
    if which == "real":
        kernel = values(driver.cuModuleGetFunction(values(driver.cuModuleLoadData(PTX)), b"wild"))

    pointer = int(values(driver.cuMemHostGetDevicePointer(pinned, 0)))
    values(driver.cuStreamWaitValue32(stream, pointer, 1, 0))
    if which == "real":
        values(driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, 0, 0))
    else:
        driver.inject_fault(driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS, stream)
    values(driver.cuEventRecord(event, stream))
    called: list[int] = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: called.append(1))
    function = driver.CUhostFn(ctypes.cast(callback, ctypes.c_void_p).value)
    values(driver.cuLaunchHostFunc(stream, function, 0))
    values(driver.cuEventRecord(later, stream))
    answers: dict[str, Any] = {}

    def synchronize() -> None:
        values(driver.cuCtxSetCurrent(context))
        answers["blocked cuEventSynchronize"] = name(driver.cuEventSynchronize(event))

    waiter = threading.Thread(target=synchronize, daemon=True)
    waiter.start()
    time.sleep(0.05)
    answers["blocked before"] = waiter.is_alive()
    word.value = 1
    waiter.join(10)

    calls = {
        "cuEventQuery": lambda: driver.cuEventQuery(event),
        "cuEventQuery, later": lambda: driver.cuEventQuery(later),
        "cuEventQuery, never recorded": lambda: driver.cuEventQuery(spare),
        "cuEventSynchronize": lambda: driver.cuEventSynchronize(later),
        "cuEventRecord": lambda: driver.cuEventRecord(spare, other),
        "cuEventCreate": lambda: driver.cuEventCreate(2),
        "cuStreamCreate": lambda: driver.cuStreamCreate(1),
        "cuStreamQuery": lambda: driver.cuStreamQuery(other),
        "cuStreamSynchronize": lambda: driver.cuStreamSynchronize(stream),
        "cuStreamWaitEvent": lambda: driver.cuStreamWaitEvent(other, event, 0),
        "cuLaunchHostFunc": lambda: driver.cuLaunchHostFunc(other, function, 0),
        "cuCtxSynchronize": driver.cuCtxSynchronize,
        "cuMemAlloc": lambda: driver.cuMemAlloc(64),
        "cuMemHostAlloc": lambda: driver.cuMemHostAlloc(64, 0),
        "cuMemsetD8Async": lambda: driver.cuMemsetD8Async(memory, 0, 1, other),
        "cuEventDestroy": lambda: driver.cuEventDestroy(event),
        "cuStreamDestroy": lambda: driver.cuStreamDestroy(stream),
        "cuMemFree": lambda: driver.cuMemFree(memory),
        "cuMemFreeHost": lambda: driver.cuMemFreeHost(pinned),
    }
    answers["sticky"] = {key: name(call()) for key, call in calls.items()}
    answers["cuCtxSetCurrent"] = name(driver.cuCtxSetCurrent(context))
    answers["cuDeviceGetCount"] = name(driver.cuDeviceGetCount())
    answers["cuDevicePrimaryCtxRelease"] = name(driver.cuDevicePrimaryCtxRelease(device))
    time.sleep(0.05)
    answers["host function called"] = bool(called)
    # Nobody relies on this; the answer is kept for whoever reads a failure's output.
    answers["retained again"] = name(driver.cuDevicePrimaryCtxRetain(device))
    return answers


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # a lost context has nothing to tidy up, and might hang in it
