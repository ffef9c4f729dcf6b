"""Entries with a rate: the case is run many times, and what is judged is how often it deviates."""

from __future__ import annotations

from pathlib import Path

import pytest
from imperfect_backends import entries, report_of, run_way

MINIMAL = "--backend=minimal_backend:HostDevice"
#: A rate that needs 7 runs to notice a fix, and of which 7 deviations in 7 runs are just too many.
RATE = 0.5

#: Runs of a case are counted in a file: they may be made in several processes.
CASES = """
    import pytest
    from pathlib import Path

    @pytest.fixture
    def number():
        path = Path("count")
        number = int(path.read_text()) + 1 if path.exists() else 1
        path.write_text(str(number))
        return number

    @pytest.fixture
    def thing(hal_device, number):
        yield number
        with Path("ends").open("a") as file:
            file.write(f"{number} ")

    def test_flaky(thing, hal_device):
        {body}

    def test_next(hal_device): ...
"""


def with_body(body, cases=CASES):
    """Return the cases, of which the flaky one does so."""
    return cases.replace("{body}", body)


def flaky(suite, body, outcome="fail", **keys):
    """Write a case, and an entry for it."""
    suite.case(with_body(body))
    keys = {"rate": RATE, **keys}
    (suite.pytester.path / "known.toml").write_text(entries(("test_it::test_flaky", outcome), **keys))
    return suite


def outcome_of(suite, way, *arguments, backend=MINIMAL):
    """Run it; return the exit code, the verdict on the flaky case, and how often it ran."""
    result = run_way(suite, way, backend, "--baseline=known.toml", "--hal-report=report.json", *arguments)
    cases = report_of(suite)[1]
    assert cases["test_it::test_next"]["outcome"] == "pass"
    return result, cases["test_it::test_flaky"], int(Path("count").read_text())


@pytest.mark.parametrize("way", ["alone", "both"])
def test_case_that_deviates_as_often_as_declared_is_known(suite, way):
    """Of 7 runs 3 fail, and the last one passes; the reader sees a failure."""
    result, verdict, runs = outcome_of(flaky(suite, "assert thing % 2 == 1"), way)
    assert result.ret == 0, result.stdout.str()
    assert runs == 7
    assert (verdict["outcome"], verdict["judgement"], verdict["known"]) == ("fail", "", "the HAL is like that")
    result.assert_outcomes(passed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*: 1 pass, 1 fail (1 known, see the baseline)"])


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_each_run_has_its_own_fixtures_and_ends_them(suite, way):
    """In the process of the run as in one of its own."""
    outcome_of(flaky(suite, "assert thing % 2 == 1"), way)
    assert Path("ends").read_text().split() == ["1", "2", "3", "4", "5", "6", "7"]


@pytest.mark.parametrize("way", ["alone", "both"])
def test_case_that_deviates_too_often_fails_the_run(suite, way):
    result, verdict, runs = outcome_of(flaky(suite, "assert thing < 0"), way)
    assert result.ret == 1
    assert runs == 7
    result.assert_outcomes(passed=1, failed=1)
    assert verdict["outcome"] == "fail"
    assert "deviated in 7 of 7 runs; declared rate 0.5, which is too low" in verdict["judgement"]
    result.stdout.fnmatch_lines(["baseline: test_it::test_flaky: deviated in 7 of 7 runs; declared rate 0.5, *"])


@pytest.mark.parametrize("way", ["alone", "both"])
def test_case_that_never_deviates_any_more_fails_the_run(suite, way):
    result, verdict, runs = outcome_of(flaky(suite, "assert thing > 0"), way)
    assert result.ret == 1
    assert runs == 7
    result.assert_outcomes(passed=1, failed=1)
    assert (verdict["outcome"], verdict["known"]) == ("pass", "")
    assert verdict["judgement"].startswith("deviated in 0 of 7 runs; declared rate 0.5; known.toml, entry 1")
    assert verdict["judgement"].endswith("remove the entry")


@pytest.mark.parametrize("way", ["alone", "both"])
def test_too_few_runs_without_a_deviation_are_no_fix(suite, way):
    result, verdict, runs = outcome_of(flaky(suite, "assert thing > 0", runs=3), way)
    assert result.ret == 0, result.stdout.str()
    assert runs == 3
    assert verdict["outcome"] == "pass"
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["note: known.toml: entry 1 (*): 3 runs cannot show that a deviation of rate 0.5 *"])


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_one_other_deviation_among_many_runs_fails_the_run(suite, way):
    """Once it hangs where a failure is listed; the reader sees the hang."""
    suite = flaky(suite, "hal_device.create_semaphore(0).wait(int(thing == 4)); assert thing % 2 == 1 or thing == 4")
    result, verdict, runs = outcome_of(suite, way, "--hal-deadline=0.3")
    assert result.ret == 1
    assert runs == 7
    assert verdict["outcome"] == "hang"
    assert verdict["judgement"].startswith("of 7 runs: hang in 1; but known.toml, entry 1")


