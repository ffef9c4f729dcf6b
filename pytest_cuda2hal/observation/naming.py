"""What a case is about to call the objects that it makes, read from the code that makes them.

A journal must know the names before anything goes wrong. To look at the local variables would come too early, and would
keep them alive (``frame.f_locals`` is a copy that stays); so the instructions that follow the call are read instead.
"""

from __future__ import annotations

import dis
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

_OURS: Final = (str(Path(__file__).parent), str(Path(__file__).parent.parent / "fixtures.py"))
_STORES: Final = ("STORE_FAST", "STORE_DEREF", "STORE_NAME", "STORE_GLOBAL")
#: No more names than this are told.
_NAMES: Final = 32
#: What a call's result is assigned to: one name, or a tuple of names that it is unpacked into. None: nothing readable.
Target = str | tuple[str, ...] | None
_RETURNED: Final = ("",)
_targets: dict[tuple[CodeType, int], Target] = {}


def assigned_name() -> str | None:
    """Return the name that the caller's caller gives to the result of the caller; ``None`` within this package."""
    frame: FrameType | None = sys._getframe(2)
    if frame is None or frame.f_code.co_filename.startswith(_OURS):
        return None
    target = _target(frame)
    return target if isinstance(target, str) else None


def assigned_names(count: int) -> list[str]:
    """Return the names that the case gives to a list of ``count`` that is being made for it; none if it gives none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    target = None if frame is None else _target(frame)
    if isinstance(target, str):
        return [f"{target}[{index}]" for index in range(min(count, _NAMES))]
    return list(target) if target is not None and len(target) == count else []


def assigned_single() -> str | None:
    """Return the name that the case gives to a single object that is being made for it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    target = None if frame is None else _target(frame)
    return target if isinstance(target, str) else None


def _target(frame: FrameType) -> Target:
    """Return what the result of the call in progress is assigned to, in this frame or in the one that it returns to."""
    place: FrameType | None = frame
    while place is not None:
        key = (place.f_code, place.f_lasti)
        if key not in _targets:
            _targets[key] = _read(*key)
        target = _targets[key]
        if target is not _RETURNED:
            return target
        place = place.f_back
    return None


def _read(code: CodeType, last: int) -> Target:
    """Return what the instructions after the one at ``last`` do with its result."""
    following = [one for one in dis.get_instructions(code) if one.offset > last and one.opname not in ("CACHE", "NOP")]
    names: list[str] = []
    wanted = 1
    unpacked = False
    for one in following[: _NAMES + 1]:
        if one.opname == "RETURN_VALUE" and not unpacked:
            return _RETURNED
        if one.opname == "UNPACK_SEQUENCE" and not unpacked and not names:
            wanted, unpacked = int(one.arg or 0), True
        elif one.opname.startswith(_STORES):
            # Newer interpreters store two names with one instruction.
            names += one.argval if isinstance(one.argval, tuple) else [str(one.argval)]
        else:
            return None
        if len(names) >= wanted:
            return tuple(names[:wanted]) if unpacked else names[0]
    return None
