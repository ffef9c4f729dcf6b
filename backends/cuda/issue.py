"""From pending to in flight: which stream an action goes to, and how it gets there. Functions here expect the role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_cuda2hal.hal import HalError, StatusCode

from .actions import Action, HostCallAction, RetryAfterFreeError, Slice, Stage, State
from .driver import CudaError, error_of
from .pending import watch
from .retirement import failure_of_bound, finish, unregister

if TYPE_CHECKING:
    from .engine import Engine
    from .lane import Lane
    from .semaphore import EventSemaphore

#: Host functions that wait on a lane at a time. A held stream can tell 56 that it is done (driver 580, H100; the
#: fidelity suite states it); the driver blocks who launches the next one. One at a time would do.
CALLBACKS_AHEAD = 4
#: Of how many submissions to a lane one looks at what is done by now.
LOOK_EVERY = 32
#: What the bindings raise about an argument that we let pass.
REFUSED = (TypeError, ValueError, OverflowError)


def issue(engine: Engine, action: Action) -> None:
    """Issue an action whose waits are all met or bound, or find out what it waits for now."""
    if action.state is not State.PENDING and action.state is not State.ISSUING:
        return
    if action.on_host:
        assert isinstance(action, HostCallAction)
        _start(engine, action)
        return
    if action.waits:
        action.bound = _bound(action)
    lane = action.lane or _stream_for(engine, action)
    if lane is None:
        # Every stream that may wait has something to wait for: this action waits on the host instead.
        if not action.waits:
            watch(engine, action)
            if action.state is State.PENDING:
                # A host may have overtaken what the work will signal; what was reached meanwhile binds no more.
                action.bound = _bound(action)
        return
    if action.state is State.ISSUING:  # an interruption came between, and some of it may be on the stream already
        if action not in lane.backlog:
            lane.backlog.appendleft(action)
        refill(engine, lane)
        return
    if lane.backlog or lane.sequence % LOOK_EVERY == 0 or not lane.has_room(action.weight):
        if engine.may_spin and len(lane.backlog) % LOOK_EVERY == 0:
            engine.poll(lane)  # those who submit retire what is done, so that the completer need not
            if engine.lost:
                return  # the look was the first to see a fault, which has failed this action too
        if lane.backlog or not lane.has_room(action.weight):
            lane.backlog.append(action)  # first: after an interruption it is put there again, and issued once
            action.state = State.QUEUED
            if action.bound and not action.waits:
                watch(engine, action)  # so that it hears of a failure before there is room
            return
    if not _launch(engine, action, lane):
        lane.backlog.appendleft(action)


def _bound(action: Action) -> list[tuple[EventSemaphore, int, Action]]:
    """Return what an action waits for on the device, of what it registered for."""
    return [
        (wait.semaphore, wait.value, wait.producer)
        for wait in action.waits
        if wait.producer is not None and wait.semaphore is not None
    ]


def _stream_for(engine: Engine, action: Action) -> Lane | None:
    """Return the stream for an action: the first of its queue, unless it waits for running work of another.

    Such work goes to one of the other streams, if there is one on which everything comes before it anyway; so it
    holds back nothing that does not depend on it (rule 18). ``None`` when there is none at this moment.
    """
    action.clock = None
    first = action.queue * engine.parameters.streams
    main = engine.lanes[first]
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
    for lane in engine.lanes[first + 1 : first + engine.parameters.streams]:
        if lane.is_idle or (not lane.backlog and lane.sequence <= clock.get(lane, 0)):
            return lane
    return None


def _launch(engine: Engine, action: Action, lane: Lane) -> bool:
    """Issue an action to a lane; return whether all of it was."""
    driver = engine.driver
    if action.stage is Stage.ALL_LAUNCHED and action in lane.in_flight:  # an interruption came after the last call
        _accepted(engine, action)
        return True
    try:
        if action.stage is Stage.LAUNCHING:  # some of it may have been launched, and must not be twice
            raise HalError(StatusCode.ABORTED, "interrupted by a signal handler's exception while it was issued")
        if action.stage is Stage.NOT_BEGUN:
            if action.state is not State.ISSUING:
                failure = failure_of_bound(engine, action) if action.bound else None
                if failure:
                    finish(engine, action, failure)
                    return True
                unregister(engine, action)
                lane.sequence += 1
                action.lane, action.sequence = lane, lane.sequence
                if action.bound:
                    try:
                        _wait_for_producers(engine, action, lane)
                    except (CudaError, *REFUSED):
                        action.clock = None  # it holds only where the stream has been made to wait
                        raise
                action.state = State.ISSUING
            action.stage = Stage.LAUNCHING
            finished = action.launch(engine, lane, engine.parameters.max_in_flight)
            action.stage = Stage.ALL_LAUNCHED if finished else Stage.SLICE_LAUNCHED
        finished = action.stage is Stage.ALL_LAUNCHED
    except RetryAfterFreeError:
        action.stage = Stage.NOT_BEGUN
        action.state = State.PENDING
        action.lane = None
        engine.starved.append(action)
        return True
    except HalError as raised:
        finished = _failed(action, raised.again())
        if isinstance(raised, CudaError) and raised.is_sticky:
            engine.lose(raised)
    except REFUSED as raised:
        finished = _failed(action, HalError(StatusCode.INTERNAL, f"{type(raised).__name__}: {raised}"))
    if action.state in (State.PENDING, State.QUEUED):  # it failed before it was begun; its stream may wait for others
        action.state = State.ISSUING
    if action.sequence != lane.sequence:  # it was interrupted, and others have gone in flight since
        lane.sequence += 1
        action.sequence = lane.sequence
    entry: Action | Slice = action if finished else Slice(action, action.issued_weight)
    event = None
    try:
        event = engine.events.acquire()
        entry.number = next(lane.numbers)
        (result,) = driver.cuEventRecord(event, lane.stream)
        if result:
            raise error_of(driver, "cuEventRecord", result)
        lane.accept(entry, event)
    except BaseException as raised:
        if event is not None and not (lane.in_flight and lane.in_flight[-1] is entry):
            entry.event = None
            engine.events.release([event])
        if not isinstance(raised, CudaError):  # a signal handler's; whoever comes next goes on from here
            raise
        _cannot_record(engine, action, raised)
        return True
    if not engine.may_spin:
        announce(engine, lane)
    if not finished:
        action.stage = Stage.NOT_BEGUN
        return False
    _accepted(engine, action)
    return True


def _failed(action: Action, error: HalError) -> bool:
    """Note that an action cannot be issued, or no more of it; so that was all, and it is not tried again."""
    action.error = error
    action.stage = Stage.ALL_LAUNCHED
    return True


def _accepted(engine: Engine, action: Action) -> None:
    """All of an action is in flight: let others bind to it, unless it has failed."""
    if action.state is State.ISSUING:
        action.state = State.IN_FLIGHT
        if action.error is None:
            _publish(engine, action)


def _wait_for_producers(engine: Engine, action: Action, lane: Lane) -> None:
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
        (error,) = engine.driver.cuStreamWaitEvent(lane.stream, producer.event, 0)
        if error:
            raise error_of(engine.driver, "cuStreamWaitEvent", error)


def announce(engine: Engine, lane: Lane) -> None:
    """Have the driver call back for the oldest of what is in flight, each entry once; host-function mode only."""
    for place, entry in enumerate(lane.in_flight):
        if place == CALLBACKS_AHEAD:
            return
        if entry.number <= lane.announced:
            continue
        lane.announced = entry.number
        try:
            _call_back(engine, lane, entry.event, entry.number)
        except CudaError as error:
            if error.is_sticky:
                engine.lose(error)
                return
            finish(engine, entry.action if isinstance(entry, Slice) else entry, error)  # its completer looks by itself


def _call_back(engine: Engine, lane: Lane, event: Any, number: int) -> None:
    """Have the driver call the host when the event is reached, on a stream that holds up nothing."""
    (error,) = engine.driver.cuStreamWaitEvent(lane.watch_stream, event, 0)
    if error:
        raise error_of(engine.driver, "cuStreamWaitEvent", error)
    (error,) = engine.driver.cuLaunchHostFunc(lane.watch_stream, engine.callbacks[lane.index], number)
    if error:
        raise error_of(engine.driver, "cuLaunchHostFunc", error)


def _cannot_record(engine: Engine, action: Action, error: CudaError) -> None:
    """Nobody will know when the work is done: what it uses is kept for good, and its signals fail."""
    if error.is_sticky:
        engine.lose(error)
    action.abandon(engine)
    finish(engine, action, action.error or error)


def _publish(engine: Engine, action: Action) -> None:
    """The event of an action is recorded: bind to it whoever waits for what it will signal."""
    for semaphore, value in action.signals:
        for wait in semaphore.recorded(value, action):
            consumer = wait.action
            if consumer is None or consumer.state is not State.PENDING:
                continue
            wait.producer = action
            consumer.unresolved.discard(wait)
            if not consumer.unresolved:
                engine.ready.append(consumer)


def _start(engine: Engine, action: HostCallAction) -> None:
    if action.state is not State.PENDING:
        return
    try:
        action.start(engine)
    except HalError as error:
        finish(engine, action, error)
        return
    unregister(engine, action)
    action.state = State.IN_FLIGHT


def refill(engine: Engine, lane: Lane) -> None:
    """Issue what waits for room on a lane, as far as there is room."""
    backlog = lane.backlog
    while backlog and lane.has_room(backlog[0].weight):
        action = backlog[0]
        if action.state in (State.QUEUED, State.ISSUING) and not _launch(engine, action, lane):
            return  # there is more of it to come
        backlog.popleft()
