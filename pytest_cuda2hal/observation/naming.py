"""What a case is about to call the objects that it makes, read from the code that makes them.

A journal must know the names before anything goes wrong. To look at the local variables would come too early, and would
keep them alive (``frame.f_locals`` is a copy that stays); so the instructions that follow the call are read instead.
"""

from __future__ import annotations

import dis
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

_OURS: Final = (str(Path(__file__).parent), str(Path(__file__).parent.parent / "fixtures.py"))
#: No more names than this are told.
_NAMES: Final = 32
#: What a call's result is assigned to: one name, or a tuple of names that it is unpacked into. None: nothing readable.
Target = str | tuple[str, ...] | None
_RETURNED: Final = ("",)
# By the identity of the code, whose hash is slow; the code is kept, so that no other has its identity.
_targets: dict[int, tuple[CodeType, dict[int, Target]]] = {}


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
        code, last = place.f_code, place.f_lasti
        known = _targets.get(id(code))
        if known is None:
            known = _targets[id(code)] = (code, {})
        targets = known[1]
        if last not in targets:
            targets[last] = _read(code, last)
        target = targets[last]
        if target is not _RETURNED:
            return target
        place = place.f_back
    return None


def _read(code: CodeType, last: int) -> Target:
    """Return what the instructions after the one at ``last`` do with its result."""
    names: list[str] = []
    wanted = 1
    unpacked = False
    for operation, argument in itertools.islice(_following(code, last), _NAMES + 1):
        if operation == "RETURN_VALUE" and not unpacked:
            return _RETURNED
        if operation == "UNPACK_SEQUENCE" and not unpacked and not names:
            wanted, unpacked = argument, True
        elif operation in ("STORE_NAME", "STORE_GLOBAL"):
            names.append(code.co_names[argument])
        elif operation in ("STORE_FAST", "STORE_DEREF"):
            names.append(_local(code, argument))
        elif operation.startswith("STORE_FAST_"):  # two at once, in newer interpreters
            names.append(_local(code, argument >> 4))
            if operation == "STORE_FAST_STORE_FAST":
                names.append(_local(code, argument & 15))
        else:
            return None
        if len(names) >= wanted:
            return tuple(names[:wanted]) if unpacked else names[0]
    return None


def _following(code: CodeType, last: int) -> Iterator[tuple[str, int]]:
    """Return name and argument of each instruction after the one at ``last``.

    :mod:`dis` would take the whole code apart, each time, and cases have thousands of calls.
    """
    argument = 0
    units = code.co_code[last + 2 :]
    for operation, low in zip(units[::2], units[1::2], strict=True):
        argument = argument << 8 | low
        name = dis.opname[operation]
        if name == "EXTENDED_ARG":
            continue
        if name not in ("CACHE", "NOP"):
            yield name, argument
        argument = 0


def _local(code: CodeType, index: int) -> str:
    cells = [name for name in code.co_cellvars if name not in code.co_varnames]
    return (*code.co_varnames, *cells, *code.co_freevars)[index]
