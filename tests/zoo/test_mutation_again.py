"""Mutants that live on: who is asked of them in a later run, and what the fault loop says of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import mutation
import mutation_faults
import mutation_judge
from mutants import Mutant, mutants_of
from mutation_look import FAULTS, Suite
from mutation_page import digest_of
from mutation_reach import Reach

SURVIVED: dict[str, Any] = {"outcome": "survived"}
SLOW: dict[str, Any] = {"outcome": "not done", "message": ""}
TRIALS = [[f"x::{letter}", 1, "CUDA_ERROR_UNKNOWN", 1] for letter in "abc"]
FOUND: dict[str, Any] = {"outcome": "fault", "case": "x::b", "message": "leak", "trial": TRIALS[1]}


@pytest.fixture
def mutant(tmp_path: Path) -> Mutant:
    (tmp_path / "box.py").write_text("def put(self):\n    self.size += 1\n")
    return next(iter(mutants_of("box.py", tmp_path)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Backends and cases, or trials, that were asked; all of them let the mutant live."""
    told: list[tuple[str, str]] = []

    def by_cases(_: Path, __: Path, spec: str, cases: list[str], *___: str, limit: float) -> dict[str, Any]:
        told.append((spec, "".join(sorted(case[-1] for case in cases))))
        return SURVIVED

    def by_faults(_: Path, __: Path, trials: list[list[Any]], *, limit: float) -> dict[str, Any]:
        told.append((FAULTS, "".join(sorted(trial[0][-1] for trial in trials))))
        return SURVIVED

    monkeypatch.setattr(mutation, "judge_surely", by_cases)
    monkeypatch.setattr(mutation, "judge_surely_by_faults", by_faults)
    monkeypatch.setitem(mutation.GROUPS, "cuda", mutation.Group(("box.py",), ("one", FAULTS, "two")))
    return told


def reaching(*cases: str) -> Reach:
    return Reach(dict.fromkeys(cases, 1.0), {("box.py", 1): frozenset(cases)})


#: What reaches the mutant: two cases, on each backend, and a trial of each of them.
REACH = {
    "one": reaching("x::d", "x::e"),
    FAULTS: reaching("x::d", *(json.dumps([f"x::{letter}", 1, "CUDA_ERROR_UNKNOWN", 1]) for letter in "de")),
    "two": reaching("x::d", "x::e"),
}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ([], [("one", "de"), (FAULTS, "de"), ("two", "de")]),
        (["one"], [("one", "e"), (FAULTS, "de"), ("two", "de")]),
        (["one", FAULTS, "two"], [("one", "e"), (FAULTS, "e"), ("two", "e")]),
    ],
)
def test_who_was_asked_before_is_asked_of_newer_cases(
    tmp_path: Path, mutant: Mutant, asked: list[tuple[str, str]], before: list[str], expected: list[tuple[str, str]]
) -> None:
    rest = mutation.Killers([]), REACH, range(1, 2), {"asked": before}, lambda case: case == "x::e"
    found = mutation.try_out(tmp_path, tmp_path, "cuda", mutant, *rest)
    assert asked == expected
    assert found == {"outcome": "survived", "asked": [FAULTS, "one", "two"]}


def test_where_nobody_looked_what_caught_it_before_judges(
    tmp_path: Path, mutant: Mutant, asked: list[tuple[str, str]]
) -> None:
    """And who was not asked is not noted as if it had been."""
    rest: tuple[Any, ...] = mutation.Killers([]), {}, range(1, 2)
    found = mutation.try_out(tmp_path, tmp_path, "cuda", mutant, *rest, {"trial": TRIALS[1]})
    assert asked == [("one", ""), (FAULTS, "b"), ("two", "")]
    assert found["asked"] == [FAULTS, "one", "two"]
    asked.clear()
    found = mutation.try_out(tmp_path, tmp_path, "cuda", mutant, *rest)
    assert asked == [("one", ""), ("two", "")]
    assert found["asked"] == ["one", "two"]


