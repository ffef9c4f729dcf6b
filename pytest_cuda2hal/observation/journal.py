"""A journal of the calls of a case, in a file that outlives the process: what was going on when it died or hung.

The file is mapped into memory, so an entry costs no system call, and what was written is there for another process to
read whatever becomes of the writer. It has a fixed size: a header, a slot per thread, a table of texts, and two rings
in which the newest entries overwrite the oldest. The calls that a case makes by the thousand are records of fixed size,
written without a lock (:mod:`.records`); all else is a line of its own: a checksum, a number and compact JSON. Entries
of both rings are numbered together. A slot has the number of the call that its thread is in, so that a call which
returns, as nearly all do, needs no second entry.
"""

from __future__ import annotations

import itertools
import json
import mmap
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final

from .reading import (
    AT_CAPACITY,
    AT_CASE,
    AT_CASE_NUMBER,
    AT_MAGIC,
    AT_POSITION,
    AT_RECORDS,
    AT_TEXTS,
    AT_TEXTS_END,
    DEVICE_SHIFT,
    MAGIC,
    QUERY,
    SLOT_BYTES,
    SLOTS,
    TEXTS_AT,
    WORD,
    WORDS,
    checked_line,
)
from .reading import JournalContent as JournalContent
from .reading import ThreadState as ThreadState
from .reading import read_journal as read_journal
from .records import (
    HAS_VALUE,
    MADE,
    NAME_LENGTH,
    RECORD_BYTES,
    TEXT_LENGTH,
    WITHOUT_SLOT,
    entry_of,
    pack_call,
    read_record,
)

#: Bytes of a journal, unless told otherwise.
DEFAULT_SIZE: Final = 2**21
#: How much longer a line is than its JSON, at most.
_LINE_EXTRA: Final = 32

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class _Slot:
    """What one thread is in: the numbers of its calls, the innermost last. Written by that thread only."""

    __slots__ = ("calls", "flags", "head", "name", "word")

    def __init__(self, word: int, name: str) -> None:
        self.word = word  #: where the journal has it; 0 for nowhere
        self.name = name[:NAME_LENGTH]
        self.flags = 0 if word else WITHOUT_SLOT
        self.head = f'"T":{quoted(self.name)}' + ("" if word else ',"u":1')
        self.calls: list[int] = []


class _ThisThread(threading.local):
    slot: _Slot | None = None


