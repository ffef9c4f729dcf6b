"""What a child prints, case by case, bounded in memory however much it is."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from typing import IO

#: Bytes that are kept of the beginning and of the end of what a case printed.
HEAD, TAIL = 16 * 1024, 48 * 1024
#: Seconds that the rest of a case's output may take to arrive once the case is over, and once its process has ended:
#: another one that it started may keep the stream open.
LAG = 2.0
LAG_OF_THE_ENDED = 0.5
_CHUNK = 1 << 18


def marker(token: str) -> bytes:
    """Return what a child prints after each case, on both streams; the token makes it its own."""
    return f"\0hal-case-end {token}\0".encode()


class _Segment:
    """The output of one case."""

    def __init__(self) -> None:
        self.head = bytearray()
        self.tail = bytearray()
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        room = HEAD - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        if data:
            self.tail += data[-TAIL:]
            if len(self.tail) > 2 * TAIL:
                del self.tail[:-TAIL]

    def text(self) -> str:
        tail = self.tail[-TAIL:]
        left_out = self.size - len(self.head) - len(tail)
        gap = f"\n… {left_out:,} bytes left out …\n".encode() if left_out else b""
        return (bytes(self.head) + gap + bytes(tail)).decode(errors="replace")


class OutputReader:
    """Reads one stream of a child on a thread of its own, from its start to its end.

    :param echo: pass everything on to this process's stream of that number (1 or 2) as well.
    """

    def __init__(self, stream: IO[bytes], token: str, echo: int | None) -> None:
        self._stream = stream
        self._marker = marker(token)
        self._echo = echo
        self._finished: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._current = _Segment()
        self._thread = threading.Thread(target=self._read, name="hal-child-output", daemon=True)
        self._thread.start()

    def of_this_case(self) -> str:
        """Return what the case that is over printed."""
        with contextlib.suppress(queue.Empty):
            return self._finished.get(timeout=LAG)
        return self._current.text()  # something keeps the stream from its end; say what there is

    def of_the_last_case(self) -> str:
        """Return what was printed since the last case that ended by itself; the child has ended."""
        self._thread.join(LAG_OF_THE_ENDED)
        return self._current.text()

    def _read(self) -> None:
        held = b""  # what may be the beginning of a marker
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(self._stream.fileno(), _CHUNK):
                held = self._take(held + data if held else data)
        self._current.add(held)
        with contextlib.suppress(OSError):
            self._stream.close()

    def _take(self, data: bytes) -> bytes:
        """Add what is no marker to the segments; return what may be the beginning of one."""
        while True:
            place = data.find(self._marker)
            if place < 0:
                break
            self._add(data[:place])
            done, self._current = self._current, _Segment()
            self._finished.put(done.text())
            data = data[place + len(self._marker) :]
        keep = next(
            (
                size
                for size in range(min(len(self._marker) - 1, len(data)), 0, -1)
                if data.endswith(self._marker[:size])
            ),
            0,
        )
        split = len(data) - keep
        self._add(data[:split])
        return data[split:]

    def _add(self, data: bytes) -> None:
        self._current.add(data)
        if self._echo is not None and data:
            stream = sys.stdout if self._echo == 1 else sys.stderr
            try:
                stream.write(data.decode(errors="replace").encode(stream.encoding, "replace").decode(stream.encoding))
                stream.flush()
            except (OSError, ValueError, LookupError):  # nobody reads it any more; the cases go on
                self._echo = None
