"""What is known of one case while it runs: its clauses, the devices it opened, what it observed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .hal import VARIATION_POINTS, Profile
from .observation import ObservedBuffer, ObservedDevice, ObservedSemaphore

_STATE = pytest.StashKey["CaseState"]()


class CaseState:
    """Lives in the item's stash from collection to report."""

    def __init__(self, item: pytest.Item) -> None:
        self.clauses: list[str] = [str(id) for mark in item.iter_markers("hal_clause") for id in mark.args]
        self.devices: list[ObservedDevice] = []
        self.passed = False
        #: What was found of the device after the case deviated: why it is lost, or nothing.
        self.lost = ""
        self.quality: list[dict[str, Any]] = []
        self.variations: dict[str, str] = {}

    @classmethod
    def of(cls, item: pytest.Item) -> CaseState:
        """Return the state of an item, made on first use."""
        return item.stash.setdefault(_STATE, cls(item))

    @classmethod
    def forget(cls, item: pytest.Item) -> None:
        """Let an item begin anew, before another run of it."""
        if item.stash.get(_STATE, None) is not None:
            del item.stash[_STATE]
            item._initrequest()  # type: ignore[attr-defined]  # as pytest-rerunfailures does; pytest has no other way

    def name_objects(self, frames: list[dict[str, object]]) -> None:
        """Learn from the local variables of a failed case what it calls its semaphores and buffers."""
        for device in self.devices:
            for variables in frames:
                for name, value in variables.items():
                    for serial, label in _labels(name, value, device):
                        device.log.names.setdefault(serial, label)


def _labels(name: str, value: object, device: ObservedDevice) -> Iterator[tuple[int, str]]:
    if isinstance(value, (ObservedSemaphore, ObservedBuffer)) and value._device is device:
        yield value.serial, name
    elif isinstance(value, (list, tuple)):
        for index, element in enumerate(value[:64]):
            if isinstance(element, (ObservedSemaphore, ObservedBuffer)) and element._device is device:
                yield element.serial, f"{name}[{index}]"


class Variation:
    """One variation point as the backend's profile answers it."""

    def __init__(self, point: str, profile: Profile, state: CaseState) -> None:
        self.point = point
        self._profile = profile
        self._state = state
        self._answer = profile.answer(point)

    @property
    def is_defined(self) -> bool:
        """Whether the profile says that programs may ask."""
        return not self._answer.undefined

    def permits(self, answer: str) -> bool:
        """Whether the profile permits an answer."""
        return answer in self._answer.permitted

    def need_defined(self) -> None:
        """End the case, as unsupported, where the profile leaves the point undefined: the suite never asks then."""
        if not self.is_defined:
            pytest.skip(f"unsupported: profile '{self._profile.name}' leaves variation point {self.point} undefined")

    def check(self, seen: str) -> None:
        """Record the answer that was seen; fail the case if the profile does not permit it."""
        self._state.variations[self.point] = seen
        if seen in self._answer.permitted:
            return
        question = VARIATION_POINTS[self.point].question
        is_known = seen in VARIATION_POINTS[self.point].known
        known = "" if is_known else " (an answer that nobody is known to give)"
        text = (
            f"variation point {self.point}: {question}\n"
            f"expected  {' or '.join(self._answer.permitted) or 'never asked'}  (profile '{self._profile.name}', "
            f"{self._answer.source})\nseen      {seen}{known}"
        )
        raise OtherAnswer(self.point, seen, text, is_known=is_known)


#: What ``pytest.fail`` raises.
_Failed: Any = pytest.fail.Exception


class OtherAnswer(_Failed):  # type: ignore[misc]  # its type is an attribute of a function
    """A variation point was answered, but not as the profile permits; ``point`` and ``answer`` say which and how."""

    def __init__(self, point: str, answer: str, text: str, *, is_known: bool) -> None:
        super().__init__(text)
        self.point = point
        self.answer = answer
        self.is_known = is_known


class Quality:
    """Judges clauses whose breach is reported with a figure and fails the run only where it must."""

    def __init__(self, state: CaseState, *, strict: bool) -> None:
        self._state = state
        self._strict = strict

    def __call__(self, clause: str, kept: bool, figure: str) -> None:
        self._state.quality.append({"clause": clause, "kept": bool(kept), "figure": figure})
        if not kept and self._strict:
            pytest.fail(f"quality clause {clause} is broken: {figure}")