class Journal:
    """The writing end, one per process. Thread-safe; :meth:`close` only when nobody writes any more."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        room = len(mapped) - TEXTS_AT
        self._texts_bytes = room // 8 // RECORD_BYTES * RECORD_BYTES
        self._records = room // 2 // RECORD_BYTES
        self._records_at = TEXTS_AT + self._texts_bytes
        self._words = memoryview(mapped)[:TEXTS_AT].cast("Q")
        self._ring = memoryview(mapped)[self._records_at + self._records * RECORD_BYTES :]
        self._capacity = len(self._ring)
        self._position = 0
        # Reentrant: what a signal handler of the case does must not wait for the entry that it interrupted.
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._devices = itertools.count(1)
        self._this = _ThisThread()
        # By thread identifier, which a new thread has from one that is gone: its slot becomes the new one's.
        self._slots: dict[int, _Slot] = {}
        #: The calls in progress that have a line: its JSON.
        self._lines: dict[int, str] = {}
        #: The number at which the records of calls in progress are to be saved from being overwritten.
        self._save_at = self._records // 4
        self._text_ids = itertools.count(1)
        self._texts: dict[str | None, int] = {None: 0}
        self._words[AT_CAPACITY] = self._capacity
        self._words[AT_RECORDS] = self._records
        self._words[AT_TEXTS] = self._texts_bytes
        self._words[AT_MAGIC] = MAGIC

    @classmethod
    def create(cls, path: Path, size: int = DEFAULT_SIZE) -> Journal:
        """Make the file, of ``size`` bytes in all, and return a journal that writes into it.

        :raises ValueError: there would be no room for entries.
        :raises OSError: there is no room for the file.
        """
        if size < 2 * TEXTS_AT:
            raise ValueError(f"a journal has at least {2 * TEXTS_AT} bytes, not {size}")
        with path.open("w+b") as file:
            file.write(bytes(size))  # every page: where none is left to write to, the case would seem to crash
            file.flush()
            return cls(mmap.mmap(file.fileno(), size))

    def leave(self) -> None:
        """Write nowhere any more: for a process that was forked, whose entries would mix with those of its parent."""
        self._lock = threading.RLock()
        self._mapped = mmap.mmap(-1, len(self._mapped))
        self._words = memoryview(self._mapped)[:TEXTS_AT].cast("Q")
        self._ring = memoryview(self._mapped)[-self._capacity :]

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        self._words.release()
        self._ring.release()
        self._mapped.close()

    def begin_case(self, case_id: str) -> None:
        """Begin with a case: everything before it is forgotten."""
        with self._lock:
            self._devices = itertools.count(1)
            self._save_calls_in_progress(self._save_at)
            number = next(self._numbers)
            self._save_at = number + self._records // 4
            self._words[AT_CASE_NUMBER] = number
            self._words[AT_CASE] = self._position
            # A thread that still writes with an old number of a text finds no reader for it, rather than a wrong text.
            self._texts = {None: 0}
            self._words[AT_TEXTS_END] = 0
            self._append(_encode({"o": "case", "case": case_id[:1000]}), number)

    def new_device(self) -> int:
        """Return a number for a device, unique within the case."""
        return next(self._devices)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry of plain data. One that would fill an eighth of the lines' ring is left out."""
        self._append(_encode(entry))

    # --- calls

    def begin(self, operation: str, device: int, facts: str = "") -> int:
        """Append an entry: this thread begins a call, and is in it until :meth:`end`. Return the call's number.

        ``facts`` is JSON text to follow, as in ``,"s":7``.
        """
        slot = self._this.slot or self._new_slot()
        calls = slot.calls
        inside = f',"p":{calls[-1]}' if calls else ""
        moment = monotonic_ns() // 1_000_000
        with self._lock:
            call = next(self._numbers)
            text = f'{{"i":{call},"o":"{operation}","d":{device},"t":{moment},{slot.head}{inside}{facts}}}'
            self._lines[call] = text
            calls.append(call)
            if slot.word:
                self._words[slot.word] = call
            self._append(text, call)
        return call

    def begin_record(
        self,
        pack: Callable[..., None],
        kind: int,
        device: int,
        serial: int,
        value: int,
        text: str | None = None,
        flags: int = 0,
        more: float = 0,
        signals: int = 0,
        queue: int = 0,
        accepted: int = 0,
    ) -> int:
        """Do what :meth:`begin` does, by a record; ``pack`` writes those of the kind."""
        # Called so often that it takes no lock, has no list of arguments to build, and leaves what is unusual to
        # exceptions.
        slot = self._this.slot or self._new_slot()
        call = next(self._numbers)
        if call >= self._save_at:
            self._save_calls_in_progress(call)
        calls = slot.calls
        parent = calls[-1] if calls else 0
        calls.append(call)
        flags |= slot.flags
        if slot.word:
            self._words[slot.word] = call
        moment = monotonic_ns()
        try:
            ids = self._texts
            pack(
                self._mapped, self._records_at + call % self._records * RECORD_BYTES,
                call, parent, kind, flags, device, ids[slot.name], moment, ids[text], serial, value,
                more, signals, queue, accepted, call,
            )  # fmt: skip
        except (KeyError, struct.error):
            self._write_unusual(
                pack, call, parent, kind, flags, device, slot.name, moment, text, serial, value,
                more, signals, queue, accepted,
            )  # fmt: skip
        return call

    def end(self, call: int, facts: str = "") -> None:
        """Note that the call which this thread began last is over; ``facts`` make an entry of it, as for an error."""
        slot = self._this.slot or self._new_slot()
        calls, word = slot.calls, slot.word
        if facts or not word:
            self._append(f'{{"e":{call}{facts}}}')
        if calls:
            calls.pop()
        if word:
            self._words[word] = calls[-1] if calls else 0
        if call in self._lines:
            self._lines.pop(call, None)  # another thread may have been faster

    def end_making(self, call: int, serial: int, value: int | None, name: str | None) -> None:
        """Do what :meth:`end` does for a call that made an object, and write which."""
        number = next(self._numbers)
        flags = 0 if value is None else HAS_VALUE
        at = self._records_at + number % self._records * RECORD_BYTES
        rest = serial, value or 0, 0, 0, 0, 0
        try:
            pack_call(self._mapped, at, number, call, MADE, flags, 0, 0, 0, self._texts[name], *rest, number)
        except (KeyError, struct.error):
            self._write_unusual(pack_call, number, call, MADE, flags, 0, None, 0, name, *rest)
        self.end(call)

    def begin_query(self, device: int, serial: int) -> None:
        """Note, without an entry, that this thread queries a semaphore."""
        slot = self._this.slot or self._new_slot()
        if slot.word:
            self._words[slot.word] = QUERY | device << DEVICE_SHIFT | serial

    def end_query(self) -> None:
        """Note that the query is over."""
        slot = self._this.slot
        if slot is not None and slot.word:
            self._words[slot.word] = slot.calls[-1] if slot.calls else 0

    # --- inside

    def _new_slot(self) -> _Slot:
        ident, name = threading.get_ident(), threading.current_thread().name
        with self._lock:
            before, number = self._slots.get(ident), len(self._slots)
            if before is not None:
                word = before.word
            else:
                word = WORDS + number * SLOT_BYTES // WORD if number < SLOTS else 0
            slot = self._slots[ident] = self._this.slot = _Slot(word, name)
            if word:
                self._words[word] = 0
                shown = name.encode(errors="replace")[: SLOT_BYTES - WORD].ljust(SLOT_BYTES - WORD, b"\0")
                self._mapped[(word + 1) * WORD : word * WORD + SLOT_BYTES] = shown
        return slot

    def _write_unusual(
        self,
        pack: Callable[..., None],
        number: int,
        parent: int,
        kind: int,
        flags: int,
        device: int,
        thread: str | None,
        moment: int,
        text: str | None,
        *more: Any,
    ) -> None:
        """Write a record that has a new text; as a line, if it fits no record or its text no table."""
        ids = self._text_id(thread), self._text_id(text)
        if ids[0] is not None and ids[1] is not None:
            at = self._records_at + number % self._records * RECORD_BYTES
            with suppress(struct.error):
                pack(self._mapped, at, number, parent, kind, flags, device, ids[0], moment, ids[1], *more, number)
                return
        entry = _encode(entry_of(number, parent, kind, flags, device, thread, moment, text, *more))
        if kind != MADE:
            self._lines[number] = entry
        self._append(entry, number)

    def _text_id(self, text: str | None) -> int | None:
        """Return the number of a text in the table; ``None`` if there is no room for it."""
        with self._lock:
            found = self._texts.get(text)
            if found is None and text is not None:
                number = next(self._text_ids)
                line = checked_line(number, quoted(text[:TEXT_LENGTH]))
                end = self._words[AT_TEXTS_END] + len(line)
                if end <= self._texts_bytes:
                    self._mapped[TEXTS_AT + end - len(line) : TEXTS_AT + end] = line
                    self._words[AT_TEXTS_END] = end
                    found = self._texts[text] = number
            return found

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
        """Make lines of the records of calls in progress, and return them."""
        calls = {call for slot in list(self._slots.values()) for call in list(slot.calls)}
        for call in set(self._lines) - calls:
            self._lines.pop(call, None)
        texts = {number: text for text, number in self._texts.items()}
        saved = []
        for call in sorted(calls - set(self._lines)):
            found = read_record(self._mapped, self._records_at + call % self._records * RECORD_BYTES, texts)
            if found is not None and found[0] == call:
                self._lines[call] = _encode(found[1])
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
