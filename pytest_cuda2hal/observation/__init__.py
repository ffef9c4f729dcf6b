"""What stands between a case and the HAL under test.

A case talks to observed devices, semaphores and buffers. They pass every call on and add what a suite needs: a deadline
for each wait, a record of each submission, names in messages, and a skip that names the capability that is missing.
"""

from .buffers import Observation, ObservedBuffer
from .device import ObservedDevice
from .log import DeadlineExpired, Log
from .semaphores import ObservedSemaphore
from .tasks import Task, Tasks

__all__ = [
    "DeadlineExpired",
    "Log",
    "Observation",
    "ObservedBuffer",
    "ObservedDevice",
    "ObservedSemaphore",
    "Task",
    "Tasks",
]
