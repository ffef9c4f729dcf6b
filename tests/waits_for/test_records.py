"""Records of a journal say what lines would; a torn one costs that one, a full ring the oldest."""

from __future__ import annotations

import struct
import threading

import pytest

from pytest_cuda2hal.hal import HalError, StatusCode
from pytest_cuda2hal.observation.calls import Calls
from pytest_cuda2hal.observation.history import History
from pytest_cuda2hal.observation.journal import Journal, read_journal
from pytest_cuda2hal.observation.log import Point
from pytest_cuda2hal.observation.records import (
    CREATE_SEMAPHORE,
    READ,
    RECORD_BYTES,
    SIGNAL,
    SUBMISSION_TEXT,
    WRITE,
    head_of,
    pack_short,
)
from pytest_cuda2hal.observation.slots import SLOTS

SMALL = 2**17
LARGEST = 2**64 - 1


@pytest.fixture
def small(journal_path):
    journal = Journal.create(journal_path, SMALL)
    journal.begin_case("small")
    return journal


def begin(journal, value, serial=3):
    return journal.begin_call(head_of(SIGNAL, 1), serial, value)


def signal(journal, value, serial=3):
    call = begin(journal, value, serial)
    journal.end(call)
    return call


def values(path):
    return [entry["v"] for entry in read_journal(path).entries]


def place(journal, call):
    """Return where the record of a call is in the file."""
    return journal._records_at + call % journal._records * RECORD_BYTES


def test_records_and_lines_are_read_in_one_order(small, journal_path):
    for value in range(50):
        signal(small, 2 * value)
        small.write({"v": 2 * value + 1})
    content = read_journal(journal_path)
    assert [entry["v"] for entry in content.entries] == list(range(100))
    assert not content.lost
    assert content.threads == ()


@pytest.mark.parametrize("at", range(0, RECORD_BYTES, 4))
def test_a_torn_record_is_left_out(small, journal_path, at):
    for value in range(3):
        signal(small, value)
    calls = [entry["i"] for entry in read_journal(journal_path).entries]
    data = bytearray(journal_path.read_bytes())
    # As if the writer had died there, with an older record in the place.
    torn = place(small, calls[1])
    old = bytearray(RECORD_BYTES)
    pack_short(old, 0, 1, 0, head_of(SIGNAL, 1), 0, 0, 9, 9, b"an older record", 1)
    data[torn + at : torn + RECORD_BYTES] = old[at:]
    journal_path.write_bytes(data)
    content = read_journal(journal_path)
    assert [entry["v"] for entry in content.entries] == [0, 2]
    assert content.lost


def test_a_full_ring_of_records_keeps_the_newest(small, journal_path):
    for value in range(5000):
        signal(small, value)
        if value % 500 == 499:
            kept = values(journal_path)
            assert kept == list(range(kept[0], value + 1))
    content = read_journal(journal_path)
    assert content.lost
    assert len(content.entries) == small._records


def test_what_was_there_before_is_not_read_again(small, journal_path):
    """Lines have numbers too, and leave the places of the records with these numbers as they were."""
    for value in range(3):
        signal(small, value)
    for value in range(small._records):
        small.write({"v": value})
    signal(small, 7)
    content = read_journal(journal_path)
    assert 0 not in [entry["v"] for entry in content.entries if "i" in entry]
    assert content.lost


