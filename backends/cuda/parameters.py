"""What can be set when a device is opened."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_cuda2hal.hal import BadOption

EVENT = "event"
HOST_FUNCTION = "host-function"
COMPLETIONS = (EVENT, HOST_FUNCTION)

#: Streams that the driver lets work side by side at most (CUDA_DEVICE_MAX_CONNECTIONS in the CUDA programming guide),
#: and how many of them serve no queue. Watch streams only wait and record, which needs no connection.
CONNECTIONS = 32
SIDE_STREAMS = 1

#: Launches that a stream of an H100 (driver 580) took before the next one blocked its caller.
LAUNCH_LIMIT = 1020


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a device; each is an option of the backend spec (``cuda:queues=4:completion=host-function``).

    :raises BadOption: a value makes no sense; the text says which values do.
    """

    #: Dispatch queues, at least 1. The suite's cases about several queues need 2.
    queues: int = 2
    #: Streams per queue, at least 1. Work that waits for running work of another stream goes to one of those above the
    #: first, so that it holds back nobody; with all of them taken it waits on the host.
    streams: int = 3
    #: How finished work is noticed: ``event`` synchronises on events, ``host-function`` is called back by the driver.
    completion: str = EVENT
    #: Events that are kept for reuse; those needed beyond are made and destroyed.
    event_pool_capacity: int = 32
    #: Launches issued to a stream and not retired yet; more wait on the host. A stream takes about 1,000 launches that
    #: cannot start, then blocks its caller.
    max_in_flight: int = 256
    #: Bytes of device memory that may be in use; ``None`` for all that the device has.
    memory: int | None = None
    #: Bytes of freed device memory that are kept for reuse.
    memory_kept: int = 64 * 2**20
    #: Raise when a lock is taken out of order. Costs time; for tests.
    check_locks: bool = False

    def check(self, backend: str) -> Parameters:
        """Return self if every value makes sense."""
        lowest = {"queues": 1, "streams": 1, "event_pool_capacity": 0, "max_in_flight": 1, "memory_kept": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            self._check_int(backend, name, value)
            if value < least:
                raise BadOption(f"backend '{backend}': option '{name}' must be at least {least}, not {value}")
        if self.queues * self.streams > CONNECTIONS - SIDE_STREAMS:
            raise BadOption(
                f"backend '{backend}': 'queues' times 'streams' must be at most {CONNECTIONS - SIDE_STREAMS}, or a "
                f"held stream could hold another; not {self.queues} times {self.streams}"
            )
        if self.max_in_flight >= LAUNCH_LIMIT:
            raise BadOption(
                f"backend '{backend}': option 'max_in_flight' must be below {LAUNCH_LIMIT}, where launches begin to "
                f"block their caller; not {self.max_in_flight}"
            )
        if self.memory is not None:
            self._check_int(backend, "memory", self.memory)
            if self.memory < 1:
                raise BadOption(f"backend '{backend}': option 'memory' must be at least 1 byte, not {self.memory}")
        if self.completion not in COMPLETIONS:
            raise BadOption(
                f"backend '{backend}': option 'completion' is {' or '.join(COMPLETIONS)}, not '{self.completion}'"
            )
        return self

    @staticmethod
    def _check_int(backend: str, name: str, value: object) -> None:
        if type(value) is not int:
            raise BadOption(f"backend '{backend}': option '{name}' is an int, not {value!r}")
