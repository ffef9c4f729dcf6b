"""``python -m pytest_cuda2hal repeat``: many runs, one page."""

from __future__ import annotations

import json

import pytest

from pytest_cuda2hal import repeat
from pytest_cuda2hal.__main__ import main

#: Stands in for the suite: a run with the number 2 in its spec fails, one with 3 skips, one with 5 ends its process.
CASES = """
    import os

    import pytest

    def test_it(hal_backend):
        if "seed=5" in hal_backend.spec.text:
            os._exit(3)
        assert "seed=2" not in hal_backend.spec.text

    def test_that_is_left_out(hal_backend):
        if "seed=3" in hal_backend.spec.text:
            pytest.skip("unsupported: today")
"""


@pytest.fixture
def short_suite(suite, monkeypatch):
    """The suite is two cases."""
    suite.case(CASES)
    words = list(repeat.SUITE)
    where = words.index("--pyargs")
    words[where : where + 2] = [str(suite.pytester.path / "test_it.py")]
    monkeypatch.setattr(repeat, "SUITE", (*words, "-p", "no:hypothesispytest", "-p", "no:randomly"))
    return suite


def run(short_suite, *arguments):
    output = short_suite.pytester.path / "kept" / "runs"
    status = main(["repeat", "--backend=reference:seed={n}", f"--output={output}", "--jobs=2", *arguments])
    return status, json.loads(output.with_suffix(".json").read_text()), output.with_suffix(".md").read_text()


def test_runs_that_are_whole(short_suite):
    status, document, page = run(short_suite, "--quick=1", "--full=1")
    assert status == 0
    assert [(one["spec"], one["effort"], one["counts"]) for one in document["runs"]] == [
        ("reference:seed=1", "full", {"pass": 2}),
        ("reference:seed=1", "quick", {"pass": 2}),
    ]
    assert "**2 of 2 runs are whole:** each of the 2 cases" in page
    assert "| `reference:seed=N` | quick | 1 | 1 |" in page


def test_a_failure_and_a_skip_and_a_crash_are_named(short_suite):
    status, document, page = run(short_suite, "--quick=5")
    assert status == 1
    assert [one["whole"] for one in document["runs"]] == [True, False, False, True, False]
    assert "**2 of 5 runs are whole:**" in page
    assert "`reference:seed=5` quick #5: no report, status 3" in page
    assert "`reference:seed=2` quick #2: " in page
    assert "test_it[]: fail" in page or "test_it: fail" in page
    assert "unsupported" in page


def test_what_the_time_did_not_suffice_for_is_not_whole(short_suite):
    status, _, page = run(short_suite, "--quick=3", "--budget=0")
    assert status == 1
    assert "**0 of 0 runs are whole:**" in page
    assert "3 more were asked for and not made." in page
    assert "- `" not in page  # one line says it for all


@pytest.mark.parametrize("spec", ["refrence", "reference:seed={m}", "reference:seed={"])
def test_bad_spec(spec, tmp_path, capsys):
    assert main(["repeat", f"--backend={spec}", f"--output={tmp_path / 'x'}"]) == 4
    assert capsys.readouterr().err.startswith("ERROR: ")
    assert not list(tmp_path.iterdir())


def test_whole_runs_are_kept_and_the_others_made_again(short_suite, capsys):
    run(short_suite, "--quick=2")
    capsys.readouterr()
    status, document, _ = run(short_suite, "--quick=4", "--resume")
    assert status == 1
    assert [one["whole"] for one in document["runs"]] == [True, False, False, True]
    printed = capsys.readouterr().out
    assert "seed=1 " not in printed
    assert all(f"seed={n} quick" in printed for n in (2, 3, 4))


def test_runs_of_other_code_are_made_again(short_suite, capsys, monkeypatch):
    run(short_suite, "--quick=1")
    monkeypatch.setattr(repeat, "code_digest", lambda: "of another day")
    capsys.readouterr()
    _, document, _ = run(short_suite, "--quick=1", "--resume")
    printed = capsys.readouterr().out
    assert "is of other code" in printed
    assert "seed=1 quick" in printed
    assert document["code"] == "of another day"


def test_runs_that_are_not_asked_for_again_are_not_lost(short_suite):
    run(short_suite, "--quick=1", "--full=1")
    status, document, _ = run(short_suite, "--quick=1", "--resume")
    assert status == 0
    assert [(one["effort"], one["whole"]) for one in document["runs"]] == [("quick", True), ("full", True)]


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": 7}'])
def test_what_cannot_be_resumed(text, tmp_path, capsys):
    (tmp_path / "x.json").write_text(text)
    assert main(["repeat", "--backend=reference", "--quick=1", "--resume", f"--output={tmp_path / 'x'}"]) == 4
    assert capsys.readouterr().err.startswith(f"ERROR: {tmp_path / 'x.json'} cannot be resumed")
    assert (tmp_path / "x.json").read_text() == text
