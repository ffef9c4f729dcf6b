"""Status codes and the errors that carry them.

The codes are those of IREE and Abseil, with the same names and numbers: an adapter can pass on what its HAL said, and a
reader can look it up in either documentation.
"""

from __future__ import annotations

import enum


class StatusCode(enum.IntEnum):
    """What became of an operation (names and numbers: ``absl::StatusCode``, ``iree_status_code_t``)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class HalError(Exception):
    """An operation failed, or a semaphore carries a failure.

    ``code`` is never ``OK``: a failure without a failure code cannot be told from success, so making one raises
    :class:`ValueError`. Equality is identity, as for every exception; compare ``code`` and ``message``.
    """

    def __init__(self, code: StatusCode, message: str = "") -> None:
        code = StatusCode(code)
        if code is StatusCode.OK:
            raise ValueError("HalError needs a failure code; StatusCode.OK is not one")
        super().__init__(code, message)
        self.code: StatusCode = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}" if self.message else self.code.name

    def again(self) -> HalError:
        """Return a new error with the same code and message.

        Raising one exception object in several threads would grow its traceback in all of them; whoever stores an
        error and raises it later raises a copy.
        """
        return HalError(self.code, self.message)


def failure_of_host_call(raised: BaseException) -> HalError:
    """Return what the signals of a host call fail with, given what the call raised.

    A :class:`HalError` as it is, anything else as ``UNKNOWN`` with the exception's type and text, also where that
    exception cannot be printed. Never raises. Thread-safe.
    """
    try:
        if isinstance(raised, HalError):
            return raised.again()
        text = str(raised)
    except BaseException as error:  # noqa: BLE001 - a text that cannot be had must not keep the signals from failing
        text = f"(its text cannot be had: {type(error).__name__})"
    return HalError(StatusCode.UNKNOWN, f"{type(raised).__name__}: {text}")


class BackendUnavailable(Exception):
    """A backend cannot run on this machine: ``reason`` says what is missing, ``remedy`` what to do about it.

    Raised by a backend's ``open`` function. It is an answer, not a defect: the probe turns it into one line.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}. {self.remedy}" if self.remedy else self.reason


class UnsupportedOperation(Exception):
    """The backend has no such operation. ``capability`` names what it would have to declare."""

    def __init__(self, capability: str, message: str = "") -> None:
        super().__init__(capability, message)
        self.capability = capability
        self.message = message

    def __str__(self) -> str:
        return f"capability '{self.capability}' is absent" + (f": {self.message}" if self.message else "")
