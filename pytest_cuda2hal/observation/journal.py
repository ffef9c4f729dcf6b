"""A journal of the calls of a case, in a file that outlives the process: what was going on when it died or hung.

The file is mapped into memory, so an entry costs no system call, and what was written is there for another process to
read whatever becomes of the writer. It has a fixed size: a header, a slot per thread, a table of the values that waits
have seen, a table of the names of threads, and two rings in which the newest entries overwrite the oldest. The calls
that a case makes by the thousand are records of fixed size, written without a lock (:mod:`.recording`); all else is a
line of its own: a checksum, a number and compact JSON. Entries of both rings are numbered together. A slot has the
number of the call that its thread is in, so that a call which returns, as nearly all do, needs no second entry; a call
of which nobody asks when it is over has a place in the slot, and no entry at all (:mod:`.slots`).
"""

from __future__ import annotations

import itertools
import mmap
import struct
import threading
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

from .journal_tables import TextTable, ValueTable
from .reading import (
    AT_CAPACITY,
    AT_CASE,
    AT_CASE_NUMBER,
    AT_DEVICES,
    AT_MAGIC,
    AT_POSITION,
    AT_RECORDS,
    AT_TEXTS,
    AT_VALUES,
    MAGIC,
    SEEN_BYTES,
    SLOTS_AT,
    VALUES_AT,
    checked_line,
)
from .reading import JournalContent as JournalContent
from .reading import read_journal as read_journal
from .recording import Recording, encode
from .records import RECORD_BYTES, read_record
from .slots import NAME_AT, SLOT_BYTES, SLOTS, WORD, Slot, ThisThread, pack_brief
from .slots import ThreadState as ThreadState

#: Bytes of a journal, unless told otherwise.
DEFAULT_SIZE: Final = 2**22
#: How much longer a line is than its JSON, at most.
_LINE_EXTRA: Final = 32


