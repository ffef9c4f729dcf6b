"""Devices that nobody may destroy any more."""

from __future__ import annotations

from .hal import Device


def abandon(device: Device) -> None:
    """Keep a device for ever, at the end of the interpreter too.

    For one whose work cannot be ended, where closing it then is undefined. A list of such devices would not do: the
    interpreter empties modules at its end, and the HAL's destructor was seen to wait there for ever.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(device))
