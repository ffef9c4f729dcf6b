"""Queue actions: what is submitted, from the call until its signals are made or failed."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from pytest_cuda2hal.hal import HalError, StatusCode, failure_of_host_call

from .driver import OUT_OF_MEMORY, CudaError, Handle

if TYPE_CHECKING:
    from .commands import Program
    from .engine import Engine
    from .lane import Lane
    from .memory import CudaBuffer
    from .semaphore import EventSemaphore
    from .staging import PinnedBlock
    from .timepoints import DeviceWait

Point = tuple["EventSemaphore", int]

# What most actions need no more of; nobody adds to these. A submission makes few objects, since each costs time.
UNUSED: list[PinnedBlock] = []
NOTHING: set[DeviceWait] = set()


class State(enum.Enum):
    """The life of an action. Every path ends in ``RETIRED``, with each signal made or failed, once."""

    PENDING = "pending"  # waits not all met or bound to a producer, or no stream or no memory for it yet
    QUEUED = "queued"  # waits for room on its stream
    ISSUING = "issuing"
    IN_FLIGHT = "in flight"
    ABANDONED = "abandoned"  # failed already, but the device is not done with it
    RETIRED = "retired"


class Stage(enum.Enum):
    """How far the issue of an action, or of a slice of it, has come: it goes on from there after an interruption."""

    NOT_BEGUN = "not begun"
    LAUNCHING = "launching"
    SLICE_LAUNCHED = "slice launched"
    ALL_LAUNCHED = "all launched"


class Slice:
    """A part of an action with more launches than a stream takes at a time; it only makes room."""

    __slots__ = ("action", "clock", "event", "issued_weight", "number", "sequence")

    def __init__(self, action: Action, weight: int) -> None:
        self.action = action
        self.clock = action.clock
        self.sequence = action.sequence
        self.event: Handle | None = None
        self.issued_weight = weight
        self.number = 0


class Action:
    """Work with what it waits for and what it signals. Changed by whoever has the engine's role.

    It owns what it needs until the device is done with it: command buffers, buffers, latches, pinned memory.
    """

    __slots__ = (
        "__weakref__",
        "bound",
        "clock",
        "error",
        "event",
        "issued_weight",
        "lane",
        "number",
        "queue",
        "sequence",
        "signals",
        "stage",
        "staging",
        "state",
        "targets",
        "unresolved",
        "waits",
    )

    #: It runs on the host: every value that it waits for must be reached, no producer's event will do.
    on_host: ClassVar[bool] = False

    def __init__(self, queue: int, targets: list[Point], signals: list[Point]) -> None:
        self.queue = queue
        self.targets = targets
        self.signals = signals
        self.state = State.PENDING
        #: Registered waits, and those among them that nothing is known of yet.
        self.waits: Sequence[DeviceWait] = ()
        self.unresolved: set[DeviceWait] = NOTHING
        #: Waits that an issued producer will meet.
        self.bound: Sequence[tuple[EventSemaphore, int, Action]] = ()
        self.lane: Lane | None = None
        self.sequence = 0
        #: For work that waits across streams: up to where on each lane everything comes before it.
        self.clock: dict[Lane, int] | None = None
        self.event: Handle | None = None
        self.issued_weight = 0
        #: Its place among what its lane was given; the driver calls back with it.
        self.number = 0
        self.error: HalError | None = None
        self.stage = Stage.NOT_BEGUN
        self.staging: list[PinnedBlock] = UNUSED

    @property
    def weight(self) -> int:
        """How many launches are still to be issued."""
        return 0

    def advance(self, engine: Engine) -> None:
        """What the engine does with one that was just submitted."""
        engine.arm(self)

    def launch(self, engine: Engine, lane: Lane, room: int) -> bool:
        """Issue work to the lane's stream, at most ``room`` launches; return whether that was all.

        :raises HalError: it cannot be issued; what was issued is still to be waited for.
        """
        return True

    def ended(self, engine: Engine, error: HalError | None) -> None:
        """Called once, before the signals are made or failed."""

    def abandon(self, engine: Engine) -> None:
        """Nobody will know when the device is done with it: it keeps what it owns, and nobody must wait for it."""

    def let_go(self, engine: Engine) -> None:
        """The device is done: give back what the action owned."""
        if self.staging:
            blocks, self.staging = self.staging, UNUSED
            engine.context.staging.release(blocks)


class ExecuteAction(Action):
    """Commands; none of them makes a barrier."""

    __slots__ = ("_position", "_program")

    def __init__(self, queue: int, targets: list[Point], signals: list[Point], program: Program) -> None:
        super().__init__(queue, targets, signals)
        self._program: Program | None = program
        self._position = 0

    @property
    def weight(self) -> int:
        return self._program.weight_from(self._position) if self._program else 0

    def launch(self, engine: Engine, lane: Lane, room: int) -> bool:
        program = self._program
        assert program is not None
        if self._position == 0:
            program.check_alive()
        steps = program.steps
        self.issued_weight = 0
        while self._position < len(steps):
            step = steps[self._position]
            if self.issued_weight and self.issued_weight + step.weight > room:
                return False
            self.issued_weight += step.weight  # before, as a step that fails may have issued a part
            step.launch(self, engine, lane)
            self._position += 1
        return True

    def let_go(self, engine: Engine) -> None:
        self._program = None
        super().let_go(engine)


class AllocaAction(Action):
    """Takes device memory in stream order."""

    __slots__ = ("buffer",)

    def __init__(self, queue: int, targets: list[Point], signals: list[Point], buffer: CudaBuffer) -> None:
        super().__init__(queue, targets, signals)
        self.buffer: CudaBuffer | None = buffer

    @property
    def weight(self) -> int:
        return 1

    def launch(self, engine: Engine, lane: Lane, room: int) -> bool:
        assert self.buffer is not None
        try:
            self.buffer.allocate(lane.stream)
        except CudaError as error:
            if error.result == OUT_OF_MEMORY and engine.frees_in_flight:
                raise RetryAfterFreeError from None
            raise
        self.issued_weight = 1
        return True

    def let_go(self, engine: Engine) -> None:
        self.buffer = None
        super().let_go(engine)


class RetryAfterFreeError(Exception):
    """There is too little memory now, but some is being freed: the action is issued again after that."""


class DeallocaAction(Action):
    """Gives device memory back in stream order."""

    __slots__ = ("_buffer", "_issued")

    def __init__(self, queue: int, targets: list[Point], signals: list[Point], buffer: CudaBuffer) -> None:
        super().__init__(queue, targets, signals)
        self._buffer: CudaBuffer | None = buffer
        self._issued = False

    @property
    def weight(self) -> int:
        return 1

    def launch(self, engine: Engine, lane: Lane, room: int) -> bool:
        assert self._buffer is not None
        self._buffer.free(lane.stream)
        self._issued = True
        self.issued_weight = 1
        engine.frees_in_flight.add(self)
        return True

    def abandon(self, engine: Engine) -> None:
        self._end_of_free(engine)

    def ended(self, engine: Engine, error: HalError | None) -> None:
        if error and not self._issued and self._buffer is not None:
            self._buffer.dealloca_queued = False  # it stays allocated and may be freed again

    def let_go(self, engine: Engine) -> None:
        self._buffer = None
        self._end_of_free(engine)
        super().let_go(engine)

    def _end_of_free(self, engine: Engine) -> None:
        if self in engine.frees_in_flight:
            engine.memory_was_freed()  # first: after an interruption it is told again
            engine.frees_in_flight.discard(self)


class HostCallAction(Action):
    """Calls a function on a thread of its own."""

    __slots__ = ("_function", "_thread")

    on_host: ClassVar[bool] = True

    def __init__(self, queue: int, targets: list[Point], signals: list[Point], function: Callable[[], object]) -> None:
        super().__init__(queue, targets, signals)
        self._function: Callable[[], object] | None = function
        self._thread: threading.Thread | None = None

    def start(self, engine: Engine) -> None:
        """Begin the call, unless that was done before an interruption.

        :raises HalError: no thread could be started.
        """
        if self._thread is not None and self._thread.ident is not None:
            return
        self._thread = thread = threading.Thread(target=self._call, args=(engine,), name="hal-host-call", daemon=True)
        engine.host_calls.add(thread)
        try:
            thread.start()
        except BaseException as error:
            if thread.ident is None:
                engine.host_calls.discard(thread)
            if thread.ident is not None or not isinstance(error, RuntimeError):  # a signal handler's: the call is made
                raise
            raise HalError(StatusCode.RESOURCE_EXHAUSTED, f"no thread for a host call: {error}") from None

    def _call(self, engine: Engine) -> None:
        failure: HalError | None = None
        function, self._function = self._function, None
        if function is None:  # another thread makes the call: the start of that one was interrupted
            engine.host_calls.discard(threading.current_thread())
            return
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - a host call may raise anything (H-2), SystemExit included
            failure = failure_of_host_call(error)
        del function
        engine.host_calls.discard(threading.current_thread())
        engine.inbox.append(HostCallEnd(self, failure))
        engine.turn()

    def let_go(self, engine: Engine) -> None:
        self._function = None
        super().let_go(engine)


class HostCallEnd:
    """A host call has returned, or raised."""

    __slots__ = ("_action", "_error")

    def __init__(self, action: HostCallAction, error: HalError | None) -> None:
        self._action = action
        self._error = error

    def advance(self, engine: Engine) -> None:
        """Make the call's signals, or fail them."""
        engine.end(self._action, self._error)