class Journal(Recording):
    """The writing end, one per process. Thread-safe; :meth:`close` only when nobody writes any more."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        room = len(mapped) - VALUES_AT
        values = room // 32 // SEEN_BYTES
        self._texts_at = VALUES_AT + values * SEEN_BYTES
        texts_bytes = room // 32 // RECORD_BYTES * RECORD_BYTES - self._texts_at % RECORD_BYTES
        self._records = room // 2 // RECORD_BYTES
        self._records_at = self._texts_at + texts_bytes
        self._words = memoryview(mapped)[: self._texts_at].cast("Q")
        self._values = ValueTable(self._words, VALUES_AT // WORD, values)
        self._texts = TextTable(mapped, self._words, self._texts_at, texts_bytes)
        self._ring = memoryview(mapped)[self._records_at + self._records * RECORD_BYTES :]
        self._capacity = len(self._ring)
        self._position = 0
        # Reentrant: what a signal handler of the case does must not wait for the entry that it interrupted.
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._device_count = 0
        self._this = ThisThread()
        # By thread identifier, which a new thread has from one that is gone: its slot becomes the new one's.
        self._slots: dict[int, Slot] = {}
        self._lines = {}
        self._save_at = self._records // 4
        #: Somebody, who has the lock, looks for calls in progress.
        self._is_saving = False
        self._words[AT_CAPACITY] = self._capacity
        self._words[AT_RECORDS] = self._records
        self._words[AT_TEXTS] = texts_bytes
        self._words[AT_VALUES] = values
        self._words[AT_MAGIC] = MAGIC

    @classmethod
    def create(cls, path: Path, size: int = DEFAULT_SIZE) -> Journal:
        """Make the file, of ``size`` bytes in all, and return a journal that writes into it.

        :raises ValueError: there would be no room for entries.
        :raises OSError: there is no room for the file.
        """
        if size < 2 * VALUES_AT:
            raise ValueError(f"a journal has at least {2 * VALUES_AT} bytes, not {size}")
        with path.open("w+b") as file:
            file.write(bytes(size))  # every page: where none is left to write to, the case would seem to crash
            file.flush()
            return cls(mmap.mmap(file.fileno(), size))

    def leave(self) -> None:
        """Write nowhere any more: for a process that was forked, whose entries would mix with those of its parent."""
        self._lock = threading.RLock()
        self._mapped = mmap.mmap(-1, len(self._mapped))
        self._words = memoryview(self._mapped)[: self._texts_at].cast("Q")
        self._ring = memoryview(self._mapped)[-self._capacity :]
        self._values = ValueTable(self._words, VALUES_AT // WORD, (self._texts_at - VALUES_AT) // SEEN_BYTES)
        self._texts = TextTable(self._mapped, self._words, self._texts_at, self._records_at - self._texts_at)

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        self._words.release()
        self._ring.release()
        self._mapped.close()

    def begin_case(self, case_id: str) -> None:
        """Begin with a case: everything before it is forgotten."""
        with self._lock:
            self._save_calls_in_progress(self._save_at)
            number = next(self._numbers)
            self._save_at = number + self._records // 4
            self._words[AT_CASE_NUMBER] = number
            self._words[AT_CASE] = self._position
            self._words[AT_DEVICES] = self._device_count
            self._texts.clear()
            self._values.clear()
            for slot in self._slots.values():  # of a thread that is late, or of a call that an exception cut short
                if slot.head_word:
                    self._words[slot.head_word] = 0
            self._append(encode({"o": "case", "case": case_id[:1000]}), number)

    def new_device(self) -> int:
        """Return a number for a device, unique within the process: a late thread of a case may still use an old one."""
        with self._lock:
            self._device_count += 1
            return self._device_count

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry of plain data. One that would fill an eighth of the lines' ring is left out."""
        self._append(encode(entry))

    # --- calls

    def begin(self, operation: str, device: int, facts: str = "") -> int:
        """Append an entry: this thread begins a call, and is in it until :meth:`end`. Return the call's number.

        ``facts`` is JSON text to follow, as in ``,"s":7``.
        """
        slot = self._this.slot or self._new_slot()
        moment = monotonic_ns() // 1_000_000
        with self._lock:
            call = next(self._numbers)
            text = self._lines[call] = slot.line(call, operation, device, moment, facts)
            slot.calls.append(call)
            if slot.word:
                self._words[slot.word] = call
            self._append(text, call)
        return call

    def write_refused(self, operation: str, device: int, since: float, facts: str, error: str) -> None:
        """Append an entry: a call of this thread that began at ``since``, by ``time.monotonic``, raised an error."""
        slot = self._this.slot or self._new_slot()
        number = next(self._numbers)
        facts += f',"x":{quoted(error)}'
        self._append(slot.line(number, operation, device, int(since * 1000), facts), number)

    def end(self, call: int, facts: str = "") -> None:
        """Note that the call which this thread began last is over; ``facts`` make an entry of it, as what it made."""
        slot = self._this.slot or self._new_slot()
        calls, word = slot.calls, slot.word
        if facts or not word:
            with self._lock:  # a call that is saved from being overwritten is not saved behind its own end
                if calls:
                    calls.pop()
                self._append(f'{{"e":{call}{facts}}}')
        elif calls:
            calls.pop()
        if word:
            self._words[word] = calls[-1] if calls else 0
        if call in self._lines:
            self._lines.pop(call, None)  # another thread may have been faster

    def end_raised(self, call: int, error: str) -> None:
        """The same for a call that raised an error.

        That is in the ring that has the call, so that nobody finds the call and not its end: each loses its oldest.
        """
        slot = self._this.slot or self._new_slot()
        calls, word = slot.calls, slot.word
        if calls:
            calls.pop()
        if self._is_saving:  # maybe this call, too; who begins from here on finds it over
            with self._lock:
                pass
        has_line = self._lines.pop(call, None) is not None
        if has_line or not word:
            self._append(f'{{"e":{call},"x":{quoted(error)}}}')
        else:
            self._write_raised(call, slot, error)
        if word:
            self._words[word] = calls[-1] if calls else 0

    def begin_query(self, head: int) -> Slot | None:
        """Do what :meth:`begin_brief` does for a query, of which the head tells everything."""
        slot = self._this.slot or self._new_slot()
        word = slot.head_word
        if not word or self._words[word]:
            return None
        try:
            self._words[word] = head
        except ValueError:  # a device beyond all numbers
            return None
        return slot

    def begin_brief(self, head: int, value: int, since: float, timeout: float = 0) -> Slot | None:
        """Note, without an entry, that this thread begins a call (:mod:`.slots`), ``since`` by ``time.monotonic``.

        Return what to end it by; ``None`` if there is no place for it, as when it was called from a signal handler in
        such a call. What an exception out of nowhere leaves unended is forgotten as the next case begins.
        """
        slot = self._this.slot or self._new_slot()
        if not slot.head_word or self._words[slot.head_word]:
            return None
        try:
            pack_brief(self._mapped, slot.brief_at, value, since, timeout, head)
        except struct.error:
            return None
        return slot

    def end_brief(self, slot: Slot) -> None:
        """Note that the call without an entry is over."""
        self._words[slot.head_word] = 0

    def end_wait(self, slot: Slot, key: int, value: int) -> None:
        """The same for a wait that came: the semaphore has reached the value."""
        self._values.saw(key, value)
        self._words[slot.head_word] = 0

    # --- inside

    def _new_slot(self) -> Slot:
        ident, name = threading.get_ident(), threading.current_thread().name
        with self._lock:
            before, number = self._slots.get(ident), len(self._slots)
            if before is not None:
                at = before.word * WORD
            else:
                at = SLOTS_AT + number * SLOT_BYTES if number < SLOTS else 0
            slot = self._slots[ident] = self._this.slot = Slot(at, name)
            if at:
                shown = name.encode(errors="replace")[: SLOT_BYTES - NAME_AT]
                self._mapped[at : at + SLOT_BYTES] = bytes(NAME_AT) + shown.ljust(SLOT_BYTES - NAME_AT, b"\0")
        return slot

    def _append(self, text: str, number: int = 0) -> None:
        """Append a line, under a number of its own or the one given."""
        if len(text) + _LINE_EXTRA > self._capacity // 8:
            return
        with self._lock:
            if self._put(text, number):
                self._put_calls_in_progress()

    def _put(self, text: str, number: int = 0) -> bool:
        """Append a line, which may have to be split at the end of the ring; return whether it came to the end."""
        line = checked_line(number or next(self._numbers), text)
        at = self._position % self._capacity
        room = self._capacity - at
        self._ring[at : at + len(line)] = line[:room]
        if len(line) > room:
            self._ring[: len(line) - room] = line[room:]
        self._position += len(line)
        self._words[AT_POSITION] = self._position
        return len(line) >= room

    def _put_calls_in_progress(self) -> None:
        """Write the calls in progress again, the oldest first: the entries of others would overwrite them."""
        self._save_records()
        room = self._capacity // 4
        for _, text in sorted(self._lines.items()):
            room -= len(text) + _LINE_EXTRA
            if room < 0:
                break
            self._put(text)

    def _save_records(self) -> list[str]:
        """Make lines of the records of calls in progress, and return them. The lock is held."""
        self._is_saving = True
        try:
            return self._save_records_of_calls()
        finally:
            self._is_saving = False

    def _save_records_of_calls(self) -> list[str]:
        calls = {call for slot in list(self._slots.values()) for call in list(slot.calls)}
        for call in set(self._lines) - calls:
            self._lines.pop(call, None)
        threads = {number: text for text, number in self._texts.ids.items()}
        saved = []
        for call in sorted(calls - set(self._lines)):
            found = read_record(self._mapped, self._records_at + call % self._records * RECORD_BYTES, threads)
            if found is not None and found[0] == call:
                self._lines[call] = encode(found[1])
                saved.append(self._lines[call])
        return saved

    def _save_calls_in_progress(self, number: int) -> None:
        """Write the records of calls in progress as lines, before newer ones overwrite them."""
        with self._lock:
            if number < self._save_at:  # another thread was faster
                return
            self._save_at = number + self._records // 4
            for text in self._save_records():
                self._append(text)


_current: Journal | None = None


def set_journal(journal: Journal | None) -> None:
    """Make ``journal`` the one that devices opened from now on write into; ``None`` for none."""
    global _current
    _current = journal


def current_journal() -> Journal | None:
    """Return the journal of this process, if there is one."""
    return _current
