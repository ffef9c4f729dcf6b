"""Fixtures for the CUDA backend's own tests: devices on a simulated driver, and words to write a case in.

Every wait has a deadline, every latch is opened before anything is closed, and every device that is closed must leave
a driver with nothing in it and a checker with nothing to blame.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_cuda2hal.backends.cuda.opening import open_on
from pytest_cuda2hal.backends.cuda.parameters import Parameters
from pytest_cuda2hal.backends.cuda.simulator import CUresult, SimulatedDriver
from pytest_cuda2hal.hal import CommandBuffer, HalError, Hold, Statistics

#: Seconds that something may take which should happen.
SOON = 5.0
#: Seconds for which something is watched that should not happen.
WHILE = 0.03
DRIVER_OPTIONS = ("seed", "memory", "devices", "manual", "launch_limit", "version", "record_calls")


def until(condition: Callable[[], object], seconds: float = SOON) -> None:
    """Poll until the condition holds; fail at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.0005)


class Task:
    """A call on a thread of its own; ``result()`` is what it returned, or raises what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it returned."""
        return not self.thread.is_alive()

    def result(self, timeout: float = SOON) -> Any:
        """Wait for it."""
        self.thread.join(timeout)
        assert self.done, f"still blocked after {timeout} s"
        if self._error is not None:
            raise self._error
        return self._result


class Watched:
    """A driver whose calls are seen before they are made: ``watch(name, arguments)``."""

    def __init__(self, driver: SimulatedDriver) -> None:
        self._driver = driver
        self.watch: Callable[[str, tuple[Any, ...]], object] | None = None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._driver, name)
        if not (name.startswith("cu") and name[2].isupper()):
            return value

        def called(*arguments: Any) -> Any:
            if self.watch is not None:
                self.watch(name, arguments)
            return value(*arguments)

        return called


