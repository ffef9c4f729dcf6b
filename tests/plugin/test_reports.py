"""The report as JSON, with and without xdist, and the page made of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pytest_cuda2hal.outcome import Outcome
from pytest_cuda2hal.schema import violations

NONE = {outcome.value: 0 for outcome in Outcome}

CASES = """
    import pytest
    from pytest_cuda2hal.hal import Capability

    @pytest.mark.hal_clause("TL-1", "Q-1")
    def test_pass(hal_device, hal_variation, hal_quality):
        hal_variation("failed-wait-code").check("cause")
        hal_quality("W-10q", True, "3% of a core")

    @pytest.mark.hal_clause("W-1")
    @pytest.mark.parametrize("number", [1, 2])
    def test_fail(hal_device, number):
        assert number == 2, "one | two"

    def test_hang(hal_semaphores):
        hal_semaphores(1)[0].wait(1)

    @pytest.mark.hal_requires(Capability.HOLD)
    def test_unsupported(hal_device): ...

    def test_left(hal_open_device):
        device = hal_open_device()
        device.gate = device.create_semaphore(0)
        device.queue_execute([], wait=[device.gate @ 1], signal=[device.gate @ 2])

    def test_not_ours(): ...
"""


@pytest.fixture
def report(suite, request):
    """The report of a run of these cases on two backends."""
    suite.hooked().case(CASES)
    arguments = ("--backend=whole,incomplete", "--hal-deadline=0.3", "--hal-report=deep/er/report.json")
    if request.param:
        pytest.importorskip("xdist")
        result = suite.run_child(*arguments, "-n", "2")
    else:
        result = suite.run(*arguments)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "incomplete: 2 pass, 2 fail, 1 hang, 1 unsupported",
            "  clauses of failed cases: W-1",
            "  unsupported (1): capability hold is absent",
            "whole: 3 pass, 2 fail, 1 hang",
        ]
    )
    path = suite.pytester.path / "deep" / "er" / "report.json"
    return path, json.loads(path.read_text())


@pytest.mark.parametrize("report", [False, True], indirect=True, ids=["alone", "xdist"])
def test_report(report):
    path, document = report
    assert set(document) == {
        *("format", "suite", "contract", "effort", "date", "machine", "backends", "counts", "cases"),
        *("profile", "order", "isolated", "shard", "exitcode", "answers", "baseline"),
    }
    assert document["format"] == 2
    assert document["exitcode"] == 1
    assert list(violations(document)) == []
    assert document["counts"] == {
        "whole": NONE | {"pass": 3, "fail": 2, "hang": 1},
        "incomplete": NONE | {"pass": 2, "fail": 2, "hang": 1, "unsupported": 1},
    }
    assert [backend["spec"] for backend in document["backends"]] == ["whole", "incomplete"]
    assert document["backends"][1]["emulated"] == ["wait-any"]
    cases = {(case["backend"], case["case"]): case for case in document["cases"]}
    assert len(cases) == 12
    for case in cases.values():
        assert set(case) == {
            *("case", "backend", "outcome", "clauses", "seconds", "message", "evidence", "quality", "variations"),
            *("details", "known", "judgement"),
        }
    passed = cases["whole", "test_it::test_pass"]
    assert (passed["outcome"], passed["clauses"], passed["evidence"]) == ("pass", ["TL-1", "Q-1"], "")
    assert passed["variations"] == {"failed-wait-code": "cause"}
    assert passed["quality"] == [{"clause": "W-10q", "kept": True, "figure": "3% of a core"}]
    failed = cases["whole", "test_it::test_fail[1]"]
    assert failed["outcome"] == "fail"
    assert "W-1  A wait(v) returns only once" in failed["evidence"]
    assert "replay    pytest 'test_it.py::test_fail[whole-1]' --backend=whole" in failed["evidence"]
    assert cases["incomplete", "test_it::test_unsupported"]["message"] == "unsupported: capability hold is absent"
    assert "left work pending" in cases["whole", "test_it::test_left"]["message"]

    page = subprocess.run(
        [sys.executable, "-m", "pytest_cuda2hal", "table", str(path)], capture_output=True, text=True, check=True
    ).stdout
    for text in (
        "# Results",
        "## `whole`",
        "**3 pass, 2 fail, 1 hang**",
        "| `test_it::test_fail[1]` | W-1 | fail | one \\| two",
        "- **W-1** A wait(v) returns only once",
        "| capability hold is absent | 1 |",
        "| failed-wait-code | cause |",
        "| W-10q | yes | 3% of a core | `test_it::test_pass` |",
    ):
        assert text in page, page


def test_replay_line_runs_that_case_and_nothing_else(suite):
    suite.hooked().case(
        """
        import pytest

        @pytest.mark.parametrize("text", ["a", "a b", "it's", "x]["])
        def test_it(hal_device, text):
            assert text == "a"

        def test_it_too(hal_device): ...
        """
    )
    suite.run("--backend=minimal", "--hal-report=report.json")
    report = json.loads((suite.pytester.path / "report.json").read_text())
    failed = [case for case in report["cases"] if case["outcome"] == "fail"]
    assert len(failed) == 3
    for case in failed:
        assert _replayed(suite, case) == [case["case"]]


def test_replay_line_of_the_suite(suite, monkeypatch):
    """On a backend that fails nearly everything; a case with a parameter and one without."""
    suite.hooked()
    arguments = (
        "--pyargs",
        "pytest_cuda2hal.cts.submissions.test_order",
        "pytest_cuda2hal.cts.transfers",
        "--effort=quick",
    )
    suite.run(*arguments, "--backend=deaf", "--hal-deadline=0.05", "--hal-report=report.json", "-q")
    report = json.loads((suite.pytester.path / "report.json").read_text())
    failed = [case for case in report["cases"] if case["outcome"] in ("fail", "hang")]
    plain = next(case for case in failed if "[" not in case["case"])
    with_parameter = next(case for case in failed if "[" in case["case"])
    for case in (plain, with_parameter):
        assert _replayed(suite, case) == [case["case"]]


def _replayed(suite, case):
    """Do what the replay line says, as a shell would; return the cases that ran."""
    import shlex

    (line,) = [line for line in case["evidence"].splitlines() if line.startswith("replay ")]
    words = shlex.split(line.removeprefix("replay "))
    assert words[0] == "pytest"
    suite.run(*words[1:], "--hal-deadline=0.05", "--hal-report=again.json")
    again = json.loads((suite.pytester.path / "again.json").read_text())
    return [verdict["case"] for verdict in again["cases"]]
