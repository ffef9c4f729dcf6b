"""The device: what an adapter implements, and what a case talks to."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .capabilities import Capability
from .commands import Buffer, Command, CommandBuffer, Copy, Fill, Latch, Update
from .errors import HalError, UnsupportedOperation
from .semaphore import Semaphore, Timepoint, WaitMode


@dataclass(frozen=True, slots=True)
class Statistics:
    """An immutable snapshot of what is alive in a device (capability ``statistics``). Counts, except where said.

    A backend without a kind of object reports 0 for it.
    """

    semaphores: int = 0
    buffers: int = 0
    events: int = 0
    timepoints: int = 0
    pending: int = 0  #: accepted, waits not all reached
    in_flight: int = 0  #: ready or running, not yet retired
    threads: int = 0
    memory_in_use: int = 0  #: bytes
    memory_total: int = 0  #: bytes; 0 when it is not bounded


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the header and the reports print: a name for people, and versions by component.

    ``count`` is how many devices the backend could open on this machine, for spreading workers over them.
    """

    name: str = "unnamed device"
    versions: Mapping[str, str] = field(default_factory=dict)
    count: int = 1


class Device(abc.ABC):
    """An open device with one or more queues.

    An adapter must implement :meth:`create_semaphore`, :meth:`allocate_buffer`, :meth:`queue_execute` and
    :meth:`close`; everything else has a default that either says *absent* or is built from these. A default that
    emulates something never earns a verdict: list in ``capabilities`` only what the HAL itself does.

    All methods may be called from any thread. Every ``queue_*`` operation takes a list of timepoints to wait for and a
    list to signal, captures both and all else that it is given, and raises :class:`HalError` only if it had no effect.
    """

    capabilities: frozenset[Capability] = frozenset()
    emulated: frozenset[Capability] = frozenset()
    #: The profile whose answers to the variation points this HAL gives (``strict``, ``seed``, ``iree``, ``vulkan``).
    profile: str = "strict"
    #: Queues are numbered 0 … queue_count-1.
    queue_count: int = 1
    info: DeviceInfo = DeviceInfo()

    # --- what every adapter writes

    @abc.abstractmethod
    def create_semaphore(self, initial_value: int = 0) -> Semaphore:
        """Return a new semaphore that reads as ``initial_value``."""

    @abc.abstractmethod
    def allocate_buffer(self, size: int) -> Buffer:
        """Return ``size`` bytes of device memory, contents undefined, at once and without a queue."""

    @abc.abstractmethod
    def queue_execute(
        self,
        commands: Sequence[Command] | CommandBuffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        """Run commands once every timepoint of ``wait`` is reached, then signal every timepoint of ``signal``.

        Returns at once (capability ``async-submit``; without it, when the work is done).

        :raises HalError: the submission was refused and has no effect at all.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything back. What has not finished fails with CANCELLED or ABORTED (``close-with-pending``)."""

    # --- transfers, built from queue_execute

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
        """Fill a range as one submission (see :class:`Fill`)."""
        self.queue_execute([Fill(target, pattern, offset, length)], wait=wait, signal=signal, queue=queue)

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
        """Copy a range as one submission (see :class:`Copy`)."""
        command = Copy(source, target, source_offset, target_offset, length)
        self.queue_execute([command], wait=wait, signal=signal, queue=queue)

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
        """Write host bytes as one submission (see :class:`Update`); capability ``update``."""
        self.queue_execute([Update(target, data, offset)], wait=wait, signal=signal, queue=queue)

    def create_command_buffer(self, commands: Iterable[Command], *, one_shot: bool = False) -> CommandBuffer:
        """Record commands for :meth:`queue_execute`; capability ``reusable-commands`` unless ``one_shot``."""
        return CommandBuffer(commands, one_shot=one_shot)

    # --- what only some HALs have

    def queue_alloca(
        self,
        size: int,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> Buffer:
        """Return at once a buffer that may be used after the signal; capability ``async-alloc``.

        :raises HalError: ``RESOURCE_EXHAUSTED`` when no device could serve the size (or the signals fail with it).
        """
        raise UnsupportedOperation(Capability.ASYNC_ALLOC.value)

    def queue_dealloca(
        self,
        buffer: Buffer,
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        """Free a buffer of :meth:`queue_alloca` after the waits; capability ``async-alloc``."""
        raise UnsupportedOperation(Capability.ASYNC_ALLOC.value)

    def queue_host_call(
        self,
        function: Callable[[], object],
        *,
        wait: Iterable[Timepoint] = (),
        signal: Iterable[Timepoint] = (),
        queue: int = 0,
    ) -> None:
        """Call ``function`` once, after the waits and before the signals; capability ``host-call``.

        An exception fails the signals: a :class:`HalError` with its own status, another with ``UNKNOWN`` and its text.
        """
        raise UnsupportedOperation(Capability.HOST_CALL.value)

    def queue_flush(self, queue: int = 0) -> None:
        """Push on whatever the HAL still keeps to itself; capability ``flush``. May be called at any time."""
        raise UnsupportedOperation(Capability.FLUSH.value)

    def wait_semaphores(
        self,
        timepoints: Iterable[Timepoint],
        *,
        mode: WaitMode = WaitMode.ALL,
        timeout: float | None = None,
    ) -> None:
        """Block until all, or any, of the timepoints are reached; capabilities ``wait-all`` and ``wait-any``.

        An empty list is satisfied at once.

        :raises HalError: ``DEADLINE_EXCEEDED`` when the time is over, else a failure of one of the semaphores.
        """
        raise UnsupportedOperation((Capability.WAIT_ALL if mode is WaitMode.ALL else Capability.WAIT_ANY).value)

    def create_latch(self) -> Latch:
        """Return a closed latch for :class:`Hold`; capability ``hold``."""
        raise UnsupportedOperation(Capability.HOLD.value)

    def inject_device_loss(self, error: HalError) -> None:
        """Lose the device, with ``error``; capability ``device-loss-injection``."""
        raise UnsupportedOperation(Capability.DEVICE_LOSS_INJECTION.value)

    def statistics(self) -> Statistics:
        """Count what is alive; capability ``statistics``."""
        raise UnsupportedOperation(Capability.STATISTICS.value)
