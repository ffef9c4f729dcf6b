"""``--baseline``: what is listed does not fail a run, and whatever is no longer as it is listed does."""

from __future__ import annotations

import json

import pytest
from imperfect_backends import CASES, DEVIATIONS, WAYS, entries, report_of, run_way

MINIMAL = "--backend=minimal_backend:HostDevice"
QUICK = (MINIMAL, "--hal-deadline=0.3")


def listed(suite, *lines, **keys):
    """Write the baseline of a suite."""
    (suite.pytester.path / "known.toml").write_text(entries(*lines, **keys))
    return suite


# --- as listed


@pytest.mark.parametrize(
    ("option", "way"), [*(("--baseline", way) for way in WAYS), ("--hal-baseline", "alone"), ("--hal-baseline", "both")]
)
def test_listed_deviations_do_not_fail_a_run(suite, option, way):
    """Without the baseline they do."""
    listed(suite.case(CASES), *DEVIATIONS)
    if option == "--baseline":
        assert run_way(suite, way, *QUICK).ret == 1
    result = run_way(suite, way, *QUICK, f"{option}=known.toml", "--hal-report=report.json")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=2, xfailed=2)
    result.stdout.fnmatch_lines(
        [
            "     known deviations: known.toml, 2 entries",
            "minimal_backend:HostDevice: 2 pass, 1 fail, 1 hang (2 known, see the baseline)",
        ]
    )
    result.stdout.no_fnmatch_line("baseline: *")
    result.stdout.no_fnmatch_line("*clauses of failed cases*")
    document, cases = report_of(suite)
    assert document["exitcode"] == 0
    assert {case: (one["outcome"], one["known"], one["judgement"]) for case, one in cases.items()} == {
        "test_it::test_good": ("pass", "", ""),
        "test_it::test_bad[1]": ("pass", "", ""),
        "test_it::test_bad[2]": ("fail", "the HAL is like that", ""),
        "test_it::test_hang": ("hang", "the HAL is like that", ""),
    }
    assert "2 is not 1" in cases["test_it::test_bad[2]"]["evidence"]
    assert document["baseline"]["problems"] == []
    assert [(entry["applies"], entry["matched"]) for entry in document["baseline"]["entries"]] == [
        (True, ["test_it::test_bad[2]"]),
        (True, ["test_it::test_hang"]),
    ]


def test_baseline_of_the_ini_file_counts_until_the_command_line_names_another(suite):
    listed(suite.case(CASES), *DEVIATIONS)
    suite.pytester.makeini("[pytest]\nhal_baseline = known.toml\n")
    assert suite.run(*QUICK).ret == 0
    (suite.pytester.path / "none.toml").write_text("version = 1\n")
    assert suite.run(*QUICK, "--no-isolate", "--baseline=none.toml").ret == 1


def test_baseline_without_a_backend_is_about_the_reference(suite):
    suite.case("def test_it(hal_device):\n    assert False\n")
    for backend, code in (("reference", 0), ("iree:*", 1)):
        listed(suite, ("test_it::test_it", "fail"), backend=json.dumps(backend))
        result = suite.run("--baseline=known.toml")
        assert result.ret == code, result.stdout.str()
        result.stdout.fnmatch_lines(["*known deviations: known.toml, 1 entr*"])
    result = suite.run_child("--baseline=known.toml", "-n", "2")
    assert result.ret == 1
    listed(suite, ("test_it::test_it", "fail"), backend='"reference"')
    assert suite.run_child("--baseline=known.toml", "-n", "2").ret == 0


def test_entry_of_one_backend_says_nothing_of_another(suite):
    listed(suite.hooked().case("def test_it(hal_device):\n    assert False\n"), ("*", "fail"), backend='"minimal"')
    result = suite.run("--backend=minimal,whole", "--baseline=known.toml")
    result.assert_outcomes(failed=1, xfailed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["minimal: 1 fail (1 known, see the baseline)", "whole: 1 fail"])