def test_what_a_later_run_takes_up(mutant: Mutant) -> None:
    """Survivors that a backend or a newer case has not seen, also where there is a reason why they live."""
    suite = Suite(mutation.ROOT, {})
    known = {mutant.key: {**mutant._asdict(), **SURVIVED, "key": mutant.key, "group": "reference"}}
    known[mutant.key] |= {"before": "a", "after": "b"}
    everybody = list(mutation.GROUPS["reference"].specs)
    for asked, digest, again in (
        (everybody, suite.digest, False),
        (everybody[1:], suite.digest, True),
        (everybody, "older", True),
    ):
        known[mutant.key] |= {"asked": asked, "suite": digest}
        for reasons in ([], [{"module": "…", "before": "a", "after": "b", "why": "Nobody looks."}]):
            todo = mutation.choose(mutation.parse([]), {"reference": [mutant]}, known, suite, reasons)
            assert bool(todo) is again


def test_own_tests_are_asked_without_the_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of survivors that are left to them; what the suite said of these stands."""
    tests = "tests/backends/test_timepoints.py"
    left, other = mutants_of("backends/reference/semaphore.py", mutation.ROOT)[:2]
    known: dict[str, Any] = {"group": "reference", "outcome": "survived", "asked": ["reference"], "suite": "older"}
    known |= {"before": "a", "after": "b", "seconds": 1.0}
    results = [{**known, **one._asdict(), "id": one.id, "key": one.key} for one in (left, other)]
    results[1]["before"] = "c"
    (tmp_path / "kept.json").write_text(json.dumps({"results": results}))
    reason = {"module": "…", "before": "a", "after": "b", "tests": tests, "why": "Nobody else can."}
    asked: list[list[str]] = []

    def ask(copy: Path, original: Path, named: list[str]) -> dict[str, list[str]]:
        asked.append(named)
        return {tests: ["caught", digest_of(tests)]}

    def nobody(*_: Any, **__: Any) -> None:
        raise AssertionError("the suite is not asked")

    monkeypatch.setattr(mutation, "read_equivalents", lambda _: [reason])
    monkeypatch.setattr(mutation, "ask_tests", ask)
    for name in ("try_out", "try_without_a_mutant", "find_reach"):
        monkeypatch.setattr(mutation, name, nobody)
    for _ in range(2):  # what was asked is not asked again
        mutation.main(["--own-tests", f"--output={tmp_path / 'kept'}", "--jobs=1"])
    assert asked == [[tests]]
    found = {one["key"]: one for one in json.loads((tmp_path / "kept.json").read_text())["results"]}
    assert found[left.key]["tests"] == {tests: ["caught", digest_of(tests)]}
    assert (found[left.key]["outcome"], found[left.key]["suite"]) == ("survived", "older")
    assert "tests" not in found[other.key]
    assert "Nobody else can." in (tmp_path / "kept.md").read_text()


def test_a_case_with_another_text_is_newer(tmp_path: Path) -> None:
    path = tmp_path / "cts" / "box" / "test_box.py"
    path.parent.mkdir(parents=True)
    path.write_text("def test_a():\n    assert 1\n\ndef test_b():\n    assert 1\n\ndef helper():\n    pass\n")
    first = Suite(tmp_path, {})
    path.write_text("def test_c():\n    pass\n\ndef test_a():\n    assert 2\n\ndef test_b():\n    assert 1  # why\n")
    second = Suite(tmp_path, first.noted({first.digest}))
    newer = {name for name in "abc" if second.is_newer(f"box/test_box::test_{name}[1]", first.digest)}
    assert newer == {"a", "c"}
    assert all(second.is_newer(f"box/test_box::test_{name}", "nobody knows") for name in "abc")
    assert set(second.noted({first.digest, second.digest})) == {first.digest, second.digest}


@pytest.mark.parametrize(
    ("answers", "expected", "outcome"),
    [
        ([FOUND, FOUND, SURVIVED, SURVIVED, SURVIVED], ["cab", "b", "B", "B", "B"], "fault"),
        # Trials are run in another order than that of the list: c may not have been when b found something.
        ([FOUND, SURVIVED, SURVIVED], ["cab", "b", "ca"], "survived"),
        ([FOUND, FOUND, FOUND, SURVIVED], ["cab", "b", "B", "ca"], "survived"),  # the original leaks, too
        (
            [FOUND, FOUND, SURVIVED, SURVIVED, FOUND, SURVIVED],
            ["cab", "b", "B", "B", "B", "ca"],
            "survived",
        ),  # at times
        ([FOUND, SLOW], ["cab", "b"], "not done"),
        ([FOUND, FOUND, SURVIVED, SLOW], ["cab", "b", "B", "B"], "not done"),
        ([SLOW], ["cab"], "not done"),
        ([SURVIVED], ["cab"], "survived"),
    ],
)
def test_a_trial_that_finds_something_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[dict[str, Any]], expected: list[str], outcome: str
) -> None:
    told: list[str] = []

    def judge(copy: Path, trials: list[list[Any]], *, limit: float) -> dict[str, Any]:
        letters = "".join(trial[0][-1] for trial in trials)
        told.append(letters.upper() if copy.name == "original" else letters)
        return answers[len(told) - 1]

    monkeypatch.setattr(mutation_faults, "judge_by_faults", judge)
    trials = [TRIALS[2], TRIALS[0], TRIALS[1]]
    found = mutation_faults.judge_surely_by_faults(tmp_path, tmp_path / "original", trials, limit=1)
    assert (told, found["outcome"]) == (expected, outcome)


def test_the_fault_loop_judges(tmp_path: Path) -> None:
    """What forgets the signals of work that cannot be recorded is caught where the driver refuses the record."""
    case = "submissions/test_signals::test_semaphore_twice_in_a_signal_list[2-1]"
    trials = [[case, n, "CUDA_ERROR_INVALID_VALUE", 1] for n in (2, 3)]  # the event is made, and recorded
    module, line = "backends/cuda/issue.py", "_cannot_record(engine, action, raised)"
    text = (mutation.ROOT / module).read_text()
    assert text.count(line) == 1
    copies = mutation.Copies(tmp_path, 1)
    assert mutation_faults.judge_by_faults(copies.original, trials, limit=100)["outcome"] == "survived"
    with copies.with_module(module, text.replace(line, "pass")) as copy:
        found = mutation_faults.judge_by_faults(copy, trials, limit=100)
    assert (found["outcome"], found["case"]) == ("fault", case), found
    assert "lost signal" in found["message"]


@pytest.mark.parametrize(
    ("tests", "says", "status"), [("test_interruptions.py", "caught", 0), ("test_locks.py", "passed", 1)]
)
def test_tests_of_the_projects_own_are_asked_where_a_reason_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tests: str, says: str, status: int
) -> None:
    """A reason that leaves a mutant to them counts only if they fail with it."""
    module = "backends/cuda/semaphore.py"
    lines = (mutation.ROOT / module).read_text().splitlines()
    telling = [one for one in mutants_of(module, mutation.ROOT) if "tell_later" in lines[one.line - 1]]
    mutant = next(one.id for one in telling if one.operator == "LeaveOut")
    named = Path("tests/backends/cuda", tests)
    reasons = tmp_path / "tools" / "equivalents.toml"
    for path in (reasons, tmp_path / named):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    change = 'before = "self.engine.tell_later(self, due)"\nafter = "pass"\nwhy = "Interrupted."'
    reasons.write_text(f'[[mutant]]\nmodule = "backends/…"\n{change}\ntests = "{named}"\n')
    monkeypatch.setattr(mutation, "EQUIVALENTS", reasons)
    monkeypatch.setattr(mutation_judge, "SUITE", ["pytest_cuda2hal.cts.timeline.test_values"])
    found = mutation.main([f"--only={mutant}", f"--output={tmp_path / 'kept'}", "--jobs=1"])
    [result] = json.loads((tmp_path / "kept.json").read_text())["results"]
    assert (result["outcome"], result["tests"][str(named)][0]) == ("survived", says)
    assert found == status
    page = (tmp_path / "kept.md").read_text()
    assert (f"Interrupted. `{named}` fails with it." in page) is (status == 0)
    reasons.write_text(reasons.read_text() + f'[[mutant]]\nmodule = "m"\n{change}\ntests = "tests/nowhere.py"\n')
    with pytest.raises(SystemExit, match="which is not there"):
        mutation.read_equivalents(reasons)
