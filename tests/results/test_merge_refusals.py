"""What is not the whole of one run is not merged; a line says which file is at fault and what to do."""

from __future__ import annotations

import copy
import json

import pytest

from pytest_cuda2hal.__main__ import main

ENTRY = {"case": "waits/*", "backend": "*", "outcome": "fail", "reason": "r", "applies": False, "matched": []}
BASELINE = {"file": "b.toml", "problems": [], "entries": [ENTRY]}


def refusal(merge, paths):
    """Return what is said of parts that cannot be merged."""
    code, document, lines = merge(paths)
    assert code == 4
    assert document is None
    assert all(line.startswith("ERROR: ") for line in lines)
    return [line.removeprefix("ERROR: ") for line in lines]


def test_a_missing_shard_is_named(shards, merge):
    paths = shards(4).write()
    assert refusal(merge, [paths[0], paths[2]]) == [
        "shard 2 of 4 is missing; give its file too, or run it: --shard=2/4",
        "shard 4 of 4 is missing; give its file too, or run it: --shard=4/4",
    ]


def test_many_missing_shards_are_counted(shards, merge):
    made = shards(1)
    made.documents[0]["shard"]["count"] = 100
    lines = refusal(merge, made.write())
    assert len(lines) == 21
    assert lines[-1] == "and 79 more shards are missing"
    made.documents[0]["shard"]["count"] = 10**12
    assert refusal(merge, made.write()) == [f"1 of {10**12} shards are there"]


def test_a_shard_given_twice_is_named(shards, merge):
    first, second = shards(2).write()
    assert refusal(merge, [first, second, first]) == [
        f"shard 1 of 2 is there 2 times, in {first}, {first}; give each shard once"
    ]


def test_a_shard_beyond_the_last_is_named(shards, merge):
    made = shards(2)
    made.documents[1]["shard"]["index"] = 3
    assert refusal(merge, made.write()) == [
        "there is a shard 3, but only 2 shards",
        "shard 2 of 2 is missing; give its file too, or run it: --shard=2/2",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(suite="9"), "the version of the suite differs"),
        (lambda d: d.update(contract="9"), "the version of the contract differs"),
        (lambda d: d.update(effort="full"), "the effort differs: quick in shard 1"),
        (lambda d: d.update(profile="iree"), "the profile to judge by differs: None in shard 1"),
        (lambda d: d["shard"].update(count=4), "the number of shards differs: 3 in shard 1"),
        (lambda d: d["shard"].update(selected=11), "the number of selected cases differs: 12 in shard 1"),
        (lambda d: d["shard"].update(digest="f" * 64), "the selection of cases (digest) differs"),
        (lambda d: d["backends"].reverse(), "the list of backends differs: ['reference', 'iree:local-task'] in"),
        (lambda d: d["backends"].pop(), "the list of backends differs"),
        (lambda d: d.update(baseline=BASELINE), "the baseline differs: none in shard 1"),
        (lambda d: d["backends"][1].update(versions={"python": "4"}), "versions of iree:local-task differs: {'python'"),
        (lambda d: d["backends"][0].update(profile="seed"), "profile of reference differs: strict in shard 1"),
        (lambda d: d["backends"][0].update(capabilities=["flush"]), "capabilities of reference differs: [] in"),
        (lambda d: d["backends"][0].update(emulated=["flush"]), "emulated of reference differs: [] in shard 1"),
    ],
)
def test_shards_of_different_runs_are_refused(shards, merge, change, said):
    made = shards()
    change(made.documents[1])
    paths = made.write()
    (line,) = refusal(merge, paths)
    assert line.startswith(said)
    assert f"in shard 1 ({paths[0]}), " in line
    assert line.endswith(f" in shard 2 ({paths[1]}); these are shards of different runs")


@pytest.mark.parametrize("key", ["case", "backend", "outcome", "reason"])
def test_another_list_of_known_deviations_is_refused(shards, merge, key):
    made = shards()
    for document in made.documents:
        document["baseline"] = copy.deepcopy(BASELINE)
    made.documents[2]["baseline"]["entries"][0][key] = "hang"
    (line,) = refusal(merge, made.write())
    assert line.startswith("the baseline differs: [")


def test_a_case_that_is_in_two_shards_is_named(shards, merge):
    made = shards(2)
    twice = made.documents[0]["cases"][0]
    made.documents[1]["cases"].append(twice)
    first, second = made.write()
    assert refusal(merge, [first, second]) == [
        f"{twice['case']} has 2 verdicts on iree:local-task, in shard 1 ({first}) and shard 2 ({second})",
        "were all shards given the same --hal-shard-durations? Run them again with one file, or with none",
    ]
    made.documents[1]["cases"] += made.documents[0]["cases"]
    lines = refusal(merge, made.write())
    assert len(lines) == 7
    assert lines[5] == "and 7 more cases have several verdicts"


def test_a_case_with_two_verdicts_in_one_shard_is_named(shards, merge):
    made = shards(1)
    twice = made.documents[0]["cases"][0]
    made.documents[0]["cases"].append({**twice, "outcome": "fail"})
    (path,) = made.write()
    assert refusal(merge, [path])[0] == f"{twice['case']} has 2 verdicts on iree:local-task, in shard 1 ({path})"