def test_run_that_is_not_judged_among_many_fails_the_run(suite):
    suite = flaky(suite, "import pytest; thing == 4 and pytest.skip('not today'); assert thing % 2")
    result, verdict, _ = outcome_of(suite, "alone")
    assert result.ret == 1
    assert "of 7 runs: not judged (set aside) in 1; but" in verdict["judgement"]


@pytest.mark.parametrize("way", ["isolated", "both"])
def test_case_that_crashes_now_and_then_is_known(suite, way):
    result, verdict, runs = outcome_of(flaky(suite, "import os; thing % 3 or os.abort()", "crash"), way)
    assert result.ret == 0, result.stdout.str()
    assert runs == 7
    assert verdict["outcome"] == "crash"
    result.assert_outcomes(passed=1, xfailed=1)


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_fixture_that_fails_now_and_then_is_known(suite, way):
    suite.case(with_body("assert thing").replace("return number", "assert number % 3\n        return number"))
    (suite.pytester.path / "known.toml").write_text(entries(("*test_flaky", "fail"), rate=RATE))
    result, verdict, runs = outcome_of(suite, way)
    assert result.ret == 0, result.stdout.str()
    assert (verdict["outcome"], runs) == ("fail", 7)


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_quality_and_answers_are_those_of_one_run(suite, way):
    cases = CASES.replace("def test_flaky(thing,", "def test_flaky(thing, hal_quality,")
    suite.case(with_body("hal_quality('W-10q', True, f'{thing}%'); assert thing % 2 == 1", cases))
    (suite.pytester.path / "known.toml").write_text(entries(("*test_flaky", "fail"), rate=RATE))
    _, verdict, _ = outcome_of(suite, way)
    assert len(verdict["quality"]) == 1


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_fixtures_of_the_session_stay_for_the_next_case(suite, way):
    """A flaky case is not the last one of its module, nor is it the first."""
    source = with_body("assert thing % 2 == 1 and shared").replace("(thing,", "(thing, shared,")
    suite.case(
        source.replace(
            "    @pytest.fixture\n    def thing",
            "    @pytest.fixture(scope='module')\n    def shared():\n        yield 'shared'\n        "
            "Path('shared').write_text('ended')\n\n    def test_before(hal_device, shared): ...\n\n"
            "    @pytest.fixture\n    def thing",
        )
    )
    (suite.pytester.path / "known.toml").write_text(entries(("*test_flaky", "fail"), rate=RATE))
    result, _, _ = outcome_of(suite, way)
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=2, xfailed=1)
    assert Path("shared").read_text() == "ended"


def test_flaky_case_that_is_the_only_one(suite):
    """The last of a session, too, is run again."""
    flaky(suite, "assert thing % 2 == 1")
    result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml", "-k", "test_flaky")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(xfailed=1, deselected=1)
    assert Path("count").read_text() == "7"


def test_flaky_entry_is_kept_by_a_run_that_writes(suite):
    flaky(suite, "assert thing % 2 == 1")
    result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml", "--write-baseline=known.toml")
    assert result.ret == 0
    assert "rate = 0.5" in Path("known.toml").read_text()
    assert Path("known.toml").read_text().count("[[deviation]]") == 1


def test_known_flaky_case_does_not_end_a_run_at_the_first_failure(suite):
    flaky(suite, "assert thing % 2 == 1")
    result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml", "-x")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=1, xfailed=1)
