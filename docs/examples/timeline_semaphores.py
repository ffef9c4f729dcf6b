"""Timeline semaphores on a CUDA device, as a library.

Run it with --simulate where there is no GPU. Every wait has a timeout, so that a mistake ends
with DEADLINE_EXCEEDED and not in silence.
"""

from __future__ import annotations

import sys

from pytest_cuda2hal.backends.cuda import open_cuda, open_simulated
from pytest_cuda2hal.hal import (
    BackendUnavailable,
    Buffer,
    Copy,
    Device,
    Fill,
    HalError,
    StatusCode,
    WaitMode,
)

SECONDS = 10.0
SIZE = 4096


def byte(buffer: Buffer) -> int:
    """Read the first byte, past the queues."""
    return buffer.read(0, 1)[0]


def one_queue_waits_for_another(device: Device) -> None:
    """Host -> queue 0 -> queue 1 -> host; the consumer is submitted before its producer."""
    go, filled, copied = (device.create_semaphore(0) for _ in range(3))
    source, target = device.allocate_buffer(SIZE), device.allocate_buffer(SIZE)
    target.write(bytes(SIZE))

    copy = Copy(source, target)
    device.queue_execute([copy], wait=[filled @ 1], signal=[copied @ 1], queue=1)
    device.queue_execute([Fill(source, 7)], wait=[go @ 1], signal=[filled @ 1], queue=0)
    print(f"submitted: filled {filled.query()}, copied {copied.query()}, byte {byte(target)}")

    go.signal(1)  # the gate: up to here nothing could run
    copied.wait(1, timeout=SECONDS)
    print(f"after go:  filled {filled.query()}, copied {copied.query()}, byte {byte(target)}")


def whichever_comes_first(device: Device) -> None:
    """One of two timepoints is enough."""
    gate, early, late = (device.create_semaphore(0) for _ in range(3))
    # Without commands a submission is a barrier: it only waits and signals.
    device.queue_execute([], wait=[gate @ 1], signal=[late @ 1], queue=0)
    device.queue_execute([], signal=[early @ 1], queue=1)
    device.wait_semaphores([late @ 1, early @ 1], mode=WaitMode.ANY, timeout=SECONDS)
    print(f"any:       early {early.query()}, late {late.query()}")
    gate.signal(1)
    device.wait_semaphores([late @ 1, early @ 1], mode=WaitMode.ALL, timeout=SECONDS)
    print(f"all:       early {early.query()}, late {late.query()}")


def a_failure_travels(device: Device) -> None:
    """A failed semaphore fails what depends on it, however far, and nothing else."""
    broken, first, second, other = (device.create_semaphore(0) for _ in range(4))
    device.queue_execute([], wait=[broken @ 1], signal=[first @ 1])
    device.queue_execute([], wait=[first @ 1], signal=[second @ 1], queue=1)
    device.queue_execute([], signal=[other @ 1], queue=1)

    broken.fail(HalError(StatusCode.DATA_LOSS, "the sensor was unplugged"))
    try:
        second.wait(1, timeout=SECONDS)
    except HalError as error:
        print(f"failed:    {error.code.name}: {error.message}")
    other.wait(1, timeout=SECONDS)
    print(f"untouched: other {other.query()}")


def memory_in_order(device: Device) -> None:
    """Allocate, use and free on a queue: one timeline says what comes when."""
    step = device.create_semaphore(0)
    result = device.allocate_buffer(SIZE)
    # Returns at once; the memory is there when the timeline is at 1.
    scratch = device.queue_alloca(SIZE, signal=[step @ 1])
    work = [Fill(scratch, 5), Copy(scratch, result)]
    device.queue_execute(work, wait=[step @ 1], signal=[step @ 2])
    device.queue_dealloca(scratch, wait=[step @ 2], signal=[step @ 3])
    step.wait(3, timeout=SECONDS)
    print(f"memory:    byte {byte(result)}, {device.statistics().memory_in_use} bytes in use")


def main(arguments: list[str]) -> int:
    try:
        device: Device = open_simulated() if "--simulate" in arguments else open_cuda()
    except BackendUnavailable as error:
        print(f"{error}. Or try: {sys.argv[0]} --simulate", file=sys.stderr)
        return 1
    try:
        one_queue_waits_for_another(device)
        whichever_comes_first(device)
        a_failure_travels(device)
        memory_in_order(device)
    finally:
        device.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
