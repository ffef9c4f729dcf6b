"""Backends that are wrong on purpose, and show it each time, are caught, all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import zoo

from pytest_cuda2hal.backends.faulty import ZOO, Defect

KILLS = zoo.first_kills()
ALWAYS = sorted(name for name, defect in ZOO.items() if defect.one_in == 1)
#: They cost a minute and more of computing until a deadline ends them: left to `make zoo` and `make test-whole`.
SLOW = {"every-end-scans-everything", "cuda-scan-of-everything"}
BATCHES = zoo.batches([ZOO[name] for name in ALWAYS if name not in SLOW], size=8)


def test_there_are_enough_of_them() -> None:
    assert len(ALWAYS) >= 60


def test_what_killed_them_last_time_is_known_of_each() -> None:
    assert sorted(set(ALWAYS) - set(KILLS)) == []
    assert sorted(set(KILLS) - set(ZOO)) == []


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: batch[0].name)
def test_the_suite_catches_them(batch: list[Defect]) -> None:
    """It begins with what killed each last time; the message names a clause that the defect breaks."""
    expect_caught(batch)


@pytest.mark.parametrize("name", sorted(SLOW))
def test_the_suite_catches_the_slow_ones(name: str) -> None:
    expect_caught([ZOO[name]])


def expect_caught(batch: list[Defect]) -> None:
    results = zoo.first_kills_of(batch, KILLS)
    assert {result["defect"]: result["ending"] for result in results if not result["kills"]} == {}, "survivors"
    for result in results:
        (kill, *_) = result["kills"]
        assert set(kill["names"]) & set(kill["clauses"]), f"the evidence names no clause of {result['defect']}: {kill}"


def test_a_backend_with_nothing_wrong_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commands, on a defect that shows in one of a billion chances."""
    name = "unrecorded-event"
    spec = "faulty:{name}:one_in=1000000000"
    monkeypatch.setattr(zoo, "spec_of", lambda defect, _: spec.format(name=defect.name))
    result = zoo.run_suite(ZOO[name], ["pytest_cuda2hal.cts.waits", "pytest_cuda2hal.cts.timeline"])
    assert result["ending"] == "ended"
    assert len(result["cases"]) > 100
    assert result["kills"] == []
