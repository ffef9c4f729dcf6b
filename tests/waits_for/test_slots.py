"""Calls without an entry: seen while they last, by whoever reads the journal, and what they leave behind."""

from __future__ import annotations

import math
import os
import signal as signals
import threading
import time
from types import SimpleNamespace

import pytest

from pytest_cuda2hal.hal import HalError, Semaphore, StatusCode, WaitMode
from pytest_cuda2hal.observation.calls import Calls, WaitCall
from pytest_cuda2hal.observation.history import History, SeenPoint
from pytest_cuda2hal.observation.journal import read_journal
from pytest_cuda2hal.observation.makers import Semaphores
from pytest_cuda2hal.observation.records import CREATE_SEMAPHORE, head_of
from pytest_cuda2hal.observation.slots import QUERY, SLOTS, WAIT_ALL, brief_head, key_of, pack_brief
from pytest_cuda2hal.waitgraph import State

LARGEST = 2**64 - 1


@pytest.fixture
def line(open_device, journal):
    [line] = Semaphores(open_device(5))(1)
    return line


def state_of(path):
    """Return the only thread that is in something."""
    (thread,) = read_journal(path).threads
    return thread


def waits_in(path):
    return [entry for entry in read_journal(path).entries if entry.get("o") == "wait"]


@pytest.mark.parametrize("timeout", [None, 0.0, 2.5, math.inf])
@pytest.mark.parametrize("mode", list(WaitMode))
def test_both_ways_to_wait_say_the_same(line, journal, journal_path, timeout, mode):
    calls = Calls(journal)
    with WaitCall(line._device.log, calls, (line @ LARGEST,), mode.value, timeout):
        assert waits_in(journal_path) == []
        brief = dict(state_of(journal_path).brief)
    with WaitCall(line._device.log, calls, (line @ LARGEST, line @ 1), mode.value, timeout):
        (other,) = [dict(entry) for entry in waits_in(journal_path)]
    assert (brief["T"], brief["o"], brief["m"], brief["to"]) == (other["T"], other["o"], other["m"], other["to"])
    assert (brief["d"], brief["w"], other["w"][0]) == (1, [[line.serial, LARGEST]], [line.serial, LARGEST])
    assert -1 <= other["t"] - brief["t"] < 30_000  # the one is cut to milliseconds
    assert brief["to"] == timeout


def test_a_wait_that_came_leaves_its_value_and_no_entry(line, journal_path):
    line.inner.signal(7)
    line.wait(5)
    line.wait(3)
    content = read_journal(journal_path)
    assert waits_in(journal_path) == []
    assert content.values == {(1, line.serial): 5}
    history = History(content)
    assert history.timepoint(SeenPoint(1, line.serial, 5))[2:] == (State.REACHED, "last seen at 5")
    assert history.timepoint(SeenPoint(1, line.serial, 6))[2] is State.UNREACHED


def test_a_wait_that_raised_has_an_entry_and_leaves_no_value(line, journal_path):
    with pytest.raises(HalError):
        line.wait(5, timeout=0)
    content = read_journal(journal_path)
    assert content.values == {}
    assert content.threads == ()
    (operation,) = History(content).last_operations(1)
    assert operation.startswith("MainThread: wait(line@5)  raised DEADLINE_EXCEEDED")


def test_values_are_kept_however_many_entries_come(line, journal, journal_path):
    line.inner.signal(9)
    line.wait(9)
    for number in range(80_000):
        journal.write({"n": number})
    content = read_journal(journal_path)
    assert content.lost
    assert content.values == {(1, line.serial): 9}


def test_of_two_in_one_place_the_last_stays_and_nothing_is_invented(journal, journal_path):
    for turn in range(3):
        for number in range(3):
            key = key_of(1, 1 + number * journal._values._count)
            slot = journal.begin_brief(brief_head(WAIT_ALL, key), 10 * turn + number, time.monotonic())
            journal.end_wait(slot, key, 10 * turn + number)
    assert read_journal(journal_path).values == {(1, 1 + 2 * journal._values._count): 22}
    journal.begin_case("next")
    assert read_journal(journal_path).values == {}


def test_what_is_made_has_one_entry(open_device, journal_path, journal):
    device = open_device()
    line = device.create_semaphore(4)
    (entry,) = [dict(entry) for entry in read_journal(journal_path).entries]
    assert 0 <= entry.pop("t") < 2**53
    assert entry.pop("i")
    assert entry == {"o": "create_semaphore", "d": 1, "T": "MainThread", "v": 4, "s": line.serial, "name": "line"}


