"""The interface between the conformance suite and a HAL: what a backend implements, and the words a test is written in.

Standard library only. A backend needs a :class:`Semaphore`, a :class:`Buffer` and a :class:`Device`; see
:class:`Device` for what must be written and what has a default.
"""

from .backend import Backend, BadOption
from .capabilities import EVERY_CAPABILITY, Capability
from .commands import (
    Buffer,
    Command,
    CommandBuffer,
    Copy,
    Fault,
    Fill,
    Hold,
    Latch,
    Update,
    checked_commands,
    checked_data,
    checked_range,
    checked_size,
)
from .device import Device, DeviceInfo, Statistics
from .errors import BackendUnavailable, HalError, StatusCode, UnsupportedOperation, failure_of_host_call
from .profiles import PROFILES, VARIATION_POINTS, Answer, Limit, Profile, VariationPoint
from .semaphore import (
    VALUE_LIMIT,
    Semaphore,
    Timepoint,
    WaitMode,
    captured,
    checked_timeout,
    checked_value,
    deadline_after,
)

__all__ = [
    "EVERY_CAPABILITY",
    "PROFILES",
    "VALUE_LIMIT",
    "VARIATION_POINTS",
    "Answer",
    "Backend",
    "BackendUnavailable",
    "BadOption",
    "Buffer",
    "Capability",
    "Command",
    "CommandBuffer",
    "Copy",
    "Device",
    "DeviceInfo",
    "Fault",
    "Fill",
    "HalError",
    "Hold",
    "Latch",
    "Limit",
    "Profile",
    "Semaphore",
    "Statistics",
    "StatusCode",
    "Timepoint",
    "UnsupportedOperation",
    "Update",
    "VariationPoint",
    "WaitMode",
    "captured",
    "checked_commands",
    "checked_data",
    "checked_range",
    "checked_size",
    "checked_timeout",
    "checked_value",
    "deadline_after",
    "failure_of_host_call",
]
