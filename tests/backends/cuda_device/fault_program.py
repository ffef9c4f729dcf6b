"""A device is lost to a fault while work is pending and in flight: run with a kind of driver and of completion.

On a GPU a kernel writes to address 0; the simulated driver is told of the fault. Prints how each semaphore failed, and
after how many seconds, as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from pytest_cuda2hal.backends.cuda import open_cuda, open_simulated
from pytest_cuda2hal.hal import Fill, HalError, Hold

WILD_WRITE = b"""
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
\0"""


def value(result: tuple[Any, ...]) -> Any:
    """Return what a driver call gave."""
    error, *values = result
    if error:
        raise RuntimeError(str(error))
    return values[0] if values else None


def main(kind: str, completion: str) -> None:
    """Lose the device and say what became of everything."""
    device = (open_cuda if kind == "real" else open_simulated)(completion=completion)
    driver: Any = device.engine.driver
    if kind == "real":
        # Loaded before anything is held: that would block.
        module = value(driver.cuModuleLoadData(WILD_WRITE))
        kernel = value(driver.cuModuleGetFunction(module, b"wild"))
        stream = value(driver.cuStreamCreate(1))

    buffer = device.allocate_buffer(4096)
    latch = device.create_latch()
    gate, held, behind, across, pending, later = (device.create_semaphore(0) for _ in range(6))
    device.queue_execute([Hold(latch)], signal=[held @ 1])
    device.queue_execute([Fill(buffer, 1)], signal=[behind @ 1])
    device.queue_execute([Fill(buffer, 2)], wait=[held @ 1], signal=[across @ 1], queue=1)
    device.queue_execute([Fill(buffer, 3)], wait=[gate @ 1], signal=[pending @ 1])

    begin = time.monotonic()
    if kind == "real":
        value(driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, 0, 0))
    else:
        driver.inject_fault(driver.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)

    failures: dict[str, dict[str, object]] = {}

    def expect(name: str, semaphore: Any) -> None:
        try:
            semaphore.wait(1, 10.0)
        except HalError as error:
            failures[name] = {"code": error.code.name, "message": error.message, "after": time.monotonic() - begin}

    waits = {"held": held, "behind": behind, "across": across, "pending": pending}
    threads = [threading.Thread(target=expect, args=item, daemon=True) for item in waits.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(12)
    device.queue_execute([Fill(buffer, 4)], signal=[later @ 1])
    expect("later", later)
    closing = time.monotonic()
    device.close()
    closed = time.monotonic() - closing
    again = ""
    try:
        open_cuda().close() if kind == "real" else None
    except HalError as error:
        again = f"{error.code.name}: {error.message}"
    print(json.dumps({"failures": failures, "closed_after": closed, "opened_again": again}))


if __name__ == "__main__":
    main(*sys.argv[1:])
