"""A journal of the calls of a case, in a file that outlives the process: what was going on when it died or hung.

The file is mapped into memory, so an entry costs no system call, and what was written is there for another process to
read whatever becomes of the writer. It has a fixed size: a header, a slot per thread, and a ring of entries in which
the newest overwrite the oldest. An entry is one line: a checksum and compact JSON. A slot has the number of the call
that its thread is in, so that a call which returns, as nearly all do, needs no second entry.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final
from zlib import crc32

#: Bytes of a journal, unless told otherwise.
DEFAULT_SIZE: Final = 2**20
#: How many threads of a process have a slot; a call of another has two entries instead.
SLOTS: Final = 256

_MAGIC: Final = int.from_bytes(b"HALJRNL1", "little")
# The header is of 64-bit words, so that a word is either old or new, however the process dies.
_WORD: Final = 8
_WORDS: Final = 8
_AT_MAGIC, _AT_CAPACITY, _AT_POSITION, _AT_CASE = range(4)
_SLOT_BYTES: Final = 64
_RING_AT: Final = _WORDS * _WORD + SLOTS * _SLOT_BYTES
_CHECKSUM_DIGITS: Final = 8
_QUERY: Final = 1 << 63
_DEVICE_SHIFT: Final = 48

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class _Slot:
    """What one thread is in: numbers and entries of its calls, the innermost last. Written by that thread only."""

    __slots__ = ("calls", "head", "word")

    def __init__(self, word: int, name: str) -> None:
        self.word = word  #: where the journal has it; 0 for nowhere
        self.head = f'"T":{json.dumps(name[:100])}' + ("" if word else ',"u":1')
        self.calls: list[tuple[int, bytes]] = []


class _ThisThread(threading.local):
    slot: _Slot | None = None


class Journal:
    """The writing end, one per process. Thread-safe; :meth:`close` only when nobody writes any more."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._words = memoryview(mapped)[:_RING_AT].cast("Q")
        self._ring = memoryview(mapped)[_RING_AT:]
        self._capacity = len(self._ring)
        self._position = 0
        # Reentrant: what a signal handler of the case does must not wait for the entry that it interrupted.
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._devices = itertools.count(1)
        self._this = _ThisThread()
        # By thread identifier, which a new thread has from one that is gone: its slot becomes the new one's.
        self._slots: dict[int, _Slot] = {}
        self._words[_AT_CAPACITY] = self._capacity
        self._words[_AT_MAGIC] = _MAGIC

    @classmethod
    def create(cls, path: Path, size: int = DEFAULT_SIZE) -> Journal:
        """Make the file, of ``size`` bytes in all, and return a journal that writes into it.

        :raises ValueError: there would be no room for entries.
        """
        if size < 2 * _RING_AT:
            raise ValueError(f"a journal has at least {2 * _RING_AT} bytes, not {size}")
        with path.open("w+b") as file:
            file.truncate(size)
            return cls(mmap.mmap(file.fileno(), size))

    def close(self) -> None:
        """Let go of the file; what was written stays."""
        self._words.release()
        self._ring.release()
        self._mapped.close()

    def begin_case(self, case_id: str) -> None:
        """Begin with a case: everything before it is forgotten."""
        with self._lock:
            self._devices = itertools.count(1)
            self._words[_AT_CASE] = self._position
            self.write({"o": "case", "case": case_id[:1000]})

    def new_device(self) -> int:
        """Return a number for a device, unique within the case."""
        return next(self._devices)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry of plain data. One that would fill an eighth of the journal is left out."""
        self._append(_line(_encode(entry)))

    def begin(self, operation: str, device: int, facts: str = "") -> int:
        """Append an entry: this thread begins a call, and is in it until :meth:`end`. Return the call's number.

        ``facts`` is JSON text to follow, as in ``,"s":7``.
        """
        slot = self._this.slot or self._new_slot()
        call = next(self._ids)
        calls = slot.calls
        inside = f',"p":{calls[-1][0]}' if calls else ""
        moment = monotonic_ns() // 1_000_000
        text = f'{{"i":{call},"o":"{operation}","d":{device},"t":{moment},{slot.head}{inside}{facts}}}'
        data = text.encode("ascii")
        line = b"%08x%b\n" % (crc32(data), data)
        calls.append((call, line))
        words = self._words
        if slot.word:
            words[slot.word] = call
        with self._lock:  # as in _append, which costs a tenth of all this
            position = self._position
            at = position % self._capacity
            end = at + len(line)
            if end < self._capacity:
                self._ring[at:end] = line
                self._position = words[_AT_POSITION] = position + len(line)
                return call
        self._append(line)
        return call

    def end(self, call: int, facts: str = "") -> None:
        """Note that the call which this thread began last is over; ``facts`` make an entry of it, as for an error."""
        slot = self._this.slot or self._new_slot()
        calls, word = slot.calls, slot.word
        if facts or not word:
            self._append(_line(f'{{"e":{call}{facts}}}'))
        if calls:
            calls.pop()
        if word:
            self._words[word] = calls[-1][0] if calls else 0

    def begin_query(self, device: int, serial: int) -> None:
        """Note, without an entry, that this thread queries a semaphore."""
        slot = self._this.slot or self._new_slot()
        if slot.word:
            self._words[slot.word] = _QUERY | device << _DEVICE_SHIFT | serial

    def end_query(self) -> None:
        """Note that the query is over."""
        slot = self._this.slot
        if slot is not None and slot.word:
            self._words[slot.word] = slot.calls[-1][0] if slot.calls else 0

    def _new_slot(self) -> _Slot:
        ident, name = threading.get_ident(), threading.current_thread().name
        with self._lock:
            before, number = self._slots.get(ident), len(self._slots)
            if before is not None:
                word = before.word
            else:
                word = _WORDS + number * _SLOT_BYTES // _WORD if number < SLOTS else 0
            slot = self._slots[ident] = self._this.slot = _Slot(word, name)
            if word:
                self._words[word] = 0
                shown = name.encode(errors="replace")[: _SLOT_BYTES - _WORD].ljust(_SLOT_BYTES - _WORD, b"\0")
                self._mapped[(word + 1) * _WORD : word * _WORD + _SLOT_BYTES] = shown
        return slot

    def _append(self, line: bytes) -> None:
        length = len(line)
        if length > self._capacity // 8:
            return
        with self._lock:
            at = self._position % self._capacity
            if at + length < self._capacity:
                self._ring[at : at + length] = line
                self._position += length
                self._words[_AT_POSITION] = self._position
            else:
                self._put(line)
                self._put_calls_in_progress()

    def _put(self, line: bytes) -> None:
        """Append a line that may have to be split at the end of the ring."""
        at = self._position % self._capacity
        room = self._capacity - at
        self._ring[at : at + len(line)] = line[:room]
        self._ring[: max(0, len(line) - room)] = line[room:]
        self._position += len(line)
        self._words[_AT_POSITION] = self._position

    def _put_calls_in_progress(self) -> None:
        """Write the calls in progress again, the oldest first: the entries of others would overwrite them."""
        room = self._capacity // 4
        for _, line in sorted(call for slot in list(self._slots.values()) for call in list(slot.calls)):
            room -= len(line)
            if room < 0:
                break
            self._put(line)


def _line(text: str) -> bytes:
    data = text.encode("ascii")
    return b"%08x%b\n" % (crc32(data), data)


_current: Journal | None = None


def set_journal(journal: Journal | None) -> None:
    """Make ``journal`` the one that devices opened from now on write into; ``None`` for none."""
    global _current
    _current = journal


def current_journal() -> Journal | None:
    """Return the journal of this process, if there is one."""
    return _current


@dataclass(frozen=True, slots=True)
class ThreadState:
    """A thread that was in something."""

    name: str
    #: The number of the innermost call that it was in, 0 for none.
    call: int
    #: The semaphore that it was querying: numbers of the device and of the object.
    query: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class JournalContent:
    """What could be read of a journal. Immutable."""

    #: The case, ``None`` if its beginning could not be read.
    case: str | None = None
    #: The readable entries of the case, oldest first; none twice.
    entries: tuple[Mapping[str, Any], ...] = ()
    #: Whether entries of the case may be missing: overwritten by newer ones, or unreadable.
    lost: bool = False
    threads: tuple[ThreadState, ...] = ()
    #: ``time.monotonic()`` of the reading; entries carry the same clock, in milliseconds.
    read_at: float = 0.0


def read_journal(path: Path) -> JournalContent:
    """Read what a process, alive or dead, has written. What cannot be read is left out; nothing is ever raised for it.

    A missing or empty file, or one that is no journal, gives an empty content.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return JournalContent(read_at=time.monotonic())
    words = struct.unpack_from(f"={_WORDS}Q", data) if len(data) > _RING_AT else (0,) * _WORDS
    if words[_AT_MAGIC] != _MAGIC:
        return JournalContent(lost=bool(data), read_at=time.monotonic())
    capacity, position, begin = words[_AT_CAPACITY], words[_AT_POSITION], words[_AT_CASE]
    ring = data[_RING_AT:]
    damaged = len(ring) != capacity or begin > position
    oldest = max(begin, position - capacity)
    if not damaged:
        at = oldest % capacity
        ring = (ring[at:] + ring[:at])[: position - oldest]
    entries, unreadable = _entries(ring.split(b"\n"))
    if damaged:
        entries.sort(key=lambda entry: entry.get("i", entry.get("e", 0)))  # the order of the file means nothing
    cases = [index for index, entry in enumerate(entries) if entry.get("o") == "case"]
    return JournalContent(
        case=entries[cases[-1]]["case"] if cases and not damaged else None,
        entries=tuple(_unique(entries if damaged else entries[cases[-1] + 1 if cases else 0 :])),
        lost=damaged or oldest > begin or unreadable or not cases,
        threads=tuple(_threads(data)),
        read_at=time.monotonic(),
    )


