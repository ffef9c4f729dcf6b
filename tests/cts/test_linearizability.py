"""The search behind TL-5: it accepts what has an explanation, and nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pytest_cuda2hal.backends.reference import open_reference
from pytest_cuda2hal.cts.timeline.linearizability import (
    CALLS,
    THREADS,
    Event,
    Fail,
    Failure,
    Model,
    Query,
    Recording,
    Signal,
    Wait,
    evidence,
    explain,
    perform,
    random_program,
)
from pytest_cuda2hal.hal import PROFILES, StatusCode

STRICT, SEED, IREE = (Model.of(PROFILES[name]) for name in ("strict", "seed", "iree"))
TIMED_OUT = Failure(StatusCode.DEADLINE_EXCEEDED, "")
TOO_LATE = Failure(StatusCode.OUT_OF_RANGE, "")
LOST = Failure(StatusCode.DATA_LOSS, "lost")
BROKEN = Failure(StatusCode.INTERNAL, "broken")


def history(*rows):
    """Make events of ``(thread, invoked, returned, call, outcome)``."""
    return [Event(thread, call, invoked, returned, outcome) for thread, invoked, returned, call, outcome in rows]


ACCEPTED = {
    "nothing happened": history(),
    "one after another": history(
        (0, 0, 1, Query(), 0), (0, 2, 3, Signal(2), None), (1, 4, 5, Query(), 2), (1, 6, 7, Wait(2), None)
    ),
    "query during a signal, before it": history((0, 0, 9, Signal(2), None), (1, 1, 8, Query(), 0)),
    "query during a signal, after it": history((0, 0, 9, Signal(2), None), (1, 1, 8, Query(), 2)),
    "two queries during a signal see the change": history(
        (0, 0, 9, Signal(2), None), (1, 1, 2, Query(), 0), (1, 3, 4, Query(), 2)
    ),
    "wait satisfied by a signal during it": history((0, 0, 9, Wait(3, 1.0), None), (1, 1, 2, Signal(5), None)),
    "wait timed out before a signal during it": history((0, 0, 9, Wait(3, 1.0), TIMED_OUT), (1, 1, 2, Signal(5), None)),
    "racing signals, the smaller first": history((0, 0, 9, Signal(2), None), (1, 0, 9, Signal(1), None)),
    "racing signals, the smaller too late": history((0, 0, 9, Signal(2), None), (1, 0, 9, Signal(1), TOO_LATE)),
    "racing failures, either one first": history(
        (0, 0, 9, Fail(LOST), None), (1, 0, 9, Fail(BROKEN), None), (2, 10, 11, Query(), BROKEN)
    ),
    "blocked wait satisfied just before a failure": history(
        (0, 0, 9, Wait(1, 1.0), None), (1, 1, 2, Signal(1), None), (1, 3, 4, Fail(LOST), None)
    ),
    "blocked wait failed though the value came just before": history(
        (0, 0, 9, Wait(1, 1.0), LOST), (1, 1, 2, Signal(1), None), (1, 3, 4, Fail(LOST), None)
    ),
    "failure with more in its message": history(
        (0, 0, 1, Fail(LOST), None), (0, 2, 3, Query(), Failure(LOST.code, "hal.cc:7: lost"))
    ),
    "signal that never returned, had an effect": history((0, 0, None, Signal(2), None), (1, 5, 6, Query(), 2)),
    "signal that never returned, had none": history((0, 0, None, Signal(2), None), (1, 5, 6, Query(), 0)),
    "signal that never returned, has its effect late": history(
        (0, 0, None, Signal(2), None), (1, 5, 6, Query(), 0), (1, 7, 8, Query(), 2)
    ),
}

REJECTED = {
    "lost signal": history((0, 0, 1, Signal(2), None), (1, 2, 3, Query(), 0)),
    "stale read after another thread's fresh one": history(
        (0, 0, 99, Signal(2), None), (1, 1, 2, Query(), 2), (2, 3, 4, Query(), 0)
    ),
    "value going backwards in one thread": history(
        (0, 0, 99, Signal(2), None), (1, 1, 2, Query(), 2), (1, 3, 4, Query(), 0)
    ),
    "racing signals take the value back": history(
        (0, 0, 9, Signal(2), None), (1, 0, 9, Signal(1), None), (2, 10, 11, Query(), 1)
    ),
    "value that nobody signaled": history((0, 0, 9, Signal(5), None), (1, 1, 8, Query(), 3)),
    "signal accepted though the value was there": history((0, 0, 1, Signal(2), None), (0, 2, 3, Signal(2), None)),
    "signal refused though it advances": history((0, 0, 1, Signal(2), None), (0, 2, 3, Signal(3), TOO_LATE)),
    "both of two equal signals accepted": history((0, 0, 9, Signal(2), None), (1, 0, 9, Signal(2), None)),
    "both of two equal signals refused": history((0, 0, 9, Signal(2), TOO_LATE), (1, 0, 9, Signal(2), TOO_LATE)),
    "wait returned early": history((0, 0, 5, Wait(3, 1.0), None), (1, 6, 7, Signal(3), None)),
    "wait satisfied by a smaller value": history((0, 0, 9, Wait(3, 1.0), None), (1, 1, 2, Signal(2), None)),
    "wait timed out though the value was there": history(
        (0, 0, 1, Signal(3), None), (1, 2, 9, Wait(3, 1.0), TIMED_OUT)
    ),
    "wait timed out after a query saw the value": history(
        (0, 0, 99, Signal(3), None), (1, 1, 2, Query(), 3), (1, 3, 4, Wait(3), TIMED_OUT)
    ),
    "wait timed out on a failed semaphore": history((0, 0, 1, Fail(LOST), None), (1, 2, 3, Wait(3), TIMED_OUT)),
    "success after failure, query": history((0, 0, 1, Fail(LOST), None), (1, 2, 3, Query(), 0)),
    "success after failure, wait": history(
        (0, 0, 1, Signal(1), None), (0, 2, 3, Fail(LOST), None), (1, 4, 5, Wait(1), None)
    ),
    "success after failure, signal": history((0, 0, 1, Fail(LOST), None), (1, 2, 3, Signal(3), None)),
    "failure before anybody failed it": history((0, 0, 1, Query(), LOST), (1, 2, 3, Fail(LOST), None)),
    "failure with another code": history((0, 0, 1, Fail(LOST), None), (1, 2, 3, Query(), BROKEN)),
    "failure with another message": history(
        (0, 0, 1, Fail(LOST), None), (1, 2, 3, Query(), Failure(LOST.code, "something"))
    ),
    "wait with another code than the failure's": history((0, 0, 1, Fail(LOST), None), (1, 2, 3, Wait(3), BROKEN)),
    "two first failures": history(
        (0, 0, 9, Fail(LOST), None),
        (1, 0, 9, Fail(BROKEN), None),
        (2, 10, 11, Query(), LOST),
        (2, 12, 13, Query(), BROKEN),
    ),
    "the later failure wins": history(
        (0, 0, 1, Fail(LOST), None), (0, 2, 3, Fail(BROKEN), None), (0, 4, 5, Query(), BROKEN)
    ),
    "failure that raises": history((0, 0, 1, Fail(LOST), LOST)),
    "signal that never returned takes its effect back": history(
        (0, 0, None, Signal(2), None), (1, 5, 6, Query(), 2), (1, 7, 8, Query(), 0)
    ),
}


@pytest.mark.parametrize("events", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepts(events):
    explanation = explain(events, STRICT)
    assert explanation.complete, evidence(events, explanation)


@pytest.mark.parametrize("events", REJECTED.values(), ids=REJECTED.keys())
def test_rejects(events):
    explanation = explain(events, STRICT)
    assert not explanation.complete, explanation.order
    assert "thread 0" in evidence(events, explanation)


@pytest.mark.parametrize(
    ("model", "call", "after_failure", "outcome", "accepted"),
    [
        (STRICT, Signal(1), False, TOO_LATE, True),
        (STRICT, Signal(1), False, None, False),
        (SEED, Signal(1), False, TOO_LATE, True),
        (IREE, Signal(1), False, None, True),
        (IREE, Signal(1), False, Failure(StatusCode.INVALID_ARGUMENT, "past it"), True),
        (IREE, Signal(1), False, TOO_LATE, False),
        (STRICT, Signal(9), True, LOST, True),
        (STRICT, Signal(9), True, TOO_LATE, False),
        (STRICT, Signal(9), True, None, False),
        (SEED, Signal(9), True, TOO_LATE, True),
        (SEED, Signal(9), True, LOST, False),
        (IREE, Signal(9), True, LOST, True),
        (STRICT, Wait(1), True, LOST, True),
        (STRICT, Wait(1), True, Failure(StatusCode.ABORTED, ""), False),
        (SEED, Wait(1), True, Failure(StatusCode.ABORTED, ""), True),
        (SEED, Wait(1), True, LOST, False),
    ],
)
def test_variation_points_are_answered_by_the_profile(model, call, after_failure, outcome, accepted):
    before = [(0, 0, 1, Signal(2), None)] + ([(0, 2, 3, Fail(LOST), None)] if after_failure else [])
    assert explain(history(*before, (0, 4, 5, call, outcome)), model).complete is accepted


def test_begins_where_the_semaphore_began():
    events = history((0, 0, 1, Query(), 7), (0, 2, 3, Wait(7), None))
    assert explain(events, STRICT, initial=7).complete
    assert not explain(events, STRICT, initial=6).complete
    assert explain(history((0, 0, 1, Query(), LOST)), STRICT, initial=LOST).complete


def test_evidence_shows_where_the_explanation_ends():
    events = history((0, 1000, 2000, Signal(2), None), (1, 5000, 9000, Query(), 0), (2, 0, None, Wait(5, 2.0), None))
    text = evidence(events, explain(events, STRICT))
    assert "at most 2 of 3 calls" in text
    assert "  *     1.0 …     2.0 µs  thread 0  signal(2) → ok" in "  " + text.replace("\n", "\n  ")
    assert "thread 1  query() → 0" in text
    assert "thread 2  wait(5, 2 s) never returned" in text
    assert "the semaphore is at 2" in text


# --- against a search that tries every order


def explained_by_some_order(events, model):
    """Decide by trying all orders of the calls that returned."""
    for order in itertools.permutations(events):
        at = {id(event): index for index, event in enumerate(order)}
        if any(a.returned < b.invoked and at[id(a)] > at[id(b)] for a in events for b in events):
            continue
        state = 0
        for event in order:
            if not model.gives(state, event.call, event.outcome):
                break
            state = model.after(state, event.call)
        else:
            return True
    return False


def random_history(choice, model):
    """Play a random order on the model, and spread its calls over three threads and overlapping intervals."""
    free, state, events = [0, 0, 0], 0, []
    for position in range(6):
        call = choice.choice(
            [Query(), Signal(choice.randint(1, 3)), Wait(choice.randint(0, 3)), Fail(LOST), Fail(BROKEN)]
        )
        if isinstance(call, Fail) and choice.random() < 0.6:
            call = Query()
        outcomes = [None, 0, 1, 2, 3, TIMED_OUT, TOO_LATE, LOST, BROKEN]
        [outcome] = [outcome for outcome in outcomes if model.gives(state, call, outcome)]
        state = model.after(state, call)
        moment = 10 * position + 5
        thread = choice.choice([index for index in range(3) if free[index] < moment])
        invoked = choice.randint(max(free[thread] + 1, moment - 25), moment)
        returned = moment + choice.randint(0, 4)
        free[thread] = returned
        events.append(Event(thread, call, max(invoked, 0), returned, outcome))
    return events


def mutated(choice, events):
    """Give one call an outcome that such a call may have in another state."""
    index = choice.randrange(len(events))
    possible = {Query: [0, 1, 2, 3, LOST], Wait: [None, TIMED_OUT, LOST], Signal: [None, TOO_LATE, LOST], Fail: [None]}
    outcome = choice.choice(possible[type(events[index].call)])
    return [dataclasses.replace(event, outcome=outcome) if i == index else event for i, event in enumerate(events)]


def test_accepts_every_history_that_was_made_by_the_model():
    choice = random.Random(1)
    for _ in range(300):
        events = random_history(choice, STRICT)
        explanation = explain(events, STRICT)
        assert explanation.complete, evidence(events, explanation)


def test_agrees_with_trying_every_order():
    choice = random.Random(2)
    answers = []
    for _ in range(150):
        events = mutated(choice, random_history(choice, STRICT))
        answers.append(explained_by_some_order(events, STRICT))
        assert explain(events, STRICT).complete is answers[-1], evidence(events, explain(events, STRICT))
    assert 40 < sum(answers) < 110, "the histories should be of both kinds"


def test_a_full_history_without_explanation_is_refused_in_short_time():
    """Every call overlaps every other of another thread, which leaves the most orders to try."""
    events = [Event(t, Query(), 0, 1000, 0) for t in range(THREADS) for _ in range(CALLS - 1)]
    events += [Event(t, Signal(t + 1), 0, 1000, None) for t in range(THREADS - 1)]
    events.append(Event(THREADS - 1, Query(), 0, 1000, 9))
    assert not explain(events, STRICT).complete


# --- programs


def test_programs_repeat_and_differ():
    programs = {random_program(str(seed), signalers=4, failing=True) for seed in range(50)}
    assert len(programs) == 50
    assert programs == {random_program(str(seed), signalers=4, failing=True) for seed in range(50)}


def test_programs_do_only_what_they_may():
    for seed in range(200):
        calls = random_program(str(seed), signalers=1, failing=False)
        assert [len(thread) for thread in calls] == [CALLS] * THREADS
        assert not any(isinstance(call, Fail) for thread in calls for call in thread)
        assert not any(isinstance(call, Signal) for thread in calls[1:] for call in thread)
        values = [call.value for call in calls[0] if isinstance(call, Signal)]
        assert values == sorted(set(values)), "a single signaling thread always advances"
    for seed in range(200):
        calls = random_program(str(seed), signalers=0, failing=True, any_code=False)
        failures = [call.failure for thread in calls for call in thread if isinstance(call, Fail)]
        assert all(failure.code is StatusCode.UNKNOWN for failure in failures)
        assert len({failure.message for failure in failures}) == len(failures), "each failure can be told apart"


@pytest.mark.parametrize("profile", ["strict", "seed", "iree"])
def test_the_model_is_that_of_the_reference_backend(profile):
    """One thread at a time, thousands of calls: no order to look for, only the model against the specification."""
    device = open_reference(profile=profile, queues=1)
    for seed in range(100):
        semaphore = device.create_semaphore(0)
        events: list[Event] = []
        for thread, calls in enumerate(random_program(str(seed), signalers=4, failing=True)):
            for call in calls:
                if isinstance(call, Wait):
                    call = dataclasses.replace(call, timeout=0)
                now = len(events) * 10
                events.append(Event(thread, call, now, now + 1, perform(semaphore, call)))
        explanation = explain(events, Model.of(PROFILES[profile]))
        assert explanation.complete, evidence(events, explanation)
    device.close()


def test_a_recording_ends_when_a_thread_raises():
    calls = itertools.count()

    class Broken:
        def anything(self, *_):
            if next(calls) == 5:
                raise RuntimeError("a slip of the adapter")

        query = wait = signal = anything

    broken: Any = Broken()
    recording = Recording([random_program("a", signalers=1, failing=False)] * 3, [broken] * 3, deadline=30)
    with ThreadPoolExecutor(THREADS) as pool:
        ends = [future.exception() for future in [pool.submit(recording.work, thread) for thread in range(THREADS)]]
    assert [str(error) for error in ends if error] == ["a slip of the adapter"]
