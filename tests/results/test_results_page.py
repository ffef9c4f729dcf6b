"""The Markdown page about results of either format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_cuda2hal.__main__ import main
from pytest_cuda2hal.outcome import Outcome
from pytest_cuda2hal.tables import results_page

REPORTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "reports"


@pytest.fixture
def page(tmp_path):
    """Return the page of one document."""

    def make(document):
        path = tmp_path / "result.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return results_page([path])

    return make


@pytest.mark.parametrize("outcome", Outcome)
def test_every_deviation_has_a_row_and_nothing_else_has(page, document, verdict, outcome):
    shown = page(document(verdict("a/b::c[1]", outcome=outcome, clauses=["W-1"], message="seen | this\nand that")))
    row = f"| `a/b::c[1]` | W-1 | {outcome.value} | seen \\| this and that |"
    assert (row in shown.splitlines()) is outcome.deviates
    assert ("- **W-1** " in shown) is outcome.deviates
    assert f"**1 {outcome.value}**" in shown


def test_a_known_deviation_is_marked(page, document, verdict):
    known = verdict("a/b::c", outcome=Outcome.HANG, known="driver | bug 7")
    shown = page(document(known, verdict("a/b::d", outcome=Outcome.HANG)))
    assert "| `a/b::c` |  | hang, known: driver \\| bug 7 |  |" in shown
    assert "| `a/b::d` |  | hang |  |" in shown


def test_the_nearest_profile_is_named(page, document, verdict):
    shown = page(document(verdict(variations={"overtaken-signal": "fails", "drop-order": "any"})))
    assert "Nearest profile: strict; it permits 1 of the 2 answers seen." in shown
    shown = page(document(verdict(variations={"overtaken-signal": "fails"})))
    assert "Nearest profile: iree, not the declared strict; it permits 1 of the 1 answers seen." in shown
    assert "| overtaken-signal | fails |" in shown
    assert "Nearest" not in page(document(verdict()))


def test_what_a_reader_must_know_of_the_run(page, document):
    shard = {"index": 2, "count": 4, "selected": 0, "cases": [], "digest": "0" * 64}
    problems = {"file": "known.toml", "problems": ["entry 1 | expired"], "entries": []}
    shown = page(document(shard=shard, profile="iree", baseline=problems, effort="soak"))
    assert "; judged by profile iree; only shard 2 of 4; " in shown
    assert "effort soak; " in shown
    assert "The baseline `known.toml` does not fit:\n\n- entry 1 \\| expired\n" in shown
    assert "judged by" not in page(document())


def test_clauses_that_this_version_does_not_know_are_kept_in_the_row(page, document, verdict):
    shown = page(document(verdict("a", outcome=Outcome.FAIL, clauses=["ZZ-99"])))
    assert "| `a` | ZZ-99 | fail |  |" in shown


def test_reasons_and_figures(page, document, verdict):
    quality = [{"clause": "W-10q", "kept": False, "figure": "3 ms"}]
    shown = page(
        document(
            verdict("a", outcome=Outcome.UNSUPPORTED, message="unsupported: capability flush is absent (iree)"),
            verdict("b", outcome=Outcome.UNSUPPORTED, message="unsupported: capability flush is absent (x)"),
            verdict("c", quality=quality),
        )
    )
    assert "| capability flush is absent | 2 |" in shown
    assert "| W-10q | no | 3 ms | `c` |" in shown


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_kept_reports_can_be_read(path):
    shown = results_page([path])
    report = json.loads(path.read_text(encoding="utf-8"))
    bad = [case for case in report["cases"] if case["outcome"] in ("fail", "hang", "crash")]
    assert shown.count("\n| `") >= len(bad)
    assert f"## `{report['backends'][0]['spec']}`" in shown
    assert "Nearest profile: " in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": 3}', "has format 3; this version reads formats 1 and 2 only"),
        ("[]", "is not a result file"),
        (None, ""),
    ],
)
def test_a_file_that_is_no_known_result_is_an_error_of_one_line(tmp_path, capsys, text, said):
    path = tmp_path / "some.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert main(["table", str(path)]) == 4
    printed = capsys.readouterr()
    assert not printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith("ERROR: ")
    assert str(path) in line
    assert said in line


def test_the_page_is_printed_or_written(tmp_path, capsys, document):
    path, output = tmp_path / "some.json", tmp_path / "page.md"
    path.write_text(json.dumps(document()), encoding="utf-8")
    assert main(["table", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed == results_page([path])
    assert main(["table", str(path), "--output", str(output)]) == 0
    assert output.read_text(encoding="utf-8") == printed