@pytest.mark.parametrize("serial", [1, 2**32])
@pytest.mark.parametrize("name", [None, "made", "ä" * 300])
def test_what_was_made_however_it_is_written(journal, journal_path, serial, name):
    outer = journal.begin("settle", 1)
    journal.write_made(head_of(CREATE_SEMAPHORE, 1), serial, LARGEST, name)
    journal.end(outer)
    entry = read_journal(journal_path).entries[-1]
    assert (entry["v"], entry["s"], entry["name"]) == (LARGEST, serial, name and name[:200])
    assert entry["p"] == outer
    assert journal._lines == {}


def test_what_was_not_made_has_an_entry(open_device, journal, journal_path):
    device = open_device()
    device.inner.create_semaphore = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        device.create_semaphore(4)
    (operation,) = History(read_journal(journal_path)).last_operations(1)
    assert operation.startswith("MainThread: create_semaphore(4)  raised ZeroDivisionError")


@pytest.mark.parametrize("message", ["no more", "no more " * 20], ids=["short", "long"])
@pytest.mark.parametrize("timeout", [None, 0.25, math.inf])
@pytest.mark.parametrize("mode", list(WaitMode))
def test_a_wait_that_raised_however_it_is_written(line, journal, journal_path, message, timeout, mode):
    """In a record, or where the message is too long for one in a line."""
    outer = journal.begin("settle", 1)
    wait = WaitCall(line._device.log, line._device.calls, (line @ LARGEST,), mode.value, timeout)
    with pytest.raises(HalError, match="no more"), wait:
        raise HalError(StatusCode.DATA_LOSS, message)
    journal.end(outer)
    (entry,) = waits_in(journal_path)
    assert entry["x"] == f"DATA_LOSS: {message}"[:200]
    assert (entry["w"], entry["m"], entry["to"]) == ([[line.serial, LARGEST]], mode.value, timeout)
    assert (entry["p"], entry["T"], entry["d"]) == (outer, "MainThread", 1)
    assert 0 <= time.monotonic() * 1000 - entry["t"] < 30_000
    assert journal._lines == {}


class Shy:
    """A size of which nobody may ask for an index."""

    def __index__(self):
        raise TypeError("not here")

    def __repr__(self):
        return "<shy>"


@pytest.mark.parametrize("size", [1, LARGEST, 2**64, True, 2.5, Shy(), "much"])
def test_an_allocation_is_seen_while_it_lasts_and_afterwards(open_device, journal, journal_path, size):
    device = open_device()
    seen = []

    def allocate(size):
        seen.append(History(read_journal(journal_path)).waiters()[0].detail)
        if size == "much":
            raise HalError(StatusCode.RESOURCE_EXHAUSTED, "too much")
        return SimpleNamespace(size=size)

    device.inner.allocate_buffer = allocate
    try:
        memory = device.allocate_buffer(size)
    except HalError:
        memory = None
    assert seen == [f"allocate_buffer({size!r})"]
    history = History(read_journal(journal_path))
    assert history.waiters() == []
    raised = "  raised RESOURCE_EXHAUSTED: too much" if memory is None else ""
    assert history.last_operations(1) == [f"MainThread: allocate_buffer({size!r}){raised}"]
    assert ("memory" in history._names.values()) is (memory is not None)


def test_a_thread_without_a_slot_has_entries(line, journal, journal_path, monkeypatch):
    monkeypatch.setattr("pytest_cuda2hal.observation.journal.SLOTS", 0)
    line.inner.signal(1)
    seen = []
    line.inner.wait = lambda *_: seen.append(read_journal(journal_path))

    def act():
        line.query()
        line.wait(1)
        line._device.create_semaphore(3)

    thread = threading.Thread(target=act, name="homeless")
    thread.start()
    thread.join(30)
    (operation,) = History(seen[0]).last_operations(1)
    assert operation == "homeless: wait(line@1)  has not returned"
    content = read_journal(journal_path)
    history = History(content)
    assert history.last_operations(2) == ["homeless: wait(line@1)", "homeless: create_semaphore(3)"]
    assert history.waiters() == []
    assert history.timepoint(SeenPoint(1, line.serial, 1))[2] is State.REACHED


