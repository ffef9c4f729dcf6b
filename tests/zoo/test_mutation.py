"""The mutation run: what it changes and what it leaves alone, and who judges."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import mutation
import mutation_judge
from mutants import mutants_in, mutants_of
from mutation_reach import Reach, rows_of

MODULE = '''
"""A module with 1 docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from somewhere import Thing

LIMIT: int | None = 7


class Box:
    size: int

    def __repr__(self) -> str:
        return f"<{self.size + 1}>"

    def put(self, thing: Thing | None, *, twice: bool = False) -> int | None:
        if thing is not None and self.size < 3:
            self.size += 1
            self.woken.set()
            return self.size
        raise ValueError(f"not {thing}")
'''


def changes(tmp_path: Path) -> set[str]:
    path = tmp_path / "box.py"
    path.write_text(MODULE)
    found = set()
    for mutant in mutants_of("box.py", tmp_path):
        changed = mutant.source(MODULE)
        if changed is not None:
            compile(changed, "box.py", "exec")
            found.add(" -> ".join(mutation.lines_of(MODULE, changed)))
    return found


def test_what_is_changed(tmp_path: Path) -> None:
    found = changes(tmp_path)
    assert {
        "self.woken.set() -> pass",
        "self.size += 1 -> pass",
        "return self.size -> pass",
        'raise ValueError(f"not {thing}") -> pass',
        "if thing is not None and self.size < 3: -> if thing is not None or self.size < 3:",
        "if thing is not None and self.size < 3: -> if thing is not None and self.size <= 3:",
        "if thing is not None and self.size < 3: -> if thing is None and self.size < 3:",
        "LIMIT: int | None = 7 -> LIMIT: int | None = 8",
    } <= found


def test_what_is_left_alone(tmp_path: Path) -> None:
    """Annotations, what is for the checker alone, texts, and the star of keyword-only arguments."""
    for change in changes(tmp_path):
        before = change.partition(" -> ")[0]
        assert "TYPE_CHECKING" not in before
        assert "return f" not in before
        assert "//" not in change
        assert "int & None" not in change


def test_a_mutant_stays_what_it_was_until_its_own_function_is_edited() -> None:
    """Hours of work would be void otherwise whenever a line of the module is touched."""
    before = {one.key: one for one in mutants_in(MODULE, "box.py")}
    assert len(before) == len(mutants_in(MODULE, "box.py"))
    above = MODULE.replace("LIMIT", "# Why seven.\nOTHER = 3\nLIMIT")
    after = {one.key: one for one in mutants_in(above, "box.py")}
    assert set(before) <= set(after)
    moved = {key for key in before if after[key].line == before[key].line + 2}
    assert moved == set(before)
    inside = {one.key for one in mutants_in(MODULE.replace("size < 3", "size < 4"), "box.py")}
    assert {key for key in before if before[key].where == "Box.put"} == set(before) - inside
    assert inside & set(before)


def test_what_was_tried_is_kept_where_it_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = only("backends/reference/semaphore.py", "self._fail(error)")
    monkeypatch.setattr(mutation_judge, "SUITE", ["pytest_cuda2hal.cts.failures.test_failed_for_good"])
    _, result = run(tmp_path, mutant)
    kept = tmp_path / "kept.json"
    older = {**result, "id": "elsewhere", "line": 1}
    gone = {**result, "key": result["key"] + "0"}
    unknown = {name: value for name, value in result.items() if name != "key"}  # of an older format
    kept.write_text(json.dumps({"mutants": 1, "results": [older, gone, unknown]}))
    mutation.main(["--group=reference", "--minutes=0", f"--output={tmp_path / 'kept'}", "--jobs=1", "--sample=1"])
    results = json.loads(kept.read_text())["results"]
    assert [one["id"] for one in results if one["key"] == result["key"]] == [result["id"]]
    assert all(one["key"] != gone["key"] for one in results)
    assert len(results) <= 2


def only(module: str, text: str) -> str:
    """Return the id of the mutant that leaves a line out."""
    lines = (mutation.ROOT / module).read_text().splitlines()
    at = next(number for number, line in enumerate(lines, 1) if line.strip() == text)
    return next(
        str(one.id) for one in mutants_of(module, mutation.ROOT) if one.line == at and one.operator == "LeaveOut"
    )


def run(tmp_path: Path, mutant: str) -> tuple[int, dict[str, Any]]:
    status = mutation.main([f"--only={mutant}", f"--output={tmp_path / 'kept'}", "--jobs=1"])
    [result] = json.loads((tmp_path / "kept.json").read_text())["results"]
    return status, result


def test_the_suite_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that does nothing is caught, by a case, and the same mutant lives where the suite has no such case."""
    mutant = only("backends/reference/semaphore.py", "self._fail(error)")
    monkeypatch.setattr(mutation_judge, "SUITE", ["pytest_cuda2hal.cts.failures.test_failed_for_good"])
    status, result = run(tmp_path, mutant)
    assert (status, result["outcome"]) == (0, "fail")
    assert "::test_" in result["case"]
    assert (result["before"], result["after"]) == ("self._fail(error)", "pass")

    monkeypatch.setattr(mutation_judge, "SUITE", ["pytest_cuda2hal.cts.timeline.test_values"])
    monkeypatch.setattr(mutation.Killers, "best", lambda *_: [])  # it has learned by now
    status, result = run(tmp_path, mutant)
    assert (status, result["outcome"]) == (1, "survived")
    assert "survived and are not." in (tmp_path / "kept.md").read_text()


def test_where_the_suite_does_not_run_nothing_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the plugin, say, would otherwise score full marks."""
    monkeypatch.setattr(mutation, "CONTROL", "submissions/test_threads::test_that_nobody_wrote")
    with pytest.raises(SystemExit, match="reference, as it is, fails already"):
        run(tmp_path, only("backends/reference/semaphore.py", "self._fail(error)"))
    assert not (tmp_path / "kept.json").exists()


REACHED = """
LIMIT = 7


class Box:
    size = 3

    @property
    def full(
        self, limit=LIMIT
    ) -> bool:
        if (
            self.size
            > limit
        ):
            return self.told(
                "full",
                [one for one in self.things],
            )
        elif self.size:
            return False
        else:
            self.size = 0
        try:
            pass
        except (
            ValueError
        ):
            raise
        finally:
            self.size += 1

        def inner(
            a=1,
        ):
            return a

        return inner()
"""


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("LIMIT = 7", None),  # these run before any case does
        ("size = 3", None),
        ("@property", None),
        ("self, limit=LIMIT", None),
        ("a=1,", None),
        ("if (", ["if (", ")"]),
        ("> limit", ["if (", ")"]),
        ('"full",', ["return self.told(", ")"]),
        ("[one for one in self.things],", ["return self.told(", ")"]),
        ("elif self.size:", ["elif self.size:", "elif self.size:"]),
        ("self.size = 0", ["self.size = 0", "self.size = 0"]),
        ("ValueError", ["except (", "):"]),
        ("raise", ["raise", "raise"]),
        ("self.size += 1", ["self.size += 1", "self.size += 1"]),
        ("return a", ["return a", "return a"]),
        ("return inner()", ["return inner()", "return inner()"]),
    ],
)
def test_the_rows_whose_cases_judge(text: str, rows: list[str] | None) -> None:
    lines = [line.strip() for line in REACHED.splitlines()]
    found = rows_of(REACHED, lines.index(text) + 1)
    assert (found is None) is (rows is None)
    if found is not None and rows is not None:
        first, last = lines[found[0] - 1], lines[found[-1] - 1]
        assert (first.startswith(rows[0]), last.startswith(rows[1])) == (True, True)


def test_what_cases_reach(tmp_path: Path) -> None:
    """Of two runs together, the quickest case first; what runs at import is everybody's."""
    for name, lines in (("one", {"3": ["a::b", ""], "4": []}), ("two", {"3": ["c::d"], "5": ["a::b"]})):
        seconds = {"c::d": 0.5, "a::b": 2.0, "e::f": 0.1}
        (tmp_path / name).write_text(json.dumps({"lines": {f"/x/backends/{name}/m.py": lines}, "seconds": seconds}))
    modules = ["backends/one/m.py", "backends/two/m.py"]
    reach = Reach.read([tmp_path / "one", tmp_path / "two"], modules)
    assert reach.cases(modules[0], range(3, 5)) == ["a::b"]
    assert reach.cases(modules[0], range(4, 9)) == []
    assert reach.cases(modules[1], range(1, 9)) == ["c::d", "a::b"]
    assert reach.cases(modules[0], None) == ["e::f", "c::d", "a::b"]


def test_only_what_reaches_a_mutant_judges_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite is run under coverage.py first; where no case comes nobody is asked."""
    monkeypatch.setattr(mutation_judge, "SUITE", ["pytest_cuda2hal.cts.timeline.test_values"])
    copies = mutation.Copies(tmp_path / "copies", 1)
    reach = mutation.find_reach(copies, {"reference": mutation.GROUPS["reference"].modules}, 1)
    module = "backends/reference/semaphore.py"
    text = (mutation.ROOT / module).read_text()

    def judges(line: str) -> list[str]:
        at = next(number for number, one in enumerate(text.splitlines(), 1) if one.strip() == line)
        found: list[str] = reach["reference"].cases(module, rows_of(text, at))
        return found

    assert judges("self._fail(error)") == []
    asked = judges("self._value = value")
    assert asked
    assert set(asked) < set(reach["reference"].seconds)
    mutant = next(one for one in mutants_of(module, mutation.ROOT) if one.id == only(module, "self._fail(error)"))
    monkeypatch.setattr(mutation_judge, "judge", lambda *_, **__: pytest.fail("nobody can tell"))
    monkeypatch.setitem(mutation.GROUPS, "reference", mutation.Group((module,), ("reference",)))
    rows = rows_of(text, mutant.line)
    with copies.unchanged() as copy:
        result = mutation.try_out(copy, copies.original, "reference", mutant, mutation.Killers([]), reach, rows)
    assert result == {"outcome": "survived", "asked": ["reference"], "unreached": True}


HANG: dict[str, Any] = {"outcome": "hang", "case": "x::a", "message": "the case did not end"}
FAIL: dict[str, Any] = {"outcome": "fail", "case": "x::b", "message": "expected 1, seen 2"}
LATE: dict[str, Any] = {"outcome": "fail", "case": "x::b", "message": "still not so after 1.5 s"}
SURVIVED: dict[str, Any] = {"outcome": "survived"}
SLOW: dict[str, Any] = {"outcome": "not done", "message": ""}


@pytest.mark.parametrize(
    ("answers", "asked", "expected"),
    [
        ([FAIL], ["ab"], FAIL),
        # Asked again, the mutant hangs again, and the original never does.
        ([HANG, HANG, *[SURVIVED] * 3], ["ab", "a", "A", "A", "A"], {**HANG, "again": True}),
        ([LATE, SURVIVED, SURVIVED, LATE, *[SURVIVED] * 3], ["ab", *"bbbBBB"], {**LATE, "again": True}),
        # So does the original: the machine is slow. The others are asked.
        ([HANG, HANG, HANG, FAIL], ["ab", "a", "A", "b"], FAIL),
        ([HANG, HANG, SURVIVED, HANG, FAIL], ["ab", "a", "A", "A", "b"], FAIL),
        ([HANG, SURVIVED, SURVIVED, SURVIVED, FAIL], ["ab", "a", "a", "a", "b"], FAIL),
        ([LATE, SURVIVED, SLOW, SURVIVED], ["ab", "b", "b", "b"], SURVIVED),
        ([SLOW, HANG, HANG, *[SURVIVED] * 3], ["ab", "ab", "a", *"AAA"], {**HANG, "again": True}),
        ([SLOW, SLOW], ["ab", "ab"], SLOW),
        ([{**HANG, "case": "x::c"}, *[SURVIVED] * 3], ["ab", "c", "c", "c"], {"outcome": "not done"}),
    ],
)
def test_what_a_slow_machine_may_have_caught_is_asked_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[dict[str, Any]],
    asked: list[str],
    expected: dict[str, Any],
) -> None:
    told: list[str] = []

    def judge(copy: Path, spec: str, cases: list[str], *arguments: str, limit: float) -> dict[str, Any]:
        letters = "".join(case[-1] for case in cases)
        told.append(letters.upper() if copy.name == "original" else letters)
        return answers[len(told) - 1]

    monkeypatch.setattr(mutation_judge, "judge", judge)
    found = mutation_judge.judge_surely(tmp_path, tmp_path / "original", "reference", ["x::a", "x::b"], limit=1)
    assert told == asked
    assert {key: found[key] for key in expected} == expected


def test_which_results_stand(tmp_path: Path) -> None:
    """What a slow machine may have done is tried again, as is what told nothing."""
    kept = (SURVIVED, FAIL, {**HANG, "again": True}, {"outcome": "no run", "message": "exit code 4: it does not open"})
    dropped = (SLOW, HANG, LATE, {"outcome": "no run", "message": "exit code 1: …"})
    mutants = mutants_in(MODULE, "box.py")[: len(kept) + len(dropped)]
    results = [{**result, "key": mutant.key} for mutant, result in zip(mutants, (*kept, *dropped), strict=True)]
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({"results": results}))
    found = mutation.read_results(path, {mutant.key: mutant for mutant in mutants})
    assert list(found) == [mutant.key for mutant in mutants[: len(kept)]]


def answering(monkeypatch: pytest.MonkeyPatch, answers: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Have the suite answer so; return what will be asked: backend and cases."""
    told: list[tuple[str, str]] = []

    def judge_surely(_: Path, __: Path, spec: str, cases: list[str], *___: str, limit: float) -> dict[str, Any]:
        told.append((spec, "".join(case[-1] for case in cases)))
        return answers[len(told) - 1]

    monkeypatch.setattr(mutation, "judge_surely", judge_surely)
    return told


@pytest.mark.parametrize(
    ("answers", "asked", "outcome"),
    [
        ([FAIL], [("one", "b")], "fail"),
        ([SURVIVED, FAIL], [("one", "b"), ("one", "ac")], "fail"),
        ([SURVIVED] * 3, [("one", "b"), ("one", "ac"), ("two", "d")], "survived"),
        # The first cases were not run, or not to their end: they are asked with the others.
        ([{"outcome": "no run", "message": ""}, FAIL], [("one", "b"), ("one", "abc")], "fail"),
        # What one backend does not decide the next one may; else it stays undecided.
        ([SLOW, SLOW, FAIL], [("one", "b"), ("one", "abc"), ("two", "d")], "fail"),
        ([SURVIVED, SLOW, SURVIVED], [("one", "b"), ("one", "ac"), ("two", "d")], "not done"),
    ],
)
def test_who_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[dict[str, Any]],
    asked: list[tuple[str, str]],
    outcome: str,
) -> None:
    told = answering(monkeypatch, answers)
    monkeypatch.setitem(mutation.GROUPS, "reference", mutation.Group(("box.py",), ("none", "one", "two")))
    mutant = mutants_in(MODULE, "box.py")[0]
    killers = mutation.Killers([{"group": "reference", "module": "box.py", "line": 1, "case": "x::b"}])
    lines = {("box.py", 1): frozenset({"x::a", "x::b", "x::c"})}
    reach = {
        "none": Reach({"x::b": 1.0}, {}),
        "one": Reach(dict.fromkeys(("x::a", "x::b", "x::c"), 1.0), lines),
        "two": Reach({"x::d": 1.0}, {("box.py", 1): frozenset({"x::d"})}),
    }
    found = mutation.try_out(tmp_path, tmp_path, "reference", mutant, killers, reach, range(1, 2))
    assert (told, found["outcome"]) == (asked, outcome)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--only=backends/nobody.py", "there is no such mutant"),
        ("--sample=-1", "--sample is at least 0"),
        ("--jobs=0", "--jobs is at least 1"),
        ("--minutes=nan", "--minutes is at least 0"),
    ],
)
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], argument: str, message: str) -> None:
    with pytest.raises(SystemExit) as refused:
        mutation.main([argument, f"--output={tmp_path / 'kept'}"])
    assert message in str(refused.value) + capsys.readouterr().err
    assert not (tmp_path / "kept.json").exists()


def test_two_runs_do_not_write_one_page(tmp_path: Path) -> None:
    with mutation.alone_with(tmp_path / "kept"), pytest.raises(SystemExit, match="another run writes"):
        mutation.main([f"--output={tmp_path / 'kept'}", "--minutes=0"])


def test_every_exception_can_be_changed() -> None:
    """Or left alone: cosmic-ray knows names of exceptions, and lists of names."""
    text = "try:\n    a()\nexcept (A, *B):\n    b()\nexcept C.D:\n    c()\nexcept E:\n    d()\n"
    mutants = [mutant for mutant in mutants_in(text, "m.py") if mutant.operator == "ExceptionReplacer"]
    assert len(mutants) > 1
    assert any(mutant.source(text) for mutant in mutants)


def test_a_mutant_that_cannot_be_tried_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = only("backends/reference/semaphore.py", "self._fail(error)")

    def broken(*_: object) -> dict[str, Any]:
        raise RuntimeError("nobody knows why")

    monkeypatch.setattr(mutation, "try_out", broken)
    status, result = run(tmp_path, mutant)
    assert (status, result["outcome"], result["message"]) == (1, "not done", "RuntimeError: nobody knows why")
    assert "## Undecided" in (tmp_path / "kept.md").read_text()
