"""How a journal is laid out in its file, and read from it."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from .records import RECORD_BYTES, read_record
from .slots import SLOT_BYTES, SLOTS, WORD, ThreadState, object_of, read_slots

MAGIC: Final = int.from_bytes(b"HALJRNL4", "little")
WORDS: Final = 11
# Bytes of the lines' ring, where it stands, where it stood as the case began; the number of the case's entry,
# how many records there are, bytes of the table of texts, and of it in use; how many values there are, and
# whether one of the case had to give way to another; how many devices there were before the case.
AT_MAGIC, AT_CAPACITY, AT_POSITION, AT_CASE, AT_CASE_NUMBER, AT_RECORDS = range(6)
AT_TEXTS, AT_TEXTS_END, AT_VALUES, AT_EVICTED, AT_DEVICES = range(6, WORDS)
SLOTS_AT: Final = WORDS * WORD
#: Where the values begin that were seen, after the slots; then come the texts, the records, and the lines.
VALUES_AT: Final = SLOTS_AT + SLOTS * SLOT_BYTES
#: Words of a value: itself, and the semaphore that had it, by its key.
SEEN_WORDS: Final = 2
_SEEN: Final = struct.Struct(f"@{SEEN_WORDS}Q")
SEEN_BYTES: Final = _SEEN.size
_CHECKSUM_DIGITS: Final = 8
_NUMBER_DIGITS: Final = 16


def checked_line(number: int, text: str) -> bytes:
    """Return JSON of ASCII characters as a numbered line that can be told from damaged ones."""
    data = b"%016x%b" % (number, text.encode("ascii"))
    return b"%08x%b\n" % (crc32(data), data)


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
    #: The number of the entry with which the case began.
    begun_at: int = 0
    #: The largest values that waits for one timepoint have seen, by the numbers of device and semaphore.
    values: Mapping[tuple[int, int], int] = field(default_factory=dict)
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
    words = struct.unpack_from(f"@{WORDS}Q", data) if len(data) > VALUES_AT else (0,) * WORDS
    if words[AT_MAGIC] != MAGIC:
        return JournalContent(lost=bool(data), read_at=time.monotonic())
    capacity, position, begin = words[AT_CAPACITY], words[AT_POSITION], words[AT_CASE]
    texts_at = VALUES_AT + words[AT_VALUES] * SEEN_BYTES
    records_at = texts_at + words[AT_TEXTS]
    ring = data[records_at + words[AT_RECORDS] * RECORD_BYTES :]
    damaged = not ring or len(ring) != capacity or begin > position
    oldest = max(begin, position - capacity)
    if not damaged:
        at = oldest % capacity
        ring = (ring[at:] + ring[:at])[: position - oldest]
    lines, unreadable = _lines(ring)
    entries = {number: entry for number, entry in lines if isinstance(entry, dict)}
    # What a call raised may be in a line, as when it is long: of calls older than the lines it is not known.
    known_from = lines[0][0] if lines and oldest > begin and not damaged else 0
    texts = data[texts_at : texts_at + min(words[AT_TEXTS], words[AT_TEXTS_END])]
    for number, entry in _records(data, records_at, words[AT_RECORDS], texts):
        if number >= known_from:
            entries.setdefault(number, entry)
    case_number = words[AT_CASE_NUMBER]
    case = entries.pop(case_number, {}).get("case")
    if not damaged:
        entries = {number: entry for number, entry in entries.items() if number > case_number}
    numbers = sorted(entries)
    missing = len(numbers) < max(numbers, default=case_number) - case_number
    threads, values = read_slots(data, SLOTS_AT), _values(data[VALUES_AT:texts_at])
    briefs = [thread.brief for thread in threads if thread.brief is not None]
    of_devices = [entry for entry in (*entries.values(), *briefs) if isinstance(entry.get("d"), int)]
    devices = _numbers_in_case({entry["d"] for entry in of_devices} | {device for device, _ in values}, words)
    for entry in of_devices:
        entry["d"] = devices[entry["d"]]
    return JournalContent(
        case=None if damaged else case,
        entries=tuple(_unique([entries[number] for number in numbers])),
        lost=damaged or unreadable or case is None or missing or bool(words[AT_EVICTED]),
        threads=tuple(threads),
        begun_at=case_number,
        values={(devices[device], serial): value for (device, serial), value in values.items()},
        read_at=time.monotonic(),
    )


def _numbers_in_case(devices: Iterable[int], words: Sequence[int]) -> dict[int, int]:
    """Return by what numbers devices go in the case: first its own, then those of earlier cases, if there are any."""
    before = words[AT_DEVICES]
    own = {device: device - before for device in devices if device > before}
    older = sorted(device for device in devices if device <= before)
    return own | {device: number for number, device in enumerate(older, max(own.values(), default=0) + 1)}


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


def _records(data: bytes, begin: int, count: int, known_texts: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Return numbers and entries of the newest records: as many as the ring has."""
    lines, _ = _lines(known_texts)
    texts: dict[int, str] = dict(lines)
    end = min(begin + count * RECORD_BYTES, len(data) - RECORD_BYTES + 1)
    found = [record for at in range(begin, end, RECORD_BYTES) if (record := read_record(data, at, texts))]
    newest = max((number for number, _ in found), default=0)
    # A place that a line's number has passed over still has what was there before.
    return [(number, entry) for number, entry in found if number > newest - count]


def _values(data: bytes) -> dict[tuple[int, int], int]:
    whole = data[: len(data) // SEEN_BYTES * SEEN_BYTES]
    return {object_of(key): value for value, key in _SEEN.iter_unpack(whole) if key}


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
