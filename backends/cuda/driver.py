"""The CUDA driver as a parameter, and its errors.

Everything here calls *a driver*: the module ``cuda.bindings.driver`` of cuda-python, or an object with the same
function names and return tuples. A call returns ``(error, result…)``, and a ``CUresult`` of success is false, so that
the hot paths test the error in line and come here only when there is one.
"""

from __future__ import annotations

from typing import Any

from pytest_cuda2hal.hal import HalError, StatusCode

#: What a driver is to a type checker: its functions, enumerations and handles are made at run time.
Driver = Any
#: A stream, event, graph or pool of a driver.
Handle = Any

# Numbers of CUresult, from the CUDA driver API reference (13.0), section "Data types used by CUDA driver".
OUT_OF_MEMORY = 2
NOT_READY = 600

#: After one of these every call that touches the context returns it again: the device is lost to this process.
STICKY = frozenset({4, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})

_CODES = {
    1: StatusCode.INVALID_ARGUMENT,
    2: StatusCode.RESOURCE_EXHAUSTED,
    3: StatusCode.FAILED_PRECONDITION,
    100: StatusCode.NOT_FOUND,
    101: StatusCode.INVALID_ARGUMENT,
    201: StatusCode.FAILED_PRECONDITION,
    400: StatusCode.INVALID_ARGUMENT,
    500: StatusCode.NOT_FOUND,
    800: StatusCode.PERMISSION_DENIED,
    801: StatusCode.UNIMPLEMENTED,
    999: StatusCode.UNKNOWN,
}


class CudaError(HalError):
    """A driver call failed. ``result`` is the number of the ``CUresult``, ``call`` the name of the function."""

    def __init__(self, code: StatusCode, message: str, result: int, call: str) -> None:
        super().__init__(code, message)
        self.result = result
        self.call = call

    @property
    def is_sticky(self) -> bool:
        """Whether the context is lost with it."""
        return self.result in STICKY

    def again(self) -> CudaError:
        return CudaError(self.code, self.message, self.result, self.call)


def error_of(driver: Driver, call: str, result: Any) -> CudaError:
    """Return the error for what ``call`` returned: CUDA's name and text for it, and the call."""
    number = int(result)
    code = StatusCode.DATA_LOSS if number in STICKY else _CODES.get(number, StatusCode.INTERNAL)
    name, text = _text(driver.cuGetErrorName(result)), _text(driver.cuGetErrorString(result))
    return CudaError(code, f"{name or f'CUDA error {number}'} ({text or 'no text'}) from {call}", number, call)


def _text(answer: tuple[Any, ...]) -> str:
    error, text = answer
    if error or not text:
        return ""
    return text.decode() if isinstance(text, bytes) else str(text)


def nested_call() -> HalError:
    """Return the error of a call that needs the device to itself, made in the middle of another one."""
    text = (
        "called by a finalizer or a signal handler in the middle of another call of this device on the same thread; "
        "call it from another thread, or later"
    )
    return HalError(StatusCode.FAILED_PRECONDITION, text)


def checked(driver: Driver, call: str, *arguments: object) -> Any:
    """Call a driver function by name and return its result, ``None`` if it has none.

    :raises CudaError: the call failed.
    """
    error, *results = getattr(driver, call)(*arguments)
    if error:
        raise error_of(driver, call, error)
    return results[0] if results else None
