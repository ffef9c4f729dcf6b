"""Saboteurs of the clauses about submissions."""

from __future__ import annotations

from pytest_cuda2hal.backends.reference import ReferenceDevice
from pytest_cuda2hal.backends.reference.submission import Submission

from . import breaks


class IgnoresWaits(Submission):
    def submit(self) -> None:
        self._unreached.clear()
        self._waits = ()
        super().submit()


@breaks("Q-1", "a submission runs at once, whatever it waits for")
class Q1(ReferenceDevice):
    submission_class = IgnoresWaits
