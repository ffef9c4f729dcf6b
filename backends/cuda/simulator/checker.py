"""What watches the calls: it counts and logs them, fails them on demand, and notes what is legal but wrong.

It never changes what a call that is not failed on purpose returns.
"""

from __future__ import annotations

from collections import Counter, deque

from .enums import CUresult
from .handles import CUcontext, CUevent, CUstream, Handle
from .memory import Block

#: How many calls the log keeps.
LOG_LENGTH = 100_000


class Failure:
    """A failure that was ordered: after ``skip`` more calls, ``times`` calls return ``error``; ``None``: all."""

    def __init__(self, skip: int, error: CUresult, times: int | None) -> None:
        self.skip = skip
        self.error = error
        self.times = times


class Checker:
    """Calls seen, failures ordered, wrongs found. Everything under the driver's lock, except reading the results."""

    def __init__(self, *, enabled: bool, record_calls: bool) -> None:
        self.enabled = enabled
        #: What was wrong, each in a line that begins with the call's name.
        self.violations: list[str] = []
        #: How often each function was called.
        self.calls: Counter[str] = Counter()
        #: Calls with their arguments, oldest first, where they are recorded.
        self.log: deque[tuple[str, tuple[object, ...]]] = deque(maxlen=LOG_LENGTH if record_calls else 0)
        self.record_calls = record_calls
        self.failures: dict[str, list[Failure]] = {}

    def planned_failure(self, name: str) -> CUresult | None:
        """Return the error that this call was ordered to return."""
        for failure in self.failures.get(name, ()):
            if failure.skip:
                failure.skip -= 1
            elif failure.times is None or failure.times > 0:
                if failure.times is not None:
                    failure.times -= 1
                return failure.error
        return None

    def blame(self, name: str, what: str) -> None:
        """Note a violation."""
        if self.enabled:
            self.violations.append(f"{name}: {what}")

    def unusable(self, name: str, handle: object, kind: type[Handle], *, destroying: bool) -> None:
        """A handle is of the wrong kind, or destroyed."""
        if isinstance(handle, kind):
            self.blame(name, f"double destroy of {handle!r}" if destroying else f"use after destroy of {handle!r}")
        else:
            self.blame(name, f"{handle!r} is not a {kind.__name__}")

    def stream_destroyed(self, name: str, stream: CUstream) -> None:
        """A stream is destroyed; its work should have finished, unless the context is lost."""
        if stream.completed < stream.enqueued and stream.context.error is None:
            self.blame(name, f"{stream!r} has {stream.enqueued - stream.completed} unfinished operations")
        if stream.capture is not None:
            self.blame(name, f"{stream!r} is capturing")

    def event_destroyed(self, name: str, event: CUevent) -> None:
        """An event is destroyed; no thread should be waiting for it."""
        if event.synchronizing:
            self.blame(name, f"{event.synchronizing} threads synchronize on {event!r}")

    def host_memory_freed(self, name: str, block: Block) -> None:
        """Pinned memory is freed; no operation should be about to touch it."""
        if block.users:
            self.blame(name, f"{block.users} unfinished operations use the memory at {block.start:#x}")

    def context_released(self, name: str, context: CUcontext) -> None:
        """A context ends: nothing should be left in it, unless a fault made destroying impossible."""
        if context.error is None:
            for kind, count in sorted(live(context).items()):
                self.blame(name, f"{count} x {kind} left")


#: What is counted as live, besides handles.
PINNED = "pinned"
DEVICE_MEMORY = "device memory"


def live(context: CUcontext) -> Counter[str]:
    """Count what was created in a context and not destroyed, by kind."""
    counts = Counter(type(one).__name__ for one in context.handles)
    for block in context.memory.known.blocks.values():
        if not block.freed:
            counts[PINNED if block.buffer is not None else DEVICE_MEMORY] += 1
    return counts
