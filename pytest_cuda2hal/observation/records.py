"""Records of fixed size in a journal, for the calls that a case makes by the thousand: their layout and their meaning.

A record begins and ends with its number: where the two differ, the writer died in between, or is at it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

#: Bytes of a record: a line of the processor's cache, so that few are ever torn.
RECORD_BYTES: Final = 64
#: How many characters of a text, and of the name of a thread, the journal keeps.
TEXT_LENGTH: Final = 200
NAME_LENGTH: Final = 100

# What a record is about. A call to submit has the number of its name, which follows.
CREATE_SEMAPHORE, SIGNAL, READ, WRITE = range(1, 5)
_OPERATIONS: Final = ("", "create_semaphore", "signal", "read", "write")
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
        len(_OPERATIONS),
    )
}
_SUBMISSION_NAMES: Final = {kind: name for name, kind in SUBMISSIONS.items()}

# The head of a record: its kind and flags in the lowest byte, then the number of the device.
_KIND: Final = 0x0F
WITHOUT_SLOT: Final = 0x10
HAS_WAIT: Final = 0x20
HAS_SIGNAL: Final = 0x40
_DEVICE_SHIFT: Final = 8

# Number, call around it, head, thread, nanoseconds, text, serial, value; what only submissions have; the number again.
# Numbers of 32 bits last for days; what is out of range becomes JSON.
_BEGIN: Final = "@IIIIQIIQ"
_SHORT: Final = struct.Struct(f"{_BEGIN}20xI")
# Of a submission: value and serial to signal, queue, submissions before it.
_SUBMISSION: Final = struct.Struct(f"{_BEGIN}QIiII")
pack_short, pack_submission = _SHORT.pack_into, _SUBMISSION.pack_into
_ENDS: Final = struct.Struct(f"@I{RECORD_BYTES - 8}xI")


def head_of(kind: int, device: int) -> int:
    """Return the head of a record, without flags."""
    return kind | device << _DEVICE_SHIFT


def read_record(data: Any, at: int, texts: Mapping[int, str | None]) -> tuple[int, dict[str, Any]] | None:
    """Return number and entry of the record at ``at``; ``None`` if there is none, it is torn, or a text is missing."""
    first, last = _ENDS.unpack_from(data, at)
    if first != last or not first:
        return None
    number, parent, head, thread, moment, text, *more, _ = _SUBMISSION.unpack_from(data, at)
    if not 0 < head & _KIND < len(_OPERATIONS) + len(SUBMISSIONS) or thread not in texts or text not in texts:
        return None
    return number, entry_of(number, parent, head, texts[thread], moment, texts[text], *more)


def entry_of(
    number: int,
    parent: int,
    head: int,
    thread: str | None,
    moment: int,
    text: str | None,
    serial: int,
    value: int,
    signaled_value: int = 0,
    signaled: int = 0,
    queue: int = 0,
    accepted: int = 0,
) -> dict[str, Any]:
    """Return what a record says, as the entry that a journal has of it otherwise."""
    kind = head & _KIND
    text = None if text is None else text[:TEXT_LENGTH]
    operation = _OPERATIONS[kind] if kind < len(_OPERATIONS) else "submit"
    entry: dict[str, Any] = {"i": number, "o": operation, "d": head >> _DEVICE_SHIFT, "t": moment // 1_000_000}
    entry["T"] = thread
    if head & WITHOUT_SLOT:
        entry["u"] = 1
    if parent:
        entry["p"] = parent
    if kind == CREATE_SEMAPHORE:
        entry |= {"v": value, "s": serial, "name": text}
    elif kind == SIGNAL:
        entry |= {"s": serial, "v": value}
    elif kind in (READ, WRITE):
        entry["s"] = serial
    else:
        entry |= {"k": accepted, "c": _SUBMISSION_NAMES[kind], "a": text, "q": queue}
        entry["w"] = [[serial, value]] if head & HAS_WAIT else []
        entry["s"] = [[signaled, signaled_value]] if head & HAS_SIGNAL else []
    return entry