def _entries(lines: list[bytes]) -> tuple[list[dict[str, Any]], bool]:
    """Return the entries of the lines that are whole, and whether there were others."""
    entries: list[dict[str, Any]] = []
    unreadable = False
    for line in filter(None, lines):
        text = line[_CHECKSUM_DIGITS:]
        entry = None
        if line[:_CHECKSUM_DIGITS] == b"%08x" % crc32(text):
            with contextlib.suppress(ValueError):
                entry = json.loads(text)
        if isinstance(entry, dict):
            entries.append(entry)
        else:
            unreadable = True
    return entries, unreadable


def _unique(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what was written a second time to keep it from being overwritten."""
    seen: set[object] = set()
    result = []
    for entry in entries:
        call = entry.get("i")
        if call is None or call not in seen:
            result.append(entry)
            seen.add(call)
    return result


def _threads(data: bytes) -> list[ThreadState]:
    found = []
    for at in range(_WORDS * _WORD, _RING_AT, _SLOT_BYTES):
        (word,) = struct.unpack_from("=Q", data, at)
        if word:
            name = data[at + _WORD : at + _SLOT_BYTES].rstrip(b"\0").decode(errors="replace")
            device = (word & ~_QUERY) >> _DEVICE_SHIFT
            query = (device, word & (1 << _DEVICE_SHIFT) - 1) if word & _QUERY else None
            found.append(ThreadState(name, 0 if query else word, query))
    return found
