"""The ring of a journal's lines: the newest overwrite the oldest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from .reading import AT_CAPACITY, AT_POSITION, checked_line

#: How much longer a line is than its JSON, at most.
LINE_EXTRA: Final = 32


class LineRing:
    """Lines of JSON, each with a checksum and a number. Thread-safe."""

    def __init__(
        self, memory: memoryview, words: memoryview, numbers: Iterator[int], comes_round: Callable[[], object]
    ) -> None:
        """``comes_round`` is called each time that the ring is full, by the thread that writes, and may :meth:`put`."""
        self._memory = memory
        self._words = words
        self._numbers = numbers
        self._comes_round = comes_round
        self.capacity = len(memory)
        #: Bytes that were ever written.
        self.position = 0
        # Reentrant: what a signal handler of the case does must not wait for the line that it interrupted.
        self._lock = threading.RLock()
        #: Lines that are still to be written.
        self._left: deque[bytes] = deque()
        words[AT_CAPACITY] = self.capacity

    def move(self, memory: memoryview, words: memoryview) -> None:
        """Write there from now on; for a process that was forked, in which nobody else has the lock."""
        self._memory, self._words, self._lock = memory, words, threading.RLock()

    def release(self) -> None:
        """Let go of the memory."""
        self._memory.release()

    def append(self, text: str, number: int = 0) -> None:
        """Append a line, under a number of its own or the one given. One that would fill an eighth is left out."""
        if self._hand_in(text, number):
            with self._lock:
                self._put_left()
            self._put_left_by_others()

    def leave(self, text: str, number: int = 0) -> None:
        """The same for what is over, which may as well be left to another thread that is at it.

        Where many threads wait for a lock, each has it before it has Python's, and all go at the pace of the scheduler.
        """
        if self._hand_in(text, number):
            self._put_left_by_others()

    def put(self, text: str) -> None:
        """Append a line at once; for who is called as the ring comes round."""
        self._put(checked_line(next(self._numbers), text))

    def _hand_in(self, text: str, number: int) -> bool:
        if len(text) + LINE_EXTRA > self.capacity // 8:
            return False
        self._left.append(checked_line(number or next(self._numbers), text))
        return True

    def _put_left_by_others(self) -> None:
        while self._left and self._lock.acquire(False):  # who has it looks once more when it has it no longer
            try:
                self._put_left()
            finally:
                self._lock.release()

    def _put_left(self) -> None:
        while self._left:
            if self._put(self._left.popleft()):
                self._comes_round()

    def _put(self, line: bytes) -> bool:
        """Write a line, which may have to be split at the end of the ring; return whether it came to the end."""
        at = self.position % self.capacity
        room = self.capacity - at
        self._memory[at : at + len(line)] = line[:room]
        if len(line) > room:
            self._memory[: len(line) - room] = line[room:]
        self.position += len(line)
        self._words[AT_POSITION] = self.position
        return len(line) >= room
