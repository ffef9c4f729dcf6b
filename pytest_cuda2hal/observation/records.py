"""Records of fixed size in a journal, for the calls that a case makes by the thousand: their layout and their meaning.

A record begins and ends with its number: where the two differ, the writer died in between, or is at it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final

#: Bytes of a record: a line of the processor's cache, so that few are ever torn.
RECORD_BYTES: Final = 64
#: How many characters of a text, and of the name of a thread, the journal keeps.
TEXT_LENGTH: Final = 200
NAME_LENGTH: Final = 100

# What a record is about. A call to submit has the number of its name, which follows.
CREATE_SEMAPHORE, ALLOCATE_BUFFER, SIGNAL, READ, WRITE, WAIT, MADE = range(1, 8)
_OPERATIONS: Final = ("", "create_semaphore", "allocate_buffer", "signal", "read", "write", "wait")
SUBMISSIONS: Final = {
    name: kind
    for kind, name in enumerate(
        (
            "queue_execute",
            "queue_fill",
            "queue_copy",
            "queue_update",
            "queue_alloca",
            "queue_dealloca",
            "queue_host_call",
        ),
        MADE + 1,
    )
}
_SUBMISSION_NAMES: Final = {kind: name for name, kind in SUBMISSIONS.items()}

# Flags.
WITHOUT_SLOT: Final = 1
HAS_WAIT: Final = 2
HAS_SIGNAL: Final = 4
HAS_VALUE: Final = 8

# Number, call around it (MADE: the call that it ends), kind, flags, device, thread, nanoseconds, text, serial, value;
# four that only some have; the number again. Numbers of 32 bits last for days; what is out of range becomes JSON.
_BEGIN: Final = "@IIBBHIQIIQ"
# Of a submission: value and serial to signal, queue, submissions before it; of a wait, first its timeout.
_CALL: Final = struct.Struct(f"{_BEGIN}QIiII")
_WAIT: Final = struct.Struct(f"{_BEGIN}dIiII")
pack_call, pack_wait = _CALL.pack_into, _WAIT.pack_into
_ENDS: Final = struct.Struct(f"@I{RECORD_BYTES - 8}xI")


def read_record(data: Any, at: int, texts: Mapping[int, str | None]) -> tuple[int, dict[str, Any]] | None:
    """Return number and entry of the record at ``at``; ``None`` if there is none, it is torn, or a text is missing."""
    first, last = _ENDS.unpack_from(data, at)
    if first != last or not first:
        return None
    kind = data[at + 8]
    layout = _WAIT if kind == WAIT else _CALL
    number, parent, kind, flags, device, thread, moment, text, *more, _ = layout.unpack_from(data, at)
    if not 0 < kind < MADE + 1 + len(SUBMISSIONS) or thread not in texts or text not in texts:
        return None
    return number, entry_of(number, parent, kind, flags, device, texts[thread], moment, texts[text], *more)


def entry_of(
    number: int,
    parent: int,
    kind: int,
    flags: int,
    device: int,
    thread: str | None,
    moment: int,
    text: str | None,
    serial: int,
    value: int,
    more: float,
    signals: int,
    queue: int,
    accepted: int,
) -> dict[str, Any]:
    """Return what a record says, as the entry that a journal has of it otherwise."""
    text = None if text is None else text[:TEXT_LENGTH]
    if kind == MADE:
        return {"e": parent, "s": serial} | ({"v": value} if flags & HAS_VALUE else {}) | {"name": text}
    operation = _OPERATIONS[kind] if kind < MADE else "submit"
    entry: dict[str, Any] = {"i": number, "o": operation, "d": device, "t": moment // 1_000_000, "T": thread}
    if flags & WITHOUT_SLOT:
        entry["u"] = 1
    if parent:
        entry["p"] = parent
    if kind == CREATE_SEMAPHORE:
        entry["v"] = value
    elif kind == ALLOCATE_BUFFER:
        entry["a"] = str(value)
    elif kind == SIGNAL:
        entry |= {"s": serial, "v": value}
    elif kind in (READ, WRITE):
        entry["s"] = serial
    elif kind == WAIT:
        entry |= {"w": [[serial, value]], "m": text, "to": None if math.isnan(more) else more}
    else:
        entry |= {"k": accepted, "c": _SUBMISSION_NAMES[kind], "a": text, "q": queue}
        entry["w"] = [[serial, value]] if flags & HAS_WAIT else []
        entry["s"] = [[signals, more]] if flags & HAS_SIGNAL else []
    return entry
