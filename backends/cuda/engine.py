"""The engine: pending queue actions, from submission to issue to retirement.

There is one worker's place, the *role*, and whoever has something to do takes it if it is free: the thread that
submits, signals or waits, or the completer of a lane. What is to be done lies in the inbox; a thread that finds the
role taken leaves its message there, and the one who has the role does it before letting go. So actions, lanes and
buffers need no locks of their own, all waits bind to events known to be recorded, and no two threads pass the GIL to
and fro at each driver call.

An exception from a signal handler (Ctrl-C) may come at any point of the main thread, also in the middle of a turn. So
the role is let go by whoever owns it, wherever the exception came; a message leaves the inbox only when it has been
dealt with, and the service thread goes on from there; and what must not be done twice says that it has begun: work
whose issue was interrupted fails its signals, and is not issued again.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from pytest_cuda2hal.hal import HalError, StatusCode

from .actions import Action, State
from .driver import CudaError, nested_call
from .events import HostEvent, HostEventPool
from .issue import announce, issue, refill
from .locks import Rank, make_lock, make_owned_lock
from .memory import Memory
from .parameters import EVENT
from .pending import arm, told
from .retirement import finish, retire
from .timepoints import DeviceWait, TimepointPool, Waiting

if TYPE_CHECKING:
    from .context import Context
    from .hostwait import HostWait
    from .lane import Lane
    from .memory import CudaLatch
    from .semaphore import EventSemaphore

#: Seconds that a thread waits for a completer to leave the role; it does so after the message that it is at.
TAKE_OVER_SECONDS = 2e-3
#: Messages that a thread of the user's deals with before it leaves the rest to a completer.
PATIENCE = 2000


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
        self.memory = Memory(context.memory_total, check_locks=parameters.check_locks)
        self.may_spin = parameters.completion == EVENT
        self.lanes = context.lanes
        self.callbacks = [None if self.may_spin else context.make_callback(lane) for lane in self.lanes]
        for lane in self.lanes:
            lane.engine = weakref.ref(self)
        self._role = make_owned_lock(Rank.ROLE, check=parameters.check_locks)
        #: Whether the context is current on the thread that has the role, which may have failed; see :meth:`_bind`.
        self.is_bound = False
        #: A completer has the role, and somebody else would like to.
        self._is_completers = self._is_wanted = False
        #: Wakes the service thread, which does what no thread of the user's will: it never waits in the driver.
        self.service_alarm = HostEvent()
        #: The newest errors of what finalizers left.
        self.clearing_errors: deque[CudaError] = deque(maxlen=16)
        self.inbox: deque[Message] = deque()
        #: What finalizers left behind: functions and their arguments. They append, and do nothing else.
        self.trash: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.ready: deque[Action] = deque()
        #: Accepted and not yet retired.
        self.actions: set[Action] = set()
        #: Actions that wait for memory to be freed, and frees that the device has yet to do.
        self.starved: deque[Action] = deque()
        self.frees_in_flight: set[Action] = set()
        self.sleepers: set[HostWait] = set()
        self.host_calls: set[threading.Thread] = set()
        self.latches: weakref.WeakSet[CudaLatch] = weakref.WeakSet()
        #: Actions that the device may not be done with, though nobody will know when it is; kept until the end. Not the
        #: context's, which the completers keep alive: each action holds the engine by its semaphores and buffers.
        self.abandoned: list[Action] = []
        self.service_stops = False
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

    def buffer_gone(self) -> None:
        with self._count_lock:
            self.buffers -= 1

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
        self.wake_service()  # the completers may all be in the driver, and no call may ever come

    # --- taking turns

    def turn(self, *, patient: bool = False) -> None:
        """Deal with what lies in the inbox, unless somebody does already; ``patient`` waits for its turn."""
        role = self._role
        patience = PATIENCE
        try:
            while self.inbox or self.trash or self.ready:
                if role._is_owned():
                    return  # a finalizer of the user's, in the middle of a turn, which goes on after it
                if not role.acquire(patient) and not self._take_over():
                    return
                self._is_completers = patient
                patience -= self._drain(None if patient else patience)
                self._is_completers = False
                role.release()
                if patient and self._is_wanted:
                    return  # whoever wants it does the rest
                if patience <= 0:
                    self.wake_service()
                    return
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        """An exception came out of the role's work, or from a signal handler at any point round it."""
        if self._role._is_owned():
            self._is_completers = False
            self._role.release()
        for lane in self.lanes:
            if not lane.is_idle:
                lane.alarm.set()
        self.wake_service()

    def _take_over(self) -> bool:
        """Take the role from a completer, which leaves it when asked; False if another thread of the user's has it.

        Else a completer that was called in once would do the work of a thread that goes on submitting, and the two
        would take turns at the GIL all the while.
        """
        if not self._is_completers:
            return False
        taken = False
        try:
            self._is_wanted = True
            taken = self._role.acquire(True, TAKE_OVER_SECONDS)
        finally:
            self._is_wanted = False
            if not taken:
                self.wake_service()
        return taken

    def _drain(self, limit: int | None) -> int:
        """Deal with up to ``limit`` messages, and say with how many; the role is held."""
        self._bind()
        inbox, ready, trash = self.inbox, self.ready, self.trash
        done = 0
        while (not self._is_wanted) if limit is None else done < limit:
            if trash:  # first, since it makes room
                self._clear(*trash.popleft())
            elif ready:
                self.issue(ready[0])
                ready.popleft()
            elif inbox:
                inbox[0].advance(self)
                inbox.popleft()
            else:
                break
            done += 1
        if len(self.semaphores_gone) > 1000:
            self.live_semaphores()
        return done

    def _bind(self) -> None:
        """Make the context current; where that fails the device is lost, and whoever waits for it hears so."""
        self.is_bound = False
        try:
            self.context.bind()
        except CudaError as error:
            self.lose(error)
        else:
            self.is_bound = True

    def _clear(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Do what a finalizer left. Never twice: to lose some memory is better than to free it again.

        Whoever happens to have the role is not the one to hear of an error; it is kept in :attr:`clearing_errors`.
        """
        try:
            function(self, *arguments)
        except CudaError as error:
            self.clearing_errors.append(error)

    def tell_later(self, semaphore: EventSemaphore, due: list[Waiting]) -> None:
        """A thread was interrupted while it told those who wait for a semaphore: a completer does it."""
        self.inbox.append(Telling(semaphore, due))
        self.wake_service()

    def wake_service(self) -> None:
        """Have the service thread take a turn. Safe in a finalizer."""
        self.service_alarm.set()

    def wake_completers(self, lane: Lane | None) -> None:
        """A thread is about to sleep until work is done: do not let the completers of it take their time."""
        for each in self.lanes if lane is None else (lane,):
            if each.in_flight:
                each.alarm.set()

    def submit(self, action: Action) -> None:
        """Take an action in. Thread-safe."""
        try:
            self.inbox.append(action)
        except BaseException:
            self.wake_service()
            raise
        self.turn()

    # --- what messages ask for; the role is held from here on

    def arm(self, action: Action) -> None:
        """Find out what a new action waits for."""
        arm(self, action)

    def issue(self, action: Action) -> None:
        """Issue an action that has nothing left to wait for."""
        issue(self, action)

    def told(self, wait: DeviceWait) -> None:
        """Look at what a wait was told about: a value reached, or a failure."""
        told(self, wait)

    def memory_was_freed(self) -> None:
        """Try again what found too little memory."""
        self.ready.extend(self.starved)
        self.starved.clear()

    # --- completion

    def spin(self, lane: Lane, semaphore: EventSemaphore, value: int, seconds: float, deadline: float | None) -> bool:
        """Query a lane's work for a short time; return whether the semaphore got somewhere. Thread-safe."""
        end = 0.0
        role = self._role
        is_bound = False
        try:
            while True:
                if not role._is_owned() and role.acquire(False):
                    if not is_bound:
                        self._bind()
                        is_bound = True
                    if self.poll(lane) and (self.inbox or self.ready):
                        self._drain(PATIENCE)
                    role.release()
                past = semaphore.is_past(value)
                now = time.monotonic()
                if not end:
                    end = now + seconds if deadline is None else min(now + seconds, deadline)
                if past or now >= end:
                    break
        except BaseException:
            self._let_go()
            raise
        if self.inbox:  # left by those who found the role taken
            self.turn()
        return past

    def poll(self, lane: Lane) -> int:
        """Ask the driver how much of a lane is done and retire that; return how many entries that was."""
        try:
            count = lane.finished()
        except CudaError as error:  # whatever it is: nobody can tell any more what is done
            self.lose(error)
            count = len(lane.in_flight)
        if count:
            self.retire(lane, count)
        elif lane.backlog:  # somebody may have been interrupted before refilling
            refill(self, lane)
        return count

    def retire(self, lane: Lane, count: int) -> None:
        """Retire the oldest ``count`` entries of a lane, and issue what they made room for."""
        for each in retire(self, lane, count):
            if not self.may_spin:
                announce(self, each)
            if each.backlog:
                refill(self, each)

    def end(self, action: Action, error: HalError | None) -> None:
        """An action that ran on the host is over."""
        if action.state is State.IN_FLIGHT:
            finish(self, action, error)
        action.let_go(self)

    # --- the end

    def lose(self, error: HalError) -> None:
        """The device is lost: everything that has not finished fails with ``error``, and everything later too."""
        self.lost = self.lost or error.again()
        self._fail_all(self.lost)

    def lose_by(self, error: Exception, whose: str) -> None:
        """A thread of ours ends by a defect: the device is lost. Thread-safe."""
        failure = HalError(StatusCode.INTERNAL, f"{whose} has ended: {type(error).__name__}: {error}")
        self.exclusively(lambda: self.lose(failure))

    def _fail_all(self, error: HalError) -> None:
        for action in list(self.actions):
            finish(self, action, error)

    def exclusively(self, function: Callable[[], None]) -> None:
        """Call a function with the role held, and deal with what came of it. Thread-safe.

        :raises HalError: see :meth:`refuse_within_a_turn`.
        """
        self.refuse_within_a_turn()
        try:
            self._role.acquire()
            self._bind()
            self._is_completers = True
            function()
            self._is_completers = False
            self._role.release()
        except BaseException:
            self._let_go()
            raise
        self.turn(patient=True)

    def refuse_within_a_turn(self) -> None:
        """Raise if the calling thread has the role already, or is in a read, a write or an allocation.

        :raises HalError: ``FAILED_PRECONDITION``: a finalizer or a signal handler calls, in the middle of a call that
            has not come to its end.
        """
        if self._role._is_owned():
            raise nested_call()
        self.context.refuse_within_a_transfer()

    def make_room(self) -> None:
        """Give back what was dropped before this call, also what another thread is at. Thread-safe."""

        def clear() -> None:
            while self.trash:
                self._clear(*self.trash.popleft())

        if not self._role._is_owned():  # a finalizer's or a signal handler's call, in the middle of a turn
            self.exclusively(clear)

    def cancel(self) -> None:
        """Fail everything that has not finished: the device closes."""
        self._fail_all(HalError(StatusCode.CANCELLED, "the device was closed"))

    def __del__(self) -> None:
        # Nobody has a handle any more: the completers end, and the last one takes everything down.
        for lane in getattr(self, "lanes", ()):
            lane.stopping = True
            lane.alarm.set()
        self.service_stops = True  # it may wake while this object is still to be had, and would sleep for good after it
        service = getattr(self, "service_alarm", None)
        if service is not None:
            service.set()


class Telling:
    """Whoever waits for what a semaphore has reached is to be told."""

    __slots__ = ("_due", "_semaphore")

    def __init__(self, semaphore: EventSemaphore, due: list[Waiting]) -> None:
        self._semaphore = semaphore
        self._due = due

    def advance(self, engine: Engine) -> None:
        """Tell them, once more if need be."""
        self._semaphore.settle(self._due)
