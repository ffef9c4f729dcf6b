"""Completers: a thread per lane that notices finished work when nobody else does.

Progress needs no caller (rule 14): when nobody waits, submits or signals, these threads publish values, issue what
waited for them and let resources go. They are built in two ways, which the parameter ``completion`` chooses between:

* :class:`EventCompleter` sleeps in ``cuEventSynchronize`` on the oldest work of its lane;
* :class:`HostFunctionCompleter` sleeps until a host function that follows each piece of work wakes it.

A completer keeps its lane alive, never its engine: with the last handle the engine goes and the completers end.
"""

from __future__ import annotations

import threading
import time
import weakref
from queue import SimpleQueue

from .driver import CudaError, error_of
from .engine import Engine
from .issue import refill
from .lane import Lane

#: Seconds between looks of an event completer while no thread sleeps for the work of its lane. Threads that submit and
#: wait retire work as well, and two threads that take turns at the GIL are slow: it leaves them alone for so long as
#: its oldest work is another one each time.
PACE_SECONDS = 1e-3
#: Looks at an idle lane before its completer sleeps until it is woken.
IDLE_LOOKS = 20
#: Seconds between looks of a host-function completer at its oldest work: after a fault no host function is called.
FAULT_SECONDS = 0.1


class Completer:
    """What both have in common: the thread, its context, and its end."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._begun: SimpleQueue[CudaError | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name=f"hal-lane-{lane.index}", daemon=True)
        lane.context.enter(self.thread)
        try:
            self.thread.start()
        except BaseException:
            if self.thread.ident is None:  # else it runs, and leaves by itself
                lane.context.leave(self.thread)
            raise

    def wait_until_begun(self) -> None:
        """Return when the thread can work.

        :raises CudaError: it cannot use the context.
        """
        error = self._begun.get()
        if error is not None:
            raise error

    def _run(self) -> None:
        context = self._lane.context
        try:
            try:
                context.bind()
            except CudaError as error:
                self._begun.put(error)
                return
            self._begun.put(None)
            self._complete()
        except Exception as error:
            # A defect of ours. Nobody would notice what this lane finishes: say so to everyone instead of nothing.
            engine = self._lane.engine()
            if engine is not None:
                engine.lose_by(error, "a completer")
            raise
        finally:
            context.leave(self.thread)

    def _complete(self) -> None:
        raise NotImplementedError

    def _sleep(self) -> None:
        """Sleep until somebody puts work on the lane, or wants the thread to end."""
        lane = self._lane
        lane.asleep = True
        if lane.is_idle and not lane.stopping:
            lane.alarm.wait(-1)
        lane.asleep = False

    def _drop_all(self) -> None:
        """The engine has gone and the device is done with the work: nobody is left to be told."""
        self._lane.backlog.clear()
        self._lane.in_flight.clear()


class EventCompleter(Completer):
    """Synchronises on events."""

    def _complete(self) -> None:
        lane = self._lane
        idle_looks = 0
        retired = -1
        while lane.in_flight or not lane.stopping:
            if lane.is_idle:
                if idle_looks < IDLE_LOOKS:
                    lane.alarm.wait(PACE_SECONDS)
                    idle_looks += 1
                else:
                    self._sleep()
                    idle_looks = 0
                continue
            idle_looks = 0
            engine = lane.engine()
            if engine is not None and not engine.sleepers and not lane.stopping:
                lane.alarm.wait(PACE_SECONDS)
                before, retired = retired, lane.retired
                if before != retired:
                    del engine
                    continue  # those who submit retire it as well; there is no need to be in their way
            self._retire_or_wait(engine)
            del engine

    def _retire_or_wait(self, engine: Engine | None) -> None:
        """Retire what is done; if nothing is, sleep in the driver until the oldest work is."""
        lane = self._lane
        driver = lane.context.driver
        if engine is None:
            driver.cuStreamSynchronize(lane.stream)
            self._drop_all()
            return
        is_held = is_watched = False

        def look() -> None:
            nonlocal is_held, is_watched
            is_held = not engine.poll(lane) and bool(lane.in_flight)
            # Of a driver that has failed once nobody knows whether it will say when the work is done.
            is_watched = is_held and engine.lost is None and lane.watch()

        engine.exclusively(look)
        if not is_watched:
            if is_held:
                lane.alarm.wait(PACE_SECONDS)
            return
        (error,) = driver.cuEventSynchronize(lane.watch_event)
        if error:
            failure = error_of(driver, "cuEventSynchronize", error)
            engine.exclusively(lambda: engine.lose(failure))
        engine.exclusively(lambda: _poll(engine, lane))


def _poll(engine: Engine, lane: Lane) -> None:
    engine.poll(lane)


class HostFunctionCompleter(Completer):
    """Is called back by the driver."""

    def _complete(self) -> None:
        lane = self._lane
        looked = time.monotonic()
        while lane.in_flight or not lane.stopping:
            if not lane.is_idle:
                lane.alarm.wait(FAULT_SECONDS)
            else:
                self._sleep()
            engine = lane.engine()
            if engine is None:
                if not lane.is_idle:
                    lane.context.driver.cuStreamSynchronize(lane.stream)
                    self._drop_all()
                continue
            if lane.was_called_back():
                engine.exclusively(lambda engine=engine: self._retire_called(engine))  # type: ignore[misc]
            elif time.monotonic() - looked > FAULT_SECONDS:  # whoever woke it
                looked = time.monotonic()
                engine.exclusively(lambda engine=engine: self._look_for_fault(engine))  # type: ignore[misc]
            del engine

    def _retire_called(self, engine: Engine) -> None:
        lane = self._lane
        engine.retire(lane, lane.called_back())

    def _look_for_fault(self, engine: Engine) -> None:
        lane = self._lane
        if not lane.in_flight:
            refill(engine, lane)  # somebody may have been interrupted before
            return
        event = lane.in_flight[0].event
        assert event is not None
        (error,) = lane.context.driver.cuEventQuery(event)
        if not error:  # no host function was launched for it, which may have failed or been interrupted; or it is late
            engine.retire(lane, 1)
            return
        failure = error_of(lane.context.driver, "cuEventQuery", error)
        if failure.is_sticky:
            engine.lose(failure)
            engine.retire(lane, len(lane.in_flight))


class Service:
    """A thread that takes a turn whenever it is told that messages were left. It never waits in the driver."""

    def __init__(self, engine: Engine) -> None:
        self._engine = weakref.ref(engine)
        self._alarm = engine.service_alarm
        self._context = engine.context
        self.thread = threading.Thread(target=self._run, name="hal-service", daemon=True)
        self._context.enter(self.thread)
        try:
            self.thread.start()
        except BaseException:
            if self.thread.ident is None:
                self._context.leave(self.thread)
            raise

    def _run(self) -> None:
        try:
            while True:
                self._alarm.wait(-1)
                engine = self._engine()
                if engine is None or engine.service_stops:
                    return
                engine.turn(patient=True)
                del engine
        except Exception as error:
            # A defect of ours. What finalizers leave would lie there, unnoticed: say so to everyone.
            engine = self._engine()
            if engine is not None:
                engine.lose_by(error, "the service thread")
            raise
        finally:
            self._context.leave(self.thread)


def start_completers(engine: Engine, kind: type[Completer]) -> list[threading.Thread]:
    """Start a completer for each lane, and the service thread; return their threads."""
    completers = [kind(lane) for lane in engine.lanes]
    for completer in completers:
        completer.wait_until_begun()
    return [*(completer.thread for completer in completers), Service(engine).thread]
