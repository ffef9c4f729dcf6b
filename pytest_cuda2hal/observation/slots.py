"""Slots of a journal, one per thread: the entry of the call that it is in, and a call that has no entry.

What a thread does by the thousand and what changes nothing, as a wait, is not worth an entry once it is over. It stands
in the thread's slot while it lasts, and costs one write and the word that takes it back.
"""

from __future__ import annotations

import math
import struct
import threading
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from .records import NAME_LENGTH, WITHOUT_SLOT

#: How many threads of a process have a slot; a call of another has two entries instead.
SLOTS: Final = 256
#: Bytes of the unit that is either old or new, however the process dies.
WORD: Final = 8
SLOT_BYTES: Final = 128
#: The bits of an object's serial number; its device's number stands above them.
_SERIAL_BITS: Final = 32

# What a call without an entry is, by a number other than 0, in the lowest byte of its head.
QUERY, WAIT_ALL, WAIT_ANY, CREATING, ALLOCATING = range(1, 6)
_KIND: Final = 0xFF
_KEY_SHIFT: Final = 8
_MODES: Final = {WAIT_ALL: "all", WAIT_ANY: "any"}
#: Value, seconds on ``time.monotonic``, timeout, head. The head last: until it is there, nothing else counts.
_BRIEF: Final = struct.Struct("@QddQ")
pack_brief: Final = _BRIEF.pack_into
# The first word is the number of the entry; then comes the call without one, and the name.
_BRIEF_AT: Final = WORD
_HEAD_AT: Final = _BRIEF_AT + _BRIEF.size - WORD
NAME_AT: Final = _BRIEF_AT + _BRIEF.size


def key_of(device: int, serial: int = 0) -> int:
    """Return what stands for an object of a device, or for the device."""
    return device << _SERIAL_BITS | serial


def object_of(key: int) -> tuple[int, int]:
    """Return the numbers of the device and of the object that a key stands for."""
    return key >> _SERIAL_BITS, key & (1 << _SERIAL_BITS) - 1


def brief_head(kind: int, key: int) -> int:
    """Return the head of a call without an entry."""
    return kind | key << _KEY_SHIFT


class Slot:
    """What one thread is in. Written by that thread only."""

    __slots__ = ("brief_at", "calls", "flags", "head", "head_word", "name", "word")

    def __init__(self, at: int, name: str) -> None:
        """``at`` is where the journal has it; 0 for nowhere."""
        self.word = at // WORD
        self.brief_at = at + _BRIEF_AT
        self.head_word = (at + _HEAD_AT) // WORD if at else 0
        self.name = name[:NAME_LENGTH]
        self.flags = 0 if at else WITHOUT_SLOT
        self.head = f'"T":{quoted(self.name)}' + ("" if at else ',"u":1')
        #: The numbers of its calls that have entries, the innermost last.
        self.calls: list[int] = []

    def line(self, number: int, operation: str, device: int, moment: int, facts: str) -> str:
        """Return the JSON of an entry: that the thread begins a call, at ``moment`` in milliseconds."""
        inside = f',"p":{self.calls[-1]}' if self.calls else ""
        return f'{{"i":{number},"o":"{operation}","d":{device},"t":{moment},{self.head}{inside}{facts}}}'


class ThisThread(threading.local):
    """Where a thread finds its slot."""

    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class ThreadState:
    """A thread that was in something."""

    name: str
    #: The number of the innermost call with an entry that it was in, 0 for none.
    call: int
    #: The call without an entry that it was in, as its entry would be.
    brief: dict[str, Any] | None = None


def read_slots(data: bytes, begin: int) -> list[ThreadState]:
    """Return the threads that were in something, from the slots at ``begin``."""
    found = []
    for at in range(begin, begin + SLOTS * SLOT_BYTES, SLOT_BYTES):
        (call,) = struct.unpack_from("@Q", data, at)
        name = data[at + NAME_AT : at + SLOT_BYTES].rstrip(b"\0").decode(errors="replace")
        brief = _brief_entry(name, *_BRIEF.unpack_from(data, at + _BRIEF_AT))
        if call or brief is not None:
            found.append(ThreadState(name, call, brief))
    return found


def _brief_entry(thread: str, value: int, moment: float, timeout: float, head: int) -> dict[str, Any] | None:
    """Return the entry that a call without one would have; ``None`` if there is no such call."""
    kind, (device, serial) = head & _KIND, object_of(head >> _KEY_SHIFT)
    if kind == QUERY:
        return {"o": "query", "d": device, "t": None, "T": thread, "s": serial}
    entry: dict[str, Any] = {"d": device, "t": moment * 1000, "T": thread}
    if kind in _MODES:
        seconds = None if math.isnan(timeout) else timeout
        return entry | {"o": "wait", "w": [[serial, value]], "m": _MODES[kind], "to": seconds}
    if kind == CREATING:
        return entry | {"o": "create_semaphore", "v": value}
    if kind == ALLOCATING:
        return entry | {"o": "allocate_buffer", "a": str(value)}
    return None
