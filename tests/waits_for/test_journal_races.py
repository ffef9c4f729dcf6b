"""Threads that meet in a journal: one is put aside in the middle of a call, and others go on without it."""

from __future__ import annotations

import threading
import time

import pytest

from pytest_cuda2hal.observation import recording
from pytest_cuda2hal.observation.history import History
from pytest_cuda2hal.observation.journal import Journal, read_journal
from pytest_cuda2hal.observation.records import (
    CREATE_SEMAPHORE,
    ONE_SIGNAL,
    RECORD_BYTES,
    SIGNAL,
    SUBMISSIONS,
    head_of,
    read_record,
)

SMALL = 2**17
HEAD = head_of(SIGNAL, 1)


@pytest.fixture
def small(journal_path):
    journal = Journal.create(journal_path, SMALL)
    journal.begin_case("small")
    return journal


def signal(journal, value=7):
    journal.end(journal.begin_call(HEAD, 3, value))


def elsewhere(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(30)


def told(path, call):
    """Return whether a call, and what it raised, are in a journal."""
    entries = read_journal(path).entries
    begun = any(entry.get("i") == call for entry in entries)
    return begun, any(entry.get("e") == call and "x" in entry for entry in entries)


def test_a_record_is_read_as_it_is_at_one_moment(small):
    """Its writer may be at it; parts of two records would be a third one that nobody wrote."""

    class Changing:
        looks = 0

        def __getitem__(self, place):
            self.looks += 1
            return small._mapped[place]

    signal(small)
    data, at = Changing(), small._records_at + (next(small._numbers) - 1) % small._records * RECORD_BYTES
    found = read_record(data, at, {number: name for name, number in small._texts.ids.items()})
    assert found is not None
    assert (found[1]["o"], data.looks) == ("signal", 1)


@pytest.mark.parametrize("kind", ["record", "line"])
def test_a_call_is_not_saved_behind_what_it_raised(small, journal_path, monkeypatch, kind):
    """Another thread comes to the end of a ring, and saves the calls in progress, at any point of the end of one."""
    call = small.begin_call(HEAD, 3, 1) if kind == "record" else small.begin("close", 1)
    append, write_raised = small._append, small._write_raised

    def save():
        small._save_calls_in_progress(small._save_at)
        lap = small._position // small._capacity
        while small._position // small._capacity == lap:
            append('{"n":1}')

    def meanwhile(write):
        def written(*arguments):
            for name, original in (("_append", append), ("_write_raised", write_raised)):
                monkeypatch.setattr(small, name, original)
            elsewhere(save)
            write(*arguments)
            elsewhere(save)

        return written

    monkeypatch.setattr(small, "_append", meanwhile(append))
    monkeypatch.setattr(small, "_write_raised", meanwhile(write_raised))
    small.end_raised(call, "no")
    for number in range(4 * small._records):
        signal(small) if number % 2 else small.write({"n": number})
        if number % 37 == 0:
            begun, raised = told(journal_path, call)
            assert raised or not begun, number


def test_a_call_that_raises_while_it_is_saved(small, journal_path, monkeypatch):
    """Whoever saves it has found it in progress, and writes it when it is over: what it raised comes behind that."""
    begun, go, ended = (threading.Event() for _ in range(3))
    calls = []

    def act():
        calls.append(small.begin_call(HEAD, 3, 1))
        begun.set()
        go.wait(30)
        small.end_raised(calls[0], "no")
        ended.set()

    thread = threading.Thread(target=act)
    thread.start()
    assert begun.wait(30)
    encode = recording.encode

    def encode_late(entry):
        go.set()
        ended.wait(0.3)  # it has to wait for the one who saves
        return encode(entry)

    monkeypatch.setattr("pytest_cuda2hal.observation.journal.encode", encode_late)
    small._save_calls_in_progress(small._save_at)
    monkeypatch.setattr("pytest_cuda2hal.observation.journal.encode", encode)
    thread.join(30)
    for number in range(4 * small._records):
        signal(small) if number % 2 else small.write({"n": number})
        if number % 37 == 0:
            in_it, raised = told(journal_path, calls[0])
            assert raised or not in_it, number
    assert small._lines == {}


@pytest.mark.parametrize("padding", range(140, 170))
def test_the_end_of_a_call_may_be_at_the_end_of_the_ring(small, journal_path, padding):
    """Then the calls in progress are written again, but not the one that has ended."""
    call = small.begin("close", 1)
    while small._position < small._capacity - 400:
        small.write({"n": 1})
    small.write({"n": "x" * (small._capacity - small._position - padding - 46)})
    small.end_raised(call, "n" + "o" * 150)
    while small._position < 2 * small._capacity + 800:
        small.write({"n": 2})
        if small._position > 2 * small._capacity - 600:
            begun, raised = told(journal_path, call)
            assert raised or not begun


LATE = {
    "signal": lambda journal: journal.begin_call(HEAD, 99, 1),
    "submit": lambda journal: journal.begin_submission(
        head_of(SUBMISSIONS["queue_fill"], 1) | ONE_SIGNAL, "fill", 0, 0, 1, 0, 0, 0, 99, 0, 0, 0
    ),
    "create_semaphore": lambda journal: journal.write_made(head_of(CREATE_SEMAPHORE, 1), 99, 1, None),
}


@pytest.mark.parametrize("what", LATE)
def test_one_that_comes_back_when_the_ring_has_gone_round_is_seen_and_spoils_nothing(
    small, journal_path, monkeypatch, what
):
    at, go, written, leave = (threading.Event() for _ in range(4))

    def late(number):
        def numbered(*arguments):
            found = number(*arguments)
            if threading.current_thread().name == "slow":
                at.set()
                go.wait(30)
            return found

        return numbered

    def act():
        signal(small, 0)  # its name is known from now on
        for name in ("_enter", "_number"):
            monkeypatch.setattr(small, name, late(getattr(small, name)))
        call = LATE[what](small)
        written.set()
        leave.wait(30)
        if call:
            small.end(call)

    thread = threading.Thread(target=act, name="slow")
    thread.start()
    assert at.wait(30)
    unknown = [(waiter.thread, waiter.detail) for waiter in History(read_journal(journal_path)).waiters()]
    assert unknown == ([] if what == "create_semaphore" else [("slow", "a call of which nothing is known")])
    for value in range(small._records + 5):
        signal(small, value)
    before = [entry["v"] for entry in read_journal(journal_path).entries if entry.get("s") == 3]
    go.set()
    assert written.wait(30)
    content = read_journal(journal_path)
    leave.set()
    thread.join(30)
    assert [entry["v"] for entry in content.entries if entry.get("s") == 3] == before
    (late_one,) = [entry for entry in content.entries if entry.get("T") == "slow"]
    assert late_one["o"] == what
    assert [waiter.thread for waiter in History(content).waiters()] == ["slow"][: len(unknown)]
    assert small._lines == {}


def test_what_a_call_is_given_is_looked_at_before_it_has_a_number(small, monkeypatch):
    """So that as little as may be lies between the number and the record."""
    order: list[str] = []

    def noted(name, function):
        def call(*arguments):
            order.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(recording, "_fitting", noted("text", recording._fitting))
    monkeypatch.setattr(recording, "monotonic_ns", noted("clock", time.monotonic_ns))
    monkeypatch.setattr(small, "_enter", noted("number", small._enter))
    small.begin_call(HEAD, 3, 1, "text")
    small.begin_submission(HEAD, "what", *[0] * 10)
    assert order == ["text", "clock", "number"] * 2
