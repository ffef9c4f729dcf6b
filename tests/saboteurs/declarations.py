"""Saboteurs of the clauses about what a device declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.hal import Capability, Timepoint, UnsupportedOperation

from . import breaks


@breaks("D-1", "a flush is declared and there is none")
class D1(ReferenceDevice):
    def queue_flush(self, queue: int = 0) -> None:
        raise UnsupportedOperation(Capability.FLUSH.value)


@breaks("D-2", "updates work and are not declared")
class D2(ReferenceDevice):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.capabilities -= {Capability.UPDATE}


@breaks("D-3", "the last queue makes signals and does no work")
class D3(ReferenceDevice):
    def _submit(
        self, work: Callable[[], None], wait: Iterable[Timepoint], signal: Iterable[Timepoint], queue: int, **how: Any
    ) -> None:
        super()._submit(_nothing if queue == self.queue_count - 1 else work, wait, signal, queue, **how)


def _nothing() -> None:
    """The work of the last queue."""
