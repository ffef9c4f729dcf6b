"""A CUDA driver in host memory, for tests without a GPU and for schedules that a GPU never shows.

:class:`SimulatedDriver` has the functions of ``cuda.bindings.driver`` that the backend uses. ``tests/backends/
cuda_simulator`` states what the driver does and runs on this one and on the real one; where they differ this one is
wrong.
"""

from __future__ import annotations

from .driver import SimulatedDriver
from .enums import CUresult

__all__ = ["CUresult", "SimulatedDriver"]