@pytest.mark.parametrize("way", ["isolated", "both"])
def test_listed_crash_is_known_and_the_cases_after_it_run(suite, way):
    suite.case("import os\ndef test_it(hal_device):\n    os.abort()\ndef test_next(hal_device): ...\n")
    assert run_way(suite, way, MINIMAL).ret == 1
    listed(suite, ("test_it::test_it", "crash"))
    result = run_way(suite, way, MINIMAL, "--baseline=known.toml", "--hal-report=report.json")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=1, xfailed=1)
    crashed = report_of(suite)[1]["test_it::test_it"]
    assert (crashed["outcome"], crashed["known"]) == ("crash", "the HAL is like that")
    assert crashed["details"]["ending"] == "SIGABRT"


def test_listed_hang_of_a_whole_process_is_known(suite):
    suite.case("import threading\ndef test_it(hal_device):\n    threading.Event().wait()\n")
    listed(suite, ("test_it::test_it", "hang"))
    result = suite.run_child(MINIMAL, "--isolate", "--hal-case-deadline=0.5", "--baseline=known.toml")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(xfailed=1)


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_listed_failure_of_the_teardown_is_known(suite, way):
    suite.case("def test_it(hal_device):\n    hal_device.allocate_buffer(13)\ndef test_next(hal_device): ...\n")
    backend = "--backend=imperfect_backends:DoesNotClose"
    assert run_way(suite, way, backend).ret == 1
    listed(suite, ("test_it::test_it", "fail"))
    result = run_way(suite, way, backend, "--baseline=known.toml")
    assert result.ret == 0, result.stdout.str()
    result.stdout.fnmatch_lines(["*: 1 pass, 1 fail (1 known, see the baseline)"])


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_listed_failure_of_the_setup_is_known(suite, way):
    suite.case(
        """
        import pytest

        @pytest.fixture
        def buffer(hal_device):
            return hal_device.allocate_buffer(1)

        def test_it(buffer): ...
        """
    )
    backend = "--backend=imperfect_backends:CannotAllocate"
    assert run_way(suite, way, backend).ret == 1
    listed(suite, ("test_it::test_it", "fail"))
    result = run_way(suite, way, backend, "--baseline=known.toml")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(xfailed=1)


# --- not as listed


@pytest.mark.parametrize("way", ["alone", "both"])
def test_deviation_that_is_not_listed_fails_the_run_beside_those_that_are(suite, way):
    listed(suite.case(CASES), DEVIATIONS[1])
    result = run_way(suite, way, *QUICK, "--baseline=known.toml", "--hal-report=report.json")
    assert result.ret == 1
    result.assert_outcomes(passed=2, xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["*1 fail, 1 hang (1 known, see the baseline)", "  clauses of failed cases: W-1"])
    _, cases = report_of(suite)
    assert cases["test_it::test_bad[2]"]["known"] == ""
    assert cases["test_it::test_bad[2]"]["judgement"] == ""


@pytest.mark.parametrize("way", ["alone", "both"])
def test_listed_case_that_passes_fails_the_run(suite, way):
    listed(suite.case(CASES), *DEVIATIONS, ("test_it::test_good", "fail"))
    result = run_way(suite, way, *QUICK, "--baseline=known.toml", "--hal-report=report.json")
    assert result.ret == 1
    result.assert_outcomes(passed=1, xfailed=2, failed=1)
    says = "it passes, but known.toml, entry 3 (test_it::test_good), lists fail; narrow or remove the entry"
    result.stdout.fnmatch_lines([f"baseline: test_it::test_good: {says}"])
    good = report_of(suite)[1]["test_it::test_good"]
    assert (good["outcome"], good["judgement"], good["known"]) == ("pass", says, "")


@pytest.mark.parametrize("way", ["alone", "both"])
def test_listed_case_that_deviates_in_another_way_fails_the_run(suite, way):
    listed(suite.case(CASES), DEVIATIONS[0], ("test_it::test_hang", "fail"))
    result = run_way(suite, way, *QUICK, "--baseline=known.toml")
    assert result.ret == 1
    result.assert_outcomes(passed=2, xfailed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*HAL baseline*",
            "it came to hang, but known.toml, entry 2 (test_it::test_hang), lists fail; correct the entry",
            "baseline: test_it::test_hang: it came to hang, but known.toml, entry 2 (test_it::test_hang), lists fail;*",
        ]
    )


UNSUPPORTED = """
    import pytest
    from pytest_cuda2hal.hal import Capability

    @pytest.mark.hal_requires(Capability.HOLD)
    def test_it(hal_device):
        assert False
"""


