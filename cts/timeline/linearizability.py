"""Recording what threads do to one semaphore, and looking for an order that explains it (TL-5).

A history is *linearizable* when its calls can be put in one order such that

* a call that returned before another began comes before it, and the calls of one thread stay in their order;
* played in that order on the model below, one at a time, each call gives what it gave.

The model is a value that grows, until a failure takes its place for good. What a call raises on a failed semaphore, or
for a value that does not advance, is a variation point, so the model is parametrised by the profile's answers.

**Calls that timed out.** That a wait ended in DEADLINE_EXCEEDED does not say when it looked: it may have looked last
just before somebody's signal, long before its deadline. So its place in the order is unknown: it may stand wherever
between its beginning and its return the value was not reached. There must be one such place, because where the value
was reached, or the semaphore had failed, before the wait began, W-3 and F-2 leave it no reason to time out. Whether a
signal ought to have woken it in time is another matter (W-9). A call that never returned may have had its effect at any
moment since it began, or none at all.

The search is that of Wing and Gong (1993) with Lowe's memory of the configurations tried (2017): two ways to the same
set of calls and the same state have the same continuations.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pytest_cuda2hal.hal import VARIATION_POINTS, HalError, Profile, Semaphore, StatusCode

THREADS = 4
CALLS = 6


class Failure(NamedTuple):
    """What a failed semaphore carries, and what a call raised."""

    code: StatusCode
    message: str

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}" if self.message else self.code.name


@dataclass(frozen=True, slots=True)
class Query:
    def __str__(self) -> str:
        return "query()"


@dataclass(frozen=True, slots=True)
class Signal:
    value: int

    def __str__(self) -> str:
        return f"signal({self.value})"


@dataclass(frozen=True, slots=True)
class Wait:
    value: int
    timeout: float = 0.0

    def __str__(self) -> str:
        return f"wait({self.value}, {self.timeout:g} s)"


@dataclass(frozen=True, slots=True)
class Fail:
    failure: Failure

    def __str__(self) -> str:
        return f"fail({self.failure})"


Call = Query | Signal | Wait | Fail
#: What a query returned, what a call raised, or ``None``: it returned.
Outcome = int | Failure | None
#: The value, or what the semaphore has failed with.
State = int | Failure


@dataclass(frozen=True, slots=True)
class Event:
    """One call of a history. Times are nanoseconds of a clock that all threads share."""

    thread: int
    call: Call
    invoked: int
    #: ``None`` for a call that never returned; its outcome then says nothing.
    returned: int | None
    outcome: Outcome = None

    def __str__(self) -> str:
        if self.returned is None:
            return f"thread {self.thread}  {self.call} never returned"
        if self.outcome is None:
            result = "ok"
        else:
            result = f"{'' if isinstance(self.outcome, int) else 'raised '}{self.outcome}"
        return f"thread {self.thread}  {self.call} → {result}"


# --- the model


@dataclass(frozen=True, slots=True)
class Model:
    """One semaphore, with the answers that are permitted at the variation points."""

    non_advancing_signal: frozenset[str]
    signal_after_failure: frozenset[str]
    failed_wait_code: frozenset[str]

    @classmethod
    def of(cls, profile: Profile) -> Model:
        """Return the model of a profile."""
        points = ("non-advancing-signal", "signal-after-failure", "failed-wait-code")
        return cls(*(frozenset(profile.answer(point).permitted) for point in points))

    @classmethod
    def of_any_profile(cls) -> Model:
        """Return the model that permits every known answer.

        Whether a HAL gives its profile's answers is another case's matter; one wrong answer shall not be two findings.
        """
        points = ("non-advancing-signal", "signal-after-failure", "failed-wait-code")
        return cls(*(frozenset(VARIATION_POINTS[point].known) for point in points))

    def after(self, state: State, call: Call) -> State:
        """Return the state that a call leaves."""
        match call:
            case Signal(value) if isinstance(state, int):
                return max(state, value)
            case Fail(failure) if isinstance(state, int):
                return failure
        return state

    def gives(self, state: State, call: Call, outcome: Outcome) -> bool:
        """Tell whether a call, made in a state, may have this outcome."""
        match call:
            case Query():
                return _is_cause(outcome, state) if isinstance(state, Failure) else outcome == state
            case Signal(value):
                if isinstance(state, Failure):
                    answers = self.signal_after_failure
                    if "ignored" in answers:  # a HAL that does not look at the failure may still look at the value
                        answers |= self.non_advancing_signal
                    return not answers.isdisjoint(_answers(outcome, state))
                if value > state:
                    return outcome is None
                return not self.non_advancing_signal.isdisjoint(_answers(outcome, None))
            case Wait(value):
                if isinstance(state, Failure):
                    codes = {state.code} if "cause" in self.failed_wait_code else set()
                    codes |= {StatusCode.ABORTED} if "ABORTED" in self.failed_wait_code else set()
                    return isinstance(outcome, Failure) and outcome.code in codes
                if state >= value:
                    return outcome is None
                return isinstance(outcome, Failure) and outcome.code is StatusCode.DEADLINE_EXCEEDED
            case Fail():
                return outcome is None


def _is_cause(outcome: Outcome, cause: Failure) -> bool:
    """Tell whether what a call raised is the failure, whatever a HAL adds to its message."""
    return isinstance(outcome, Failure) and outcome.code is cause.code and cause.message in outcome.message


def _answers(outcome: Outcome, cause: Failure | None) -> set[str]:
    """Return the answers, of variation points about signals, for which an outcome may stand."""
    if not isinstance(outcome, Failure):
        return {"ignored"}
    return {outcome.code.name, "failure"} if cause and outcome.code is cause.code else {outcome.code.name}


# --- the search


@dataclass(slots=True)
class Explanation:
    """The longest order found, and the state after it; ``complete`` when it explains the whole history."""

    complete: bool
    order: list[Event]
    state: State


def explain(history: Sequence[Event], model: Model, initial: State = 0) -> Explanation:
    """Look for an order that explains a history; if there is none, return the longest beginning of one."""
    events = sorted(history, key=lambda event: event.invoked)
    before = [_mask_before(events, index) for index in range(len(events))]
    needed = sum(1 << index for index, event in enumerate(events) if event.returned is not None)
    longest = Explanation(needed == 0, [], initial)
    order: list[Event] = []
    tried: set[tuple[int, State]] = set()

    def search(done: int, state: State) -> bool:
        if len(order) > len(longest.order):
            longest.order, longest.state = order.copy(), state
        if done & needed == needed:
            return True
        if (done, state) in tried:
            return False
        tried.add((done, state))
        for index, event in enumerate(events):
            if done >> index & 1 or before[index] & ~done:
                continue
            if event.returned is None or model.gives(state, event.call, event.outcome):
                order.append(event)
                if search(done | 1 << index, model.after(state, event.call)):
                    return True
                order.pop()
        return False

    longest.complete = search(0, initial)
    if longest.complete:
        longest.order = order
    return longest


def _mask_before(events: Sequence[Event], index: int) -> int:
    """Return, as bits, the events that come before the one at ``index`` in every order."""
    event = events[index]
    return sum(
        1 << i
        for i, other in enumerate(events)
        if (other.thread == event.thread and i < index)
        or (other.returned is not None and other.returned < event.invoked)
    )


def evidence(history: Sequence[Event], explanation: Explanation) -> str:
    """Say what was recorded and where the best explanation ends."""
    events = sorted(history, key=lambda event: event.invoked)
    begin = events[0].invoked
    lines = [f"at most {len(explanation.order)} of {len(events)} calls can be put in an order that explains them (*)"]
    for event in events:
        end = "    …  " if event.returned is None else f"{(event.returned - begin) / 1000:7.1f}"
        mark = "*" if event in explanation.order else " "
        lines.append(f"{mark} {(event.invoked - begin) / 1000:7.1f} … {end} µs  {event}")
    state = f"failed with {explanation.state}" if isinstance(explanation.state, Failure) else f"at {explanation.state}"
    lines.append(f"after those marked the semaphore is {state}, and no other call can be the next")
    return "\n".join(lines)


# --- programs and their recording

#: The calls of each thread.
Program = tuple[tuple[Call, ...], ...]

#: None of these says anything else of a semaphore: not a timeout, not a refused signal, not the seed's ABORTED.
_CODES = (StatusCode.DATA_LOSS, StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.PERMISSION_DENIED)
_TIMEOUTS = (0.0, 0.0, 0.0001, 0.001)


def random_program(seed: str, *, signalers: int, failing: bool, any_code: bool = True) -> Program:
    """Return a program for four threads of six calls.

    :param signalers: how many threads signal. One signals growing values only, so that none of its signals fails to
        advance; several signal whatever they like.
    :param failing: whether threads fail the semaphore, late in the program.
    :param any_code: whether failures have codes of their own, instead of UNKNOWN.
    """
    choice = random.Random(seed)

    def call(thread: int, position: int) -> Call:
        kind = choice.random()
        if thread < signalers and kind < 0.5:
            return Signal(choice.randint(1, 8) if signalers > 1 else 2 * position + choice.randint(1, 2))
        if failing and position >= 2 and kind > 0.85:
            code = choice.choice(_CODES) if any_code else StatusCode.UNKNOWN
            return Fail(Failure(code, f"thread {thread}, call {position}"))
        if kind < 0.75:
            return Wait(choice.randint(0, 10), choice.choice(_TIMEOUTS))
        return Query()

    return tuple(tuple(call(thread, position) for position in range(CALLS)) for thread in range(THREADS))


def perform(semaphore: Semaphore, call: Call) -> Outcome:
    """Make one call."""
    try:
        match call:
            case Query():
                return semaphore.query()
            case Signal(value):
                semaphore.signal(value)
            case Wait(value, timeout):
                semaphore.wait(value, timeout)
            case Fail(failure):
                semaphore.fail(HalError(failure.code, failure.message))
    except HalError as error:
        return Failure(error.code, error.message)
    return None


class Recording:
    """Runs programs one after another, each on a semaphore of its own; :meth:`work` is what each thread does."""

    def __init__(self, programs: Sequence[Program], semaphores: Sequence[Semaphore], deadline: float) -> None:
        self.histories: list[list[Event]] = [[] for _ in programs]
        self._programs = programs
        self._semaphores = semaphores
        self._deadline = deadline
        self._together = threading.Barrier(THREADS)

    def work(self, thread: int) -> None:
        """Make the calls of one thread, in every program."""
        try:
            for program, semaphore, history in zip(self._programs, self._semaphores, self.histories, strict=True):
                self._together.wait(self._deadline)
                for call in program[thread]:
                    invoked = time.monotonic_ns()
                    outcome = perform(semaphore, call)
                    history.append(Event(thread, call, invoked, time.monotonic_ns(), outcome))
        except threading.BrokenBarrierError:
            pass  # another thread has more to say
        except BaseException:
            self._together.abort()
            raise