def test_cases_without_a_verdict_on_one_backend_are_named(shards, merge):
    made = shards(2)
    absent = [case["case"] for case in made.documents[1]["cases"] if case["backend"] == "reference"]
    made.documents[1]["cases"] = [case for case in made.documents[1]["cases"] if case["backend"] != "reference"]
    paths = made.write()
    named = f"{', '.join(absent[:5])} and 1 more"
    assert refusal(merge, paths) == [
        f"shard 2 ({paths[1]}) lacks 6 verdicts on reference: {named}; run it again: --shard=2/2"
    ]


def test_a_case_without_any_verdict_is_named(shards, merge):
    made = shards(3)
    gone = made.documents[1]["shard"]["cases"][2]
    made.documents[1]["cases"] = [case for case in made.documents[1]["cases"] if case["case"] != gone]
    paths = made.write()
    assert refusal(merge, paths) == [
        f"shard 2 ({paths[1]}) lacks 1 verdicts on {spec}: {gone}; run it again: --shard=2/3"
        for spec in ("reference", "iree:local-task")
    ]


def test_a_case_that_no_shard_was_given_is_noticed(shards, merge):
    made = shards(2, specs=("reference",))
    gone = made.documents[0]["shard"]["cases"].pop()
    made.documents[0]["cases"] = [case for case in made.documents[0]["cases"] if case["case"] != gone]
    assert refusal(merge, made.write()) == [
        "the shards have 11 cases together, which are not the 12 that were selected",
        "were all shards given the same --hal-shard-durations? Run them again with one file, or with none",
    ]


def test_other_cases_than_the_selected_ones_are_refused(shards, merge):
    made = shards(2, specs=("reference",))
    made.documents[0]["cases"][0]["case"] = "waits/test_any::test_other"
    made.documents[0]["shard"]["cases"][0] = "waits/test_any::test_other"
    assert refusal(merge, made.write())[0] == (
        "the shards have 12 cases together, which are not the 12 that were selected"
    )


def test_a_verdict_that_belongs_to_no_case_of_the_shard_is_refused(shards, merge):
    made = shards(2, specs=("reference",))
    made.documents[0]["cases"].append({**made.documents[0]["cases"][0], "case": "waits/test_any::test_other"})
    paths = made.write()
    assert refusal(merge, paths) == [
        f"shard 1 ({paths[0]}) has verdicts on reference of cases that it was not given: waits/test_any::test_other"
    ]


def test_a_verdict_on_no_backend_of_the_run_is_refused(shards, merge):
    made = shards(2, specs=("reference",))
    made.documents[0]["cases"].append({**made.documents[0]["cases"][0], "backend": "other"})
    paths = made.write()
    assert refusal(merge, paths) == [
        f"shard 1 ({paths[0]}) has verdicts on other, which is none of its backends; run it again"
    ]


@pytest.mark.parametrize(("code", "ending"), [(2, "interrupted"), (3, "internal error"), (4, "usage error")])
def test_a_shard_that_did_not_come_to_its_end_is_named(shards, merge, code, ending):
    made = shards(2)
    made.documents[1]["exitcode"] = code
    paths = made.write()
    (line,) = refusal(merge, paths)
    assert line.startswith(f"shard 2 ({paths[1]}) ended with exit code {code} ({ending}")
    assert line.endswith("run it again")


def test_every_file_that_is_no_shard_is_named(shards, merge, tmp_path, document):
    paths = shards(2).write()
    whole, old, broken, empty = (tmp_path / name for name in ("whole.json", "old.json", "broken.json", "empty.json"))
    whole.write_text(json.dumps(document()), encoding="utf-8")
    old_one = {"format": 1, "suite": "0", "contract": "1", "effort": "full", "date": "", "machine": {}, "counts": {}}
    old.write_text(json.dumps({**old_one, "backends": [], "cases": []}), encoding="utf-8")
    broken.write_text('{"format": 2', encoding="utf-8")
    empty.write_text('{"format": 2}', encoding="utf-8")
    absent = tmp_path / "absent.json"
    lines = refusal(merge, [*paths, whole, old, broken, empty, absent])
    assert lines[0] == f"{whole} is not the result of a shard; it needs no merging, or was made without --shard"
    assert lines[1] == f"{old} has format 1; run this shard again with the present version"
    assert lines[2].startswith(f"{broken} is not JSON: ")
    assert lines[3] == f"{empty} is not a whole result file of format 2: suite is missing"
    assert str(absent) in lines[4]
    assert len(lines) == 5


def test_a_result_that_cannot_be_written_is_an_error(shards, tmp_path, capsys):
    paths = shards(2).write()
    before = paths[0].read_bytes()
    for output, said in ((paths[0], "is one of the shards; give another name"), (tmp_path, "")):
        assert main(["merge", *map(str, paths), "--output", str(output)]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("ERROR: the merged result cannot be written: ")
        assert line.endswith(said)
    assert paths[0].read_bytes() == before
