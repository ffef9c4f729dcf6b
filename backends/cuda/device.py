"""The device: checks what it is given, makes queue actions of it, and closes in an orderly way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from pytest_cuda2hal.hal import (
    EVERY_CAPABILITY,
    Buffer,
    Command,
    CommandBuffer,
    Device,
    DeviceInfo,
    HalError,
    Latch,
    Statistics,
    StatusCode,
    Timepoint,
    WaitMode,
    captured,
    checked_commands,
    checked_size,
)

from .actions import Action, AllocaAction, DeallocaAction, ExecuteAction, HostCallAction, Point, State
from .commands import CudaCommandBuffer, own_buffer, program_of
from .completion import EventCompleter, HostFunctionCompleter, start_completers
from .context import Context
from .driver import Driver
from .engine import Engine
from .hostwait import wait_for
from .memory import CudaBuffer, CudaLatch
from .parameters import EVENT, Parameters
from .semaphore import EventSemaphore
from .timepoints import VALUE_MAX, in_range

#: Bytes of pinned memory behind a latch.
WORD_BYTES = 4


class CudaDevice(Device):
    """A CUDA device with timeline semaphores. Thread-safe; see :class:`~pytest_cuda2hal.hal.Device`."""

    # What a device is made of.
    context_class: ClassVar[type[Context]] = Context
    engine_class: ClassVar[type[Engine]] = Engine
    semaphore_class: ClassVar[type[EventSemaphore]] = EventSemaphore
    execute_class: ClassVar[type[ExecuteAction]] = ExecuteAction
    alloca_class: ClassVar[type[AllocaAction]] = AllocaAction
    dealloca_class: ClassVar[type[DeallocaAction]] = DeallocaAction
    event_completer_class: ClassVar[type[EventCompleter]] = EventCompleter

    def __init__(self, driver: Driver, *, ordinal: int, parameters: Parameters, versions: dict[str, str]) -> None:
        self.capabilities = EVERY_CAPABILITY
        self.queue_count = parameters.queues
        context = self.context_class(driver, ordinal, parameters)
        versions = {"driver": f"{context.version // 1000}.{context.version % 1000 // 10}", **versions}
        self.info = DeviceInfo(context.name, versions, count=context.device_count)
        context.enter("opening")  # until the completers have entered
        try:
            self.engine = self.engine_class(context)
            completer = self.event_completer_class if parameters.completion == EVENT else HostFunctionCompleter
            self._completers = start_completers(self.engine, completer)
        except BaseException:
            for lane in context.lanes:
                lane.stopping = True
                lane.alarm.set()
            raise
        finally:
            context.leave("opening")

    # --- semaphores

    def create_semaphore(self, initial_value: int = 0) -> EventSemaphore:
        initial_value = in_range(initial_value)
        self._check_open()
        return self.semaphore_class(self.engine, initial_value)

    def wait_semaphores(
        self, timepoints: Iterable[Timepoint], *, mode: WaitMode = WaitMode.ALL, timeout: float | None = None
    ) -> None:
        wait_for(self.engine, self._points(timepoints), timeout, mode)

    # --- submissions

    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        engine = self.engine
        if isinstance(commands, CommandBuffer):
            if not isinstance(commands, CudaCommandBuffer) or commands.engine is not engine:
                raise HalError(StatusCode.INVALID_ARGUMENT, f"{commands!r} is no command buffer of this device")
            program = commands.program
        else:
            program = program_of(engine, checked_commands(commands))
        self._check_queue(queue)
        self._check_open()
        engine.submit(self.execute_class(queue, self._points(wait), self._signals(signal), program))

    def create_command_buffer(self, commands: Iterable[Command], *, one_shot: bool = False) -> CudaCommandBuffer:
        return CudaCommandBuffer(self.engine, tuple(commands), one_shot=one_shot)

    def queue_host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        if not callable(function):
            raise TypeError(f"a host call calls a function, not {function!r}")
        self._check_queue(queue)
        self._submit(HostCallAction(queue, self._points(wait), self._signals(signal), function))

    def queue_alloca(
        self,
        size: int,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> Buffer:
        size = checked_size(size)
        if size > self.engine.memory.total:
            text = f"{size} bytes asked for, the device has {self.engine.memory.total}"
            raise HalError(StatusCode.RESOURCE_EXHAUSTED, text)
        self._check_queue(queue)
        waits, signals = self._points(wait), self._signals(signal)
        buffer = CudaBuffer(self.engine, size, from_queue=True)
        self._submit(self.alloca_class(queue, waits, signals, buffer))
        return buffer

    def queue_dealloca(
        self,
        buffer: Buffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        owned = own_buffer(self.engine, buffer)
        self._check_queue(queue)
        waits, signals = self._points(wait), self._signals(signal)
        self._check_open()
        if not owned.claim_for_dealloca():
            what = "has been deallocated" if owned.from_queue else "was not allocated by a queue"
            raise HalError(StatusCode.INVALID_ARGUMENT, f"the buffer {what}")
        try:
            self._submit(self.dealloca_class(queue, waits, signals, owned))
        except HalError:
            owned.dealloca_queued = False
            raise

    def queue_flush(self, queue: int = 0) -> None:
        self._check_queue(queue)
        self.engine.turn()  # nothing is ever kept back

    def _submit(self, action: Action) -> None:
        self._check_open()
        self.engine.submit(action)

    def _points(self, timepoints: Iterable[Timepoint]) -> list[Point]:
        points: list[Point] = []
        engine, kind = self.engine, self.semaphore_class
        for timepoint in timepoints if type(timepoints) is list else captured(timepoints):
            if type(timepoint) is not Timepoint:
                captured([timepoint])
            semaphore, value = timepoint
            if type(semaphore) is not kind or semaphore.engine is not engine:
                raise HalError(StatusCode.INVALID_ARGUMENT, f"{semaphore!r} is no semaphore of this device")
            points.append((semaphore, value if value <= VALUE_MAX else in_range(value)))
        return points

    def _signals(self, timepoints: Iterable[Timepoint]) -> list[Point]:
        """Return the signals, one per semaphore: of duplicates the largest (variation point duplicate-signal)."""
        points = self._points(timepoints)
        if len(points) < 2:
            return points
        largest: dict[EventSemaphore, int] = {}
        for semaphore, value in points:
            largest[semaphore] = max(value, largest.get(semaphore, 0))
        return list(largest.items())

    def _check_queue(self, queue: int) -> None:
        if type(queue) is not int or not 0 <= queue < self.queue_count:
            raise HalError(StatusCode.INVALID_ARGUMENT, f"there are queues 0 … {self.queue_count - 1}, not {queue!r}")

    # --- memory and latches

    def allocate_buffer(self, size: int) -> CudaBuffer:
        size = checked_size(size)
        self._check_open()
        self.engine.turn()  # buffers that were dropped give their memory back first
        buffer = CudaBuffer(self.engine, size, from_queue=False)
        try:
            buffer.allocate_now()
        except HalError as error:
            if error.code is not StatusCode.RESOURCE_EXHAUSTED:
                raise
            self.engine.make_room()  # the turn leaves that to whoever is at it already
            buffer.allocate_now()
        return buffer

    def create_latch(self) -> Latch:
        engine = self.engine
        made: list[CudaLatch] = []

        def make() -> None:  # with the role, as closing takes away what a latch is made of
            self._check_open()
            made.append(CudaLatch(engine, engine.context.staging.take(WORD_BYTES)))
            engine.latches.add(made[0])

        engine.exclusively(make)
        return made[0]

    # --- the end

    def inject_device_loss(self, error: HalError) -> None:
        if not isinstance(error, HalError):
            raise TypeError(f"a device is lost with a HalError, not {error!r}")
        self.engine.exclusively(lambda: self.engine.lose(error))

    def close(self) -> None:
        engine = self.engine
        context = engine.context
        engine.refuse_within_a_turn()
        # So that it is taken down here, with the role held, and not while somebody is in a turn. Not counted: what an
        # interrupted call has entered, the thread's next one leaves.
        closing = ("closing", threading.get_ident())
        context.enter(closing)
        try:
            engine.closed = True
            engine.exclusively(self._end_everything)
            for lane in engine.lanes:
                lane.stopping = True
                lane.alarm.set()
            engine.service_stops = True
            engine.service_alarm.set()
            for thread in self._completers:
                if thread is not threading.current_thread():
                    thread.join()
        finally:
            engine.exclusively(lambda: context.leave(closing))

    def _end_everything(self) -> None:
        self.engine.cancel()
        for latch in list(self.engine.latches):
            latch.retire()

    def _check_open(self) -> None:
        if self.engine.closed:
            raise HalError(StatusCode.FAILED_PRECONDITION, "the device is closed")

    def statistics(self) -> Statistics:
        engine = self.engine
        if not engine.closed:
            engine.turn()
        actions = list(engine.actions)
        pending = sum(action.state in (State.PENDING, State.QUEUED) for action in actions)
        on_lanes = sum(len(lane.in_flight) for lane in engine.lanes)
        host_calls = len(engine.host_calls)
        return Statistics(
            semaphores=engine.live_semaphores(),
            buffers=engine.buffers,
            events=engine.events.outstanding,
            timepoints=sum(len(action.waits) for action in actions) + engine.waiting_hosts(),
            pending=pending,
            in_flight=on_lanes + host_calls,
            threads=sum(thread.is_alive() for thread in self._completers) + host_calls,
            memory_in_use=engine.memory.in_use,
            memory_total=engine.memory.total,
        )
