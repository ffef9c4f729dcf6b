"""Values and timeouts that are none, or out of range."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from pytest_cuda2hal.hal import HalError, StatusCode

from ..support import (
    AskVariation,
    Buffers,
    ObservedDevice,
    Semaphores,
    Settle,
    Tasks,
    blocked,
    clause,
    failing,
    status_of,
)
from .witness import Witness

NO_VALUES: list[Any] = [
    *(-1, -(2**63), 2**64, 2**64 + 1, 2**80),
    *(1.0, 6.5, math.nan, math.inf, 6j),
    *("6", b"6", None, True, False, [6], (6,), {6}, object()),
]
NO_TIMEOUTS: list[Any] = [math.nan, -math.nan, "1", b"1", True, False, 1j, [1], (), object()]
EXPIRED = [0, 0.0, -0.0, -1, -1e-9, -1e300, -math.inf]


def expect_refusal(call: Callable[[], object], what: str) -> None:
    """Check that the interface takes the arguments for a slip of the caller's."""
    try:
        call()
    except (TypeError, ValueError):
        return
    except HalError as error:
        raise AssertionError(f"expected TypeError or ValueError from {what}; seen {error}") from error
    raise AssertionError(f"expected TypeError or ValueError from {what}; seen success")


@clause("TL-6")
def test_values_that_are_none_are_refused(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, threads: Tasks, settle: Settle
) -> None:
    """Whatever is no integer from 0 to 2^64-1 is refused wherever a value is asked for, and changes nothing."""
    witness = Witness(device, semaphores, buffers, threads)
    semaphore = witness.semaphore
    for value in NO_VALUES:
        with witness.unchanged_by(f"refused calls with {value!r}"):
            expect_refusal(partial(semaphore.signal, value), f"signal({value!r})")
            expect_refusal(partial(semaphore.wait, value, timeout=0), f"wait({value!r}, timeout=0)")
            expect_refusal(partial(semaphore.__matmul__, value), f"semaphore @ {value!r}")
            expect_refusal(partial(device.create_semaphore, value), f"create_semaphore({value!r})")
    witness.release(settle)


@clause("TL-6")
def test_timeouts_that_are_none_are_refused(
    device: ObservedDevice, semaphores: Semaphores, buffers: Buffers, threads: Tasks, settle: Settle
) -> None:
    """A timeout that is no number, or not a number, is refused, whether the value is reached or not."""
    witness = Witness(device, semaphores, buffers, threads)
    semaphore = witness.semaphore
    for timeout in NO_TIMEOUTS:
        for value in (5, 6):
            with witness.unchanged_by(f"refused waits with timeout={timeout!r}"):
                expect_refusal(partial(semaphore.wait, value, timeout), f"wait({value}, timeout={timeout!r})")
    witness.release(settle)


@clause("TL-6", "W-3", "W-4")
def test_zero_and_negative_timeouts_mean_expired(semaphores: Semaphores, threads: Tasks) -> None:
    """An expired timeout lets a wait look once: success where the value is reached, else DEADLINE_EXCEEDED."""
    semaphore = semaphores.at(5)
    for timeout in EXPIRED:
        for value, expected in ((5, StatusCode.OK), (6, StatusCode.DEADLINE_EXCEEDED)):
            # On a thread, so that a wait without end is noticed.
            seen = threads.start(partial(status_of, partial(semaphore.wait, value, timeout))).result()
            assert seen is expected, f"expected {expected.name} from wait({value}, {timeout!r}) at 5; seen {seen.name}"
    assert semaphore.query() == 5


@clause("TL-6", "W-1")
def test_none_and_inf_mean_for_ever(semaphores: Semaphores, threads: Tasks, settle: Settle) -> None:
    """A wait without a timeout lasts until the value comes."""
    semaphore = semaphores.at(5)
    waiters = [
        threads.start(partial(semaphore.wait, value, timeout), f"wait({value}, {timeout})")
        for value in (6, 7)
        for timeout in (None, math.inf)
    ]
    settle(blocked(*waiters))
    semaphore.signal(7)
    for waiter in waiters:
        waiter.result()


class Six:
    """An integer, as Python sees it."""

    def __index__(self) -> int:
        return 6


@clause("TL-6")
def test_integers_of_any_type_are_values(semaphores: Semaphores) -> None:
    """What can be an index can be a value."""
    six: Any = Six()
    semaphore = semaphores.at(5)
    semaphore.signal(six)
    assert semaphore.query() == 6
    semaphore.wait(six)
    assert semaphores.at(six).query() == 6
    assert (semaphore @ six).value == 6


@clause("TL-6")
def test_values_above_the_largest(
    device: ObservedDevice,
    semaphores: Semaphores,
    buffers: Buffers,
    threads: Tasks,
    settle: Settle,
    variation: AskVariation,
) -> None:
    """A value above value-max is refused wherever one is asked for, and changes nothing."""
    question = variation("value-out-of-range")
    question.need_defined()
    witness = Witness(device, semaphores, buffers, threads)
    semaphore, target = witness.semaphore, witness.target
    [other] = semaphores(1)
    largest = device.rules.value_max
    for value in sorted({largest + 1, 2**64 - 1}):
        calls: dict[str, Callable[[], object]] = {
            f"signal({value})": partial(semaphore.signal, value),
            f"wait({value}, timeout=0)": partial(semaphore.wait, value, timeout=0),
            f"create_semaphore({value})": partial(device.create_semaphore, value),
            f"submit, wait semaphore@{value}": partial(
                device.queue_fill, target, 9, wait=[semaphore @ value], signal=[other @ 1]
            ),
            f"submit, signal semaphore@{value}": partial(
                device.queue_fill, target, 9, signal=[other @ 1, semaphore @ value]
            ),
        }
        for what, call in calls.items():
            with witness.unchanged_by(what):
                question.check(status_of(call).name)
    witness.release(settle, lambda: other.query() == 0)
    semaphore.signal(largest)
    with failing(StatusCode.OUT_OF_RANGE):
        semaphore.signal(largest + 1)
    assert semaphore.query() == largest
