"""The half of a journal that takes no lock: what is called by the thousand becomes a record of fixed size.

These calls have no list of arguments to build, and leave what is unusual to exceptions.
"""

from __future__ import annotations

import itertools
import json
import mmap
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic_ns
from typing import Any, Final

from .journal_tables import TextTable
from .records import (
    RAISED,
    RECORD_BYTES,
    SHORT_TEXT,
    SUBMISSION_TEXT,
    WAIT_TEXT,
    entry_of,
    pack_short,
    pack_submission,
    pack_wait,
)
from .slots import Slot, ThisThread

encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Recording:
    """Writes records; :class:`~.journal.Journal` has what they need, and lines for what fits none. Thread-safe."""

    _mapped: mmap.mmap
    _words: memoryview
    _lock: threading.RLock
    _texts: TextTable
    #: How many records there is room for, where they begin, and the number of the next entry.
    _records: int
    _records_at: int
    _numbers: itertools.count[int]
    #: The number at which the records of calls in progress are to be saved from being overwritten.
    _save_at: int
    #: The calls in progress that have a line: its JSON.
    _lines: dict[int, str]
    _this: ThisThread

    def _new_slot(self) -> Slot:
        raise NotImplementedError

    def _append(self, text: str, number: int = 0) -> None:
        raise NotImplementedError

    def _save_calls_in_progress(self, number: int) -> None:
        raise NotImplementedError

    def begin_call(self, head: int, serial: int = 0, value: int = 0, text: str = "") -> int:
        """Write that this thread begins a call of the kind that ``head`` says; return the call's number."""
        slot = self._this.slot or self._new_slot()
        parent = slot.calls[-1] if slot.calls else 0
        call = self._enter(slot)
        head |= slot.flags
        moment = monotonic_ns()
        try:
            pack_short(
                self._mapped, self._records_at + call % self._records * RECORD_BYTES,
                call, parent, head, self._texts.ids[slot.name], moment, value, serial,
                (text and _fitting(text, SHORT_TEXT)) or b"", call,
            )  # fmt: skip
        except (KeyError, ValueError, struct.error):
            more = (value, serial, text)
            self._write_unusual(pack_short, SHORT_TEXT, call, parent, head, slot, moment, *more, lasts=True)
        return call

    def begin_submission(
        self,
        head: int,
        what: str,
        wait_value: int,
        wait_value_2: int,
        signal_value: int,
        signal_value_2: int,
        wait: int,
        wait_2: int,
        signal: int,
        signal_2: int,
        queue: int,
        accepted: int,
    ) -> int:
        """The same for a submission; its timepoints are values and serial numbers."""
        slot = self._this.slot or self._new_slot()
        parent = slot.calls[-1] if slot.calls else 0
        call = self._enter(slot)
        head |= slot.flags
        moment = monotonic_ns()
        try:
            pack_submission(
                self._mapped, self._records_at + call % self._records * RECORD_BYTES,
                call, parent, head, self._texts.ids[slot.name], moment, wait_value, wait_value_2,
                signal_value, signal_value_2, wait, wait_2, signal, signal_2, queue, accepted,
                _fitting(what, SUBMISSION_TEXT), call,
            )  # fmt: skip
        except (KeyError, ValueError, struct.error):
            values = (wait_value, wait_value_2, signal_value, signal_value_2, wait, wait_2, signal, signal_2)
            more = (*values, queue, accepted, what)
            self._write_unusual(pack_submission, SUBMISSION_TEXT, call, parent, head, slot, moment, *more, lasts=True)
        return call

    def write_made(self, head: int, serial: int, value: int, name: str | None) -> None:
        """Write that a call is over, and made an object."""
        self._write(pack_short, SHORT_TEXT, head, monotonic_ns(), value, serial, name or "")

    def write_refused_wait(self, head: int, serial: int, value: int, since: float, timeout: float, error: str) -> None:
        """Write that a wait for one timepoint, begun at ``since`` by ``time.monotonic``, raised an error."""
        self._write(pack_wait, WAIT_TEXT, head, int(since * 1e9), value, serial, timeout, error)

    def _write_raised(self, call: int, error: str) -> None:
        self._write(pack_short, SHORT_TEXT, RAISED, 0, call, 0, error)

    def _write(self, pack: Callable[..., None], room: int, head: int, moment: int, *more: Any) -> None:
        """Write a record that is of no call in progress."""
        slot = self._this.slot or self._new_slot()
        number = next(self._numbers)
        if number >= self._save_at:
            self._save_calls_in_progress(number)
        parent = slot.calls[-1] if slot.calls else 0
        *values, text = more
        try:
            pack(
                self._mapped, self._records_at + number % self._records * RECORD_BYTES,
                number, parent, head, self._texts.ids[slot.name], moment, *values, _fitting(text, room), number,
            )  # fmt: skip
        except (KeyError, ValueError, struct.error):
            self._write_unusual(pack, room, number, parent, head, slot, moment, *more, lasts=False)

    def _enter(self, slot: Slot) -> int:
        """Number a call that is to have a record, and put its thread into it."""
        call = next(self._numbers)
        if call >= self._save_at:
            self._save_calls_in_progress(call)
        slot.calls.append(call)
        if slot.word:
            self._words[slot.word] = call
        return call

    def _write_unusual(
        self,
        pack: Callable[..., None],
        room: int,
        number: int,
        parent: int,
        head: int,
        slot: Slot,
        moment: int,
        *more: Any,
        lasts: bool,
    ) -> None:
        """Write a record of a thread that has none yet; a line, if it fits no record or the name no table."""
        with self._lock:
            thread = self._texts.add(slot.name)
        *values, text = more
        if thread is not None:
            at = self._records_at + number % self._records * RECORD_BYTES
            with suppress(ValueError, struct.error):
                pack(self._mapped, at, number, parent, head, thread, moment, *values, _fitting(text, room), number)
                return
        entry = encode(entry_of(number, parent, head, slot.name, moment, *more))
        if lasts:
            self._lines[number] = entry
        self._append(entry, number)


def _fitting(text: str, room: int) -> bytes:
    """Return the bytes of a text.

    :raises ValueError: they are more than there is room for, or it has no bytes.
    """
    data = text.encode()
    if len(data) > room:
        raise ValueError(text)
    return data