@pytest.mark.parametrize("way", ["alone", "both"])
def test_listed_case_that_is_unsupported_now_fails_the_run(suite, way):
    listed(suite.case(UNSUPPORTED), ("test_it::test_it", "fail"))
    result = run_way(suite, way, MINIMAL, "--baseline=known.toml", "--hal-report=report.json")
    assert result.ret == 1
    says = "it was not judged (unsupported), but known.toml, entry 1 (test_it::test_it), lists fail;"
    result.stdout.fnmatch_lines([f"baseline: test_it::test_it: {says}*"])
    assert report_of(suite)[1]["test_it::test_it"]["outcome"] == "unsupported"


@pytest.mark.parametrize("way", ["alone", "isolated"])
@pytest.mark.parametrize("line", ["pytest.skip('not today')", "pytest.xfail('not today')"])
def test_listed_case_that_sets_itself_aside_fails_the_run(suite, line, way):
    listed(suite.case(f"import pytest\ndef test_it(hal_device):\n    {line}\n"), ("*", "fail"))
    result = run_way(suite, way, MINIMAL, "--baseline=known.toml")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["baseline: test_it::test_it: it was not judged (set aside), but known.toml, *"])


@pytest.mark.parametrize("way", ["alone", "both"])
def test_entry_that_matches_nothing_fails_the_run(suite, way):
    listed(suite.case(CASES), *DEVIATIONS, ("test_it::test_gone", "fail"))
    result = run_way(suite, way, *QUICK, "--baseline=known.toml", "--hal-report=report.json")
    assert result.ret == 1
    result.assert_outcomes(passed=2, xfailed=2)
    line = "known.toml: entry 3 (test_it::test_gone) matches no case that ran; correct its 'case', or remove it"
    result.stdout.fnmatch_lines([f"baseline: {line}"])
    document, _ = report_of(suite)
    assert document["exitcode"] == 1
    assert document["baseline"]["problems"] == [line]


@pytest.mark.parametrize("way", ["alone", "both"])
def test_expired_entry_fails_the_run_and_lists_nothing(suite, way):
    suite.case(CASES)
    text = entries(DEVIATIONS[0]) + entries(DEVIATIONS[1], expires="2020-02-29").removeprefix("version = 1\n")
    (suite.pytester.path / "known.toml").write_text(text)
    result = run_way(suite, way, *QUICK, "--baseline=known.toml")
    assert result.ret == 1
    result.assert_outcomes(passed=2, xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["baseline: known.toml: entry 2 (test_it::test_hang) expired on 2020-02-29; *"])


def test_expired_entry_alone_is_enough_to_fail_a_run(suite):
    listed(suite.case("def test_it(hal_device): ..."), ("*", "fail"), expires="2020-02-29")
    result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml")
    result.assert_outcomes(passed=1)
    assert result.ret == 1


def test_entry_that_is_still_valid_counts(suite):
    listed(suite.case("def test_it(hal_device):\n    assert False\n"), ("*", "fail"), expires="9999-12-31")
    assert suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml").ret == 0


def test_entry_whose_condition_does_not_hold_is_no_business_of_the_run(suite):
    suite.case("def test_it(hal_device):\n    assert False\n")
    for version, code in ((">=1.0", 0), (">=2.0", 1)):
        listed(suite, ("*", "fail"), when=f'{{ minimal = "{version}" }}')
        result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml")
        assert result.ret == code
        result.stdout.no_fnmatch_line("*matches no case*")


def test_condition_that_cannot_hold_is_noted(suite):
    listed(suite.case("def test_it(hal_device): ..."), ("*", "fail"), when='{ nothing = ">=1" }')
    result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["note: known.toml: entry 1 (*): its condition 'nothing' cannot hold: *"])


# --- a part of the cases


@pytest.mark.parametrize(
    ("part", "way"),
    [
        *((("-k", "test_good"), way) for way in ("alone", "both")),
        (("--hal-clause=TL-1",), "alone"),
        (("--hal-clause=TL-1",), "xdist"),
        (("--deselect=test_it.py::test_hang",), "alone"),
    ],
)
def test_entry_of_a_case_that_was_deselected_is_not_unused(suite, part, way):
    listed(suite.case(CASES), *DEVIATIONS)
    result = run_way(suite, way, *QUICK, "--baseline=known.toml", *part)
    assert result.ret == 0, result.stdout.str()
    result.stdout.no_fnmatch_line("*matches no case*")


