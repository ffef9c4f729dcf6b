"""The device as a case sees it."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pytest

from ..hal import (
    PROFILES,
    Buffer,
    Capability,
    Command,
    CommandBuffer,
    Copy,
    Device,
    Fault,
    Fill,
    HalError,
    Hold,
    Latch,
    Profile,
    Statistics,
    StatusCode,
    Timepoint,
    Update,
    WaitMode,
    captured,
    checked_commands,
    checked_timeout,
    checked_value,
)
from .buffers import ObservedBuffer
from .log import Log, Point
from .order import SubmissionOrder
from .semaphores import CASE_DEADLINE, ObservedSemaphore, _CaseDeadline, hang_message

_GATES: dict[type, Capability] = {
    Update: Capability.UPDATE,
    Hold: Capability.HOLD,
    Fault: Capability.FAULT_INJECTION,
}


class ObservedLatch(Latch):
    """Passes :meth:`open` on and remembers whether it was called."""

    def __init__(self, inner: Latch) -> None:
        self.inner = inner
        self.is_open = False

    def open(self) -> None:
        self.is_open = True
        self.inner.open()


class ObservedCommandBuffer(CommandBuffer):
    """A recorded command buffer together with the HAL's own."""

    def __init__(self, commands: tuple[Command, ...], inner: CommandBuffer, *, one_shot: bool) -> None:
        super().__init__(commands, one_shot=one_shot)
        self.inner = inner


class LentLists(NamedTuple):
    """What a HAL is given to wait for and to signal, for the time of one call."""

    wait: list[Timepoint]
    signal: list[Timepoint]


