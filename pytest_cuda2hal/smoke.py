"""A first look at an adapter, before any case runs: do the calls that every case makes do what they say?

A defect of the adapter shows in hundreds of cases, each about something else. Here it shows once, by its name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .hal import Copy, Device, HalError, Semaphore, StatusCode

#: Seconds for all checks together; those that have not begun by then are not tried.
BUDGET = 4.5
#: Seconds of the wait for a value that nobody signals.
UNREACHED_WAIT = 0.02
#: What is said of a check that has begun and has no result.
UNFINISHED = "did not finish"

_DATA = bytes(range(64))


@dataclass(frozen=True, slots=True)
class Check:
    """One question to an adapter; ``detail`` says what was seen, empty when all was well."""

    name: str
    ok: bool
    detail: str = ""


def smoke(device: Device, deadline: float = 1.0, before: Callable[[list[Check]], object] | None = None) -> list[Check]:
    """Ask whether an adapter makes sense, with no capability asked for; takes less than five seconds.

    Every check runs on a thread of its own. One that does not return within ``deadline`` seconds ends the stage, and
    its thread is left behind: the caller must not expect much of the device then.

    :param before: called before each check with the results so far and the check, as unfinished: for a caller who
        wants to know where a crash was.
    """
    seconds = min(deadline, BUDGET / 3)
    questions = _Questions(device, seconds)
    latest = time.monotonic() + BUDGET - seconds
    results: list[Check] = []
    untried = ""
    for name, ask in questions.all():
        if not untried and time.monotonic() > latest:
            untried = f"not tried: all checks together have {BUDGET:g} s"
        if untried:
            results.append(Check(name, False, untried))
            continue
        if before:
            before([*results, Check(name, False, UNFINISHED)])
        detail = _asked(name, ask, seconds)
        if detail is None:
            detail, untried = f"did not return within {seconds:g} s", f"not tried: '{name}' did not return"
        results.append(Check(name, not detail, detail))
    return results


def first_failure(checks: list[Check]) -> Check | None:
    """Return the check at which an adapter failed first."""
    return next((check for check in checks if not check.ok), None)


def _asked(name: str, ask: Callable[[], str], seconds: float) -> str | None:
    """Return what is wrong, empty if nothing is; ``None`` if there was no answer in time.

    What raised on the thread is asked again on the caller's: that only the thread which opened a device can use it is a
    matter for the suite (Q-19), and it does answer.
    """
    answer: list[str] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(ask())
        except BaseException as error:  # noqa: BLE001 - an adapter may raise anything, SystemExit included
            raised.append(error)
            line = (str(error).splitlines() or [""])[0]
            answer.append(f"{type(error).__name__}: {line}" if line else type(error).__name__)

    thread = threading.Thread(target=run, name=f"smoke: {name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if answer and raised:
        answer.clear()
        run()
    return answer[0] if answer else None


class _Questions:
    """The checks, in an order in which each relies on those before it. Each says what is wrong, or nothing."""

    def __init__(self, device: Device, deadline: float) -> None:
        self._device = device
        self._deadline = deadline
        # Shorter than the check's own deadline, so that a wait that ends is told apart from one that does not.
        self._patience = deadline * 0.8
        self._done: tuple[Semaphore, int] | None = None

    def all(self) -> list[tuple[str, Callable[[], str]]]:
        """Return each check's name and how to make it."""
        return [
            ("semaphore", self._semaphore),
            ("signal", self._signal),
            ("wait", self._wait),
            ("wait that times out", self._wait_that_times_out),
            ("submission", self._submission),
            ("buffer", self._buffer),
            ("copy", self._copy),
            ("query after", self._query_after),
        ]

    def _semaphore(self) -> str:
        return _differs("a new semaphore with initial value 3 reads", self._device.create_semaphore(3).query(), 3)

    def _signal(self) -> str:
        semaphore = self._device.create_semaphore(0)
        semaphore.signal(5)
        return _differs("after signal(5) a semaphore reads", semaphore.query(), 5)

    def _wait(self) -> str:
        semaphore = self._device.create_semaphore(0)
        semaphore.signal(5)
        semaphore.wait(5, self._patience)
        semaphore.wait(3, self._patience)
        return ""

    def _wait_that_times_out(self) -> str:
        semaphore = self._device.create_semaphore(0)
        begin = time.monotonic()
        try:
            semaphore.wait(1, UNREACHED_WAIT)
        except HalError as error:
            seconds = time.monotonic() - begin
            if error.code is not StatusCode.DEADLINE_EXCEEDED:
                return f"expected DEADLINE_EXCEEDED from a wait for an unreached value; seen {error}"
            early = seconds < UNREACHED_WAIT - time.get_clock_info("monotonic").resolution
            if early or seconds > UNREACHED_WAIT + self._deadline / 2:
                return f"a wait of {UNREACHED_WAIT:g} s timed out after {seconds:.3f} s"
            return ""
        return "a wait for a value that nobody signaled returned as if it were reached"

    def _submission(self) -> str:
        done = self._device.create_semaphore(0)
        self._device.queue_execute([], signal=[done @ 1])
        done.wait(1, self._patience)
        return _differs("after an empty submission its signal semaphore reads", done.query(), 1)

    def _buffer(self) -> str:
        buffer = self._device.allocate_buffer(len(_DATA))
        buffer.write(_DATA)
        return _differs_bytes("a buffer does not read as it was written", buffer.read(), _DATA)

    def _copy(self) -> str:
        source, target = (self._device.allocate_buffer(len(_DATA)) for _ in range(2))
        source.write(_DATA)
        target.write(bytes(len(_DATA)))
        done = self._device.create_semaphore(0)
        self._device.queue_execute([Copy(source, target)], signal=[done @ 2])
        done.wait(2, self._patience)
        self._done = done, 2
        return _differs_bytes("after a copy and its signal the target is not as the source", target.read(), _DATA)

    def _query_after(self) -> str:
        if self._done is None:
            return "not tried: the copy was not signaled"
        semaphore, value = self._done
        return _differs("after all this the copy's signal semaphore reads", semaphore.query(), value)


def _differs(claim: str, seen: object, expected: object) -> str:
    return "" if seen == expected else f"{claim} {seen!r}, not {expected!r}"


def _differs_bytes(claim: str, seen: bytes, expected: bytes) -> str:
    if bytes(seen) == expected:
        return ""
    if len(seen) != len(expected):
        return f"{claim}: {len(seen)} bytes, not {len(expected)}"
    first = next(index for index, (a, b) in enumerate(zip(seen, expected, strict=True)) if a != b)
    return f"{claim}: byte {first} is 0x{seen[first]:02x}, not 0x{expected[first]:02x}"
