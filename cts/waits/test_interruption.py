"""POSIX signals while threads wait: what must not end a wait, and the one thing of the host's that may."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import pytest

from pytest_cuda2hal.hal import StatusCode

from ..support import Poll, Quality, Semaphores, Tasks, blocked, clause, status_of
from .watching import expect_timeout

if not hasattr(signal, "pthread_kill"):
    pytest.skip("signals to threads are POSIX", allow_module_level=True)

#: Ignored by default: one that arrives when the handler has been taken away again does no harm.
SIGNAL = signal.SIGURG
#: How many a thread gets while it waits.
INTERRUPTIONS = 20


class HandlerError(Exception):
    """What a handler raises, as the one for Ctrl-C raises KeyboardInterrupt."""


@pytest.fixture
def handled() -> Iterator[list[float]]:
    """Handle the signal; give the moments at which the handler ran."""
    moments: list[float] = []

    def handler(number: int, frame: FrameType | None) -> None:
        moments.append(time.monotonic())

    before = signal.signal(SIGNAL, handler)
    yield moments
    signal.signal(SIGNAL, before)


@pytest.fixture
def raising() -> Iterator[list[float]]:
    """Handle the signal by raising :class:`HandlerError`, the first time; give the moment."""
    moments: list[float] = []

    def handler(number: int, frame: FrameType | None) -> None:
        moments.append(time.monotonic())
        if len(moments) == 1:
            raise HandlerError

    before = signal.signal(SIGNAL, handler)
    yield moments
    signal.signal(SIGNAL, before)


def interrupt(thread: int, poll: Poll, stop: Callable[[], bool] = lambda: False) -> None:
    """Send signals to a thread, half a millisecond apart or so, until there were enough."""
    sent = 0

    def send() -> bool:
        nonlocal sent
        sent += 1
        signal.pthread_kill(thread, SIGNAL)
        return sent == INTERRUPTIONS or stop()

    poll(send)


@clause("W-11")
def test_signals_do_not_end_a_wait_of_the_main_thread(
    semaphores: Semaphores, threads: Tasks, poll: Poll, handled: list[float]
) -> None:
    """Signals whose handler returns reach a blocked thread twenty times; the value ends its wait."""
    assert threading.current_thread() is threading.main_thread(), "signal handlers run on the main thread only"
    [semaphore] = semaphores(1)
    main = threading.get_ident()

    def disturb() -> None:
        interrupt(main, poll)
        semaphore.signal(1)

    disturbing = threads.start(disturb)
    semaphore.wait(1)
    assert semaphore.query() == 1, f"expected the wait to end at 1; seen {semaphore.query()}"
    disturbing.result()
    poll(lambda: handled)


@clause("W-11", "W-5")
def test_signals_do_not_shorten_a_timeout_of_the_main_thread(
    semaphores: Semaphores, threads: Tasks, poll: Poll, handled: list[float]
) -> None:
    """Nor do they make a timeout shorter, or begin it anew."""
    [semaphore] = semaphores(1)
    main = threading.get_ident()
    timeout = 0.0607
    ended = threading.Event()

    def disturb() -> None:
        while not ended.is_set():
            interrupt(main, poll, ended.is_set)

    disturbing = threads.start(disturb)
    try:
        expect_timeout(partial(semaphore.wait, 1, timeout), timeout, f"wait({timeout}) under signals")
    finally:
        ended.set()
    disturbing.result()
    poll(lambda: handled)
    assert semaphore.query() == 0


@clause("W-11")
def test_signals_do_not_end_a_wait_of_another_thread(
    semaphores: Semaphores, threads: Tasks, poll: Poll, handled: list[float], deadline: float
) -> None:
    """Whatever thread a signal interrupts in the kernel, its wait goes on."""
    [semaphore] = semaphores(1)
    idents: list[int] = []
    ended, leave = threading.Event(), threading.Event()

    def wait() -> None:
        idents.append(threading.get_ident())
        try:
            semaphore.wait(1, timeout=None)
        finally:
            ended.set()
            leave.wait(deadline)  # a thread that is gone must not be sent a signal

    waiter = threads.start(wait, "wait under signals")
    try:
        poll(lambda: idents)
        interrupt(idents[0], poll, ended.is_set)
        assert not ended.is_set(), "expected the wait to go on under signals; seen it end"
        poll(lambda: handled)
        semaphore.signal(1)
    finally:
        leave.set()
    waiter.result()


@clause("W-11q")
def test_exception_from_a_handler_propagates(
    semaphores: Semaphores, threads: Tasks, poll: Poll, raising: list[float], quality: Quality, deadline: float
) -> None:
    """An exception raised in a signal handler comes out of a blocked wait at once, and the semaphore goes on."""
    [semaphore] = semaphores(1)
    main = threading.get_ident()
    other = threads.start(partial(status_of, partial(semaphore.wait, 1, deadline)), "another wait for semaphore@1")
    begun = threading.Event()
    sent: list[float] = []

    def disturb() -> None:
        begun.wait(deadline)
        looks = iter(range(20))
        poll(lambda: next(looks) == 19)  # by now the main thread is blocked
        sent.append(time.monotonic())
        signal.pthread_kill(main, SIGNAL)

    disturbing = threads.start(disturb)
    caught, code = None, StatusCode.OK
    try:
        begun.set()
        code = status_of(partial(semaphore.wait, 1, timeout=3.0))
    except HandlerError:
        caught = time.monotonic()
    disturbing.result()
    intact = [  # one after the other: it is at 0 still, others still wait for it, and it goes on
        status_of(partial(semaphore.wait, 1, timeout=0)) is StatusCode.DEADLINE_EXCEEDED,
        bool(blocked(other)()),
        status_of(partial(semaphore.signal, 1)) is StatusCode.OK,
        status_of(partial(semaphore.wait, 1, deadline)) is StatusCode.OK,
        other.result() is StatusCode.OK,
    ]
    if caught is None:
        took, figure = float("inf"), f"the exception did not come out of a wait of 3 s, which ended with {code.name}"
    else:
        took = caught - sent[0]
        figure = f"the exception came out of the wait {took * 1e3:.0f} ms after the signal"
    kept = took < 0.5 and all(intact)
    quality("W-11q", kept, figure if all(intact) else f"{figure}; the semaphore was not intact afterwards")
