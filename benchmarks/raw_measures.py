"""The same work as plain calls of ``cuda.bindings.driver``: what no implementation in Python can be faster than."""

from __future__ import annotations

import ctypes
import time
from typing import Any

from measuring import idle, median_of, percentiles, seconds

FILL_BYTES = 4096
#: Submissions after which the loop waits for the device, as one must before it blocks (at about 1,020 launches).
BATCH = 256


def call(result: tuple[Any, ...]) -> Any:
    """Return what a driver call gives; any error ends the measurement."""
    error, *values = result
    if error:
        raise RuntimeError(str(error))
    return values[0] if values else None


def measure(scale: float) -> dict[str, Any]:
    """Return the figures; the names are those of the backends'."""
    from cuda.bindings import driver

    call(driver.cuInit(0))
    device = call(driver.cuDeviceGet(0))
    context = call(driver.cuDevicePrimaryCtxRetain(device))
    call(driver.cuCtxSetCurrent(context))
    subject = Raw(driver, scale)
    version = int(call(driver.cuDriverGetVersion()))
    name = call(driver.cuDeviceGetName(256, device)).decode().partition("\0")[0]
    result: dict[str, Any] = {
        "device": name,
        "versions": {"driver": f"{version // 1000}.{version % 1000 // 10}"},
    }
    for kind in ("empty", "4 KiB fill"):
        result[f"chain {kind}"] = subject.chain(kind)
        result[f"submit and wait, {kind}"] = subject.submit_and_wait(kind, rested=False)
        result[f"submit and wait after 2 ms of rest, {kind}"] = subject.submit_and_wait(kind, rested=True)
        result[f"host signal, device, host wait, {kind}"] = subject.through_the_device(kind)
    return result


class Raw:
    """A stream, an event per submission, and the calls between them."""

    def __init__(self, driver: Any, scale: float) -> None:
        self._driver = driver
        self._scale = scale
        self._stream = call(driver.cuStreamCreate(1))
        self._events = [call(driver.cuEventCreate(3)) for _ in range(BATCH)]  # no timing, blocking
        self._target = int(call(driver.cuMemAlloc(FILL_BYTES)))
        self._word_address = int(call(driver.cuMemHostAlloc(4, 0)))
        self._word = ctypes.c_uint32.from_address(self._word_address)

    def _count(self, full: int) -> int:
        return max(10, int(full * self._scale))

    def _work(self, kind: str) -> None:
        if kind != "empty":
            call(self._driver.cuMemsetD8Async(self._target, 7, FILL_BYTES, self._stream))

    def chain(self, kind: str) -> dict[str, float]:
        """A stream wait, the work and a record for each link."""
        count = self._count(20_000)
        driver, stream, events = self._driver, self._stream, self._events

        def run() -> None:
            for number in range(count):
                if number:
                    call(driver.cuStreamWaitEvent(stream, events[(number - 1) % BATCH], 0))
                self._work(kind)
                call(driver.cuEventRecord(events[number % BATCH], stream))
                if number % BATCH == BATCH - 1:
                    call(driver.cuEventSynchronize(events[BATCH // 2]))
            call(driver.cuStreamSynchronize(stream))

        run()
        return {"per_second": count / median_of(5, lambda: seconds(run)), "links": count, "repetitions": 5}

    def _spin(self, event: Any) -> None:
        while self._driver.cuEventQuery(event)[0]:
            pass

    def submit_and_wait(self, kind: str, *, rested: bool) -> dict[str, float]:
        """The work, a record, and queries until it is done."""
        count = self._count(300 if rested else 3000)
        samples = []
        for _ in range(count):
            if rested:
                idle()
            begin = time.perf_counter()
            self._work(kind)
            call(self._driver.cuEventRecord(self._events[0], self._stream))
            self._spin(self._events[0])
            samples.append(time.perf_counter() - begin)
        figures: dict[str, float] = percentiles(samples[count // 10 :])
        return figures

    def through_the_device(self, kind: str) -> dict[str, float]:
        """A stream that waits for a word in pinned memory, written by the host."""
        count = self._count(3000)
        samples = []
        for number in range(1, count + 1):
            call(self._driver.cuStreamWaitValue32(self._stream, self._word_address, number, 0))
            self._work(kind)
            call(self._driver.cuEventRecord(self._events[0], self._stream))
            begin = time.perf_counter()
            self._word.value = number
            self._spin(self._events[0])
            samples.append(time.perf_counter() - begin)
        figures: dict[str, float] = percentiles(samples[count // 10 :])
        return figures