def test_more_threads_than_slots(line, journal_path):
    """Each is seen, whether it has a slot or not."""
    together, opened = threading.Barrier(SLOTS + 21), threading.Event()

    def wait(*_):
        together.wait(30)
        opened.wait(30)

    line.inner.wait = wait
    threads = [threading.Thread(target=line.wait, args=(1,), name=f"waiter {n}") for n in range(SLOTS + 20)]
    for thread in threads:
        thread.start()
    try:
        together.wait(30)
        waiters = {waiter.thread for waiter in History(read_journal(journal_path)).waiters()}
    finally:
        opened.set()
        for thread in threads:
            thread.join(30)
    assert waiters == {thread.name for thread in threads}
    assert History(read_journal(journal_path)).waiters() == []


@pytest.mark.skipif(not hasattr(signals, "SIGUSR1"), reason="no such signal on this platform")
def test_a_handler_that_comes_into_a_wait_does_not_end_it(line, journal_path):
    """It queries and waits, too; then the wait that it interrupted is still seen."""
    line.inner.signal(1)
    original, seen = line.inner.wait, []

    def wait(value, timeout):
        if value == 2:
            os.kill(os.getpid(), signals.SIGUSR1)
            seen.append(state_of(journal_path))
        else:
            original(value, timeout)

    def handle(*_):
        line.query()
        line.wait(1)
        line._device.create_semaphore(8)

    line.inner.wait = wait
    before = signals.signal(signals.SIGUSR1, handle)
    try:
        line.wait(2)
    finally:
        signals.signal(signals.SIGUSR1, before)
    assert seen[0].brief["w"] == [[line.serial, 2]]
    assert read_journal(journal_path).threads == ()
    assert History(read_journal(journal_path)).last_operations(1) == ["MainThread: create_semaphore(8)"]


def test_what_a_thread_of_the_case_before_is_in_is_not_told(open_device, line, journal, journal_path):
    slot = journal.begin_query(brief_head(QUERY, line.journal_key))
    journal.begin_case("queried")
    assert read_journal(journal_path).threads == ()
    journal.end_brief(slot)
    line.inner.signal(5)
    with WaitCall(line._device.log, line._device.calls, (line @ 5,), "all", None):
        assert state_of(journal_path).brief["o"] == "wait"
        journal.begin_case("next")
        assert read_journal(journal_path).threads == ()
        other = open_device().create_semaphore()
        assert (other.serial, line.serial) == (1, 1)
    content = read_journal(journal_path)
    assert [entry["d"] for entry in content.entries] == [1]
    assert content.values == {(2, 1): 5}
    assert History(content).timepoint(SeenPoint(1, 1, 5))[2] is State.UNREACHED
    with WaitCall(line._device.log, line._device.calls, (line @ 1,), "all", None):
        assert state_of(journal_path).brief["d"] == 2


class Stores:
    """Words, where something is done before or after every store."""

    def __init__(self, words, *, before=lambda: None, after=lambda: None):
        self._words, self._before, self._after = words, before, after

    def __getitem__(self, at):
        return self._words[at]

    def __setitem__(self, at, word):
        self._before()
        self._words[at] = word
        self._after()


def test_a_thread_that_is_stopped_between_looking_and_writing_takes_no_value_back(line, journal, journal_path):
    slot, words = journal._new_slot(), journal._words
    threads: list[threading.Thread] = []

    def overtake():
        if not threads:
            threads.append(threading.Thread(target=journal._values.saw, args=(line.journal_key, 9)))
            threads[0].start()
            threads[0].join(0.2)  # it has to wait for the one that was stopped

    journal.end_wait(slot, line.journal_key, 3)
    journal._values._words = Stores(words, before=overtake)
    journal.end_wait(slot, line.journal_key, 5)
    threads[0].join(30)
    assert read_journal(journal_path).values == {(1, line.serial): 9}


def test_a_writer_killed_between_two_words_invents_no_value(journal, journal_path):
    keys = [key_of(1, 1 + number * journal._values._count) for number in range(2)]
    slot = journal._new_slot()
    journal.end_wait(slot, keys[0], 5)
    seen = []
    journal._values._words = Stores(journal._words, after=lambda: seen.append(dict(read_journal(journal_path).values)))
    journal.end_wait(slot, keys[1], 777)
    journal.end_wait(slot, keys[1], 778)
    one, other = (1, 1), (1, 1 + journal._values._count)
    assert len(seen) >= 3
    assert seen[-1] == {other: 778}
    assert all(found in ({one: 5}, {}, {other: 777}, {other: 778}) for found in seen)


