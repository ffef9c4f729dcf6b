"""The engine: pending queue actions, from submission to issue to retirement.

There is one worker's place, the *role*, and whoever has something to do takes it if it is free: the thread that
submits, signals or waits, or the completer of a lane. What is to be done lies in the inbox; a thread that finds the
role taken leaves its message there, and the one who has the role does it before letting go. So actions, lanes and
buffers need no locks of their own, all waits bind to events known to be recorded, and no two threads pass the GIL to
and fro at each driver call.

A message leaves the inbox only when it has been dealt with, and dealing with it twice is harmless: an exception from a
signal handler (Ctrl-C), which may come at any point of the main thread, loses nothing. A completer goes on from there.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from pytest_cuda2hal.hal import HalError, StatusCode, WaitMode

from .actions import Action, HostCallAction, RetryAfterFreeError, Slice, State
from .driver import CudaError, error_of
from .events import HostEventPool
from .hostwait import HostWait, wait_for
from .locks import Rank, make_lock
from .memory import Memory
from .parameters import EVENT
from .timepoints import DeviceWait, TimepointPool, Waiting

if TYPE_CHECKING:
    from .context import Context
    from .events import DeviceEvent
    from .lane import Lane
    from .memory import CudaLatch
    from .semaphore import EventSemaphore

#: Messages that a thread of the user's deals with before it leaves the rest to a completer.
PATIENCE = 2000
#: Of how many submissions to a full lane one looks whether there is room by now.
LOOK_EVERY = 32


class Message(Protocol):
    """Something for whoever has the role."""

    def advance(self, engine: Engine) -> None: ...


class Engine:
    """See the module. Thread-safe where nothing else is said; what says so expects the role."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.driver = context.driver
        self.parameters = parameters = context.parameters
        self.events = context.events
        self.host_events = HostEventPool(parameters.event_pool_capacity)
        self.timepoints = TimepointPool(parameters.event_pool_capacity)
        self.memory = Memory(context.memory_total)
        self.may_spin = parameters.completion == EVENT
        self.lanes = context.lanes
        self._callbacks = [
            context.make_callback(lane) if lane.callback_stream is not None else None for lane in self.lanes
        ]
        for lane in self.lanes:
            lane.engine = weakref.ref(self)
        self._role = make_lock(Rank.ROLE, check=parameters.check_locks)
        self.inbox: deque[Message] = deque()
        #: What finalizers left behind: functions and their arguments. They append, and do nothing else.
        self.trash: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._ready: deque[Action] = deque()
        #: Accepted and not yet retired.
        self.actions: set[Action] = set()
        #: Actions that wait for memory to be freed, and frees that the device has yet to do.
        self._starved: deque[Action] = deque()
        self.frees_in_flight = 0
        self.sleepers: set[HostWait] = set()
        self.host_calls: set[threading.Thread] = set()
        self.latches: weakref.WeakSet[CudaLatch] = weakref.WeakSet()
        self.lost: HalError | None = None
        self.closed = False
        self._count_lock = make_lock(Rank.POOL, check=parameters.check_locks)
        self._semaphores = 0
        self.semaphores_gone: deque[None] = deque()
        self.buffers = 0

    # --- counting, and what finalizers leave

    def semaphore_made(self) -> None:
        with self._count_lock:
            self._semaphores += 1

    def buffer_made(self) -> None:
        with self._count_lock:
            self.buffers += 1

    def live_semaphores(self) -> int:
        """Count the semaphores that somebody has."""
        gone = self.semaphores_gone
        with self._count_lock:
            for _ in range(len(gone)):
                gone.popleft()
                self._semaphores -= 1
            return self._semaphores

    def waiting_hosts(self) -> int:
        """Count the timepoints that host threads wait for."""
        return sum(wait.unmet for wait in list(self.sleepers))

    def discard(self, function: Callable[..., None], *arguments: object) -> None:
        """Have ``function(engine, *arguments)`` called by whoever has the role next. Safe in a finalizer."""
        self.trash.append((function, arguments))

    def discard_after(self, lane: Lane, function: Callable[..., None], *arguments: object) -> None:
        """The same, but only when everything that is in flight on a lane now is done; the role is held."""
        if lane.in_flight:
            newest = lane.in_flight[-1]
            owner = newest.action if isinstance(newest, Slice) else newest
            weakref.finalize(owner, self.trash.append, (function, arguments)).atexit = False
        else:
            self.discard(function, *arguments)

    # --- waiting, and taking turns

    def wait_for(
        self, targets: list[tuple[EventSemaphore, int]], timeout: float | None, mode: WaitMode = WaitMode.ALL
    ) -> None:
        """Block the calling thread until the targets are reached. Thread-safe.

        :raises HalError: a failure of one of the semaphores, else ``DEADLINE_EXCEEDED``.
        """
        wait_for(self, targets, timeout, mode)

    def turn(self, *, patient: bool = False) -> None:
        """Deal with what lies in the inbox, unless somebody does already; ``patient`` waits for its turn."""
        role = self._role
        patience = PATIENCE
        while self.inbox or self.trash or self._ready:
            if not role.acquire(patient):
                return
            if len(self.semaphores_gone) > 1000:
                self.live_semaphores()
            try:
                patience -= self._drain(None if patient else patience)
            except BaseException:
                self.wake_service()
                raise
            finally:
                role.release()
            if patience <= 0:
                self.wake_service()
                return

    def _drain(self, limit: int | None) -> int:
        """Deal with up to ``limit`` messages, and say with how many; the role is held."""
        self.context.bind()
        inbox, ready, trash = self.inbox, self._ready, self.trash
        done = 0
        while limit is None or done < limit:
            if ready:
                self._issue(ready[0])
                ready.popleft()
            elif inbox:
                inbox[0].advance(self)
                inbox.popleft()
            elif trash:
                function, arguments = trash[0]
                function(self, *arguments)
                trash.popleft()
            else:
                break
            done += 1
        return done

    def tell_later(self, semaphore: EventSemaphore, due: list[Waiting]) -> None:
        """A thread was interrupted while it told those who wait for a semaphore: a completer does it."""
        self.inbox.append(Telling(semaphore, due))
        self.wake_service()

    def wake_service(self) -> None:
        """Have a completer take a turn."""
        self.lanes[0].alarm.set()

    def wake_completers(self, lanes: Iterable[Lane]) -> None:
        """A thread is about to sleep until work is done: do not let the completers take their time."""
        for lane in lanes or self.lanes:
            if lane.in_flight:
                lane.alarm.set()

    # --- submission; the role is held from here on

    def submit(self, action: Action) -> None:
        """Take an action in. Thread-safe."""
        self.inbox.append(action)
        self.turn()

    def arm(self, action: Action) -> None:
        """Look at every wait of an action, register where there is something to wait for, and issue it if not."""
        if action.state is State.ISSUING:  # an interruption came between; go on
            self._issue(action)
        if action.state is not State.PENDING:
            return
        self._unregister(action)
        if self.closed:
            self._retire(action, HalError(StatusCode.CANCELLED, "the device was closed"))
            return
        if self.lost:
            self._retire(action, self.lost)
            return
        self.actions.add(action)
        bound = []
        is_resolved = True
        for semaphore, value in action.targets:
            failure, reached, producer = semaphore.look(value)
            if failure:
                self._retire(action, failure)
                return
            if reached:
                continue
            if producer is None or action.on_host:
                is_resolved = False
                break
            bound.append((semaphore, value, producer))
        if is_resolved:
            action.bound = bound
            self._issue(action)
        else:
            self._register(action, action.targets)

    def _register(self, action: Action, targets: Iterable[tuple[EventSemaphore, int]]) -> None:
        """Have the semaphores tell of an action's waits, and issue it if there is nothing to be told."""
        for semaphore, value in targets:
            wait = self.timepoints.acquire_device_wait(semaphore, value, action)
            failure, reached, producer = semaphore.register(wait)
            if failure:
                self._retire(action, failure)
                return
            if reached:
                self.timepoints.release([wait])
                continue
            action.waits.append(wait)
            if producer is None or action.on_host:
                action.unresolved.add(wait)
            else:
                wait.producer = producer
        if not action.unresolved:
            self._ready.append(action)

    def told(self, wait: DeviceWait) -> None:
        """A wait's value was reached, or its semaphore failed."""
        action = wait.action
        if action is None or action.state is not State.PENDING:
            return
        failure, reached, _ = wait.semaphore.look(wait.value)
        if failure:
            self._retire(action, failure)
        elif reached:
            action.unresolved.discard(wait)
            wait.producer = None
            if not action.unresolved:
                self._ready.append(action)

    # --- issue

    def _issue(self, action: Action) -> None:
        """Issue an action whose waits are all met or bound, or find out what it waits for now."""
        if action.state is not State.PENDING and action.state is not State.ISSUING:
            return
        if isinstance(action, HostCallAction):
            self._start(action)
            return
        if action.waits:
            action.bound = [(w.semaphore, w.value, w.producer) for w in action.waits if w.producer is not None]
        lane = action.lane or self._lane_for(action)
        if lane is None:
            # Every stream that may wait has something to wait for: this action waits on the host instead.
            if not action.waits:
                self._watch(action)
            return
        if lane.backlog or not lane.has_room(action.weight):
            if self.may_spin and len(lane.backlog) % LOOK_EVERY == 0:
                self.poll(lane)
            if lane.backlog or not lane.has_room(action.weight):
                action.state = State.READY
                action.lane = lane
                self._unregister(action)
                lane.backlog.append(action)
                return
        if not self._launch(action, lane) and not (lane.backlog and lane.backlog[0] is action):
            lane.backlog.appendleft(action)

    def _watch(self, action: Action) -> None:
        """Have the semaphores tell when the values that an action is bound to are reached."""
        for semaphore, value, producer in action.bound:
            wait = self.timepoints.acquire_device_wait(semaphore, value, action)
            wait.producer = producer
            failure, reached, _ = semaphore.register(wait)
            if failure:
                self._retire(action, failure)
                return
            if reached:
                self.timepoints.release([wait])
            else:
                action.waits.append(wait)
        if len(action.waits) < len(action.bound):
            self._ready.append(action)  # there is less to wait for than there was

    def _lane_for(self, action: Action) -> Lane | None:
        """Return the stream for an action: the first of its queue, unless it waits for running work of another.

        Such work goes to one of the other streams, if there is one on which everything comes before it anyway; so it
        holds back nothing that does not depend on it (rule 18). ``None`` when there is none at this moment.
        """
        first = action.queue * self.parameters.streams
        main = self.lanes[first]
        clock: dict[Lane, int] | None = None
        for _, _, producer in action.bound:
            lane = producer.lane
            if producer.state is State.RETIRED or lane is None or (lane is main and producer.clock is None):
                continue
            if clock is None:
                clock = {}
            for known, sequence in (producer.clock or {}).items():
                clock[known] = max(clock.get(known, 0), sequence)
            clock[lane] = max(clock.get(lane, 0), producer.sequence)
        if clock is None:
            return main
        for _, _, producer in action.bound:
            if producer.lane is main and producer.state is not State.RETIRED:
                clock[main] = max(clock.get(main, 0), producer.sequence)
        action.clock = clock
        for lane in self.lanes[first + 1 : first + self.parameters.streams]:
            if lane.is_idle or (not lane.backlog and lane.sequence <= clock.get(lane, 0)):
                return lane
        return None

    def _launch(self, action: Action, lane: Lane) -> bool:
        """Issue an action to a lane; return whether all of it was."""
        driver = self.driver
        error: HalError | None = None
        try:
            if action.state is not State.ISSUING:
                failure = self._failure_of_bound(action)
                if failure:
                    self._retire(action, failure)
                    return True
                action.state = State.ISSUING
                self._unregister(action)
                lane.sequence += 1
                action.lane, action.sequence = lane, lane.sequence
                if action.bound:
                    self._wait_for_producers(action, lane)
            finished = action.launch(self, lane, self.parameters.max_in_flight)
        except RetryAfterFreeError:
            action.state = State.PENDING
            action.lane = None
            self._starved.append(action)
            return True
        except HalError as raised:
            finished, error = True, raised.again()
            if isinstance(raised, CudaError) and raised.is_sticky:
                self.lose(raised)
        entry: Action | Slice = action if finished else Slice(action, action.issued_weight)
        event = None
        try:
            event = self.events.acquire()
            (result,) = driver.cuEventRecord(event.handle, lane.stream)
            if result:
                raise error_of(driver, "cuEventRecord", result)
            if lane.callback_stream is not None:
                self._call_back(lane, event.handle)
        except CudaError as raised:
            if event is not None:
                self.events.release([event])
            self._cannot_record(action, raised)
            return True
        lane.accept(entry, event)
        if not finished:
            return False
        if action.state is State.ISSUING:
            action.state = State.IN_FLIGHT
            action.error = error
            if error is None:
                self._publish(action)
        return True

    def _failure_of_bound(self, action: Action) -> HalError | None:
        """Return the failure of a semaphore that has failed since the action was bound to a producer of it."""
        for semaphore, value, _ in action.bound:
            failure = semaphore.failure_before(value)
            if failure:
                return failure
        return None

    def _wait_for_producers(self, action: Action, lane: Lane) -> None:
        """Have the lane's stream wait for the newest needed event of each other lane."""
        newest: dict[Lane, Action] = {}
        for _, _, producer in action.bound:
            other = producer.lane
            if other is None or other is lane or producer.state is State.RETIRED:
                continue
            if other not in newest or newest[other].sequence < producer.sequence:
                newest[other] = producer
        for producer in newest.values():
            assert producer.event is not None
            (error,) = self.driver.cuStreamWaitEvent(lane.stream, producer.event.handle, 0)
            if error:
                raise error_of(self.driver, "cuStreamWaitEvent", error)

    def _call_back(self, lane: Lane, event: Any) -> None:
        """Have the driver call the host when the event is reached, on a stream that holds up nothing."""
        (error,) = self.driver.cuStreamWaitEvent(lane.callback_stream, event, 0)
        if error:
            raise error_of(self.driver, "cuStreamWaitEvent", error)
        (error,) = self.driver.cuLaunchHostFunc(lane.callback_stream, self._callbacks[lane.index], 0)
        if error:
            raise error_of(self.driver, "cuLaunchHostFunc", error)

    def _cannot_record(self, action: Action, error: CudaError) -> None:
        """Nobody will know when the work is done: what it uses is kept for good, and its signals fail."""
        if error.is_sticky:
            self.lose(error)
        else:
            self.context.abandoned.append(action)
        self._retire(action, error)

    def _publish(self, action: Action) -> None:
        """The event of an action is recorded: bind to it whoever waits for what it will signal."""
        action.is_recorded = True
        for semaphore, value in action.signals:
            for wait in semaphore.recorded(value, action):
                assert isinstance(wait, DeviceWait)
                consumer = wait.action
                if consumer is None or consumer.state is not State.PENDING:
                    continue
                wait.producer = action
                consumer.unresolved.discard(wait)
                if not consumer.unresolved:
                    self._ready.append(consumer)

    def _start(self, action: HostCallAction) -> None:
        if action.state is not State.PENDING:
            return
        action.state = State.IN_FLIGHT
        self._unregister(action)
        try:
            action.start(self)
        except HalError as error:
            self._retire(action, error)

    def memory_was_freed(self) -> None:
        """Try again what found too little memory."""
        self._ready.extend(self._starved)
        self._starved.clear()

    # --- completion

    def spin(self, lane: Lane, semaphore: EventSemaphore, value: int, seconds: float, deadline: float | None) -> bool:
        """Query a lane's work for a short time; return whether the semaphore got somewhere. Thread-safe."""
        end = time.monotonic() + seconds
        if deadline is not None:
            end = min(end, deadline)
        while True:
            if self._role.acquire(False):
                try:
                    self.context.bind()
                    self.poll(lane)
                    self._drain(PATIENCE)
                except BaseException:
                    self.wake_service()
                    raise
                finally:
                    self._role.release()
            past = semaphore.is_past(value)
            if past or time.monotonic() >= end:
                self.turn()  # for messages left by those who found the role taken
                return past

    def poll(self, lane: Lane) -> int:
        """Ask the driver how much of a lane is done and retire that; return how many entries that was."""
        try:
            count = lane.finished()
        except CudaError as error:
            self.lose(error)
            count = len(lane.in_flight)
        self.retire(lane, count)
        return count

    def retire(self, lane: Lane, count: int) -> None:
        """Make the signals of the oldest ``count`` entries of a lane, and issue what they made room for.

        What these waited for on other lanes is done as well, and is retired before them: nobody may see the signal of a
        consumer before that of its producer.
        """
        events: list[DeviceEvent] = []
        touched = {lane}
        for _ in range(count):
            if not lane.in_flight:  # it has been retired as somebody's producer
                break
            if lane.in_flight[0].clock:
                self._retire_producers(lane, events, touched)
            self._retire_oldest(lane, events)
        self.events.release(events)
        for each in touched:
            if each.backlog:
                self._refill(each)

    def _retire_producers(self, lane: Lane, events: list[DeviceEvent], touched: set[Lane]) -> None:
        """Retire what comes before the oldest entry of a lane on other lanes, and what comes before that, and so on."""
        stack = [(lane, 0)]
        while stack:
            current, last = stack[-1]
            entry = current.in_flight[0] if current.in_flight else None
            if current is not lane and (entry is None or entry.sequence > last):
                stack.pop()
                continue
            assert entry is not None
            before = [
                (other, sequence)
                for other, sequence in (entry.clock or {}).items()
                if other is not current and other.in_flight and other.in_flight[0].sequence <= sequence
            ]
            if before:
                stack += before
            elif current is lane:
                return
            else:
                touched.add(current)
                self._retire_oldest(current, events)

    def _retire_oldest(self, lane: Lane, events: list[DeviceEvent]) -> None:
        entry = lane.in_flight[0]
        if isinstance(entry, Action):
            if entry.state is State.IN_FLIGHT:
                self._retire(entry, entry.error or (self._failure_of_bound(entry) if entry.bound else None))
            entry.let_go(self)
            entry.state = State.RETIRED
            entry.clock = None
        elif entry.action.state is State.ABANDONED:  # the rest of it will not be issued
            entry.action.let_go(self)
            entry.action.state = State.RETIRED
        event, entry.event = entry.event, None
        lane.in_flight.popleft()
        lane.retired += 1
        lane.weight -= max(1, entry.issued_weight)
        if event is not None:
            events.append(event)

    def _refill(self, lane: Lane) -> None:
        backlog = lane.backlog
        while backlog and lane.has_room(backlog[0].weight):
            action = backlog[0]
            if action.state in (State.READY, State.ISSUING) and not self._launch(action, lane):
                return  # there is more of it to come
            backlog.popleft()

    def end(self, action: Action, error: HalError | None) -> None:
        """An action that ran on the host is over."""
        if action.state is State.IN_FLIGHT:
            self._retire(action, error)
        action.let_go(self)

    def _retire(self, action: Action, error: HalError | None) -> None:
        """Make every signal of an action, or fail every signal semaphore. The only place where this is done."""
        state = action.state
        if state in (State.RETIRED, State.ABANDONED):
            return
        self._unregister(action)
        action.ended(self, error)
        for semaphore, value in action.signals:
            if error:
                if action.is_recorded:
                    semaphore.withdraw_signal(value, action)
                due = semaphore.fail_from_device(error)
            else:
                due = semaphore.signal_from_device(value, action)
            try:
                for wait in due:
                    if error:
                        wait.failed(error)
                    else:
                        wait.reached()
            except BaseException:
                self.tell_later(semaphore, due)
                raise
        self.actions.discard(action)
        action.bound = []
        on_device = state in (State.IN_FLIGHT, State.ISSUING) and not action.on_host
        action.state = State.ABANDONED if on_device else State.RETIRED
        if not on_device:
            action.let_go(self)

    def _unregister(self, action: Action) -> None:
        waits, action.waits = action.waits, []
        action.unresolved.clear()
        for wait in waits:
            wait.semaphore.unregister(wait)
        self.timepoints.release(waits)

    # --- the end

    def lose(self, error: HalError) -> None:
        """The device is lost: everything that has not finished fails with ``error``, and everything later too."""
        self.lost = self.lost or error.again()
        self._fail_all(self.lost)

    def _fail_all(self, error: HalError) -> None:
        for action in list(self.actions):
            self._retire(action, error)

    def exclusively(self, function: Callable[[], None]) -> None:
        """Call a function with the role held, and deal with what came of it. Thread-safe."""
        with self._role:
            self.context.bind()
            function()
        self.turn(patient=True)

    def cancel(self) -> None:
        """Fail everything that has not finished: the device closes."""
        self._fail_all(HalError(StatusCode.CANCELLED, "the device was closed"))

    def __del__(self) -> None:
        # Nobody has a handle any more: the completers end, and the last one takes everything down.
        for lane in getattr(self, "lanes", ()):
            lane.stopping = True
            lane.alarm.set()


class Telling:
    """Whoever waits for what a semaphore has reached is to be told."""

    __slots__ = ("_due", "_semaphore")

    def __init__(self, semaphore: EventSemaphore, due: list[Waiting]) -> None:
        self._semaphore = semaphore
        self._due = due

    def advance(self, engine: Engine) -> None:
        """Tell them, once more if need be."""
        self._semaphore.settle(self._due)
