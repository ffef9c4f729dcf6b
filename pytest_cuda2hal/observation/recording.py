"""The half of a journal that takes no lock: what is called by the thousand becomes a record of fixed size.

A thread may be put aside between the number of a record and its writing. So all else is done before, and one that comes
back when the ring has gone round writes a line: the place is another's. What is unusual is left to exceptions.
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
from typing import Final

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
        data = _fitting(text, SHORT_TEXT) if text else b""
        parent = slot.calls[-1] if slot.calls else 0
        head |= slot.flags
        moment = monotonic_ns()
        call = self._enter(slot)
        try:
            if call + self._records <= self._save_at:
                raise KeyError  # it was late: by now the place is another's
            pack_short(
                self._mapped, self._records_at + call % self._records * RECORD_BYTES,
                call, parent, head, self._texts.ids[slot.name], moment, value, serial, data, call,
            )  # fmt: skip
        except (KeyError, struct.error):
            self._write_unusual(pack_short, call, parent, head, slot, moment, (value, serial), data, text, lasts=True)
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
        data = _fitting(what, SUBMISSION_TEXT)
        parent = slot.calls[-1] if slot.calls else 0
        head |= slot.flags
        moment = monotonic_ns()
        call = self._enter(slot)
        try:
            if call + self._records <= self._save_at:
                raise KeyError
            pack_submission(
                self._mapped, self._records_at + call % self._records * RECORD_BYTES,
                call, parent, head, self._texts.ids[slot.name], moment, wait_value, wait_value_2,
                signal_value, signal_value_2, wait, wait_2, signal, signal_2, queue, accepted, data, call,
            )  # fmt: skip
        except (KeyError, struct.error):
            values = (wait_value, wait_value_2, signal_value, signal_value_2, wait, wait_2, signal, signal_2)
            more = (*values, queue, accepted)
            self._write_unusual(pack_submission, call, parent, head, slot, moment, more, data, what, lasts=True)
        return call

    def write_made(self, head: int, serial: int, value: int, name: str | None) -> None:
        """Write that a call is over, and made an object."""
        slot = self._this.slot or self._new_slot()
        data = _fitting(name, SHORT_TEXT) if name else b""
        parent = slot.calls[-1] if slot.calls else 0
        moment = monotonic_ns()
        number = self._number()
        try:
            if number + self._records <= self._save_at:
                raise KeyError
            pack_short(
                self._mapped, self._records_at + number % self._records * RECORD_BYTES,
                number, parent, head, self._texts.ids[slot.name], moment, value, serial, data, number,
            )  # fmt: skip
        except (KeyError, struct.error):
            more = (value, serial)
            self._write_unusual(pack_short, number, parent, head, slot, moment, more, data, name or "", lasts=False)

    def write_refused_wait(self, head: int, serial: int, value: int, since: float, timeout: float, error: str) -> None:
        """Write that a wait for one timepoint, begun at ``since`` by ``time.monotonic``, raised an error."""
        slot = self._this.slot or self._new_slot()
        parent = slot.calls[-1] if slot.calls else 0
        self._write(
            pack_wait, WAIT_TEXT, parent, head | slot.flags, slot, int(since * 1e9), (value, serial, timeout), error
        )

    def _write_raised(self, call: int, slot: Slot, error: str) -> None:
        self._write(pack_short, SHORT_TEXT, 0, RAISED, slot, 0, (call, 0), error)

    def _write(
        self,
        pack: Callable[..., None],
        room: int,
        parent: int,
        head: int,
        slot: Slot,
        moment: int,
        values: tuple[float, ...],
        text: str,
    ) -> None:
        """Write a record that is of no call in progress."""
        data = _fitting(text, room)
        number = self._number()
        self._write_unusual(pack, number, parent, head, slot, moment, values, data, text, lasts=False)

    def _number(self) -> int:
        number = next(self._numbers)
        if number >= self._save_at:
            self._save_calls_in_progress(number)
        return number

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
        number: int,
        parent: int,
        head: int,
        slot: Slot,
        moment: int,
        values: tuple[float, ...],
        data: bytes | None,
        text: str,
        *,
        lasts: bool,
    ) -> None:
        """Write a record of a thread that may have none yet; a line, if it fits no record or the name no table."""
        thread = self._texts.ids.get(slot.name)
        if thread is None:
            with self._lock:
                thread = self._texts.add(slot.name)
        if thread is not None and data is not None and number + self._records > self._save_at:
            at = self._records_at + number % self._records * RECORD_BYTES
            with suppress(struct.error):
                pack(self._mapped, at, number, parent, head, thread, moment, *values, data, number)
                return
        entry = encode(entry_of(number, parent, head, slot.name, moment, *values, text))
        if lasts:
            self._lines[number] = entry
        self._append(entry, number)


def _fitting(text: str, room: int) -> bytes | None:
    """Return the bytes of a text; ``None`` if they are more than there is room for, or it has none."""
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return None
    return data if len(data) <= room else None