def test_entry_is_not_unused_in_a_run_of_one_case_or_of_another_file(suite):
    listed(suite.case(CASES).case("def test_other(hal_device): ...", "test_other"), *DEVIATIONS)
    for part in ("test_it.py::test_good", "test_other.py"):
        result = suite.run(*QUICK, "--no-isolate", "--baseline=known.toml", part)
        assert result.ret == 0, result.stdout.str()
        result.stdout.no_fnmatch_line("*matches no case*")
    listed(suite, *DEVIATIONS, ("test_it::test_gone", "fail"))
    result = suite.run(*QUICK, "--no-isolate", "--baseline=known.toml", ".")
    result.stdout.fnmatch_lines(["baseline: known.toml: entry 3 (test_it::test_gone) matches no case that ran; *"])


def test_entry_of_the_suite_is_not_unused_in_a_run_of_one_of_its_modules(suite):
    listed(suite, ("waits/test_no_such_module::*", "fail"))
    part = ("--pyargs", "pytest_cuda2hal.cts.submissions.test_signals", "-k", "test_nothing_like_it or overtaken")
    result = suite.run(*QUICK, "--no-isolate", "--baseline=known.toml", "--effort=quick", *part)
    result.stdout.no_fnmatch_line("*matches no case*")
    result.stdout.fnmatch_lines(["*known deviations: known.toml, 1 entr*"])


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_known_deviation_does_not_stop_a_run_that_ends_at_the_first_failure(suite, way):
    listed(suite.case(CASES), *DEVIATIONS)
    result = run_way(suite, way, *QUICK, "--baseline=known.toml", "-x")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=2, xfailed=2)


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_run_that_stops_early_does_not_call_later_entries_unused(suite, way):
    listed(suite.case(CASES), DEVIATIONS[1])
    result = run_way(suite, way, *QUICK, "--baseline=known.toml", "-x")
    assert result.ret == 1
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.no_fnmatch_line("baseline: *")


def test_shards_share_a_baseline(suite):
    listed(suite.case(CASES), *DEVIATIONS)
    xfailed = 0
    for shard in ("1/2", "2/2"):
        result = suite.run(*QUICK, "--no-isolate", "--baseline=known.toml", f"--shard={shard}")
        assert result.ret == 0, result.stdout.str()
        xfailed += result.parseoutcomes().get("xfailed", 0)
    assert xfailed == 2


# --- how it is shown


@pytest.mark.parametrize("way", ["alone", "both"])
def test_junit_shows_known_deviations_as_skipped(suite, way):
    from xml.etree import ElementTree

    listed(suite.case(CASES), *DEVIATIONS, ("test_it::test_good", "fail"))
    result = run_way(suite, way, *QUICK, "--baseline=known.toml", "--junitxml=junit.xml")
    assert result.ret == 1
    root = ElementTree.parse(suite.pytester.path / "junit.xml").getroot()
    (counts,) = [part.attrib for part in root.iter("testsuite")]
    assert (counts["tests"], counts["skipped"], counts["failures"], counts["errors"]) == ("4", "2", "1", "0")
    says: dict[str, list[str]] = {part.tag: [] for part in root.iter()}
    for part in root.iter():
        says[part.tag].append(f"{part.get('message')} {part.text}")
    assert ["it passes, but known.toml" in text for text in says["failure"]] == [True]
    assert ["lists" in text and "the HAL is like that" in text for text in says["skipped"]] == [True, True]


def test_short_summary_says_why_a_deviation_is_known(suite):
    listed(suite.case(CASES), *DEVIATIONS)
    result = suite.run(*QUICK, "--no-isolate", "--baseline=known.toml", "-rx")
    result.stdout.fnmatch_lines(["XFAIL *test_bad[[]*2[]] - *known: known.toml, entry 1 (test_it::test_bad[[]2]), *"])


