"""Tables of a journal: the names of threads, for which records have a number, and the values that waits have seen."""

from __future__ import annotations

import itertools
import mmap
import threading
from json.encoder import encode_basestring_ascii as quoted

from .reading import AT_EVICTED, AT_TEXTS_END, SEEN_WORDS, checked_line
from .records import TEXT_LENGTH


class TextTable:
    """The names. Not thread-safe but for :attr:`ids`, which only grows within a case."""

    def __init__(self, mapped: mmap.mmap, words: memoryview, begin: int, size: int) -> None:
        self._mapped = mapped
        self._words = words
        self._begin = begin
        self._size = size
        self._numbers = itertools.count(1)
        #: The numbers of the names in the table.
        self.ids: dict[str, int] = {}

    def clear(self) -> None:
        """Forget all texts. No number is given a second time, so what a late thread writes is nobody's text."""
        self.ids = {}
        self._words[AT_TEXTS_END] = 0

    def add(self, text: str) -> int | None:
        """Return the number of a name, which is added if it is new; ``None`` if there is no room for it."""
        found = self.ids.get(text)
        if found is None:
            number = next(self._numbers)
            line = checked_line(number, quoted(text[:TEXT_LENGTH]))
            used = self._words[AT_TEXTS_END]
            end = used + len(line)
            if end <= self._size:
                self._mapped[self._begin + used : self._begin + end] = line
                self._words[AT_TEXTS_END] = end
                found = self.ids[text] = number
        return found


class ValueTable:
    """The values. Of two semaphores whose keys share a place the last one stays. Thread-safe."""

    def __init__(self, words: memoryview, begin: int, count: int) -> None:
        self._words = words
        self._begin = begin
        self._count = count
        self._nothing = memoryview(bytes(count * SEEN_WORDS * words.itemsize)).cast("Q")
        # Reentrant for signal handlers.
        self._lock = threading.RLock()

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._words[self._begin : self._begin + self._count * SEEN_WORDS] = self._nothing
            self._words[AT_EVICTED] = 0

    def saw(self, key: int, value: int) -> None:
        """Note that a semaphore has reached a value."""
        words, at = self._words, self._begin + key % self._count * SEEN_WORDS
        if words[at + 1] == key and words[at] >= value:
            return
        with self._lock:
            other = words[at + 1]
            if other != key:  # at no moment does the one have a value that was the other's
                words[at + 1] = 0
                words[AT_EVICTED] |= bool(other)
            if other != key or words[at] < value:
                words[at] = value
                words[at + 1] = key
