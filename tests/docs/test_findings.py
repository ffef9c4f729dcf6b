"""The page of findings is what tools/findings.py makes of its data and of the reports."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from pytest_cuda2hal.outcome import Outcome

ROOT = Path(__file__).resolve().parents[2]
HEAD = 'title = "Findings"\nintro = "What was found."\n'
FINDING = """
[[finding]]
title = "Signals are forgotten"
clauses = ["Q-1", "W-5"]
drivers = ["mine:fast", "mine:safe"]
cases = ["waits/test_it::test_wait[*-1]"]
what = "Nobody signals."
header = "the header says otherwise."

[[finding.program]]
file = "tiny.py"
driver = "fast"
printed = '''
expected  this
seen      ``` that
'''
"""


@pytest.fixture(scope="module")
def findings():
    """The module below tools/, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield importlib.import_module("findings")


@pytest.fixture
def made(tmp_path, findings):
    """Write findings and reports, and run the generator; return its exit status and the page, if there is one."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "tiny.py").write_text("", encoding="utf-8")

    def make(text, reports, *options):
        (tmp_path / "findings.toml").write_text(HEAD + text, encoding="utf-8")
        paths = []
        for number, report in enumerate(reports):
            paths.append(tmp_path / f"report-{number}.json")
            paths[-1].write_text(json.dumps(report), encoding="utf-8")
        page = tmp_path / "page.md"
        arguments = [*map(str, paths), f"--findings={tmp_path / 'findings.toml'}", f"--output={page}", *options]
        status = findings.main(arguments)
        return status, page.read_text(encoding="utf-8") if page.exists() else ""

    return make


def backend(spec):
    return {
        "spec": spec,
        "problem": "",
        "lacking": False,
        "device": f"device of {spec}",
        "versions": {"hal": "7.1"},
        "capabilities": [],
        "emulated": [],
        "profile": "iree",
        "queues": 1,
        "own": False,
        "native": True,
    }


def case(name, spec, outcome="pass", message="", **more):
    return {
        "case": name,
        "backend": spec,
        "outcome": outcome,
        "clauses": ["Q-1"],
        "seconds": 0.1,
        "message": message,
        "evidence": "",
        "quality": [],
        "variations": {},
        **more,
    }


def report(spec, *cases):
    """A result of format 1."""
    counts = {outcome.value: sum(one["outcome"] == outcome.value for one in cases) for outcome in Outcome}
    return {
        "format": 1,
        "suite": "0.1.0",
        "contract": "1",
        "effort": "full",
        "date": "2026-11-22T22:30:26+00:00",
        "machine": {"system": "Linux x86_64", "cores": 2, "python": "3.11.7", "pytest": "9.2.0"},
        "backends": [backend(spec)],
        "counts": {spec: counts},
        "cases": list(cases),
    }


def newer(result):
    """The same as format 2."""
    more = {"details": {}, "known": "", "judgement": ""}
    return {
        **result,
        "format": 2,
        "profile": None,
        "order": "definition",
        "isolated": [],
        "shard": None,
        "exitcode": 1,
        "answers": {one["spec"]: {"seen": {}, "nearest": None} for one in result["backends"]},
        "baseline": None,
        "cases": [{**more, **one} for one in result["cases"]],
    }


SHOWN = case("waits/test_it::test_wait[0-1]", "mine:fast", "fail", "expected 1\n\nseen 0")
OTHER = case("waits/test_it::test_wait[0-2]", "mine:fast", "fail", "expected 2; seen 0")


@pytest.mark.parametrize("version", [1, 2])
def test_a_finding_has_its_clauses_its_cases_and_its_program(made, version):
    fast, safe = report("mine:fast", SHOWN, OTHER), report("mine:safe", {**SHOWN, "backend": "mine:safe"})
    status, page = made(FINDING, [fast, safe] if version == 1 else [newer(fast), newer(safe)], "--strict")
    assert status == 0
    assert "Written by `python tools/findings.py`" in page
    assert "| `mine:fast` | device of mine:fast | hal 7.1 | system Linux x86_64, cores 2," in page
    summary = "[Q-1](#clause-q-1), [W-5](#clause-w-5) | Signals are forgotten | fast 1, safe 1 | `tiny.py`"
    assert f"| {summary} |" in page
    assert "- **[Q-1](#clause-q-1)** Nothing of a submission runs before its whole wait list is reached" in page
    assert "IREE says: the header says otherwise." in page
    assert "fail        waits/test_it::test_wait[0-1]\n    expected 1\n    seen 0\n" in page
    assert "[tiny.py](programs/tiny.py)" in page
    assert "$ python tiny.py fast\nexpected  this\nseen      ``` that\n```\n" in page
    assert "Warning" not in page


def test_what_no_finding_explains_is_listed(made):
    _, page = made(FINDING, [report("mine:fast", SHOWN, OTHER), report("mine:safe", {**SHOWN, "backend": "mine:safe"})])
    rest = page.partition("## Not taken apart")[2]
    assert "`mine:fast`: 1 of 2 cases that deviate are explained by no finding." in rest
    assert "fail        waits/test_it::test_wait[0-2]\n    expected 2; seen 0\n" in rest
    assert "test_wait[0-1]" not in rest
    assert "mine:safe" not in rest


def test_a_finding_that_no_case_shows_is_a_warning(made, capsys):
    reports = [report("mine:fast", SHOWN), report("mine:safe", case(SHOWN["case"], "mine:safe"))]
    status, page = made(FINDING, reports)
    assert status == 0
    assert "**Warning:** “Signals are forgotten” names `mine:safe`, and no case of its report shows it." in page
    assert "names `mine:safe`" in capsys.readouterr().err
    assert made(FINDING, reports, "--strict")[0] == 1
    assert made(FINDING, reports[:1], "--strict") == (1, made(FINDING, reports[:1])[1])
    assert "names `mine:safe`, of which there is no report" in made(FINDING, reports[:1])[1]


def test_a_message_narrows_a_finding_down(made):
    text = FINDING.replace("what =", 'message = "*LOST*"\nwhat =').replace(', "mine:safe"', "")
    lost = {**OTHER, "case": "waits/test_it::test_wait[1-1]", "message": "DEVICE_LOST\nby all"}
    _, page = made(text, [report("mine:fast", SHOWN, lost)])
    finding, _, rest = page.partition("## Not taken apart")
    assert "test_wait[1-1]" in finding
    assert "test_wait[0-1]" in rest


def test_evidence_narrows_a_finding_down(made):
    text = FINDING.replace("what =", 'evidence = ["*never*", "*device is lost*"]\nwhat =').replace(', "mine:safe"', "")
    lost = {**OTHER, "case": "waits/test_it::test_wait[1-1]", "evidence": "UNKNOWN\n\nafter it  the device is lost"}
    plain = {**OTHER, "case": "waits/test_it::test_wait[1-2]", "evidence": "UNKNOWN"}
    _, page = made(text, [report("mine:fast", lost, plain)])
    finding, _, rest = page.partition("## Not taken apart")
    assert "test_wait[1-1]" in finding
    assert "test_wait[1-2]" not in finding
    assert "test_wait[1-2]" in rest


def test_a_crash_shows_its_ending_its_calls_and_its_stacks(made):
    stacks = (
        "Fatal Python error: Segmentation fault\n\n"
        'Current thread 0x01 (most recent call first):\n  File "/home/somebody/lib/hal.py", line 3 in submit\n'
        '  File "/home/somebody/_pytest/python.py", line 7 in run\n'
    )
    details = {
        "ending": "SIGSEGV",
        "operations": ["MainThread: write(b)", "MainThread: queue_execute(copy(a → b))  has not returned"],
        "waits_in_words": ["MainThread is in queue_execute(copy(a → b)), for 0.1 s"],
        "python_stacks": stacks,
    }
    crash = {**SHOWN, "outcome": "crash", "message": "the process crashed (SIGSEGV)", "details": details}
    again = {**crash, "case": "waits/test_it::test_wait[1-1]"}
    _, page = made(FINDING, [newer(report("mine:fast", crash, again))])
    assert "    ending: SIGSEGV\n    calls in progress\n      MainThread: queue_execute(copy(a → b))" in page
    assert "    who waits for what\n      MainThread is in queue_execute" in page
    assert '        File "…/hal.py", line 3 in submit' in page
    assert "somebody" not in page
    assert "_pytest" not in page
    assert page.count("ending: SIGSEGV") == 1  # the others of the same finding only say what they came to


def test_a_finding_that_the_suite_does_not_ask_for_says_why(made):
    text = FINDING.replace('cases = ["waits/test_it::test_wait[*-1]"]', 'cases = []\nunasked = "It may differ."')
    status, page = made(text, [report("mine:fast"), report("mine:safe")], "--strict")
    assert status == 0
    assert "fast not asked, safe not asked" in page
    assert "No case shows it. It may differ." in page
    assert "Every case that deviates is explained by a finding." in page


def test_open_questions_end_the_page(made):
    _, page = made('[[open]]\ndrivers = ["mine:fast"]\ntext = """\nSomething\nelse.\n"""\n', [report("mine:fast")])
    assert page.endswith("## Not looked into\n\n- Something\n  else.\n")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"Q-1"', '"Q-999"', "names unknown clauses Q-999"),
        ('["waits/test_it::test_wait[*-1]"]', '"waits/*"', "cases is a list of globs"),
        ("what =", "waht =", "lacks what"),
        ("header =", "heading =", "has unknown heading"),
        ("tiny.py", "absent.py", "there is no program absent.py"),
        ('["waits/test_it::test_wait[*-1]"]', "[]", "has no cases; say in 'unasked'"),
        ("[[finding]]", "[[finding", "is not TOML"),
    ],
)
def test_wrong_data_is_one_line(made, capsys, old, new, said):
    status, page = made(FINDING.replace(old, new, 1), [report("mine:fast", SHOWN)])
    assert (status, page) == (4, "")
    error = capsys.readouterr().err
    assert error.startswith("ERROR: ")
    assert said in error
    assert error.count("\n") == 1


def test_two_reports_of_one_driver_are_refused(made, capsys):
    assert made(FINDING, [report("mine:fast")] * 2)[0] == 4
    assert "mine:fast is in report-0.json and in report-1.json" in capsys.readouterr().err


def test_the_committed_page_is_what_the_generator_writes(findings):
    """Nobody edits it by hand, and nobody forgets to write it after new reports."""
    assert findings.main(["--check"]) == 0


def test_an_edited_page_is_noticed(findings, tmp_path):
    edited = tmp_path / "page.md"
    edited.write_text(findings.PAGE.read_text(encoding="utf-8") + "\nand more\n", encoding="utf-8")
    assert findings.main(["--check", f"--output={edited}"]) == 1
