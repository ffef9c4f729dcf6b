"""How a journal is laid out in its file, and read from it."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from .records import RECORD_BYTES, read_record

#: How many threads of a process have a slot; a call of another has two entries instead.
SLOTS: Final = 256

MAGIC: Final = int.from_bytes(b"HALJRNL2", "little")
# The header is of 64-bit words, so that a word is either old or new, however the process dies.
WORD: Final = 8
WORDS: Final = 8
# Bytes of the lines' ring, where it stands, where it stood as the case began; the number of the case's entry,
# how many records there are, bytes of the table of texts, and of it in use.
AT_MAGIC, AT_CAPACITY, AT_POSITION, AT_CASE, AT_CASE_NUMBER, AT_RECORDS, AT_TEXTS, AT_TEXTS_END = range(WORDS)
SLOT_BYTES: Final = 64
#: Where the table of texts begins, after the slots; then come the records, then the lines.
TEXTS_AT: Final = WORDS * WORD + SLOTS * SLOT_BYTES
QUERY: Final = 1 << 63
DEVICE_SHIFT: Final = 48
_CHECKSUM_DIGITS: Final = 8
_NUMBER_DIGITS: Final = 16


def checked_line(number: int, text: str) -> bytes:
    """Return JSON of ASCII characters as a numbered line that can be told from damaged ones."""
    data = b"%016x%b" % (number, text.encode("ascii"))
    return b"%08x%b\n" % (crc32(data), data)


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
    words = struct.unpack_from(f"={WORDS}Q", data) if len(data) > TEXTS_AT else (0,) * WORDS
    if words[AT_MAGIC] != MAGIC:
        return JournalContent(lost=bool(data), read_at=time.monotonic())
    capacity, position, begin = words[AT_CAPACITY], words[AT_POSITION], words[AT_CASE]
    ring_at = TEXTS_AT + words[AT_TEXTS] + words[AT_RECORDS] * RECORD_BYTES
    ring = data[ring_at:]
    damaged = not ring or len(ring) != capacity or begin > position
    oldest = max(begin, position - capacity)
    if not damaged:
        at = oldest % capacity
        ring = (ring[at:] + ring[:at])[: position - oldest]
    lines, unreadable = _lines(ring)
    entries = {number: entry for number, entry in lines if isinstance(entry, dict)}
    # The end of a call that raised is a line, so of calls older than the lines it is not known what became of them.
    known_from = lines[0][0] if lines and oldest > begin and not damaged else 0
    for number, entry in _records(data, words):
        if number >= known_from:
            entries.setdefault(number, entry)
    case_number = words[AT_CASE_NUMBER]
    case = entries.pop(case_number, {}).get("case")
    if not damaged:
        entries = {number: entry for number, entry in entries.items() if number > case_number}
    numbers = sorted(entries)
    return JournalContent(
        case=None if damaged else case,
        entries=tuple(_unique([entries[number] for number in numbers])),
        lost=damaged or unreadable or case is None or len(numbers) < max(numbers, default=case_number) - case_number,
        threads=tuple(_threads(data)),
        read_at=time.monotonic(),
    )


def _lines(data: bytes) -> tuple[list[tuple[int, Any]], bool]:
    """Return numbers and values of the lines that are whole, and whether there were others."""
    found: list[tuple[int, Any]] = []
    unreadable = False
    for line in filter(None, data.split(b"\n")):
        text = line[_CHECKSUM_DIGITS:]
        if line[:_CHECKSUM_DIGITS] == b"%08x" % crc32(text):
            with suppress(ValueError):
                found.append((int(text[:_NUMBER_DIGITS], 16), json.loads(text[_NUMBER_DIGITS:])))
                continue
        unreadable = True
    return found, unreadable


def _records(data: bytes, words: tuple[int, ...]) -> list[tuple[int, dict[str, Any]]]:
    """Return numbers and entries of the newest records: as many as the ring has."""
    begin, count = TEXTS_AT + words[AT_TEXTS], words[AT_RECORDS]
    lines, _ = _lines(data[TEXTS_AT : TEXTS_AT + min(words[AT_TEXTS], words[AT_TEXTS_END])])
    texts: dict[int, str | None] = {0: None, **dict(lines)}
    end = min(begin + count * RECORD_BYTES, len(data) - RECORD_BYTES + 1)
    found = [record for at in range(begin, end, RECORD_BYTES) if (record := read_record(data, at, texts))]
    newest = max((number for number, _ in found), default=0)
    # A place that a line's number has passed over still has what was there before.
    return [(number, entry) for number, entry in found if number > newest - count]


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
    for at in range(WORDS * WORD, TEXTS_AT, SLOT_BYTES):
        (word,) = struct.unpack_from("=Q", data, at)
        if word:
            name = data[at + WORD : at + SLOT_BYTES].rstrip(b"\0").decode(errors="replace")
            device = (word & ~QUERY) >> DEVICE_SHIFT
            query = (device, word & (1 << DEVICE_SHIFT) - 1) if word & QUERY else None
            found.append(ThreadState(name, 0 if query else word, query))
    return found
