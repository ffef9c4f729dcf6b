"""The page of the mutation run: how many were caught, and the reasons of those that were not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import mutation
from mutation_page import read_equivalents, reason_of, speaks_of, summarize

RESULT = {
    "id": "m.py:3:AddNot:0",
    "group": "g",
    "module": "m.py",
    "where": "f",
    "operator": "AddNot",
    "line": 3,
    "seconds": 1.0,
}


def test_the_page(tmp_path: Path) -> None:
    survivor = {**RESULT, "outcome": "survived", "before": "if a:", "after": "if not a:"}
    caught = {
        **RESULT,
        "id": "m.py:4:AddNot:1",
        "line": 4,
        "outcome": "fail",
        "case": "x::test_y",
        "before": "",
        "after": "",
    }
    output = tmp_path / "page"
    assert summarize(output, [survivor, caught], [], 5) == 1
    page = output.with_suffix(".md").read_text()
    assert "2 of 5 mutants tried" in page
    assert "**50.0% of those" in page
    assert "- `m.py:3`: `if a:` → `if not a:`" in page

    why = {"module": "m…", "before": "if a:", "after": "…not…", "why": "Nobody looks."}
    assert summarize(output, [survivor, caught], [why | {"before": "if"}], 5) == 1
    assert summarize(output, [survivor, caught], [why], 5) == 0
    page = output.with_suffix(".md").read_text()
    assert "**100.0% of those" in page
    assert "Nobody looks." in page


def test_what_is_called_equivalent_has_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "equivalents.toml"
    path.write_text('[[mutant]]\nmodule = "m.py"\nbefore = "a"\nafter = "b"\n')
    with pytest.raises(SystemExit, match=r"an entry of m\.py has no why"):
        read_equivalents(path)
    whole = '[[mutant]]\nmodule = "m.py"\nwhy = "w"\n'
    for more, said in (
        ('before = "a"\nafter = "b"\nwheer = "f"', r"an entry of m\.py has wheer"),
        ("changes = []", "changes are lists of two texts"),
        ('changes = [["a"]]', "changes are lists of two texts"),
        ('changes = [["a", "b", "c"]]', "changes are lists of two texts"),
    ):
        path.write_text(whole + more)
        with pytest.raises(SystemExit, match=said):
            read_equivalents(path)


def test_a_reason_may_hold_for_one_function(tmp_path: Path) -> None:
    entry = {"module": "m.py", "where": "Box.put", "before": "a", "after": "b", "why": "Nobody looks."}
    result = {"module": "m.py", "before": "a", "after": "b"}
    assert reason_of({**result, "where": "Box.put"}, [entry]) == "Nobody looks."
    assert reason_of({**result, "where": "Box.take"}, [entry]) == ""


def test_a_reason_may_speak_of_several_changes_and_of_one_place() -> None:
    changes = [["a", "b"], ["…c", "d", 2]]
    entry = {"module": ["m.py", "n.py"], "changes": changes, "why": "Nobody looks."}
    result = {"module": "n.py", "where": "Box.put", "place": 1}
    assert reason_of({**result, "before": "a", "after": "b"}, [entry]) == "Nobody looks."
    assert reason_of({**result, "before": "a", "after": "d"}, [entry]) == ""
    assert reason_of({**result, "before": "bc", "after": "d"}, [entry]) == ""
    assert reason_of({**result, "before": "bc", "after": "d", "place": 2}, [entry]) == "Nobody looks."


def test_no_reason_excuses_what_the_suite_catches() -> None:
    """By the newest results: a pattern that is too wide would keep a defect from being looked at."""
    entries = read_equivalents(mutation.EQUIVALENTS)
    results = json.loads((mutation.ROOT / "docs" / "results" / "mutation.json").read_text())["results"]
    caught = [one for one in results if one["outcome"] in mutation.NOTICED and mutation.is_kept(one)]
    assert [(one["id"], reason_of(one, entries)) for one in caught if reason_of(one, entries)] == []


def test_what_tests_must_catch_is_excused_by_nothing_else() -> None:
    """An entry that names no tests would go on excusing it when these have changed and catch it no more."""
    entries = read_equivalents(mutation.EQUIVALENTS)
    results = json.loads((mutation.ROOT / "docs" / "results" / "mutation.json").read_text())["results"]
    for one in results:
        if one["outcome"] == "survived":
            spoken = [entry for entry in entries if speaks_of(entry, one)]
            assert len({"tests" in entry for entry in spoken}) <= 1, (one["id"], [entry["why"] for entry in spoken])
