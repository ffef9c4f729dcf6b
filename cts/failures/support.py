"""Words that the cases about failure share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_cuda2hal.hal import Capability, HalError, Semaphore, StatusCode, WaitMode

from ..support import AskVariation, ObservedBuffer, ObservedDevice, failing, failure_of

#: Every code that a failure can have.
FAILURE_CODES = [code for code in StatusCode if code is not StatusCode.OK]


def expect_cause(failure: HalError, cause: HalError) -> None:
    """Check that a failure is ``cause``: the same code and exactly the same message."""
    same = failure.code is cause.code and failure.message == cause.message
    assert same, f"expected {_shown(cause)}; seen {_shown(failure)}"


def _shown(error: HalError) -> str:
    length = len(error.message)
    return f"{error.code.name} {error.message[:80]!r}" + (f" … ({length} characters)" if length > 80 else "")


def expect_failing_wait(variation: AskVariation, cause: HalError, wait: Callable[[], object]) -> None:
    """Make a host wait that must end with the failure ``cause``, as the profile words it (failed-wait-code)."""
    with failing() as raised:
        wait()
    check_wait_code(variation, cause, raised.error.code)


def check_wait_code(variation: AskVariation, cause: HalError, code: StatusCode) -> None:
    """Check the code with which a host wait ended because of the failure ``cause`` (failed-wait-code)."""
    variation("failed-wait-code").check("cause" if code is cause.code else code.name)


class NotYet:
    """Counts as false, and tells what is expected and what is seen instead."""

    def __init__(self, expected: object, seen: object) -> None:
        self._text = f"<expected {expected}; seen {seen}>"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return self._text


def failure_so_far(semaphore: Semaphore) -> HalError | NotYet:
    """Return the failure that a semaphore carries by now, or something false that tells its value."""
    try:
        return NotYet("a failed semaphore", f"value {semaphore.query()}")
    except HalError as error:
        return error


def until_failed(semaphore: Semaphore, value: int) -> None:
    """Wait for ``value`` until the semaphore fails, with whatever: which failure it is, other cases look at."""
    try:
        semaphore.wait(value)
    except HalError:
        failure_of(semaphore)
    else:
        raise AssertionError(f"expected {semaphore!r} to fail; seen value {value} reached")


def expect_at(value: int, *semaphores: Semaphore) -> None:
    """Check that semaphores are untouched by a failure elsewhere: healthy and at ``value``."""
    for semaphore in semaphores:
        try:
            seen = f"value {semaphore.query()}"
        except HalError as error:
            seen = f"failed with {error}"
        assert seen == f"value {value}", f"expected {semaphore!r} unaffected, at value {value}; seen {seen}"


def untouched(targets: Sequence[ObservedBuffer]) -> Callable[[], object]:
    """Return an observation, ``settle(untouched(targets))``: nothing has written any of the buffers."""

    def look() -> object:
        observations = (target.untouched for target in targets)
        return next((observation for observation in observations if not observation), True)

    return look


def expect_reached(semaphore: Semaphore, value: int) -> None:
    """Wait for ``value``, which must be reached in spite of a failure elsewhere."""
    try:
        semaphore.wait(value)
    except HalError as error:
        raise AssertionError(f"expected {semaphore!r} to reach {value}; seen {error}") from error


def messages_of(semaphores: Sequence[Semaphore]) -> list[str]:
    """Return the messages with which semaphores have failed; the case fails if one has not."""
    return [failure_of(semaphore).message for semaphore in semaphores]


def need_mode(device: ObservedDevice, mode: WaitMode) -> None:
    """End the case unless one host wait can wait in this mode."""
    device.need(Capability.WAIT_ALL if mode is WaitMode.ALL else Capability.WAIT_ANY)
