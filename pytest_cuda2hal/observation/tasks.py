"""Threads of a case, each of which must end within the deadline."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from ..waitgraph import graph_of_log
from .calls import WAITS, points_of
from .log import DeadlineExpired

T = TypeVar("T")


class Task(Generic[T]):
    """A function running on a daemon thread; :meth:`result` waits for it."""

    def __init__(self, function: Callable[[], T], name: str, deadline: float) -> None:
        self.name = name
        self._deadline = deadline
        self._function = function
        self._value: T | None = None
        self._error: BaseException | None = None
        self._collected = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - a skip or a failure of the case, raised again by result()
            self._error = error
        finally:
            del self._function

    @property
    def done(self) -> bool:
        """Whether the function has returned or raised."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """Wait within the deadline; return what the function returned or raise what it raised."""
        self._collected = True
        self._thread.join(self._deadline)
        if self._thread.is_alive():
            raise self.overdue(f"thread '{self.name}' did not end within {self._deadline:.1f} s")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # T may itself be None

    def overdue(self, message: str) -> DeadlineExpired:
        """Return the error of a thread that should have ended; it tells what the thread waits for, if that is known."""
        waiting = WAITS.get(self._thread.ident or 0)
        if waiting is None:
            return DeadlineExpired(message)
        points = points_of(waiting.timepoints)
        graph = graph_of_log(waiting.log, points, self.name, time.monotonic() - waiting.since)
        return DeadlineExpired("\n  ".join([message, *graph.in_words()]), graph, waiting.log)

    def unnoticed_error(self) -> BaseException | None:
        """Return what the function raised if nobody asked for the result."""
        return None if self._collected else self._error


class Tasks:
    """Starts threads and, at the end of a case, makes sure that none is left and none failed unnoticed."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._tasks: list[Task[object]] = []

    def start(self, function: Callable[[], T], name: str | None = None) -> Task[T]:
        """Run ``function`` on a thread of its own."""
        task = Task(function, name or self._next_name(function), self._deadline)
        self._tasks.append(task)  # type: ignore[arg-type]  # only its end is looked at
        return task

    def run(self, functions: Iterable[Callable[[], T]]) -> list[T]:
        """Run all functions at once, released together; return their results in order."""
        listed = list(functions)
        together = threading.Barrier(len(listed)) if listed else None

        def released(function: Callable[[], T]) -> Callable[[], T]:
            def run() -> T:
                assert together is not None
                together.wait(self._deadline)
                return function()

            return run

        tasks = [self.start(released(function), self._next_name(function)) for function in listed]
        return [task.result() for task in tasks]

    def _next_name(self, function: Callable[[], object]) -> str:
        """Return a number, and what the case calls the function."""
        inner = function.func if isinstance(function, functools.partial) else function
        name = getattr(inner, "__name__", "<lambda>")
        return f"thread {len(self._tasks) + 1}" + ("" if name == "<lambda>" else f", {name}")

    def running(self) -> bool:
        """Whether a thread has not ended."""
        return not all(task.done for task in self._tasks)

    def finish(self) -> None:
        """Raise if a thread is still running, or raised something that nobody looked at."""
        for task in self._tasks:
            task._thread.join(self._deadline)
            if not task.done:
                raise task.overdue(f"thread '{task.name}' is still running {self._deadline:.1f} s after the case ended")
            error = task.unnoticed_error()
            if error is not None:
                raise error
        self._tasks.clear()  # a task keeps what its function returned, which must not count as left behind
