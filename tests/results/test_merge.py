"""Shards of one run become its result, and the result says whether the run fails."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.outcome import Outcome


def change_case(document, **values):
    """Change the first case of a shard and return it."""
    document["cases"][0].update(values)
    return document["cases"][0]


# --- whole runs


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_shards_of_a_run_that_conforms_become_one_result(shards, merge, document, verdict, probe, cases, count):
    specs = ("reference", "iree:local-task")
    code, merged, lines = merge(reversed(shards(count).write()))
    assert code == 0
    verdicts = [verdict(case, spec, clauses=["W-1"]) for case in cases for spec in specs]
    unsharded = document(*verdicts, probes=tuple(map(probe, specs)))
    assert {**merged, "date": ""} == {**unsharded, "date": ""}
    assert list(merged) == list(unsharded)
    assert lines == ["reference: 12 pass", "iree:local-task: 12 pass"]


def test_what_may_differ_between_shards_is_joined(shards, merge):
    made = shards(3, specs=("reference",))
    for number, document in enumerate(made.documents):
        document["date"] = f"2026-01-0{3 - number}T00:00:00+00:00"
        document["order"] = f"random:{number}"
        document["machine"] = {"system": "Linux", "cores": 2 + number % 2, "python": f"3.1{number % 2}", "pytest": "9"}
        document["backends"][0]["device"] = f"GPU {number % 2}"
        document["backends"][0]["devices"] = number
        document["isolated"] = ["reference"] if number else []
    code, merged, lines = merge(reversed(made.write()))
    assert code == 0
    assert (merged["date"], merged["order"], merged["isolated"]) == (
        "2026-01-03T00:00:00+00:00",
        "mixed",
        ["reference"],
    )
    assert merged["machine"] == {"system": "Linux", "cores": None, "python": "3.10 / 3.11", "pytest": "9"}
    assert merged["backends"][0]["device"] == "GPU 0 / GPU 1"
    assert lines == [
        "note: reference: device is not the same in all shards: GPU 0, GPU 1",
        "note: reference: devices is not the same in all shards: 0, 1, 2",
        "reference: 12 pass",
    ]


def test_answers_and_counts_are_of_the_whole(shards, merge):
    made = shards(2)
    change_case(made.documents[0], variations={"overtaken-signal": "fails"})
    change_case(made.documents[1], variations={"overtaken-signal": "no-op", "drop-order": "device-last"})
    change_case(made.documents[1], outcome="unsupported")
    _, merged, lines = merge(made.write())
    # The first case of each shard is sorted first: iree's.
    assert merged["answers"]["iree:local-task"] == {
        "seen": {"drop-order": ["device-last"], "overtaken-signal": ["fails", "no-op"]},
        "nearest": {"profile": "seed", "agree": 2, "of": 3},
    }
    assert merged["counts"]["iree:local-task"]["unsupported"] == 1
    assert lines == ["reference: 12 pass", "iree:local-task: 11 pass, 1 unsupported"]


# --- what fails a whole run


@pytest.mark.parametrize("outcome", Outcome)
def test_a_deviation_fails_the_run_unless_it_is_known(shards, merge, outcome):
    made = shards()
    case = change_case(made.documents[1], outcome=outcome.value, message="it broke\nand more")
    code, _, lines = merge(made.write())
    assert code == int(outcome.deviates)
    line = f"  iree:local-task: {case['case']}: {outcome.value}: it broke"
    assert (line in lines) is outcome.deviates

    change_case(made.documents[1], known="upstream bug")
    code, _, lines = merge(made.write())
    assert code == 0
    shown = f"iree:local-task: 11 pass, 1 {outcome.value} (1 known)"
    assert lines[-1] == (shown if outcome is not Outcome.PASS else "iree:local-task: 12 pass (1 known)")


def test_a_judgement_that_does_not_accept_fails_the_run(shards, merge):
    made = shards()
    case = change_case(made.documents[0], judgement="it passes, but is listed as fail")
    code, _, lines = merge(made.write())
    assert code == 1
    assert lines[-1] == f"  iree:local-task: {case['case']}: pass: it passes, but is listed as fail"
    change_case(made.documents[0], outcome="hang", known="flaky")
    assert merge(made.write())[0] == 1


def test_many_deviations_are_cut_short(shards, merge):
    made = shards()
    for document in made.documents:
        for case in document["cases"]:
            case["outcome"] = "hang"
    code, _, lines = merge(made.write())
    assert code == 1
    assert len(lines) == 2 + 20 + 1
    assert lines[-1].startswith("  and 4 more; all are in ")


def baseline(matched=(), applies=True, problems=()):
    entry = {"case": "waits/*", "backend": "*", "outcome": "fail", "reason": "r"}
    return {
        "file": "b.toml",
        "problems": list(problems),
        "entries": [{**entry, "applies": applies, "matched": list(matched)}],
    }


def test_an_entry_that_matched_in_some_shard_is_no_problem(shards, merge, cases):
    made = shards()
    for number, document in enumerate(made.documents):
        document["baseline"] = baseline([cases[2], cases[1]] if number == 1 else [])
        document["baseline"]["file"] = f"/machine{number}/b.toml"
    code, merged, _ = merge(made.write())
    assert code == 0
    assert merged["baseline"]["entries"][0]["matched"] == [cases[1], cases[2]]
    assert merged["baseline"]["problems"] == []
    assert merged["baseline"]["file"] == "/machine0/b.toml"


def test_an_entry_that_applies_and_matched_in_no_shard_fails_the_run(shards, merge):
    made = shards()
    for number, document in enumerate(made.documents):
        document["baseline"] = baseline(applies=number == 2)
    code, merged, lines = merge(made.write())
    assert code == 1
    problem = "b.toml: entry 1 (waits/*) matches no case of any shard; correct its 'case', or remove it"
    assert merged["baseline"]["problems"] == [problem]
    assert lines[-1] == f"  baseline: {problem}"


def test_an_entry_that_the_shards_complain_of_is_said_once(shards, merge):
    made = shards()
    for document in made.documents:
        document["baseline"] = baseline(problems=["b.toml: entry 1 (waits/*) expired on 2026-01-01"])
    code, merged, _ = merge(made.write())
    assert code == 1
    assert merged["baseline"]["problems"] == ["b.toml: entry 1 (waits/*) expired on 2026-01-01"]


def test_an_entry_that_does_not_apply_is_no_problem(shards, merge):
    made = shards()
    for document in made.documents:
        document["baseline"] = baseline(applies=False)
    assert merge(made.write())[0] == 0


def test_a_problem_of_the_shards_is_said_once_and_fails_the_run(shards, merge):
    made = shards()
    for document in made.documents:
        document["baseline"] = baseline(applies=False, problems=["entry 1 expired"])
        document["exitcode"] = 1
    code, merged, lines = merge(made.write())
    assert code == 1
    assert merged["baseline"]["problems"] == ["entry 1 expired"]
    assert lines[2:] == ["  baseline: entry 1 expired"]


def test_a_shard_that_failed_for_no_reason_that_its_result_shows_fails_the_run(shards, merge):
    made = shards()
    made.documents[1]["exitcode"] = 1
    paths = made.write()
    code, _, lines = merge(paths)
    assert code == 1
    said = "ended with exit code 1, and nothing in its result says why; did another test of it fail?"
    assert lines[-1] == f"  shard 2 ({paths[1]}) {said}"
    change_case(made.documents[1], outcome="fail")
    assert "nothing in its result" not in "".join(merge(made.write())[2])


@pytest.mark.parametrize("exitcode", [0, 5, None])
def test_these_exit_codes_of_a_shard_are_no_problem(shards, merge, exitcode):
    made = shards()
    made.documents[1]["exitcode"] = exitcode
    assert merge(made.write())[0] == 0