class Rig:
    """A device on a simulated driver."""

    def __init__(self, driver: SimulatedDriver, *, watched: bool = False, **options: Any) -> None:
        self.driver = driver
        self.watched = Watched(driver)
        self.device: Any = open_on(
            self.watched if watched else driver,
            ordinal=0,
            parameters=Parameters(**{"check_locks": True, **options}).check("cuda-sim"),
            versions={},
        )
        self.engine = self.device.engine
        self.context = self.engine.context
        self._latches: list[weakref.ref[Any]] = []
        self._pumped, self._pumping = True, threading.Lock()
        if driver.engine.manual:  # what is copied and allocated past the queues happens by itself
            self._pump = Task(self._pump_side_stream)

    def _pump_side_stream(self) -> None:
        while self._pumped:
            with self._pumping:
                self.driver.step(self.context.side_stream)
            time.sleep(0.0002)

    def pause_side_stream(self) -> None:
        """Let nothing happen on the side stream for now; for a driver that is stepped by hand."""
        self._pumping.acquire()

    def resume_side_stream(self) -> None:
        """Let it go on."""
        self._pumping.release()

    # --- making things

    def semaphore(self, value: int = 0) -> Any:
        """Create a semaphore."""
        return self.device.create_semaphore(value)

    def semaphores(self, count: int) -> list[Any]:
        """Create semaphores."""
        return [self.semaphore() for _ in range(count)]

    def buffer(self, size: int = 64) -> Any:
        """Allocate a buffer."""
        return self.device.allocate_buffer(size)

    def latch(self) -> Any:
        """Create a latch that is opened in the end."""
        latch = self.device.create_latch()
        self._latches.append(weakref.ref(latch))
        return latch

    # --- submitting

    def submit(self, *commands: Any, wait: Any = (), signal: Any = (), queue: int = 0) -> None:
        """Submit commands, or a command buffer."""
        work = commands[0] if len(commands) == 1 and isinstance(commands[0], CommandBuffer) else list(commands)
        self.device.queue_execute(work, wait=wait, signal=signal, queue=queue)

    def hold(self, queue: int = 0, signal: Any = ()) -> Any:
        """Hold a queue with running work; return the latch."""
        latch = self.latch()
        self.submit(Hold(latch), signal=signal, queue=queue)
        return latch

    # --- looking

    def calls(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of the logged calls of a function."""
        return [arguments for called, arguments in list(self.driver.log) if called == name]

    def stream_waits(self) -> list[tuple[Any, ...]]:
        """Return the arguments of the logged waits of dispatch streams for events."""
        streams = {lane.stream for lane in self.engine.lanes}
        return [arguments for arguments in self.calls("cuStreamWaitEvent") if arguments[0] in streams]

    def lane_of(self, queue: int, place: int = 0) -> Any:
        """Return a queue's lane; its first by default."""
        return self.engine.lanes[queue * self.engine.parameters.streams + place]

    def value(self, semaphore: Any) -> int | None:
        """Return a semaphore's value; ``None`` if it failed. Does no work for anybody."""
        try:
            return int(semaphore.query())
        except HalError:
            return None

    def failure(self, semaphore: Any, value: int = 1, timeout: float = SOON) -> HalError:
        """Return the error that a semaphore fails with soon."""
        with pytest.raises(HalError) as caught:
            semaphore.wait(value, timeout)
        with pytest.raises(HalError):
            semaphore.query()  # it failed: the wait did not just run out
        return caught.value

    def is_settled(self) -> bool:
        """Whether nothing is pending or in flight, and no event or timepoint is out."""
        now: Statistics = self.device.statistics()
        return not (now.pending or now.in_flight or now.events or now.timepoints or self.engine.actions)

    def settles(self) -> None:
        """Wait until it is."""
        until(self.is_settled)

    def until(self, condition: Callable[[], object], seconds: float = SOON) -> None:
        """Poll until the condition holds; fail at the deadline."""
        until(condition, seconds)

    def never(self, condition: Callable[[], object]) -> bool:
        """Watch for a while; tell whether the condition never held."""
        deadline = time.monotonic() + WHILE
        while time.monotonic() < deadline:
            if condition():
                return False
            time.sleep(0.001)
        return True

    def task(self, call: Callable[[], Any]) -> Task:
        """Make a call on another thread."""
        return Task(call)

    def dies(self, reference: weakref.ref[Any]) -> None:
        """Wait until the referent is gone; no call of the library is made meanwhile."""
        until(lambda: gc.collect() is None or reference() is None)

    @contextmanager
    def role_held(self) -> Iterator[None]:
        """Let another thread have the engine's role, in the middle of a message."""
        holds, let_go = threading.Event(), threading.Event()

        class Long:
            def advance(self, engine: object) -> None:
                holds.set()
                assert let_go.wait(SOON)

        self.engine.inbox.append(Long())
        holder = Task(self.engine.turn)
        assert holds.wait(SOON)
        try:
            yield
        finally:
            let_go.set()
            holder.result()

    # --- the end

    def open_latches(self) -> None:
        """Let everything go on."""
        for reference in self._latches:
            latch = reference()
            if latch is not None:
                latch.open()

    def close(self) -> None:
        """Open every latch, close the device, and look for what it left."""
        self.open_latches()
        gc.collect()  # handles that lie in the frames of an expected error
        closing = Task(self.device.close)
        if self.driver.engine.manual:

            def is_closed() -> bool:
                if self.driver.contexts:
                    self.driver.step()
                return closing.done

            until(is_closed)
            self._pumped = False
            self._pump.result()
        closing.result()
        assert self.driver.violations == []
        if all(context.error is None for context in self.driver.contexts.values()):
            assert self.driver.live() == {}


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    """Open a device; options are the simulated driver's and the device's, ``watched`` to see the calls."""
    opened: list[Rig] = []

    def open_rig(driver: SimulatedDriver | None = None, **options: Any) -> Rig:
        mine = {name: options.pop(name) for name in DRIVER_OPTIONS if name in options}
        opened.append(Rig(driver or SimulatedDriver(**mine), **options))
        return opened[-1]

    yield open_rig
    for one in reversed(opened):
        if not one.engine.closed:
            one.close()


@pytest.fixture
def quiet_threads() -> Iterator[None]:
    """Keep what ends a device's thread from being blamed on later tests. To be asked for before ``rig``."""
    before, threading.excepthook = threading.excepthook, lambda arguments: None
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(("hal-lane", "hal-service")):
            thread.join(0.2)
    threading.excepthook = before


@pytest.fixture
def watch() -> Callable[[SimulatedDriver], Watched]:
    """Have the calls of a driver seen before they are made."""
    return Watched


@pytest.fixture(params=["event", "host-function"])
def completion(request: pytest.FixtureRequest) -> str:
    """Both ways to learn that work is done."""
    return str(request.param)


@pytest.fixture
def raw() -> Iterator[SimulatedDriver]:
    """A simulated driver with a context that is current on this thread, for what is tested without a device."""
    driver = SimulatedDriver(record_calls=True)
    driver.cuInit(0)
    device = driver.cuDeviceGet(0)[1]
    context = driver.cuDevicePrimaryCtxRetain(device)[1]
    driver.cuCtxSetCurrent(context)
    yield driver
    driver.cuCtxSetCurrent(None)
    assert driver.cuDevicePrimaryCtxRelease(device) == (CUresult.CUDA_SUCCESS,)
    assert driver.violations == []
