"""Backends that are wrong on purpose, and show it each time, are caught: a sample here, all of them by `make zoo`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import zoo

from pytest_cuda2hal.backends.faulty import ZOO

KILLS = zoo.first_kills()
ALWAYS = sorted(name for name, defect in ZOO.items() if defect.one_in == 1)
#: Quick ones, from different parts of the contract.
SAMPLE = [
    *("buffers-not-held", "command-list-by-reference", "dealloca-frees-twice", "device-in-a-cycle", "fail-with-ok"),
    *("failed-dealloca-counts", "host-call-error-dropped", "late-registration", "last-wait-of-a-semaphore"),
    *("unrecorded-event", "wait-does-nothing", "waits-beyond-the-32nd"),
    *("cuda-wait-for-unrecorded-event", "cuda-list-by-reference", "cuda-waits-beyond-32"),
]


def test_there_are_enough_of_them() -> None:
    assert len(ALWAYS) >= 60


def test_what_killed_them_last_time_is_known_of_each() -> None:
    assert sorted(set(ALWAYS) - set(KILLS)) == []
    assert sorted(set(KILLS) - set(ZOO)) == []


def test_the_suite_catches_them() -> None:
    """It begins with what killed each last time; the message names a clause that the defect breaks."""
    results = zoo.first_kills_of([ZOO[name] for name in SAMPLE], KILLS)
    assert {result["defect"]: result["ending"] for result in results if not result["kills"]} == {}, "survivors"
    for result in results:
        (kill, *_) = result["kills"]
        assert set(kill["names"]) & set(kill["clauses"]), f"the evidence names no clause of {result['defect']}: {kill}"


def test_a_backend_with_nothing_wrong_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commands, on a defect that shows in one of a billion chances."""
    name = "unrecorded-event"
    spec = "faulty:{name}:one_in=1000000000"
    monkeypatch.setattr(zoo, "spec_of", lambda defect: spec.format(name=defect.name))
    result = zoo.run_suite(ZOO[name], ["pytest_cuda2hal.cts.waits", "pytest_cuda2hal.cts.timeline"])
    assert result["ending"] == "ended"
    assert len(result["cases"]) > 100
    assert result["kills"] == []