def test_calls_older_than_the_lines_are_left_out(small, journal_path):
    """Whether they raised was in lines that are gone."""
    call = begin(small, 1)
    small.end(call, ',"x":"refused"')
    text = "x" * (small._capacity // 8 - 100)
    while any(entry.get("e") == call for entry in read_journal(journal_path).entries):
        small.write({"text": text})
    content = read_journal(journal_path)
    assert call not in [entry.get("i") for entry in content.entries]
    assert content.lost


@pytest.mark.parametrize("other", ["records", "lines", "both"])
def test_calls_in_progress_outlive_the_rings(small, journal_path, other):
    for number in range(20):
        signal(small, number)
        small.begin_case("small")
    outer = begin(small, LARGEST)
    inner = small.begin("close", 1)
    beyond = begin(small, 4, 2**40)
    innermost = begin(small, 5)
    for value in range(4 * small._records):
        if other != "lines":
            signal(small, value)
        if other != "records":
            small.write({"n": value})
        if value % 101 == 0:
            content = read_journal(journal_path)
            found = {entry["i"]: entry for entry in content.entries if "i" in entry}
            assert found[outer]["v"] == LARGEST
            assert found[innermost]["p"] == beyond
            assert (found[beyond]["p"], found[beyond]["s"]) == (inner, 2**40)
            assert found[inner]["p"] == outer
            assert [entry.get("i") for entry in content.entries].count(outer) == 1
            assert [thread.call for thread in content.threads] == [innermost]
    for call in (innermost, beyond, inner, outer):
        small.end(call)
    assert small._lines == {}


def test_a_call_in_progress_outlives_the_beginning_of_a_case(small, journal_path):
    """It is written again as a line, since texts are forgotten."""
    call = begin(small, 1)
    small.begin_case("next")
    assert read_journal(journal_path).entries == ()
    for _ in range(2 * SMALL // 1000):
        small.write({"text": "x" * 1000})
    found = [entry for entry in read_journal(journal_path).entries if "i" in entry]
    assert [entry["i"] for entry in found] == [call]


def test_a_text_of_the_case_before_is_not_mistaken(small, journal_path):
    small.write_made(head_of(CREATE_SEMAPHORE, 1), 2, 3, "before")
    old = dict(small._texts.ids)
    small.begin_case("next")
    small.write_made(head_of(CREATE_SEMAPHORE, 1), 2, 3, "after")
    small._texts.ids = old  # as a thread has it that looked before the case began
    signal(small, 1)
    content = read_journal(journal_path)
    assert [entry["v"] for entry in content.entries] == [3]


def test_with_a_full_table_of_names_nothing_is_missing(small, journal_path):
    names = [f"{number:090d}" for number in range(60)]
    for name in names:
        thread = threading.Thread(target=signal, args=(small, 7), name=name)
        thread.start()
        thread.join(30)
    content = read_journal(journal_path)
    assert [entry["T"] for entry in content.entries] == names
    assert not content.lost
    assert 10 < len(small._texts.ids) < len(names)
    assert small._lines == {}


@pytest.mark.parametrize("length", [SUBMISSION_TEXT - 1, SUBMISSION_TEXT, SUBMISSION_TEXT + 1])
@pytest.mark.parametrize("letter", ["x", "ä"])
def test_a_text_of_every_length(journal, journal_path, length, letter):
    text = letter * length
    journal.end(Calls(journal).submitting("queue_fill", text, 0, [], [], [], 0))
    assert [entry["a"] for entry in read_journal(journal_path).entries] == [text]
    assert journal._lines == {}


def test_texts_are_cut_and_may_have_any_character(journal, journal_path):
    calls = Calls(journal)
    for text in ("x" * 1000, 'ä→\n"\ud800', "\0 \0", ""):
        journal.end(calls.submitting("queue_fill", text, 0, [], [], [], 0))
    assert [entry["a"] for entry in read_journal(journal_path).entries] == ["x" * 200, 'ä→\n"\ud800', "\0 \0", ""]


@pytest.mark.parametrize("message", ["no", "n" + "o" * 150], ids=["short", "long"])
@pytest.mark.parametrize("slots", [SLOTS, 0], ids=["slot", "no-slot"])
def test_what_a_call_raised_however_it_is_written(small, journal_path, monkeypatch, message, slots):
    monkeypatch.setattr("pytest_cuda2hal.observation.journal.SLOTS", slots)
    call = begin(small, 1)
    small.end_raised(call, message)
    content = read_journal(journal_path)
    assert content.threads == ()
    assert [entry["x"] for entry in content.entries if entry.get("e") == call] == [message]
    assert not content.lost
    history = History(content)
    assert history.last_operations(1) == [f"MainThread: signal(semaphore#3@1)  raised {message}"]
    assert history.waiters() == []


@pytest.mark.parametrize("saved", ["before", "never"])
@pytest.mark.parametrize("then", ["records", "lines", "both"])
def test_nobody_finds_a_call_without_what_it_raised(small, journal_path, saved, then):
    """The one may be in one ring and the other in the other, of which each loses its oldest when it is full."""
    call = begin(small, 1)
    if saved == "before":
        small._save_calls_in_progress(small._save_at)
    small.end_raised(call, "no")
    for number in range(3 * small._records):
        if then != "lines":
            signal(small, 7)
        if then != "records":
            small.write({"n": number})
        if number % 97 == 0:
            entries = read_journal(journal_path).entries
            begun = [entry for entry in entries if entry.get("i") == call]
            ended = [entry for entry in entries if entry.get("e") == call and entry.get("x") == "no"]
            assert ended or not begun, number


def test_many_threads_at_once(journal_path):
    journal = Journal.create(journal_path)
    journal.begin_case("threads")
    together = threading.Barrier(8)

    def write(number):
        together.wait(10)
        for value in range(number * 1000, number * 1000 + 500):
            journal.end(begin(journal, value, value))
            journal.write_made(head_of(CREATE_SEMAPHORE, 1), value, value, f"{value // 100}")
            journal.write({"lined": value})

    threads = [threading.Thread(target=write, args=(number,), name=f"writer {number}") for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    content = read_journal(journal_path)
    assert not content.lost
    assert len(content.entries) == 3 * 8 * 500
    for number in range(8):
        values = list(range(number * 1000, number * 1000 + 500))
        own = [entry for entry in content.entries if entry.get("T") == f"writer {number}"]
        signaled = [(entry["s"], entry["v"]) for entry in own if entry["o"] == "signal"]
        made = [(entry["s"], entry["v"], entry["name"]) for entry in own if entry["o"] == "create_semaphore"]
        assert signaled == [(value, value) for value in values]
        assert made == [(value, value, f"{value // 100}") for value in values]
    assert content.threads == ()


def test_reading_while_somebody_writes_records_never_invents(small, journal_path):
    stop = threading.Event()

    def write():
        value = 0
        while not stop.is_set():
            signal(small, value, value)
            value += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(50):
            assert all(entry["s"] == entry["v"] for entry in read_journal(journal_path).entries)
    finally:
        stop.set()
        thread.join(30)


CALLS = {
    "signal": lambda calls, value: calls.journal.begin_call(calls.signal_head, 2**32 - 1, value),
    "read": lambda calls, _: calls.call(READ, 5),
    "write": lambda calls, _: calls.call(WRITE, 2**32),
    "submit": lambda calls, value: calls.submitting(
        "queue_copy", "copy(a → b)", 2**31 - 1, [Point(1, value)], [Point(2, value)], [], 2**32 - 1
    ),
    "submit beyond": lambda calls, value: calls.submitting(
        "queue_update", "update", -(2**40), [Point(2**32, value)], [], [], 2**32
    ),
    "signal only": lambda calls, value: calls.submitting("queue_execute", "hold", -1, [], [Point(2, value)], [], 0),
    "flush": lambda calls, _: calls.flushing(3),
    "fail": lambda calls, _: calls.failing(4, HalError(StatusCode.DATA_LOSS, "ä" * 30)),
    "submit two": lambda calls, value: calls.submitting(
        "queue_execute", "barrier", 0, [Point(1, value), Point(2, 7)], [Point(3, value), Point(4, 8)], [], 5
    ),
    "submit nothing": lambda calls, _: calls.submitting("queue_execute", "barrier", 0, [], [], [], 0),
}


@pytest.mark.parametrize("value", [0, 1, 2**63, LARGEST])
@pytest.mark.parametrize("what", CALLS)
def test_both_ways_say_the_same(journal, journal_path, monkeypatch, what, value):
    def refuse(*_):
        raise struct.error

    outer = journal.begin("settle", 1)
    calls = Calls(journal)
    for _ in range(2):  # the second time, the thread's name is known
        CALLS[what](calls, value)
        journal.end(0)
    for name in ("pack_short", "pack_submission"):
        monkeypatch.setattr(f"pytest_cuda2hal.observation.recording.{name}", refuse)
    CALLS[what](calls, value)
    _, _, one, other = [dict(entry) for entry in read_journal(journal_path).entries]
    assert list(one) == list(other)
    assert one["p"] == other["p"] == outer
    assert one["T"] == "MainThread"
    for entry in (one, other):
        assert 0 <= entry.pop("t") < 2**53
        entry.pop("i")
    assert one == other
    if what == "submit":
        expected = {"o": "submit", "d": 1, "T": "MainThread", "p": outer, "k": 2**32 - 1, "c": "queue_copy"}
        assert one == expected | {"a": "copy(a → b)", "q": 2**31 - 1, "w": [[1, value]], "s": [[2, value]]}
    if what == "submit two":
        assert (one["w"], one["s"]) == ([[1, value], [2, 7]], [[3, value], [4, 8]])
    if what == "fail":
        assert (one["s"], one["err"]) == (4, "DATA_LOSS: " + "ä" * 30)
    if what == "submit beyond":
        assert (one["q"], one["w"], one["s"], one["k"]) == (-(2**40), [[2**32, value]], [], 2**32)


def test_submissions_that_fit_no_record_say_the_same(journal, journal_path):
    calls = Calls(journal)
    for latches in ([], [7]):
        journal.end(calls.submitting("queue_copy", "ä", 2, [Point(1, LARGEST)], [Point(2, 0)], latches, 4))
    one, other = read_journal(journal_path).entries
    assert dict(one) | {"i": other["i"], "t": other["t"], "h": [7]} == dict(other)
    assert [*one, "h"] == list(other)


def test_a_thread_without_a_slot_has_a_record_and_a_line(small, journal_path, monkeypatch):
    monkeypatch.setattr("pytest_cuda2hal.observation.journal.SLOTS", 0)
    first, second = begin(small, 1), begin(small, 2)
    small.end(second)
    entries = read_journal(journal_path).entries
    assert [entry.get("i", entry.get("e")) for entry in entries] == [first, second, second]
    assert [entry.get("u") for entry in entries] == [1, 1, None]
