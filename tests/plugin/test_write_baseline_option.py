"""``--write-baseline``: what a run writes lists its deviations, and a run that is given it is fine."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from imperfect_backends import CASES, DEVIATIONS, WAYS, entries, run_way

MINIMAL = "--backend=minimal_backend:HostDevice"
QUICK = (MINIMAL, "--hal-deadline=0.3")
SPEC = "minimal_backend:HostDevice"


def written(suite, name="known.toml"):
    """Return what a run wrote: case, backend and outcome of each entry."""
    document = tomllib.loads((suite.pytester.path / name).read_text())
    assert document["version"] == 1
    return [(one["case"], one.get("backend", "*"), one["outcome"]) for one in document.get("deviation", [])]


@pytest.mark.parametrize(
    ("option", "way"), [*(("--write-baseline", way) for way in WAYS), ("--hal-write-baseline", "alone")]
)
def test_run_with_the_baseline_of_a_run_is_fine(suite, option, way):
    suite.case(CASES)
    result = run_way(suite, way, *QUICK, f"{option}=known.toml")
    assert result.ret == 1  # writing excuses nothing
    assert written(suite) == [(case, SPEC, outcome) for case, outcome in DEVIATIONS]
    text = (suite.pytester.path / "known.toml").read_text()
    assert text.count('reason = "TODO: say why"') == 2
    assert "# 2 is not 1" in text
    result = run_way(suite, way, *QUICK, "--baseline=known.toml")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=2, xfailed=2)
    result.stdout.fnmatch_lines(["note: known.toml: entry 1 (*) has no reason yet; say why the case deviates"])


def test_crash_and_hang_of_a_process_are_written_and_known_then(suite):
    suite.case(
        """
        import os
        import threading

        def test_crash(hal_device):
            os.abort()

        def test_hang(hal_device):
            threading.Event().wait()

        def test_good(hal_device): ...
        """
    )
    arguments = (MINIMAL, "--isolate", "--hal-case-deadline=0.5")
    assert suite.run_child(*arguments, "--write-baseline=known.toml").ret == 1
    assert written(suite) == [("test_it::test_crash", SPEC, "crash"), ("test_it::test_hang", SPEC, "hang")]
    result = suite.run_child(*arguments, "--baseline=known.toml")
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=1, xfailed=2)


@pytest.mark.parametrize("way", ["alone", "isolated"])
def test_failure_of_a_teardown_is_written(suite, way):
    suite.case("def test_it(hal_device):\n    hal_device.allocate_buffer(13)\n")
    backend = "--backend=imperfect_backends:DoesNotClose"
    assert run_way(suite, way, backend, "--write-baseline=known.toml").ret == 1
    assert written(suite) == [("test_it::test_it", "imperfect_backends:DoesNotClose", "fail")]
    assert run_way(suite, way, backend, "--baseline=known.toml").ret == 0


def test_run_without_deviations_writes_a_baseline_without_entries(suite):
    suite.case("def test_it(hal_device): ...")
    assert suite.run(MINIMAL, "--no-isolate", "--write-baseline=deep/er/known.toml").ret == 0
    assert written(suite, "deep/er/known.toml") == []
    assert suite.run(MINIMAL, "--no-isolate", "--baseline=deep/er/known.toml").ret == 0


def test_entries_of_the_file_stay_with_their_reasons_and_new_ones_follow(suite):
    (suite.pytester.path / "known.toml").write_text(entries(DEVIATIONS[1]))
    suite.case(CASES)
    assert suite.run(*QUICK, "--no-isolate", "--write-baseline=known.toml").ret == 1
    assert written(suite) == [("test_it::test_hang", "*", "hang"), ("test_it::test_bad[2]", SPEC, "fail")]
    assert 'reason = "the HAL is like that"' in (suite.pytester.path / "known.toml").read_text()


@pytest.mark.parametrize("way", ["alone", "both"])
def test_baseline_is_brought_up_to_date(suite, way):
    """What is fixed goes, what changed is corrected, what is new comes."""
    (suite.pytester.path / "known.toml").write_text(entries(("test_it::test_good", "fail"), ("*test_hang", "crash")))
    suite.case(CASES)
    both = ("--baseline=known.toml", "--write-baseline=known.toml")
    assert run_way(suite, way, *QUICK, *both).ret == 1
    assert written(suite) == [("test_it::test_hang", SPEC, "hang"), ("test_it::test_bad[2]", SPEC, "fail")]
    assert run_way(suite, way, *QUICK, *both).ret == 0
    assert len(written(suite)) == 2


def test_baseline_to_read_may_be_another_than_the_one_to_write(suite):
    (suite.pytester.path / "old.toml").write_text(entries(DEVIATIONS[1]))
    suite.case(CASES)
    assert suite.run(*QUICK, "--no-isolate", "--baseline=old.toml", "--write-baseline=new.toml").ret == 1
    assert sorted(case for case, _, _ in written(suite, "new.toml")) == [case for case, _ in DEVIATIONS]
    assert written(suite, "old.toml") == [("test_it::test_hang", "*", "hang")]


def test_part_of_the_cases_leaves_the_entries_of_the_others(suite):
    (suite.pytester.path / "known.toml").write_text(entries(*DEVIATIONS))
    suite.case(CASES)
    assert suite.run(*QUICK, "--no-isolate", "--write-baseline=known.toml", "-k", "test_good").ret == 0
    assert [case for case, _, _ in written(suite)] == [case for case, _ in DEVIATIONS]


def test_each_backend_has_its_own_entries(suite):
    suite.hooked().case("def test_it(hal_device, hal_backend):\n    assert hal_backend.backend.name == 'whole'\n")
    assert suite.run("--backend=minimal,whole", "--write-baseline=known.toml").ret == 1
    assert written(suite) == [("test_it::test_it", "minimal", "fail")]
    assert suite.run("--backend=minimal,whole", "--baseline=known.toml").ret == 0


def test_listing_writes_nothing(suite):
    assert suite.case(CASES).run(MINIMAL, "--write-baseline=known.toml", "--collect-only").ret == 0
    assert not (suite.pytester.path / "known.toml").exists()


# --- what cannot be written


@pytest.mark.parametrize("way", ["alone", "xdist", "isolated"])
def test_folder_cannot_be_written(suite, way):
    (suite.pytester.path / "known.toml").mkdir()
    suite.case("def test_it(hal_device): ...")
    error = suite.one_line_error(run_way(suite, way, MINIMAL, "--write-baseline=known.toml"))
    assert error.startswith("ERROR: --hal-write-baseline: known.toml: cannot be ")
    assert "directory" in error
    assert list((suite.pytester.path / "known.toml").iterdir()) == []


def test_file_in_the_place_of_a_folder_cannot_be_written_into(suite):
    Path("known.toml").write_text("version = 1\n")
    suite.case("def test_it(hal_device): ...")
    error = suite.one_line_error(suite.run(MINIMAL, "--no-isolate", "--write-baseline=known.toml/new.toml"))
    assert error.startswith("ERROR: --hal-write-baseline: known.toml/new.toml: cannot be ")


def test_file_that_is_no_baseline_is_not_overwritten(suite):
    Path("known.toml").write_text("[tool.ruff]\n")
    suite.case("def test_it(hal_device):\n    assert False\n")
    result = suite.run(MINIMAL, "--no-isolate", "--write-baseline=known.toml")
    assert result.ret == 4
    errors = [line for line in result.outlines + result.errlines if line.startswith("ERROR: ")]
    assert all(line.startswith("ERROR: --hal-write-baseline: known.toml: ") for line in errors)
    assert "unknown key 'tool'" in "\n".join(errors)
    assert Path("known.toml").read_text() == "[tool.ruff]\n"