def test_entry_without_a_reason_is_noted(suite):
    suite.case("def test_it(hal_device):\n    assert False\n")
    text = entries(("*", "fail")).replace("the HAL is like that", "TODO: say why")
    (suite.pytester.path / "known.toml").write_text(text)
    result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["note: known.toml: entry 1 (*) has no reason yet; say why the case deviates"])


# --- what cannot be used


BAD = {
    "version = 1\n[[deviation": "known.toml: not TOML: ",
    "": "known.toml: no 'version'; this release reads version 1, write 'version = 1'",
    "version = 2\n": "known.toml: version 2; this release reads version 1",
    entries(("*", "fial")): "entry 1 (*): unknown outcome 'fial'; did you mean 'fail'? known: ",
    entries(("*", "pass")): "entry 1 (*): outcome 'pass' is no deviation; write one of: ",
    entries(("*", "fail"), resaon='"x"'): "entry 1 (*): unknown key 'resaon'; did you mean 'reason'? known: ",
    entries(("*", "fail"), rate="2"): "'rate' must be a number between 0 and 1, such as 0.2, not 2",
    entries(("*", "fail"), expires='"soon"'): "'expires' must be a date without quotes and time",
    entries(("*", "fail"), when='{ python = "new" }'): "'when.python' must be a PEP 440 range",
    entries(("*", "fail"), ("*", "fail")): "entry 2 (*) has the case, backend, outcome and condition of entry 1",
}


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("option", ["--baseline", "--hal-baseline"])
def test_baseline_that_cannot_be_read(suite, option, text):
    (suite.pytester.path / "known.toml").write_text(text)
    error = suite.one_line_error(suite.case(CASES).run(MINIMAL, f"{option}=known.toml"))
    assert error.startswith("ERROR: --hal-baseline: known.toml")
    assert BAD[text] in error


def test_baseline_that_is_not_there(suite):
    error = suite.one_line_error(suite.case(CASES).run(MINIMAL, "--baseline=no/such.toml"))
    assert error == "ERROR: --hal-baseline: no/such.toml: there is no such baseline; check the path, or write one first"


@pytest.mark.parametrize("path", [".", ""])
def test_baseline_that_is_a_folder_or_nothing(suite, path):
    error = suite.one_line_error(suite.case(CASES).run(MINIMAL, f"--baseline={path}"))
    assert error.startswith("ERROR: --hal-baseline: ")
    assert "cannot be read" in error


def test_baseline_that_cannot_be_read_is_refused_without_a_backend_and_by_workers_once(suite):
    suite.case(CASES)
    assert "no such baseline" in suite.one_line_error(suite.run("--baseline=gone.toml"))
    assert "no such baseline" in suite.one_line_error(suite.run_child(MINIMAL, "--baseline=gone.toml", "-n", "2"))
    assert "no such baseline" in suite.one_line_error(suite.run_child(MINIMAL, "--baseline=gone.toml", "--isolate"))


def test_baseline_of_the_ini_file_that_is_not_there(suite):
    suite.pytester.makeini("[pytest]\nhal_baseline = gone.toml\n")
    assert "gone.toml: there is no such baseline" in suite.one_line_error(suite.case(CASES).run(MINIMAL))


def test_each_problem_of_a_baseline_has_its_line(suite):
    (suite.pytester.path / "known.toml").write_text(entries(("*", "fial"), ("nothing", "fail")))
    result = suite.case(CASES).run(MINIMAL, "--baseline=known.toml")
    assert result.ret == 4
    assert [line.partition(": entry ")[2][:1] for line in result.errlines if line.startswith("ERROR: ")] == ["1", "2"]


@pytest.mark.parametrize("way", ["alone", "both"])
def test_backend_that_cannot_be_used_is_said_with_a_baseline_too(suite, way):
    listed(suite.case(CASES), *DEVIATIONS)
    result = run_way(suite, way, "--backend=odd_backends:unavailable", "--baseline=known.toml")
    assert "libodd.so was not found. Install odd, or do without" in suite.one_line_error(result)


@pytest.mark.parametrize("listing", ["--collect-only", "--help", "--markers", "--fixtures"])
def test_listing_with_a_baseline_judges_nothing(suite, listing):
    listed(suite.case(CASES), ("test_it::test_gone", "fail"))
    result = suite.run(MINIMAL, "--no-isolate", "--baseline=known.toml", listing)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*matches no case*")
