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
    Device,
    HalError,
    Hold,
    Profile,
    Statistics,
    StatusCode,
    Timepoint,
    WaitMode,
    captured,
    checked_commands,
    checked_timeout,
    checked_value,
)
from .buffers import Observation, ObservedBuffer
from .calls import BUFFER, UNRECORDED, WaitCall, calls_of_new_device, in_call, points_of
from .commands import ObservedCommandBuffer, buffer_name, command_text, inner_buffer, inner_commands, place
from .commands import ObservedLatch as ObservedLatch
from .log import Log
from .naming import assigned_name
from .order import SubmissionOrder
from .semaphores import CASE_DEADLINE, ObservedSemaphore, _CaseDeadline, created, hang_message


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
        #: Where calls are recorded for other processes; usually nowhere.
        self.calls = calls_of_new_device()
        self._order = SubmissionOrder(self.log)
        self.capabilities = inner.capabilities
        self.emulated = inner.emulated
        self.profile = inner.profile
        self.queue_count = inner.queue_count
        self.info = inner.info
        self.latches: weakref.WeakSet[ObservedLatch] = weakref.WeakSet()
        self.closed = False

    # --- what a case may ask

    @property
    def rules(self) -> Profile:
        """The answers that the backend says it gives."""
        return PROFILES[self.profile]

    @property
    def declared_rules(self) -> Profile:
        """The same, whatever profile the run judges by: what is undefined there is not to be done to the HAL."""
        return PROFILES[self.inner.profile]

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
        return {queue for _, queue, _ in self.log.closed_latches()}

    def expired(self, timepoints: list[Timepoint], seconds: float) -> AssertionError:
        """Return the error of a wait that DEADLINE_EXCEEDED ended after ``seconds``: a hang, unless it was early."""
        if seconds < self.deadline:
            return AssertionError(f"the wait ended with DEADLINE_EXCEEDED after {seconds:.3f} of {self.deadline:g} s")
        return hang_message(self, timepoints, seconds)

    # --- the interface

    def create_semaphore(self, initial_value: int = 0) -> ObservedSemaphore:
        return self.make_semaphore(initial_value, None if self.calls is None else assigned_name())

    def make_semaphore(self, initial_value: int, name: str | None) -> ObservedSemaphore:
        """Create a semaphore that the case calls ``name``; ``None`` if that is told later, or not known."""
        return created(self, checked_value(initial_value), name)

    def allocate_buffer(self, size: int) -> ObservedBuffer:
        if self.calls is None:
            return ObservedBuffer(self, self.inner.allocate_buffer(size))
        allocate = self.inner.allocate_buffer
        return self.calls.make(BUFFER, size, assigned_name(), lambda size: ObservedBuffer(self, allocate(size)))

    def create_latch(self) -> ObservedLatch:
        self.need(Capability.HOLD)
        with in_call(self.calls, "create_latch") as call:
            latch = ObservedLatch(self.inner.create_latch(), self.log.new_serial(), self.calls)
            if call is not None:
                call.made = latch.serial, assigned_name()
        self.latches.add(latch)
        return latch

    def create_command_buffer(self, commands: Iterable[Command], *, one_shot: bool = False) -> ObservedCommandBuffer:
        if not one_shot:
            self.need(Capability.REUSABLE_COMMANDS)
        listed = checked_commands(tuple(commands))
        lent = inner_commands(listed, self.need)
        with in_call(self.calls, "create_command_buffer"):
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
            inner = inner_commands(listed, self.need)
        what = " ".join(map(command_text, listed[:4])) or "barrier"
        latches = [c.latch for c in listed if isinstance(c, Hold) and isinstance(c.latch, ObservedLatch)]
        with self._submitting("queue_execute", what, wait, signal, queue, latches) as lent:
            self.inner.queue_execute(inner, wait=lent.wait, signal=lent.signal, queue=queue)
        if isinstance(inner, list):
            inner.clear()

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
        with self._submitting("queue_fill", f"fill({place(target, offset)})", wait, signal, queue) as lent:
            self.inner.queue_fill(
                inner_buffer(target),
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
        what = f"copy({place(source, source_offset)} → {place(target, target_offset)})"
        with self._submitting("queue_copy", what, wait, signal, queue) as lent:
            self.inner.queue_copy(
                inner_buffer(source),
                inner_buffer(target),
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
        with self._submitting("queue_update", f"update({place(target, offset)})", wait, signal, queue) as lent:
            self.inner.queue_update(
                inner_buffer(target), data, offset=offset, wait=lent.wait, signal=lent.signal, queue=queue
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
        with self._submitting("queue_alloca", f"alloca({size})", wait, signal, queue) as lent:
            inner = self.inner.queue_alloca(size, wait=lent.wait, signal=lent.signal, queue=queue)
        made = ObservedBuffer(self, inner)
        if self.calls is not None and (name := assigned_name()):
            self.calls.named([(made.serial, name)])
        return made

    def queue_dealloca(
        self,
        buffer: Buffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        self.need(Capability.ASYNC_ALLOC)
        with self._submitting("queue_dealloca", f"dealloca({buffer_name(buffer)})", wait, signal, queue) as lent:
            self.inner.queue_dealloca(inner_buffer(buffer), wait=lent.wait, signal=lent.signal, queue=queue)

    def queue_host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        self.need(Capability.HOST_CALL)
        function = self._recorded(function)
        with self._submitting("queue_host_call", "host call", wait, signal, queue) as lent:
            self.inner.queue_host_call(function, wait=lent.wait, signal=lent.signal, queue=queue)

    def queue_flush(self, queue: int = 0) -> None:
        self.need(Capability.FLUSH)
        with UNRECORDED if self.calls is None else self.calls.flushing(queue):
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
            seconds = checked_timeout(timeout)
            with WaitCall(self.log, self.calls, listed, mode.value, seconds):
                self.inner.wait_semaphores(_inner(listed), mode=mode, timeout=seconds)
            return
        begin = time.monotonic()
        try:
            with WaitCall(self.log, self.calls, listed, mode.value, self.deadline):
                self.inner.wait_semaphores(_inner(listed), mode=mode, timeout=self.deadline)
        except HalError as error:
            carried = any(t.semaphore.carries(error) for t in listed if isinstance(t.semaphore, ObservedSemaphore))
            if error.code is not StatusCode.DEADLINE_EXCEEDED or carried:
                raise
            raise self.expired(list(listed), time.monotonic() - begin) from None

    def inject_device_loss(self, error: HalError) -> None:
        self.need(Capability.DEVICE_LOSS_INJECTION)
        with in_call(self.calls, "inject_device_loss"):
            self.inner.inject_device_loss(error)

    def statistics(self) -> Statistics:
        self.need(Capability.STATISTICS)
        return self.inner.statistics()  # polled, like query

    def uses_memory(self, size: int) -> Observation:
        """Whether ``size`` bytes of the device are in use just now, by :meth:`statistics`."""
        seen = self.statistics().memory_in_use
        return Observation(f"{size} bytes in use", f"{seen} bytes in use", agrees=seen == size)

    def close(self) -> None:
        self.closed = True
        with in_call(self.calls, "close"):
            self.inner.close()

    # --- inside

    def _recorded(self, function: Callable[[], object]) -> Callable[[], object]:
        """Return a function that the journal sees begin and end, if there is one."""
        if (calls := self.calls) is None or not callable(function):
            return function

        def recorded() -> object:
            with in_call(calls, "host_function"):
                return function()

        return recorded

    @contextlib.contextmanager
    def _submitting(
        self,
        call: str,
        what: str,
        wait: Iterable[Timepoint],
        signal: Iterable[Timepoint],
        queue: int,
        latches: Sequence[ObservedLatch] = (),
    ) -> Iterator[LentLists]:
        """Lend the HAL lists for one call, and record the submission if it accepts.

        Ends the case where the backend would block its caller for good.
        """
        waits, signals = captured(wait), captured(signal)
        if not self.has(Capability.ASYNC_SUBMIT) and not all(map(_is_settled, waits)):
            self.need(Capability.ASYNC_SUBMIT, "the case submits before its waits are reached")
        in_order = not self.has(Capability.SAME_QUEUE_OUT_OF_ORDER)
        wait_points, signal_points = points_of(waits), points_of(signals)
        if in_order and self._order.blocks(signal_points, queue):
            self.need(Capability.SAME_QUEUE_OUT_OF_ORDER, "the case submits a producer behind its consumer")
        calls = self.calls
        begun = 0
        if calls is not None:
            serials = [latch.serial for latch in latches] if latches else ()
            begun = calls.submitting(call, what, queue, wait_points, signal_points, serials, len(self.log.records))
        lent = LentLists(_inner(waits), _inner(signals))
        try:
            yield lent
        except BaseException as error:
            if calls is not None:
                calls.raised(begun, error)
            raise
        finally:
            lent.wait.clear()
            lent.signal.clear()
        number = self.log.add(what, queue, wait_points, signal_points)
        for latch in latches:
            self.log.holds.append((number, queue, weakref.ref(latch)))
        if calls is not None:
            calls.journal.end(begun)
        if in_order:
            self._order.accept(wait_points, signal_points, queue)


def _inner(timepoints: Iterable[Timepoint]) -> list[Timepoint]:
    """Return the HAL's own timepoints, in a list that nobody else holds."""
    return [
        Timepoint(t.semaphore.inner, t.value) if isinstance(t.semaphore, ObservedSemaphore) else t for t in timepoints
    ]


def _is_settled(timepoint: Timepoint) -> bool:
    try:
        return timepoint.semaphore.query() >= timepoint.value
    except HalError:
        return True
