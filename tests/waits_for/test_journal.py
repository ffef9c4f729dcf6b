"""The journal survives its writer: a torn entry costs that entry, a full ring the oldest ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pytest_cuda2hal.observation.journal import Journal, ThreadState, read_journal

SMALL = 2**17


def numbers(path):
    return [entry["v"] for entry in read_journal(path).entries]


@pytest.fixture
def small(journal_path):
    journal = Journal.create(journal_path, SMALL)
    journal.begin_case("small")
    return journal


def test_what_was_written_is_read_in_order(small, journal_path):
    for value in range(100):
        small.write({"v": value, "text": "ä\n"})
    content = read_journal(journal_path)
    assert content.case == "small"
    assert [entry["v"] for entry in content.entries] == list(range(100))
    assert content.entries[7]["text"] == "ä\n"
    assert not content.lost


def test_a_new_case_forgets_the_one_before(small, journal_path):
    small.write({"v": 1})
    small.begin_case("next")
    small.write({"v": 2})
    assert read_journal(journal_path).case == "next"
    assert numbers(journal_path) == [2]


@pytest.mark.parametrize("content", [None, b"", b"x", b"x" * 5000, bytes(2**17)])
def test_what_is_no_journal_is_empty(journal_path, content):
    if content is not None:
        journal_path.write_bytes(content)
    read = read_journal(journal_path)
    assert read.case is None
    assert read.entries == ()
    assert read.threads == ()


def test_too_small_a_journal_is_refused(journal_path):
    with pytest.raises(ValueError, match="at least"):
        Journal.create(journal_path, 100)


def test_a_full_ring_keeps_the_newest(small, journal_path):
    for value in range(5000):
        small.write({"v": value})
        if value % 500 == 499:
            kept = numbers(journal_path)
            assert kept == list(range(kept[0], value + 1))
    content = read_journal(journal_path)
    assert content.lost
    assert len(content.entries) > 900


def test_an_entry_that_is_too_long_is_left_out(small, journal_path):
    small.write({"v": 1})
    small.write({"v": 2, "text": "x" * SMALL})
    small.write({"v": 3})
    assert numbers(journal_path) == [1, 3]


def test_calls_in_progress_are_never_overwritten(small, journal_path):
    outer = small.begin("settle", 1)
    inner = small.begin("close", 1)
    for value in range(5000):
        small.write({"v": value})
        if value % 100 == 0:
            calls = {entry["i"]: entry["o"] for entry in read_journal(journal_path).entries if "i" in entry}
            assert calls == {outer: "settle", inner: "close"}
    small.end(inner)
    (thread,) = read_journal(journal_path).threads
    assert thread.call == outer
    small.end(outer)
    assert read_journal(journal_path).threads == ()


@pytest.mark.parametrize("damage", [b"\0", b"\n", b"7", b"}", b"\xff"])
def test_a_garbled_byte_costs_the_entries_that_it_touches(small, journal_path, damage):
    for value in range(30):
        small.write({"v": value})
    data = journal_path.read_bytes()
    end = data.rindex(b"\n") + 1
    begin = data.index(b'"v":27') - 20
    for at in range(begin, end):
        if data[at : at + 1] == damage:
            continue
        journal_path.write_bytes(data[:at] + damage + data[at + 1 :])
        content = read_journal(journal_path)
        kept = [entry["v"] for entry in content.entries]
        assert kept[:26] == list(range(26))
        assert set(kept) <= set(range(30))
        assert 28 <= len(kept) <= 29, at  # a newline that is gone joins two lines
        assert content.lost


def test_a_file_cut_anywhere_is_read_up_to_there(small, journal_path):
    for value in range(30):
        small.write({"v": value})
    data = journal_path.read_bytes()
    for end in range(data.index(b'"v":27'), data.rindex(b"\n") + 1):
        journal_path.write_bytes(data[:end])
        content = read_journal(journal_path)
        kept = [entry["v"] for entry in content.entries if "v" in entry]
        assert kept == list(range(len(kept)))
        assert 27 <= len(kept) <= 30
        assert content.lost
    for end in range(0, data.index(b'"v"'), 97):
        journal_path.write_bytes(data[:end])
        read_journal(journal_path)


def test_garbage_in_the_header_is_survived(small, journal_path):
    small.end(small.begin("close", 1))
    data = journal_path.read_bytes()
    for at in range(72):
        for garbage in (b"\xff", b"\0"):
            journal_path.write_bytes(data[:at] + garbage + data[at + 1 :])
            read_journal(journal_path)


def test_many_threads(small, journal_path):
    per_thread, together = 30, threading.Barrier(8)

    def write(number):
        together.wait(10)
        for value in range(per_thread):
            call = small.begin("signal", 1, f',"v":{number * 1000 + value}')
            small.end(call, ',"x":"no"')

    threads = [threading.Thread(target=write, args=(number,), name=f"writer {number}") for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    content = read_journal(journal_path)
    assert not content.lost
    begun = [entry for entry in content.entries if "i" in entry]
    for number in range(8):
        values = [entry["v"] for entry in begun if entry["T"] == f"writer {number}"]
        assert values == list(range(number * 1000, number * 1000 + per_thread))
    assert {entry["e"] for entry in content.entries if "e" in entry} == {entry["i"] for entry in begun}
    assert content.threads == ()


def test_a_slot_passes_from_a_thread_that_is_gone_to_a_new_one(small, journal_path):
    for number in range(600):
        held: list[tuple[ThreadState, ...]] = []

        def work(held=held, number=number):
            small.begin("close", 1)
            held.append(read_journal(journal_path).threads if number % 100 == 99 else ())
            small.end(small._this.slot.calls[-1])

        thread = threading.Thread(target=work, name=f"short {number}")
        thread.start()
        thread.join(30)
        if number % 100 == 99:
            assert [state.name for state in held[0]] == [f"short {number}"]


def test_a_thread_without_a_slot_has_two_entries(small, journal_path, monkeypatch):
    monkeypatch.setattr("pytest_cuda2hal.observation.journal.SLOTS", 0)
    first, second = small.begin("close", 1), small.begin("signal", 1)
    small.end(second)
    entries = read_journal(journal_path).entries
    assert [entry.get("i", entry.get("e")) for entry in entries] == [first, second, second]
    assert entries[0]["u"] == 1


CHILD = """
import ctypes, os, signal, sys
from pathlib import Path
from pytest_cuda2hal.observation.journal import Journal
journal = Journal.create(Path(sys.argv[1]))
journal.begin_case("dying")
for value in range(1000):
    journal.end(journal.begin("signal", 1, f',"v":{value}'))
