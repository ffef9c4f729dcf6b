"""Records of fixed size in a journal, for the calls that a case makes by the thousand: their layout and their meaning.

A record begins and ends with its number: where the two differ, the writer died in between, or is at it. Texts that are
short stand in it; the name of the thread is a number, whose text the journal has in a table.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final

#: Bytes of a record: two lines of the processor's cache, where the first one begins with a line.
RECORD_BYTES: Final = 128
#: How many characters of a text, and of the name of a thread, the journal keeps.
TEXT_LENGTH: Final = 200
NAME_LENGTH: Final = 100

# What a record is about. A call to submit has the number of its name, which follows; RAISED tells how another call
# ended, by its number.
CREATE_SEMAPHORE, ALLOCATE_BUFFER, SIGNAL, READ, WRITE, FLUSH, FAIL, WAIT, RAISED = range(1, 10)
_OPERATIONS: Final = (
    *("", "create_semaphore", "allocate_buffer", "signal", "read", "write", "flush", "fail", "wait"),
    "",
)
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

# The head of a record: its kind, flags, how many timepoints a submission waits for and signals, the device's number.
_KIND: Final = 0x1F
WITHOUT_SLOT: Final = 0x20
ONE_WAIT: Final = 0x40
ONE_SIGNAL: Final = 0x100
#: Of a wait: one for any of its timepoints.
FOR_ANY: Final = ONE_WAIT
_COUNT: Final = 3
#: How many timepoints a list of a submission may have, to fit a record.
MOST_POINTS: Final = 2
_DEVICE_SHIFT: Final = 10

# Number, call around it, head, thread, nanoseconds; what is particular; the number again. Texts have their length with
# them. Numbers of 32 bits last for days; what is out of range, or too long, becomes JSON.
_BEGIN: Final = "@IIIIQ"
#: Bytes of a text in each kind of record.
SHORT_TEXT, WAIT_TEXT, SUBMISSION_TEXT = 87, 75, 43
# Value, serial number, text.
_SHORT: Final = struct.Struct(f"{_BEGIN}QI{SHORT_TEXT + 1}pI")
# Value, serial number, timeout, text.
_WAIT: Final = struct.Struct(f"{_BEGIN}QI4xd{WAIT_TEXT + 1}pI")
# Values of two timepoints to wait for and of two to signal, their serial numbers, queue, submissions before it, text.
_SUBMISSION: Final = struct.Struct(f"{_BEGIN}QQQQIIIIiI{SUBMISSION_TEXT + 1}pI")
pack_short, pack_wait, pack_submission = _SHORT.pack_into, _WAIT.pack_into, _SUBMISSION.pack_into
_ENDS: Final = struct.Struct(f"@I{RECORD_BYTES - 8}xI")


def head_of(kind: int, device: int) -> int:
    """Return the head of a record, without flags."""
    return kind | device << _DEVICE_SHIFT


def read_record(data: Any, at: int, threads: Mapping[int, str]) -> tuple[int, dict[str, Any]] | None:
    """Return number and entry of the record at ``at``; ``None`` if there is none, it is torn, or a name is missing."""
    record = bytes(data[at : at + RECORD_BYTES])  # as it is at one moment: somebody may be writing
    number, last = _ENDS.unpack(record)
    if number != last or not number:
        return None
    kind = _SHORT.unpack(record)[2] & _KIND
    if not 0 < kind < len(_OPERATIONS) + len(SUBMISSIONS):
        return None
    layout = _WAIT if kind == WAIT else _SHORT if kind < len(_OPERATIONS) else _SUBMISSION
    _, parent, head, thread, moment, *more, text, _ = layout.unpack(record)
    if thread not in threads:
        return None
    return number, entry_of(number, parent, head, threads[thread], moment, *more, text.decode(errors="replace"))


def entry_of(number: int, parent: int, head: int, thread: str, moment: int, *more: Any) -> dict[str, Any]:
    """Return what a record says, as the entry that a journal has of it otherwise; ``more`` is what its layout has."""
    kind = head & _KIND
    *values, text = more
    text = text[:TEXT_LENGTH]
    if kind == RAISED:
        return {"e": values[0], "x": text}
    operation = _OPERATIONS[kind] if kind < len(_OPERATIONS) else "submit"
    entry: dict[str, Any] = {"i": number, "o": operation, "d": head >> _DEVICE_SHIFT, "t": moment // 1_000_000}
    entry["T"] = thread
    if head & WITHOUT_SLOT:
        entry["u"] = 1
    if parent:
        entry["p"] = parent
    if kind == WAIT:
        value, serial, timeout = values
        mode = "any" if head & FOR_ANY else "all"
        return entry | {"w": [[serial, value]], "m": mode, "to": None if math.isnan(timeout) else timeout, "x": text}
    if kind >= len(_OPERATIONS):
        *points, queue, accepted = values
        entry |= {"k": accepted, "c": _SUBMISSION_NAMES[kind], "a": text, "q": queue}
        pairs = [[serial, value] for value, serial in zip(points[:4], points[4:], strict=True)]
        waits, signals = head // ONE_WAIT & _COUNT, head // ONE_SIGNAL & _COUNT
        return entry | {"w": pairs[:waits], "s": pairs[MOST_POINTS : MOST_POINTS + signals]}
    value, serial = values
    if kind == CREATE_SEMAPHORE:
        return entry | {"v": value, "s": serial, "name": text or None}
    if kind == ALLOCATE_BUFFER:
        return entry | {"a": str(value), "s": serial, "name": text or None}
    if kind == SIGNAL:
        return entry | {"s": serial, "v": value}
    if kind == FAIL:
        return entry | {"s": serial, "err": text}
    return entry | {"q" if kind == FLUSH else "s": serial}
