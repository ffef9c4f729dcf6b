"""Pending queue actions: what each waits for, and when it has nothing left to wait for.

A semaphore knows which actions wait for which of its values, so a signal costs the logarithm of what waits for that
semaphore, whatever else is pending. Functions here expect the engine's role.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_cuda2hal.hal import HalError, StatusCode

from .actions import Action, State
from .retirement import finish, unregister
from .timepoints import DeviceWait

if TYPE_CHECKING:
    from .engine import Engine
    from .semaphore import EventSemaphore


def arm(engine: Engine, action: Action) -> None:
    """Look at every wait of an action, register where there is something to wait for, and issue it if not."""
    if action.state is State.ISSUING:  # an interruption came between; go on
        engine.ready.append(action)
    if action.state is not State.PENDING:
        return
    unregister(engine, action)
    if engine.closed:
        finish(engine, action, HalError(StatusCode.CANCELLED, "the device was closed"))
        return
    if engine.lost:
        finish(engine, action, engine.lost)
        return
    engine.actions.add(action)
    bound: list[tuple[EventSemaphore, int, Action]] = []
    is_resolved = True
    for semaphore, value in action.targets:
        failure, reached, producer = semaphore.look(value)
        if failure:
            finish(engine, action, failure)
            return
        if reached:
            continue
        if producer is None or action.on_host:
            is_resolved = False
            break
        bound.append((semaphore, value, producer))
    if is_resolved:
        action.bound = bound
        engine.issue(action)
    else:
        _register(engine, action, action.targets)


def _register(engine: Engine, action: Action, targets: Iterable[tuple[EventSemaphore, int]]) -> None:
    """Have the semaphores tell of an action's waits, and issue it if there is nothing to be told."""
    waits = [engine.timepoints.acquire_device_wait(semaphore, value, action) for semaphore, value in targets]
    # All of them: should an interruption come between two, whoever tells of the first must not take it for the last.
    action.unresolved = set(waits)
    action.waits = waits
    for wait in waits:
        assert wait.semaphore is not None
        failure, reached, producer = wait.semaphore.register(wait)
        if failure:
            finish(engine, action, failure)
            return
        if reached:
            action.unresolved.discard(wait)
        elif producer is not None and not action.on_host:
            wait.producer = producer
            action.unresolved.discard(wait)
    if not action.unresolved:
        engine.ready.append(action)


def told(engine: Engine, wait: DeviceWait) -> None:
    """A wait's value was reached, or its semaphore failed."""
    action = wait.action
    if action is None or wait.semaphore is None or action.state not in (State.PENDING, State.QUEUED):
        return
    failure, reached, _ = wait.semaphore.look(wait.value)
    if failure:
        finish(engine, action, failure)
    elif reached and action.state is State.PENDING:
        action.unresolved.discard(wait)
        wait.producer = None
        if not action.unresolved:
            engine.ready.append(action)


def watch(engine: Engine, action: Action) -> None:
    """Have the semaphores tell when the values that an action is bound to are reached."""
    waits: list[DeviceWait] = []
    for semaphore, value, producer in action.bound:
        wait = engine.timepoints.acquire_device_wait(semaphore, value, action)
        wait.producer = producer
        failure, reached, _ = semaphore.register(wait)
        if failure:
            action.waits = waits
            finish(engine, action, failure)
            return
        if reached:
            engine.timepoints.release([wait])
        else:
            waits.append(wait)
    # Only now: after an interruption they are registered again, and what is not among an action's waits binds no more.
    action.waits = waits
    if len(waits) < len(action.bound):
        engine.ready.append(action)  # there is less to wait for than there was