journal.begin("close", 1)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
ctypes.PyDLL(None).sleep(60)
"""


@pytest.mark.parametrize("end", ["kill", "hold the GIL"])
def test_it_is_read_from_outside_when_the_process_is_killed_or_hangs(journal_path, end):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(journal_path), end])
    try:
        if end == "kill":
            assert child.wait(30) == -signal.SIGKILL
        else:
            deadline = time.monotonic() + 30
            while not read_journal(journal_path).threads or len(read_journal(journal_path).entries) < 1001:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert child.poll() is None
        content = read_journal(journal_path)
    finally:
        child.kill()
        child.wait()
    assert content.case == "dying"
    assert not content.lost
    assert [entry["v"] for entry in content.entries[:-1]] == list(range(1000))
    (thread,) = content.threads
    assert thread.name == "MainThread"
    assert thread.call == content.entries[-1]["i"]
    assert content.entries[-1]["o"] == "close"


def test_reading_while_somebody_writes_never_invents(small, journal_path):
    stop = threading.Event()

    def write():
        value = 0
        while not stop.is_set():
            small.write({"v": value, "w": -value})
            value += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(50):
            assert all(entry["w"] == -entry["v"] for entry in read_journal(journal_path).entries)
    finally:
        stop.set()
        thread.join(30)


def test_the_file_stays_after_close(small, journal_path):
    small.write({"v": 1})
    small.close()
    assert numbers(journal_path) == [1]
    assert os.path.getsize(journal_path) == SMALL  # noqa: PTH202
