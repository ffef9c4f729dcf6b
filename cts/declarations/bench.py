"""What a trial of a capability works with."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_cuda2hal.hal import (
    Buffer,
    Capability,
    Command,
    Device,
    HalError,
    Hold,
    Latch,
    Semaphore,
    StatusCode,
    Timepoint,
)

from ..support import ObservedDevice, Tasks

#: Seconds that something may take which nobody declared; if it takes longer, it is not declared and not noticed.
UNDECLARED_PATIENCE = 0.2
#: Bytes of the buffers.
SIZE = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What a trial came to: whether the capability was kept, ``None`` where that cannot be told, and what was seen."""

    kept: bool | None
    text: str


class CannotTellError(Exception):
    """A trial cannot be made on this device, whatever the capability is worth."""


class Call:
    """A call that may block, on a thread of its own. What it raises is of no account unless the trial asks for it."""

    def __init__(self, threads: Tasks, function: Callable[[], object], name: str) -> None:
        self._over = threading.Event()
        self._error: Exception | None = None
        self._task = threads.start(lambda: self._run(function), name)

    def _run(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - raised again by result()
            self._error = error
        finally:
            self._over.set()

    def ends(self, seconds: float) -> bool:
        """Whether it returns or raises within ``seconds``."""
        return self._over.wait(seconds)

    def result(self) -> None:
        """Wait until it ends, within the deadline, and raise what it raised."""
        self._task.result()
        if self._error:
            raise self._error


class Bench:
    """A device without the gates that turn a missing capability into a skip, and the threads and waits of a trial.

    A trial runs on a thread of its own, and starts others for calls that may block. What it begins it ends: it signals
    its gates and opens its latches.
    """

    def __init__(
        self,
        device: ObservedDevice,
        threads: Tasks,
        open_another: Callable[[], Device],
        *,
        declared: bool,
        thread_bound: bool,
        watching_time: float,
    ) -> None:
        self.device: Device = device.inner
        #: Whether the device says that it has what is tried, itself or through its adapter.
        self.declared = declared
        #: Opens one more device, for a trial that ruins it.
        self.open_another = open_another
        #: Seconds to watch for what must not happen.
        self.watching_time = watching_time
        #: Whether only the thread that opened the device can use it. That breaks Q-19; it is no matter of capabilities.
        self.thread_bound = thread_bound
        self._threads = threads
        # Shorter than the deadline of the trial's thread, so that what does not come is told apart from a hang.
        self.patience = device.deadline / 2 if declared else min(device.deadline / 2, UNDECLARED_PATIENCE)

    def has(self, capability: Capability) -> bool:
        """Whether the device says that it has a capability itself."""
        return capability in self.device.capabilities

    def semaphores(self, count: int) -> list[Semaphore]:
        """Make semaphores that read 0."""
        return [self.device.create_semaphore(0) for _ in range(count)]

    def buffer(self, byte: int) -> Buffer:
        """Make a buffer with every byte set by the host."""
        buffer = self.device.allocate_buffer(SIZE)
        buffer.write(bytes([byte]) * SIZE)
        return buffer

    def start(self, function: Callable[[], object], name: str) -> Call:
        """Make a call that may block.

        :raises CannotTellError: no other thread can use the device.
        """
        if self.thread_bound:
            raise CannotTellError("it needs a second thread, and only the one that opened the device can use it (Q-19)")
        return Call(self._threads, function, name)

    def comes(self, point: Timepoint, seconds: float | None = None) -> bool:
        """Whether a timepoint is reached, within ``seconds`` or as long as the trial is patient."""
        try:
            point.semaphore.wait(point.value, self.patience if seconds is None else seconds)
        except HalError as error:
            if error.code is StatusCode.DEADLINE_EXCEEDED:
                return False
            raise
        return True

    @contextlib.contextmanager
    def releasing(self, gate: Semaphore | Latch) -> Iterator[None]:
        """Signal a gate to 1, or open a latch, when the block ends."""
        try:
            yield
        finally:
            if isinstance(gate, Latch):
                gate.open()
            else:
                gate.signal(1)

    @contextlib.contextmanager
    def busy(self, queue: int) -> Iterator[None]:
        """Keep a queue busy during the block: with a latch, or with a wait where the device has no latches."""
        gate, done = self.semaphores(2)
        latch = self.device.create_latch() if self.has(Capability.HOLD) else None
        commands: list[Command] = [Hold(latch)] if latch else []
        wait = [] if latch else [gate @ 1]

        def submit() -> None:
            self.device.queue_execute(commands, wait=wait, signal=[done @ 1], queue=queue)

        with self.releasing(latch or gate):
            submission = self.start(submit, f"submission that keeps queue {queue} busy")
            # Where submitting blocks, the queue is busy as soon as the call is inside; nobody can see when that is.
            submission.ends(self.patience if self.has(Capability.ASYNC_SUBMIT) else UNDECLARED_PATIENCE)
            yield
        submission.result()
        assert self.comes(done @ 1), f"what kept queue {queue} busy did not end when it could"


def is_bound_to_its_thread(device: ObservedDevice, threads: Tasks) -> bool:
    """Whether a buffer can be allocated on the calling thread, and not on another one."""

    def allocates() -> bool:
        try:
            device.inner.allocate_buffer(SIZE)
        except Exception:  # noqa: BLE001 - an adapter may raise anything
            return False
        return True

    return not threads.start(allocates, "allocation").result() and allocates()
