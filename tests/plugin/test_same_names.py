"""Modules of one name in several folders: pytest's node ids may not tell their cases apart, and verdicts must."""

from __future__ import annotations

import json

import pytest

MODULES = ("pytest_cuda2hal.cts.waits.test_visibility", "pytest_cuda2hal.cts.submissions.test_visibility")


@pytest.mark.parametrize("arguments", [(), ("--isolate",), ("-n", "2"), ("--isolate", "-n", "2")], ids=" ".join)
def test_each_case_has_a_verdict_of_its_own(suite, arguments):
    if "-n" in arguments:
        pytest.importorskip("xdist")
    expected = suite.collected("--pyargs", *MODULES, "--backend=reference")
    suite.run_child(
        *("--pyargs", *MODULES, "--backend=reference", "--effort=quick", "--hal-report=report.json", *arguments)
    )
    cases = json.loads((suite.pytester.path / "report.json").read_text())["cases"]
    assert {case["outcome"] for case in cases} == {"pass"}
    assert len(cases) == len(expected)
    assert {case["case"].partition("::")[0] for case in cases} == {
        "waits/test_visibility",
        "submissions/test_visibility",
    }
