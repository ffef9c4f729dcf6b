"""Fixtures for the fidelity suite: one driver, simulated or real, and words to write a case in.

A case on the real driver holds streams and blocks threads, so nothing here waits without a deadline, and every hold is
opened before anything is cleaned up.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_cuda2hal.backends.cuda.simulator import SimulatedDriver

#: Seconds that something may take which should happen.
SOON = 5.0
#: Seconds for which something is watched that should not happen.
WHILE = 0.05
NON_BLOCKING = 1
DISABLE_TIMING = 2

HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Task:
    """A call on a thread of its own; ``result(timeout)`` is what it returned, or raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it returned."""
        return not self._thread.is_alive()

    def stays_blocked(self) -> bool:
        """Watch it for a while; tell whether it has not returned."""
        self._thread.join(WHILE)
        return not self.done

    def result(self, timeout: float = SOON) -> Any:
        """Wait for it."""
        self._thread.join(timeout)
        assert self.done, f"still blocked after {timeout} s"
        if self._error is not None:
            raise self._error
        return self._result


class Hold:
    """A word of pinned memory that streams wait for until it is opened, with a plain write."""

    def __init__(self, cuda: Cuda, address: int) -> None:
        self._cuda = cuda
        self.address = address
        self.word = ctypes.c_uint32.from_address(address)
        self.word.value = 0
        self.pointer = int(cuda.cuMemHostGetDevicePointer(address, 0))

    def on(self, stream: Any) -> Hold:
        """Hold a stream from here on."""
        flags = self._cuda.driver.CUstreamWaitValue_flags.CU_STREAM_WAIT_VALUE_GEQ
        self._cuda.cuStreamWaitValue32(stream, self.pointer, 1, flags)
        return self

    def open(self) -> None:
        """Let every stream go on."""
        self.word.value = 1


class Cuda:
    """A driver with a current context. ``cuda.cuX(...)`` asserts success and returns the values alone."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._cleanups: list[Callable[[], Any]] = []
        self._holds: list[Hold] = []
        self._functions: list[Any] = []
        #: Whether the case was stuck until its holds were opened for it.
        self.late = False
        self._watchdog = threading.Timer(2 * SOON, self._open_late)
        self._watchdog.daemon = True
        self._watchdog.start()
        self.check(driver.cuInit(0))
        self.device = self.check(driver.cuDeviceGet(0))
        self.context = self.check(driver.cuDevicePrimaryCtxRetain(self.device))
        self.check(driver.cuCtxSetCurrent(self.context))

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.driver, name)
        return (lambda *args: self.check(function(*args))) if name.startswith("cu") else function

    @staticmethod
    def check(result: tuple[Any, ...]) -> Any:
        """Assert success."""
        status, *values = result
        assert status.name == "CUDA_SUCCESS"
        return values[0] if len(values) == 1 else tuple(values)

    def later(self, name: str, *args: Any) -> None:
        """Clean up with this call, last in first out."""
        self._cleanups.append(lambda: getattr(self, name)(*args))

    def keep(self) -> None:
        """Do not clean up what was made last: the case does."""
        self._cleanups.pop()

    # --- things that are cleaned up

    def stream(self) -> Any:
        """Create a stream."""
        stream = self.cuStreamCreate(NON_BLOCKING)
        self.later("cuStreamDestroy", stream)
        return stream

    def event(self, flags: int = DISABLE_TIMING) -> Any:
        """Create an event."""
        event = self.cuEventCreate(flags)
        self.later("cuEventDestroy", event)
        return event

    def recorded(self, stream: Any) -> Any:
        """Create an event and record it."""
        event = self.event()
        self.cuEventRecord(event, stream)
        return event

    def pinned(self, size: int = 4096) -> int:
        """Allocate pinned memory, all zeros."""
        address = int(self.cuMemHostAlloc(size, 0))
        self.later("cuMemFreeHost", address)
        ctypes.memset(address, 0, size)
        return address

    def memory(self, size: int = 4096) -> int:
        """Allocate device memory, all zeros."""
        address = int(self.cuMemAlloc(size))
        self.later("cuMemFree", address)
        stream = self.stream()
        self.cuMemsetD8Async(address, 0, size, stream)
        self.synchronize(stream)
        return address

    def pool(self, *, plain: bool = False) -> Any:
        """Create a pool that keeps nothing; unless it is to be ``plain``, it inserts no dependencies of its own."""
        driver = self.driver
        props, location = driver.CUmemPoolProps(), driver.CUmemLocation()
        location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        location.id = 0
        props.location = location
        props.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        props.handleTypes = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_NONE
        pool = self.cuMemPoolCreate(props)
        self.later("cuMemPoolDestroy", pool)
        attribute = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES
        if not plain:
            self.cuMemPoolSetAttribute(pool, attribute, 0)
        return pool

    def hold(self, *streams: Any) -> Hold:
        """Hold streams until it is opened."""
        hold = Hold(self, self.pinned())
        self._holds.append(hold)
        for stream in streams:
            hold.on(stream)
        return hold

    def host_function(self, function: Callable[[int | None], None]) -> Any:
        """Make a host function of a Python one."""
        callback = HOST_FUNCTION(function)
        self._functions.append(callback)
        return self.driver.CUhostFn(ctypes.cast(callback, ctypes.c_void_p).value)

    def graph(self, stream: Any, capture: Callable[[], Any]) -> Any:
        """Capture what a function enqueues on the stream, and instantiate it."""
        self.cuStreamBeginCapture(stream, self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
        capture()
        graph = self.cuStreamEndCapture(stream)
        executable = self.cuGraphInstantiate(graph, 0)
        self.cuGraphDestroy(graph)
        self.later("cuGraphExecDestroy", executable)
        return executable

    # --- what happens

    def error(self, result: tuple[Any, ...]) -> str:
        """Return a failed call's error without its prefix."""
        name: str = result[0].name
        return name.removeprefix("CUDA_ERROR_")

    def task(self, call: Callable[[], Any]) -> Task:
        """Make a call on another thread, with the context current there."""

        def with_context() -> Any:
            self.cuCtxSetCurrent(self.context)
            return call()

        return Task(with_context)

    def synchronize(self, stream: Any) -> None:
        """Wait for a stream, with a deadline."""
        self.task(lambda: self.cuStreamSynchronize(stream)).result()

    def is_done(self, event: Any) -> bool:
        """Query an event."""
        name = self.driver.cuEventQuery(event)[0].name
        assert name in ("CUDA_SUCCESS", "CUDA_ERROR_NOT_READY")
        return bool(name == "CUDA_SUCCESS")

    def gets_done(self, event: Any) -> bool:
        """Query an event until it is done, for a while."""
        deadline = time.monotonic() + SOON
        while not (done := self.is_done(event)) and time.monotonic() < deadline:
            time.sleep(0.0005)
        return done

    def stays_pending(self, event: Any) -> bool:
        """Watch an event for a while; tell whether it was never done."""
        deadline = time.monotonic() + WHILE
        while not (done := self.is_done(event)) and time.monotonic() < deadline:
            time.sleep(0.001)
        return not done

    def fill(self, address: int, value: int, stream: Any, size: int = 64) -> None:
        """Fill with a byte."""
        self.cuMemsetD8Async(address, value, size, stream)

    def read(self, address: int, size: int = 64) -> bytes:
        """Return device memory as it is now, on a stream of its own."""
        pinned, stream = self.pinned(max(size, 64)), self.stream()
        self.cuMemcpyDtoHAsync(pinned, address, size, stream)
        self.synchronize(stream)
        return ctypes.string_at(pinned, size)

    def _open_late(self) -> None:
        """Let go of whatever blocks the case's own thread, which nothing else can."""
        self.late = True
        self.open_holds()

    def open_holds(self) -> None:
        """Open every hold."""
        for hold in self._holds:
            hold.open()

    def forget(self) -> None:
        """Leave everything as it is."""
        self._watchdog.cancel()
        self.open_holds()

    def close(self) -> None:
        """Open every hold and clean up."""
        self.forget()

        def clean_up() -> None:
            self.cuCtxSynchronize()
            while self._cleanups:
                self._cleanups.pop()()
            self.cuDevicePrimaryCtxRelease(self.device)

        self.task(clean_up).result(2 * SOON)
        self.driver.cuCtxSetCurrent(None)
        assert not self.late, f"blocked for {2 * SOON} s: the holds had to be opened from outside"


@pytest.fixture(scope="session")
def real_driver() -> Iterator[Any]:
    """The module ``cuda.bindings.driver``, with a reference on the context: making one for each case is slow."""
    try:
        driver = importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        pytest.skip(f"no real driver: {error}")
    try:
        (status,) = driver.cuInit(0)
        count = driver.cuDeviceGetCount()[1] if status.name == "CUDA_SUCCESS" else 0
    except RuntimeError as error:  # the bindings without a libcuda
        pytest.skip(f"no real driver: {error}")
    if not count:
        pytest.skip(f"no real device: {status.name}")
    device = Cuda.check(driver.cuDeviceGet(0))
    Cuda.check(driver.cuDevicePrimaryCtxRetain(device))
    yield driver
    Cuda.check(driver.cuDevicePrimaryCtxRelease(device))


@pytest.fixture(params=["model", "real"])
def driver(request: pytest.FixtureRequest) -> Any:
    """The simulated driver, and the real one where there is one."""
    return SimulatedDriver() if request.param == "model" else request.getfixturevalue("real_driver")


@pytest.fixture
def cuda(driver: Any) -> Iterator[Cuda]:
    """A driver with a current context and words for a case."""
    cuda = Cuda(driver)
    yield cuda
    cuda.close()


@pytest.fixture
def simulate() -> Iterator[Callable[..., Cuda]]:
    """Open a simulated driver with options, for what only the model can do. What is left open in it is left."""
    opened: list[Cuda] = []

    def open_driver(**options: Any) -> Cuda:
        opened.append(Cuda(SimulatedDriver(**options)))
        return opened[-1]

    yield open_driver
    for cuda in opened:
        cuda.forget()
        for context in list(cuda.driver.contexts.values()):
            while context.references:
                cuda.driver.cuDevicePrimaryCtxRelease(context.device)
