"""From in flight to retired: signals made or failed, resources let go. Functions here expect the engine's role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import HalError

from .actions import NOTHING, Action, State
from .driver import Handle

if TYPE_CHECKING:
    from .engine import Engine
    from .lane import Lane
    from .timepoints import Waiting


def retire(engine: Engine, lane: Lane, count: int) -> set[Lane]:
    """Make the signals of the oldest ``count`` entries of a lane; return the lanes that have more room now.

    What these waited for on other lanes is done as well, and is retired before them: nobody may see the signal of a
    consumer before that of its producer.
    """
    events: list[Handle] = []
    touched = {lane}
    try:
        for _ in range(count):
            if not lane.in_flight:  # it has been retired as somebody's producer
                break
            if lane.in_flight[0].clock:
                _retire_producers(engine, lane, events, touched)
            _retire_oldest(engine, lane, events)
    finally:
        engine.events.release(events)
    return touched


def _retire_producers(engine: Engine, lane: Lane, events: list[Handle], touched: set[Lane]) -> None:
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
            _retire_oldest(engine, current, events)


def _retire_oldest(engine: Engine, lane: Lane, events: list[Handle]) -> None:
    entry = lane.in_flight[0]
    if isinstance(entry, Action):
        # ISSUING: an interruption came between its going in flight and the note of it; nobody comes back to that.
        if entry.state is State.IN_FLIGHT or entry.state is State.ISSUING:
            finish(engine, entry, entry.error or (failure_of_bound(engine, entry) if entry.bound else None))
        entry.let_go(engine)
        entry.state = State.RETIRED
        entry.clock = None
    elif entry.action.state is State.ABANDONED:  # the rest of it will not be issued
        entry.action.let_go(engine)
        entry.action.state = State.RETIRED
    lane.in_flight.popleft()  # an interruption before this does it all again, and one after it loses an event at most
    lane.retired += 1
    lane.weight -= max(1, entry.issued_weight)
    event, entry.event = entry.event, None
    if event is not None:
        events.append(event)


def finish(engine: Engine, action: Action, error: HalError | None) -> None:
    """Make every signal of an action, or fail every signal semaphore. The only place where this is done."""
    state = action.state
    if state is State.RETIRED or state is State.ABANDONED:
        return
    action.ended(engine, error)
    for semaphore, value in action.signals:
        due: list[Waiting] = []
        try:
            if error:
                semaphore.fail_from_device(error, due)
            else:
                semaphore.signal_from_device(value, action, due)
            for wait in due:
                if error:
                    wait.failed(error)
                else:
                    wait.reached()
        except BaseException:
            engine.tell_later(semaphore, due)
            raise
    engine.actions.discard(action)
    unregister(engine, action)  # last: an interruption before this finds the wait that told of it, and does it again
    action.bound = ()
    on_device = not action.on_host and (state is State.IN_FLIGHT or state is State.ISSUING)
    if on_device and action.event is None:
        engine.abandoned.append(action)  # some of it may run, and nothing will tell when that ends
    action.state = State.ABANDONED if on_device else State.RETIRED
    if not on_device:
        action.let_go(engine)


def failure_of_bound(engine: Engine, action: Action) -> HalError | None:
    """Return the failure of a semaphore that has failed since the action was bound to a producer of it."""
    for semaphore, value, _ in action.bound:
        failure = semaphore.failure_before(value)
        if failure:
            return failure
    return None


def unregister(engine: Engine, action: Action) -> None:
    """No semaphore is to tell the action of anything any more."""
    waits = action.waits
    if not waits:
        return
    for wait in waits:
        if wait.semaphore is not None:
            wait.semaphore.unregister(wait)
    # Only now: after an interruption there is still something unresolved, so that none of them starts the action.
    action.unresolved = NOTHING
    action.waits = ()
    engine.timepoints.release(waits)
