"""``--shard``: every case runs in exactly one shard, the same one each time, and the results can be merged."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from imperfect_backends import entries, report_of, run_way

from pytest_cuda2hal.sharding import digest

MINIMAL = "--backend=minimal_backend:HostDevice"
CASES = """
    import pytest

    @pytest.mark.parametrize("number", range(7))
    def test_it(hal_device, number):
        assert number != 5

    @pytest.mark.hal_clause("TL-1")
    def test_other(hal_device): ...

    def test_not_ours(): ...
"""
IDS = [*(f"test_it::test_it[{number}]" for number in range(7)), "test_it::test_other"]


def shards(suite, count, way="alone", *arguments):
    """Run all shards; return the results, what each said of its shard, and the cases that each judged."""
    results, documents, judged = [], [], []
    for index in range(1, count + 1):
        name = f"report-{index}.json"
        shard = ("--hal-report=" + name, f"--shard={index}/{count}")
        results.append(run_way(suite, way, MINIMAL, *shard, *arguments))
        document, cases = report_of(suite, name)
        documents.append(document)
        judged.append(sorted(cases))
    return results, documents, judged


@pytest.mark.parametrize("way", ["alone", "both"])
def test_each_case_runs_in_one_shard(suite, way):
    results, documents, judged = shards(suite.case(CASES), 3, way)
    assert sorted(chain.from_iterable(judged)) == IDS
    assert [len(cases) for cases in judged] == [3, 3, 2]
    assert sorted(result.ret for result in results) == [0, 0, 1]
    for number, (result, document, cases) in enumerate(zip(results, documents, judged, strict=True), 1):
        result.stdout.fnmatch_lines([f"     shard {number}/3; see 'python -m pytest_cuda2hal merge'"])
        passed = result.parseoutcomes()["passed"] + result.parseoutcomes().get("failed", 0)
        assert passed == len(cases) + 1  # what is no case of a HAL runs in each shard
        assert document["shard"] == {
            "index": number,
            "count": 3,
            "selected": 8,
            "digest": digest(IDS),
            "cases": cases,
        }


def test_long_and_short_name_mean_the_same_and_the_division_is_stable(suite):
    suite.case(CASES)
    found = []
    for option in ("--shard", "--hal-shard", "--shard"):
        suite.run(MINIMAL, "--no-isolate", f"{option}=2/3", "--hal-report=report.json", "-p", "no:randomly")
        found.append(sorted(report_of(suite)[1]))
    assert found[0] == found[1] == found[2]
    assert 0 < len(found[0]) < len(IDS)


def test_shards_are_of_what_was_selected(suite):
    _, documents, judged = shards(suite.case(CASES), 2, "alone", "-k", "test_it and (1 or 2 or 3) and not other")
    assert sorted(chain.from_iterable(judged)) == [f"test_it::test_it[{number}]" for number in (1, 2, 3)]
    assert {document["shard"]["selected"] for document in documents} == {3}
    _, documents, judged = shards(suite, 2, "alone", "--hal-clause=TL-1")
    assert sorted(chain.from_iterable(judged)) == ["test_it::test_other"]


def test_all_backends_of_a_case_are_in_one_shard(suite):
    suite.hooked().case(CASES)
    suite.run("--backend=minimal,whole", "--shard=1/2", "--hal-report=report.json")
    cases = report_of(suite)[0]["cases"]
    of = {spec: {case["case"] for case in cases if case["backend"] == spec} for spec in ("minimal", "whole")}
    assert of["minimal"] == of["whole"]
    assert 0 < len(of["whole"]) < len(IDS)


def test_shard_without_cases_is_no_failure_of_the_division(suite):
    """With more shards than cases some have none; pytest says so in its own way."""
    suite.case("def test_it(hal_device): ...")
    _, _, judged = shards(suite, 2)
    assert sorted(map(len, judged)) == [0, 1]


def test_random_order_does_not_change_the_shards(suite):
    _, _, judged = shards(suite.case(CASES), 2)
    _, _, again = shards(suite, 2, "alone", "--order=random:7")
    assert judged == again


def test_shards_balance_by_the_durations_of_a_report(suite):
    """One case takes as long as all others together: it is alone then."""
    suite.case(CASES)
    suite.run(MINIMAL, "--no-isolate", "--hal-report=durations.json")
    document = json.loads(Path("durations.json").read_text())
    for case in document["cases"]:
        case["seconds"] = 70.0 if case["case"] == IDS[3] else 1.0
    Path("durations.json").write_text(json.dumps(document))
    _, _, judged = shards(suite, 2, "alone", "--hal-shard-durations=durations.json")
    assert sorted(judged, key=len) == [[IDS[3]], sorted({*IDS} - {IDS[3]})]


@pytest.mark.parametrize("way", ["alone", "both"])
def test_shards_merge_to_the_whole_and_a_missing_one_is_noticed(suite, way):
    Path("known.toml").write_text(entries(("test_it::test_it[[]5]", "fail")).replace("[[]", "["))
    suite.case(CASES)
    results, _, _ = shards(suite, 2, way, "--baseline=known.toml")
    assert [result.ret for result in results] == [0, 0]
    merge = [sys.executable, "-m", "pytest_cuda2hal", "merge", "--output=whole.json"]
    done = subprocess.run(
        [*merge, "report-1.json", "report-2.json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document, cases = report_of(suite, "whole.json")
    assert sorted(cases) == IDS
    assert document["shard"] is None
    done = subprocess.run([*merge, "report-2.json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "shard 1 of 2 is missing" in done.stderr


def test_entry_that_matches_nothing_is_noticed_in_each_shard(suite):
    Path("known.toml").write_text(entries(("test_it::test_it[5]", "fail"), ("test_it::test_gone", "fail")))
    results, _, _ = shards(suite.case(CASES), 2, "alone", "--baseline=known.toml")
    for result in results:
        assert result.ret == 1
        result.stdout.fnmatch_lines(["baseline: known.toml: entry 2 (test_it::test_gone) matches no case that ran; *"])


# --- what cannot be understood


@pytest.mark.parametrize("option", ["--shard", "--hal-shard"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0/4", "0/4: the shards are 1 to 4; there is no shard 0"),
        ("5/4", "5/4: the shards are 1 to 4; there is no shard 5"),
        ("-1/4", "-1/4: the shards are 1 to 4; there is no shard -1"),
        ("1/0", "1/0: there is at least one shard, not 0"),
        ("x", "'x' is not I/N, as 2/4 is for the second shard of four"),
        ("", "'' is not I/N, as 2/4 is for the second shard of four"),
        ("1/2/3", "'1/2/3' is not I/N, as 2/4 is for the second shard of four"),
        ("1.5/2", "'1.5/2' is not I/N, as 2/4 is for the second shard of four"),
    ],
)
def test_shard_that_cannot_be_read(suite, option, text, says):
    error = suite.one_line_error(suite.hooked().case(CASES).run("--backend=minimal", f"{option}={text}"))
    assert error == f"ERROR: --hal-shard: {says}"


@pytest.mark.parametrize("way", ["xdist", "isolated"])
def test_shard_that_cannot_be_read_is_said_once(suite, way):
    error = suite.one_line_error(run_way(suite.case(CASES), way, MINIMAL, "--shard=5/4"))
    assert error == "ERROR: --hal-shard: 5/4: the shards are 1 to 4; there is no shard 5"


def test_durations_without_a_shard(suite):
    error = suite.one_line_error(suite.case(CASES).run(MINIMAL, "--hal-shard-durations=durations.json"))
    assert error == "ERROR: --hal-shard-durations is for --hal-shard=I/N; give that too, or leave it out"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file or directory"),
        ("no JSON", "durations.json is not JSON"),
        ('{"a": 1}', "durations.json is not a result file: make one with --hal-report"),
        ('{"format": 7}', "durations.json has format 7; this version reads formats 1 and 2 only"),
        ('{"format": 2}', "durations.json is not a whole result file of format 2: "),
    ],
)
def test_durations_that_cannot_be_read(suite, text, says):
    if text is not None:
        Path("durations.json").write_text(text)
    arguments = ("--backend=minimal", "--shard=1/2", "--hal-shard-durations=durations.json")
    error = suite.one_line_error(suite.hooked().case(CASES).run(*arguments))
    assert error.startswith("ERROR: --hal-shard")
    assert "durations cannot be read" in error
    assert says in error
