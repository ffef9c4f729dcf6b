"""Backends that break one clause each, on purpose: a few lines over `reference`.

For every clause of the contract there is one, and ``tests/test_saboteurs.py`` shows that a case marked with the clause
then fails and names it. They are registered by clause and opened as ``saboteurs:open_saboteur:clause=Q-1``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import PROFILES, Device

DeviceClass = TypeVar("DeviceClass", bound=type[ReferenceDevice])


@dataclass(frozen=True, slots=True)
class Saboteur:
    """A device class that breaks one clause; ``defect`` says how."""

    clause: str
    defect: str
    device_class: type[ReferenceDevice]
    queues: int = 4


_SABOTEURS: dict[str, Saboteur] = {}


def breaks(clause: str, defect: str, *, queues: int = 4) -> Callable[[DeviceClass], DeviceClass]:
    """Register the decorated device class as the saboteur of ``clause``."""

    def register(device_class: DeviceClass) -> DeviceClass:
        assert clause not in _SABOTEURS, f"two saboteurs of {clause}"
        _SABOTEURS[clause] = Saboteur(clause, defect, device_class, queues)
        return device_class

    return register


def saboteurs() -> dict[str, Saboteur]:
    """Return all saboteurs by clause."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_SABOTEURS)


def open_saboteur(*, clause: str) -> Device:
    """Open the device that breaks ``clause``."""
    saboteur = saboteurs()[clause]
    return saboteur.device_class(PROFILES["strict"], queues=saboteur.queues)