class ObservedDevice(Device):
    """Passes every operation on to ``inner``.

    Every list that the HAL is given is emptied when its call is over, so that one which kept the list instead of what
    was in it (Q-15) has lost it.

    An operation that the backend lacks, or that its adapter emulates, ends the case: as *unsupported* (a skip with the
    capability), or on one of this project's own backends as a failure, since those promise everything.
    """

    def __init__(self, inner: Device, *, own: bool, deadline: float) -> None:
        self.inner = inner
        self._own = own
        self.deadline = deadline
        self.log = Log()
        self._order = SubmissionOrder(self.log)
        self.capabilities = inner.capabilities
        self.emulated = inner.emulated
        self.profile = inner.profile
        self.queue_count = inner.queue_count
        self.info = inner.info
        self.latches: weakref.WeakSet[ObservedLatch] = weakref.WeakSet()
        self.closed = False
        self._holds: list[tuple[int, weakref.ref[ObservedLatch]]] = []

    # --- what a case may ask

    @property
    def rules(self) -> Profile:
        """The answers that the backend says it gives."""
        return PROFILES[self.profile]

    @property
    def must_be_whole(self) -> bool:
        """Whether a missing capability is a failure: on our own backends, unless the profile takes things away."""
        return self._own and self.rules.failure_state

    def has(self, capability: Capability) -> bool:
        """Whether the HAL itself has a capability."""
        return capability in self.capabilities

    def need(self, capability: Capability, detail: str = "") -> None:
        """End the case unless the HAL itself has the capability."""
        if capability in self.capabilities:
            return
        state = "only emulated by the adapter" if capability in self.emulated else "absent"
        text = f"unsupported: capability {capability} is {state}" + (f" ({detail})" if detail else "")
        if self.must_be_whole:
            pytest.fail(f"{text}; this backend is one of the project's own and must have it", pytrace=False)
        pytest.skip(text)

    def need_queues(self, count: int) -> None:
        """End the case unless there are ``count`` queues."""
        if self.queue_count >= count:
            return
        # A configuration with fewer queues was asked for by the user; it is no defect, even on our own backends.
        pytest.skip(f"unsupported: capability {Capability.MULTI_QUEUE}({count}): the device has {self.queue_count}")

    def need_to_fail(self) -> None:
        """End the case unless the host can fail semaphores."""
        self.need(Capability.HOST_FAIL)

    def held_queues(self) -> set[int]:
        """Return the queues that are kept busy by a latch that is still closed."""
        return {queue for queue, reference in self._holds if (latch := reference()) and not latch.is_open}

    def expired(self, timepoints: list[Timepoint], seconds: float) -> AssertionError:
        """Return the error of a wait that DEADLINE_EXCEEDED ended after ``seconds``: a hang, unless it was early."""
        if seconds < self.deadline:
            return AssertionError(f"the wait ended with DEADLINE_EXCEEDED after {seconds:.3f} of {self.deadline:g} s")
        return hang_message(self, timepoints, seconds)

    # --- the interface

    def create_semaphore(self, initial_value: int = 0) -> ObservedSemaphore:
        return ObservedSemaphore(self, self.inner.create_semaphore(checked_value(initial_value)))

    def allocate_buffer(self, size: int) -> ObservedBuffer:
        return ObservedBuffer(self, self.inner.allocate_buffer(size))

    def create_latch(self) -> ObservedLatch:
        self.need(Capability.HOLD)
        latch = ObservedLatch(self.inner.create_latch())
        self.latches.add(latch)
        return latch

    def create_command_buffer(self, commands: Iterable[Command], *, one_shot: bool = False) -> ObservedCommandBuffer:
        if not one_shot:
            self.need(Capability.REUSABLE_COMMANDS)
        listed = checked_commands(tuple(commands))
        lent = self._inner_commands(listed)
        inner = self.inner.create_command_buffer(lent, one_shot=one_shot)
        lent.clear()
        return ObservedCommandBuffer(listed, inner, one_shot=one_shot)

    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        if isinstance(commands, ObservedCommandBuffer):
            listed = commands.commands
            inner: list[Command] | CommandBuffer = commands.inner
        else:
            assert not isinstance(commands, CommandBuffer), "record command buffers with device.create_command_buffer"
            listed = checked_commands(commands)
            inner = self._inner_commands(listed)
        what = " ".join(map(_text, listed[:4])) or "barrier"
        with self._submitting(what, wait, signal, queue) as lent:
            self.inner.queue_execute(inner, wait=lent.wait, signal=lent.signal, queue=queue)
        if isinstance(inner, list):
            inner.clear()
        for command in listed:
            if isinstance(command, Hold) and isinstance(command.latch, ObservedLatch):
                self._holds.append((queue, weakref.ref(command.latch)))

    def queue_fill(
        self,
        target: Buffer,
        pattern: int | bytes,
        *,
        offset: int = 0,
        length: int | None = None,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        with self._submitting(f"fill({_name(target)})", wait, signal, queue) as lent:
            self.inner.queue_fill(
                _buffer(target),
                pattern,
                offset=offset,
                length=length,
                wait=lent.wait,
                signal=lent.signal,
                queue=queue,
            )

    def queue_copy(
        self,
        source: Buffer,
        target: Buffer,
        *,
        source_offset: int = 0,
        target_offset: int = 0,
        length: int | None = None,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        with self._submitting(f"copy({_name(source)} → {_name(target)})", wait, signal, queue) as lent:
            self.inner.queue_copy(
                _buffer(source),
                _buffer(target),
                source_offset=source_offset,
                target_offset=target_offset,
                length=length,
                wait=lent.wait,
                signal=lent.signal,
                queue=queue,
            )

    def queue_update(
        self,
        target: Buffer,
        data: bytes,
        *,
        offset: int = 0,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        self.need(Capability.UPDATE)
        with self._submitting(f"update({_name(target)})", wait, signal, queue) as lent:
            self.inner.queue_update(
                _buffer(target), data, offset=offset, wait=lent.wait, signal=lent.signal, queue=queue
            )

    def queue_alloca(
        self,
        size: int,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> ObservedBuffer:
        self.need(Capability.ASYNC_ALLOC)
        with self._submitting(f"alloca({size})", wait, signal, queue) as lent:
            inner = self.inner.queue_alloca(size, wait=lent.wait, signal=lent.signal, queue=queue)
        return ObservedBuffer(self, inner)

    def queue_dealloca(
        self,
        buffer: Buffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        self.need(Capability.ASYNC_ALLOC)
        with self._submitting(f"dealloca({_name(buffer)})", wait, signal, queue) as lent:
            self.inner.queue_dealloca(_buffer(buffer), wait=lent.wait, signal=lent.signal, queue=queue)

    def queue_host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        self.need(Capability.HOST_CALL)
        with self._submitting("host call", wait, signal, queue) as lent:
            self.inner.queue_host_call(function, wait=lent.wait, signal=lent.signal, queue=queue)

    def queue_flush(self, queue: int = 0) -> None:
        self.need(Capability.FLUSH)
        self.inner.queue_flush(queue)

    def wait_semaphores(
        self,
        timepoints: Iterable[Timepoint],
        *,
        mode: WaitMode = WaitMode.ALL,
        timeout: float | _CaseDeadline | None = CASE_DEADLINE,
    ) -> None:
        self.need(Capability.WAIT_ALL if mode is WaitMode.ALL else Capability.WAIT_ANY)
        listed = captured(timepoints)
        if not isinstance(timeout, _CaseDeadline):
            self.inner.wait_semaphores(_inner(listed), mode=mode, timeout=checked_timeout(timeout))
            return
        begin = time.monotonic()
        try:
            self.inner.wait_semaphores(_inner(listed), mode=mode, timeout=self.deadline)
        except HalError as error:
            carried = any(t.semaphore.carries(error) for t in listed if isinstance(t.semaphore, ObservedSemaphore))
            if error.code is not StatusCode.DEADLINE_EXCEEDED or carried:
                raise
            raise self.expired(list(listed), time.monotonic() - begin) from None

    def inject_device_loss(self, error: HalError) -> None:
        self.need(Capability.DEVICE_LOSS_INJECTION)
        self.inner.inject_device_loss(error)

    def statistics(self) -> Statistics:
        self.need(Capability.STATISTICS)
        return self.inner.statistics()

    def close(self) -> None:
        self.closed = True
        self.inner.close()

    # --- inside

    def _inner_commands(self, commands: Sequence[Command]) -> list[Command]:
        inner: list[Command] = []
        for command in commands:
            gate = _GATES.get(type(command))
            if gate is not None:
                self.need(gate)
            match command:
                case Fill(target, pattern, offset, length):
                    inner.append(Fill(_buffer(target), pattern, offset, length))
                case Copy(source, target, source_offset, target_offset, length):
                    inner.append(Copy(_buffer(source), _buffer(target), source_offset, target_offset, length))
                case Update(target, data, offset):
                    inner.append(Update(_buffer(target), data, offset))
                case Hold(ObservedLatch() as latch):
                    inner.append(Hold(latch.inner))
                case _:
                    inner.append(command)
        return inner

    @contextlib.contextmanager
    def _submitting(
        self, what: str, wait: Iterable[Timepoint], signal: Iterable[Timepoint], queue: int
    ) -> Iterator[LentLists]:
        """Lend the HAL lists for one call, and record the submission if it accepts.

        Ends the case where the backend would block its caller for good.
        """
        waits, signals = captured(wait), captured(signal)
        if not self.has(Capability.ASYNC_SUBMIT) and not all(map(_is_settled, waits)):
            self.need(Capability.ASYNC_SUBMIT, "the case submits before its waits are reached")
        in_order = not self.has(Capability.SAME_QUEUE_OUT_OF_ORDER)
        if in_order and self._order.blocks(_points(signals), queue):
            self.need(Capability.SAME_QUEUE_OUT_OF_ORDER, "the case submits a producer behind its consumer")
        lent = LentLists(_inner(waits), _inner(signals))
        try:
            yield lent
        finally:
            lent.wait.clear()
            lent.signal.clear()
        self.log.add(what, queue, _points(waits), _points(signals))
        if in_order:
            self._order.accept(_points(waits), _points(signals), queue)


def _points(timepoints: tuple[Timepoint, ...]) -> tuple[Point, ...]:
    return tuple(Point(t.semaphore.serial, t.value) for t in timepoints if isinstance(t.semaphore, ObservedSemaphore))


def _inner(timepoints: Iterable[Timepoint]) -> list[Timepoint]:
    """Return the HAL's own timepoints, in a list that nobody else holds."""
    return [
        Timepoint(t.semaphore.inner, t.value) if isinstance(t.semaphore, ObservedSemaphore) else t for t in timepoints
    ]


def _buffer(buffer: Buffer) -> Buffer:
    return buffer.inner if isinstance(buffer, ObservedBuffer) else buffer


def _is_settled(timepoint: Timepoint) -> bool:
    try:
        return timepoint.semaphore.query() >= timepoint.value
    except HalError:
        return True


def _name(buffer: Buffer) -> str:
    return buffer.name if isinstance(buffer, ObservedBuffer) else "?"


def _text(command: Command) -> str:
    match command:
        case Fill(target):
            return f"fill({_name(target)})"
        case Copy(source, target):
            return f"copy({_name(source)} → {_name(target)})"
        case Update(target):
            return f"update({_name(target)})"
        case Hold():
            return "hold"
        case Fault():
            return "fault"
