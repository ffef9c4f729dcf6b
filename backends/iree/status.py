"""IREE statuses: recovering code and message from the exceptions of its Python bindings.

The bindings raise ``ValueError``, ``IndexError``, ``NotImplementedError`` or ``RuntimeError``, with the status as text:
``<call>: <file>:<line>: <CODE>; <message>``, where the place or the message may be missing.
"""

from __future__ import annotations

import re
from typing import NoReturn

from pytest_cuda2hal.hal import HalError, StatusCode

#: What the bindings raise for a status that is not OK.
STATUS_ERRORS = (RuntimeError, ValueError, IndexError, NotImplementedError)

_STATUS = re.compile(
    r"(?P<call>[^:\n]*): (?:[^\s:]+:\d+: )?(?P<code>[A-Z][A-Z_]+)(?:; (?P<message>.*))?",
    re.DOTALL,
)
# What the VM appends about itself when a function of its module 'hal' returns a status. It says how we called, not what
# the HAL answered: a semaphore failed by the same status does not carry it.
_VM_NOTE = re.compile(r"(?:^|; )while invoking native function hal\.[\w.]+; ?\n\[ *0\] +native hal\..*\Z", re.DOTALL)


def status_of(text: str) -> HalError | None:
    """Return the status that ``text`` spells, its message as IREE gave it; ``None`` when it spells none.

    IREE has two codes that Abseil lacks, DEFERRED and INCOMPATIBLE; they become UNKNOWN with the whole text as message.
    """
    found = _STATUS.fullmatch(text)
    if found is None:
        return None
    name = found["code"]
    if name in ("DEFERRED", "INCOMPATIBLE"):
        return HalError(StatusCode.UNKNOWN, text)
    if name not in StatusCode.__members__ or name == "OK":
        return None
    return HalError(StatusCode[name], _VM_NOTE.sub("", found["message"] or ""))


def raise_status(error: Exception) -> NoReturn:
    """Raise the status inside ``error`` as a :class:`HalError`, or ``error`` itself when it is none: a slip of ours."""
    status = status_of(str(error))
    if status is None:
        raise error
    raise status from error
