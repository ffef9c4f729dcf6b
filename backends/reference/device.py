"""The device: takes submissions, keeps the one lock, and closes in an orderly way."""

from __future__ import annotations

import platform
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from pytest_cuda2hal.hal import (
    EVERY_CAPABILITY,
    Buffer,
    Capability,
    Command,
    CommandBuffer,
    Device,
    DeviceInfo,
    HalError,
    Latch,
    Profile,
    Statistics,
    StatusCode,
    Timepoint,
    UnsupportedOperation,
    WaitMode,
    captured,
    checked_commands,
    checked_size,
    checked_timeout,
    checked_value,
)

from .commands import check_command, own_buffer, run_commands
from .memory import Memory, ReferenceBuffer, ReferenceLatch
from .queue import ReferenceQueue
from .semaphore import HostWait, Point, ReferenceSemaphore
from .submission import State, Submission


def _nothing() -> None:
    """The work of a barrier."""


class Changing:
    """What :meth:`ReferenceDevice.changing` returns; a class of its own, since it is entered for every operation."""

    def __init__(self, device: ReferenceDevice) -> None:
        self._device = weakref.ref(device)
        self._lock = device.lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        device = self._device()
        try:
            if device is not None:
                device.retire_failed()
        finally:
            self._lock.release()


class ReferenceDevice(Device):
    """A device in host memory.

    One lock guards everything that changes. It is held for as long as a change takes, never while anybody waits or a
    command runs. The classes of the parts are attributes, so that a variant can exchange one.
    """

    semaphore_class: ClassVar[type[ReferenceSemaphore]] = ReferenceSemaphore
    submission_class: ClassVar[type[Submission]] = Submission
    queue_class: ClassVar[type[ReferenceQueue]] = ReferenceQueue
    host_wait_class: ClassVar[type[HostWait]] = HostWait
    buffer_class: ClassVar[type[ReferenceBuffer]] = ReferenceBuffer

    def __init__(self, rules: Profile, *, seed: int | None = None, queues: int = 4, memory: int = 64 * 2**20) -> None:
        self.rules = rules
        self._value_max = rules.value_max
        self.profile = rules.name
        self.capabilities = EVERY_CAPABILITY
        if not rules.failure_state:
            self.capabilities -= {Capability.HOST_FAIL, Capability.FAIL_CODE}
        self.queue_count = queues
        self.info = DeviceInfo("host memory", {"python": platform.python_version()})
        self.lock = threading.Lock()
        self._changing = Changing(self)
        self.memory = Memory(memory)
        self.unretired: set[Submission] = set()
        self._to_retire: deque[tuple[Submission, HalError]] = deque()
        self._lost: HalError | None = None
        self._closed = False
        self._serial = 0
        self._semaphores: weakref.WeakSet[ReferenceSemaphore] = weakref.WeakSet()
        self._buffers: weakref.WeakSet[ReferenceBuffer] = weakref.WeakSet()
        self._latches: weakref.WeakSet[ReferenceLatch] = weakref.WeakSet()
        in_order = rules.usual("submission-order") == "in-order"
        self._queues = [self.queue_class(index, seed, in_order=in_order) for index in range(queues)]
        # When the last handle goes without a close, the workers end too.
        weakref.finalize(self, _stop_all, self._queues)

    def changing(self) -> AbstractContextManager[None]:
        """Hold the lock for a ``with`` block, and before letting go retire every submission that failed in it."""
        return self._changing

    def retire_failed(self) -> None:
        """Retire the submissions that failed during the present change, one by one; the device is locked."""
        while self._to_retire:
            submission, error = self._to_retire.popleft()
            submission.retire(error)

    def retire_soon(self, submission: Submission, error: HalError) -> None:
        """Have ``submission`` fail when the present change is over; the device is locked."""
        self._to_retire.append((submission, error))

    # --- semaphores

    def create_semaphore(self, initial_value: int = 0) -> ReferenceSemaphore:
        self.check_value_range(checked_value(initial_value))
        with self.changing():
            self._check_open()
            semaphore = self.semaphore_class(self, initial_value)
            self._semaphores.add(semaphore)
        return semaphore

    def wait_semaphores(
        self, timepoints: Iterable[Timepoint], *, mode: WaitMode = WaitMode.ALL, timeout: float | None = None
    ) -> None:
        points = self._own_points(timepoints)
        timeout = checked_timeout(timeout)
        wait = self.host_wait_class(points, mode)
        try:
            with self.changing():
                wait.begin()
            wait.block(timeout)
        finally:
            with self.changing():
                wait.end()
                error = wait.outcome()
        if error:
            if error.code is not StatusCode.DEADLINE_EXCEEDED and self.rules.usual("failed-wait-code") == "ABORTED":
                error = HalError(StatusCode.ABORTED, "a semaphore has failed")
            raise error

    def check_value_range(self, value: int) -> None:
        """Refuse a value above the profile's largest."""
        if value > self._value_max:
            raise HalError(StatusCode.OUT_OF_RANGE, f"{value} is above the largest value, {self._value_max}")

    def check_can_fail(self) -> None:
        """Refuse to fail anything where the profile knows no failure."""
        if not self.rules.failure_state:
            raise UnsupportedOperation(Capability.HOST_FAIL.value, f"profile '{self.profile}' has no failure state")

    # --- submissions

    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        if isinstance(commands, CommandBuffer):
            listed = commands.commands
        else:
            listed = checked_commands(commands)
        for command in listed:
            check_command(self, command)
        self._submit(self._work_of(listed), wait, signal, queue)

    def _work_of(self, commands: tuple[Command, ...]) -> Callable[[], None]:
        """Return the work that a list of checked commands is."""
        return lambda: run_commands(commands)

    def create_command_buffer(self, commands: Iterable[Command], *, one_shot: bool = False) -> CommandBuffer:
        buffer = CommandBuffer(commands, one_shot=one_shot)
        for command in buffer.commands:
            check_command(self, command)
        return buffer

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

        def call() -> None:
            function()

        self._submit(call, wait, signal, queue, on_own_thread=True)

    def queue_alloca(
        self,
        size: int,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> Buffer:
        size = checked_size(size)
        if size > self.memory.total:
            raise HalError(StatusCode.RESOURCE_EXHAUSTED, f"{size} bytes asked for, the device has {self.memory.total}")
        buffer = self.buffer_class(self, size)
        buffer.from_queue = True

        def allocate() -> None:
            with self.lock:
                buffer.allocate(self.memory)

        self._submit(allocate, wait, signal, queue)
        self._buffers.add(buffer)
        return buffer

    def queue_dealloca(
        self,
        buffer: Buffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        owned = own_buffer(self, buffer)
        with self.lock:
            odd = not owned.from_queue or owned.dealloca_queued
            owned.dealloca_queued = True
        if odd:
            if self.rules.usual("odd-dealloca") == "INVALID_ARGUMENT":
                what = "has been deallocated" if owned.from_queue else "was not allocated by a queue"
                raise HalError(StatusCode.INVALID_ARGUMENT, f"the buffer {what}")
            self._submit(_nothing, wait, signal, queue)
            return

        def free() -> None:
            with self.lock:
                owned.live_bytes()
                owned.free(self.memory)

        def undo() -> None:
            owned.dealloca_queued = False

        try:
            self._submit(free, wait, signal, queue, on_failure=undo)
        except BaseException:
            undo()
            raise

    def queue_flush(self, queue: int = 0) -> None:
        self._queue(queue)  # nothing is ever kept back

    def _submit(
        self,
        work: Callable[[], None],
        wait: Iterable[Timepoint],
        signal: Iterable[Timepoint],
        queue: int,
        *,
        on_own_thread: bool = False,
        on_failure: Callable[[], None] | None = None,
    ) -> None:
        """Accept a submission, or refuse it before it had any effect."""
        waits = self._own_points(wait)
        signals = self._signals(self._own_points(signal))
        target = self._queue(queue)
        with self.changing():
            self._check_open()
            self._serial += 1
            submission = self.submission_class(
                self,
                target,
                self._serial,
                work,
                waits,
                signals,
                on_own_thread=on_own_thread,
                on_failure=on_failure,
            )
            if self._lost:
                submission.retire(self._lost)  # and so it never comes to a queue
            else:
                submission.submit()

    def _own_points(self, timepoints: Iterable[Timepoint]) -> tuple[Point, ...]:
        points: list[Point] = []
        for timepoint in captured(timepoints):
            semaphore = timepoint.semaphore
            if not isinstance(semaphore, ReferenceSemaphore) or semaphore.device is not self:
                raise HalError(StatusCode.INVALID_ARGUMENT, f"{semaphore!r} is no semaphore of this device")
            self.check_value_range(timepoint.value)
            points.append(Point(semaphore, timepoint.value))
        return tuple(points)

    def _signals(self, signals: tuple[Point, ...]) -> tuple[Point, ...]:
        """Return the signals in the order in which they are made."""
        if self.rules.usual("duplicate-signal") != "maximum":
            return signals
        # The largest first: a smaller one of the same semaphore then finds its value passed.
        return tuple(sorted(signals, key=lambda point: -point.value))

    def _queue(self, queue: int) -> ReferenceQueue:
        if queue not in range(self.queue_count):
            raise HalError(StatusCode.INVALID_ARGUMENT, f"there are queues 0 … {self.queue_count - 1}, not {queue!r}")
        return self._queues[queue]

    # --- memory and latches

    def allocate_buffer(self, size: int) -> ReferenceBuffer:
        size = checked_size(size)
        with self.changing():
            self._check_open()
            buffer = self.buffer_class(self, size)
            buffer.allocate(self.memory)
            self._buffers.add(buffer)
        return buffer

    def create_latch(self) -> Latch:
        with self.changing():
            self._check_open()
            latch = ReferenceLatch(self)
            self._latches.add(latch)
        return latch

    # --- the end

    def inject_device_loss(self, error: HalError) -> None:
        with self.changing():
            self._lost = self._lost or error
            self._fail_unretired(self._lost)

    def close(self) -> None:
        with self.changing():
            if self._closed:
                return
            self._closed = True
            self._fail_unretired(HalError(StatusCode.CANCELLED, "the device was closed"))
        for latch in list(self._latches):
            latch.open()
        _stop_all(self._queues)
        for queue in self._queues:
            if queue.thread is not threading.current_thread():
                queue.thread.join()

    def _fail_unretired(self, error: HalError) -> None:
        for submission in sorted(self.unretired, key=lambda submission: submission.serial):
            self.retire_soon(submission, error)

    def _check_open(self) -> None:
        if self._closed:
            raise HalError(StatusCode.FAILED_PRECONDITION, "the device is closed")

    def statistics(self) -> Statistics:
        with self.changing():
            states = [submission.state for submission in self.unretired]
            return Statistics(
                semaphores=len(self._semaphores),
                buffers=len(self._buffers),
                timepoints=sum(semaphore._waiting() for semaphore in list(self._semaphores)),
                pending=states.count(State.PENDING),
                in_flight=states.count(State.IN_FLIGHT),
                threads=sum(queue.thread.is_alive() for queue in self._queues),
                memory_in_use=self.memory.in_use(),
                memory_total=self.memory.total,
            )


def _stop_all(queues: list[ReferenceQueue]) -> None:
    for queue in queues:
        queue.stop()
