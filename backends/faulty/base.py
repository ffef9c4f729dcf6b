"""What the faulty variants of the reference backend have in common: parts that ask whether to go wrong this time."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from pytest_cuda2hal.hal import PROFILES, Buffer, Command, CommandBuffer

from ..reference import ReferenceDevice
from ..reference.commands import run_commands
from ..reference.semaphore import HostWait, ReferenceSemaphore
from ..reference.submission import Submission
from .frame import Chance


class FaultyReference(ReferenceDevice):
    """A reference device whose defect shows when its chance strikes."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        super().__init__(PROFILES["strict"])

    def strikes(self) -> bool:
        """Tell whether the defect shows this time."""
        return self.chance.strikes()


def strikes(device: ReferenceDevice) -> bool:
    """Tell whether the defect of ``device`` shows this time."""
    return isinstance(device, FaultyReference) and device.strikes()


class FaultySemaphore(ReferenceSemaphore):
    """A timeline that asks its device."""

    #: The largest value that an accepted submission is to signal: what device events there are for this timeline.
    announced = 0

    def strikes(self) -> bool:
        """Tell whether the defect shows this time."""
        return strikes(self.device)


class FaultyWait(HostWait):
    """A host wait that asks the device of its first timepoint."""

    def strikes(self) -> bool:
        """Tell whether the defect shows this time."""
        return bool(self._points) and strikes(self._points[0].semaphore.device)


class FaultySubmission(Submission):
    """A submission that asks its device."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        assert self._work
        self._work = functools.partial(self.perform, self._work)

    def perform(self, work: Callable[[], None]) -> None:
        """Do the work; the device is not locked."""
        work()

    def strikes(self) -> bool:
        """Tell whether the defect shows this time."""
        return strikes(self._device)


def listed(commands: Iterable[Command] | CommandBuffer) -> tuple[Command, ...]:
    """Return the commands of what a queue is given."""
    return commands.commands if isinstance(commands, CommandBuffer) else tuple(commands)


def weak_work(commands: Iterable[Command]) -> Callable[[], None]:
    """Return the work of a list that does not keep its buffers: a command whose buffer has gone does nothing."""
    parts: list[tuple[Callable[..., Command], list[Any]]] = []
    for command in commands:
        values = [getattr(command, part.name) for part in dataclasses.fields(command)]
        parts.append((type(command), [weakref.ref(one) if isinstance(one, Buffer) else one for one in values]))

    def work() -> None:
        for kind, values in parts:
            there = [one() if isinstance(one, weakref.ref) else one for one in values]
            if not any(isinstance(one, weakref.ref) and one() is None for one in values):
                run_commands([kind(*there)])

    return work