def test_a_value_that_gave_way_is_not_denied(open_device, journal, journal_path):
    device = open_device()
    first = device.create_semaphore()
    first.inner.signal(9)
    first.wait(9)
    assert not read_journal(journal_path).lost
    slot = journal._new_slot()
    journal.end_wait(slot, first.journal_key + journal._values._count, 1)
    assert History(read_journal(journal_path)).timepoint(SeenPoint(1, first.serial, 9))[2] is State.UNKNOWN
    first.wait(9)
    assert History(read_journal(journal_path)).timepoint(SeenPoint(1, first.serial, 9))[2] is State.REACHED
    journal.begin_case("next")
    assert not read_journal(journal_path).lost


def test_what_an_exception_out_of_nowhere_leaves_is_forgotten_with_the_case(line, journal, journal_path, monkeypatch):
    def pack_and_raise(*arguments):
        pack_brief(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pytest_cuda2hal.observation.journal.pack_brief", pack_and_raise)
        with pytest.raises(KeyboardInterrupt):
            line.wait(1)
    assert line.query() == 0
    journal.begin_case("next")
    assert read_journal(journal_path).threads == ()
    with WaitCall(line._device.log, line._device.calls, (line @ 1,), "all", None):
        assert state_of(journal_path).brief["o"] == "wait"


def test_a_semaphore_that_is_none_of_ours_has_no_place(open_device, journal, journal_path):
    device = open_device()

    class Foreign(Semaphore):
        key = "name"

        def query(self):
            return 1

        def signal(self, value):
            raise NotImplementedError

        def fail(self, error):
            raise NotImplementedError

        def wait(self, value, timeout=None):
            raise NotImplementedError

    device.inner.wait_semaphores = lambda *_, **__: None
    device.wait_semaphores([Foreign() @ 1])
    content = read_journal(journal_path)
    assert content.threads == ()
    assert content.values == {}


def test_waiters_and_operations_come_in_the_order_in_which_they_began(line, journal, journal_path):
    with WaitCall(line._device.log, line._device.calls, (line @ 1,), "all", None):
        until = time.monotonic_ns() // 1_000_000 + 1
        while time.monotonic_ns() // 1_000_000 <= until:
            pass
        thread = threading.Thread(target=lambda: journal.begin("settle", 1), name="later")
        thread.start()
        thread.join(30)
        history = History(read_journal(journal_path))
    assert [waiter.thread for waiter in history.waiters()] == ["MainThread", "later"]
    assert [line.partition(":")[0] for line in history.last_operations(2)] == ["MainThread", "later"]


def test_polling_by_waits_costs_a_line_each(line, journal, journal_path):
    for _ in range(50):
        with pytest.raises(HalError):
            line.wait(1, timeout=0)
    entries = [entry for entry in read_journal(journal_path).entries if entry.get("o") != "names"]
    assert [entry["o"] for entry in entries[1:]] == ["wait"] * 50
    assert all("DEADLINE_EXCEEDED" in entry["x"] for entry in entries[1:])


def test_outer_and_inner_are_both_told(line, journal, journal_path):
    outer = journal.begin("host_function", 1)
    slot = journal.begin_query(brief_head(QUERY, line.journal_key))
    history = History(read_journal(journal_path))
    assert [waiter.detail for waiter in history.waiters()] == ["a host function", "query(line)"]
    journal.end_brief(slot)
    assert [waiter.detail for waiter in History(read_journal(journal_path)).waiters()] == ["a host function"]
    journal.end(outer)


def test_a_writer_killed_between_two_words_is_in_nothing(line, journal, journal_path):
    """Whatever part of a call is there, in the order in which it is written, it counts only as a whole."""
    path = journal_path.with_suffix(".cut")
    slot = journal._new_slot()
    before = journal_path.read_bytes()
    assert journal.begin_brief(brief_head(WAIT_ALL, line.journal_key), 7, time.monotonic(), 3.0) is slot
    after = journal_path.read_bytes()
    changed = next(at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new) // 8 * 8
    seen = []
    for end in range(changed, slot.head_word * 8 + 9, 8):
        path.write_bytes(after[:end] + before[end:])
        seen.append(len(read_journal(path).threads))
    assert seen == [0] * (len(seen) - 1) + [1]


def test_a_device_beyond_all_numbers_is_no_error(open_device, journal, journal_path):
    journal._device_count = 2**40 - 1
    line = open_device().create_semaphore()
    line.inner.signal(1)
    line.wait(1)
    assert line.query() == 1
    begun = [entry for entry in read_journal(journal_path).entries if "i" in entry]
    assert [(entry["o"], entry["d"]) for entry in begun] == [("create_semaphore", 2**40), ("wait", 2**40)]
    assert History(read_journal(journal_path)).waiters() == []
