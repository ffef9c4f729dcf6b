"""``--profile``: by whose answers a backend is judged, and what a run says of the answers it saw."""

from __future__ import annotations

from pathlib import Path

import pytest
from imperfect_backends import WAYS, entries, report_of, run_way

#: Strict says no-op; IREE says fails. An answer that nobody gives is no answer to a variation point.
CASES = """
    import pytest

    @pytest.mark.parametrize("answer", ["no-op", "fails", "dances"])
    def test_overtaken(hal_variation, answer):
        hal_variation("overtaken-signal").check(answer)

    def test_defined(hal_variation, hal_device):
        hal_variation("overtaken-signal").need_defined()
"""


def outcomes(suite, backend, *arguments, way="alone"):
    """Run the cases; return the outcome of each answer, and the result."""
    suite.case(CASES)
    result = run_way(suite, way, f"--backend={backend}", "--hal-report=report.json", *arguments)
    cases = {case: one["outcome"] for case, one in report_of(suite)[1].items()}
    names = ("test_overtaken[no-op]", "test_overtaken[fails]", "test_overtaken[dances]", "test_defined")
    return [cases[f"test_it::{name}"] for name in names], result


@pytest.mark.parametrize(
    ("backend", "arguments", "expected"),
    [
        ("reference", (), ["pass", "variation", "fail", "pass"]),
        ("reference:profile=iree", (), ["variation", "pass", "fail", "pass"]),
        ("reference:profile=iree", ("--profile=strict",), ["pass", "variation", "fail", "pass"]),
        ("reference:profile=iree", ("--hal-profile=strict",), ["pass", "variation", "fail", "pass"]),
        ("reference", ("--profile=iree",), ["variation", "pass", "fail", "pass"]),
        ("reference", ("--profile=seed",), ["pass", "variation", "fail", "pass"]),
        ("reference", ("--profile=vulkan",), ["variation", "variation", "fail", "unsupported"]),
    ],
)
def test_answers_are_judged_by_the_profile(suite, backend, arguments, expected):
    """An answer of another profile is a finding, one that nobody is known to give is a failure."""
    seen, result = outcomes(suite, backend, *arguments)
    assert seen == expected
    assert result.ret == 1


@pytest.mark.parametrize("way", [way for way in WAYS if way != "alone"])
def test_profile_reaches_the_cases_wherever_they_run(suite, way):
    assert outcomes(suite, "reference", "--profile=iree", way=way)[0] == ["variation", "pass", "fail", "pass"]


def test_run_says_by_what_it_judges_and_what_it_saw(suite):
    suite.case(CASES)
    result = suite.run("--backend=reference:profile=iree", "--profile=strict", "-k", "not dances")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "     judged by profile strict, whatever the backends declare",
            "*expected  no-op  (profile 'strict', *",
            "*seen      fails",
            "reference:profile=iree: 2 pass, 1 variation",
            "  variation overtaken-signal: fails; profile strict says no-op",
            "  answers: nearest profile strict, 1 of 2",
        ]
    )


def test_nearest_profile_is_the_one_that_gives_the_same_answers(suite):
    """A backend that calls itself strict answers as IREE does; the suite finds out."""
    arguments = ("--pyargs", "pytest_cuda2hal.cts.submissions.test_signals", "--effort=quick", "--hal-deadline=2")
    result = suite.run_child(
        "--backend=imperfect_backends:Liar", "--no-isolate", "--hal-report=report.json", *arguments
    )
    assert result.ret == 1
    document, cases = report_of(suite)
    assert "variation" in {one["outcome"] for one in cases.values()}
    answers = document["answers"]["imperfect_backends:Liar"]
    assert answers["seen"]["overtaken-signal"] == ["fails"]
    assert answers["nearest"]["profile"] == "iree"
    result.stdout.fnmatch_lines(["  variation overtaken-signal: fails; profile strict says no-op"])
    result.stdout.fnmatch_lines(["  answers: nearest profile iree, *"])


def test_report_names_the_profile(suite):
    outcomes(suite, "reference", "--profile=iree")
    assert report_of(suite)[0]["profile"] == "iree"
    outcomes(suite, "reference")
    assert report_of(suite)[0]["profile"] is None


def test_variation_can_be_listed(suite):
    Path("known.toml").write_text(
        entries(("test_it::test_overtaken[fails]", "variation"), ("test_it::test_overtaken[dances]", "fail"))
    )
    assert outcomes(suite, "reference", "--baseline=known.toml")[1].ret == 0


@pytest.mark.parametrize("option", ["--profile", "--hal-profile"])
@pytest.mark.parametrize(
    ("name", "hint"), [("stirct", "; did you mean strict?"), ("vulcan", "; did you mean vulkan?"), ("7", ""), ("", "")]
)
def test_profile_that_is_not_known(suite, option, name, hint):
    error = suite.one_line_error(suite.case(CASES).run("--backend=reference", f"{option}={name}"))
    known = "known: strict, seed, iree, vulkan"
    assert error == f"ERROR: --hal-profile: there is no profile '{name}'; {known}{hint}"


@pytest.mark.parametrize("arguments", [("-n", "2"), ("--isolate",), ("--collect-only",)], ids=" ".join)
def test_profile_that_is_not_known_is_said_once(suite, arguments):
    result = suite.case(CASES).run_child("--backend=reference", "--profile=stirct", *arguments)
    assert "did you mean strict?" in suite.one_line_error(result)
