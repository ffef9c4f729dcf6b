"""Backends that are wrong on purpose, and show it each time, are caught, all of them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

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
    for _ in range(2):  # whether two threads meet is chance, the more so on a full machine; nothing else is
        again = {result["defect"] for result in results if not result["kills"]}
        if again:
            results = [result for result in results if result["kills"]]
            results += zoo.first_kills_of([one for one in batch if one.name in again], KILLS)
    assert {result["defect"]: result["ending"] for result in results if not result["kills"]} == {}, "survivors"
    for result in results:
        (kill, *_) = result["kills"]
        assert set(kill["names"]) & set(kill["clauses"]), f"the evidence names no clause of {result['defect']}: {kill}"


def test_what_is_new_in_the_suite_is_tried_with_every_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The matrix is made once; later only new defects are run with all cases, and the others with new cases."""
    defects = [ZOO[name] for name in ALWAYS[:3]]
    suite = ["x/a::one", "x/a::two"]
    ran: list[tuple[str, str]] = []

    def run_suite(defect: Defect, targets: list[str], *_: str, effort: str) -> dict[str, Any]:
        assert effort == "quick"
        new = targets != ["pytest_cuda2hal.cts"]
        cases = [
            case for case in suite if not new or any(f"::{case.rpartition('::')[2]}[" in target for target in targets)
        ]
        ran.append((defect.name, " ".join(case.rpartition("::")[2] for case in cases)))
        kills = [
            {"case": case, "outcome": "fail", "clauses": [], "message": "", "names": [], "seconds": 0.1}
            for case in cases
        ]
        return {"defect": defect.name, "seconds": 1.0, "ending": "ended", "cases": cases, "kills": kills}

    monkeypatch.setattr(zoo, "run_suite", run_suite)
    monkeypatch.setattr(zoo, "cases_of_suite", lambda: list(suite))

    def full(count: int, budget: float = 60.0) -> list[tuple[str, str]]:
        ran.clear()
        options = argparse.Namespace(output=tmp_path / "zoo", budget=budget, workers=None, effort=None, jobs=1)
        zoo.full(defects[:count], options)
        return list(ran)

    first, second, third = (defect.name for defect in defects)
    assert full(2) == [(first, "one two"), (second, "one two")]
    assert full(2) == []
    suite.append("x/b::three")
    assert full(3, budget=-1.0) == []
    assert full(2) == [(first, "three"), (second, "three")]
    assert full(3) == [(third, "one two three")]
    assert full(3) == []
    suite.remove("x/a::two")
    assert full(3) == []
    document = json.loads((tmp_path / "zoo.json").read_text())
    assert document["suite"] == suite
    assert {name: len(result["kills"]) for name, result in document["results"].items()} == dict.fromkeys(
        (first, second, third), 2
    )
    assert "3 of 3 defects caught" in capsys.readouterr().out


def test_the_cases_that_there_are_now() -> None:
    found = zoo.cases_of_suite()
    assert len(found) == len(set(found)) > 600
    assert "waits/test_deadlines::test_timeouts_of_whole_seconds" in found
    assert zoo.target(found[0], "reference").startswith("pytest_cuda2hal.cts.")


def test_a_backend_with_nothing_wrong_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same commands, on a defect that shows in one of a billion chances."""
    name = "unrecorded-event"
    spec = "faulty:{name}:one_in=1000000000"
    monkeypatch.setattr(zoo, "spec_of", lambda defect, _: spec.format(name=defect.name))
    result = zoo.run_suite(ZOO[name], ["pytest_cuda2hal.cts.waits", "pytest_cuda2hal.cts.timeline"])
    assert result["ending"] == "ended"
    assert len(result["cases"]) > 100
    assert result["kills"] == []
