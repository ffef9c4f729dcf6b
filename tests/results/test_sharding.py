"""Each case in exactly one shard, whatever the order, and about as much time in each."""

from __future__ import annotations

import json
import random
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_cuda2hal.identity import suite_folder
from pytest_cuda2hal.sharding import SECONDS_BESIDE, Shard, ShardError, digest, durations, parse_shard, select


def all_shards(case_ids, count, seconds):
    return [select(case_ids, Shard(index, count), seconds) for index in range(1, count + 1)]


# --- reading I/N


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("1/4", (1, 4)), ("4/4", (4, 4)), ("07/10", (7, 10))])
def test_a_shard_is_read(text, shard):
    read = parse_shard(text)
    assert (read.index, read.count) == shard
    assert str(read) == f"{shard[0]}/{shard[1]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/4", "0/4: the shards are 1 to 4; there is no shard 0"),
        ("5/4", "5/4: the shards are 1 to 4; there is no shard 5"),
        ("-1/4", "-1/4: the shards are 1 to 4; there is no shard -1"),
        ("1/0", "1/0: there is at least one shard, not 0"),
        ("1/-2", "1/-2: there is at least one shard, not -2"),
        *(
            (text, f"'{text}' is not I/N, as 2/4 is for the second shard of four")
            for text in (
                "a/b",
                "1/2/3",
                "",
                "/",
                "1",
                "1/",
                "/4",
                "1.0/4",
                " 1/4",
                "1/4\n",
                "1 of 4",
                "١/٤",
                "9" * 5000,
            )
        ),
    ],
)
def test_what_is_no_shard_is_refused_in_one_line(text, message):
    with pytest.raises(ShardError) as refused:
        parse_shard(text)
    assert str(refused.value) == message


# --- dividing

CASE_IDS = st.lists(st.text("abcdef[]:/", min_size=1, max_size=5), max_size=40)
SECONDS = st.floats(0, 100).map(lambda seconds: round(seconds, 3))


@given(CASE_IDS, st.integers(1, 7), st.data(), st.randoms(use_true_random=False))
def test_every_case_is_in_one_shard_whatever_the_order(case_ids, count, data, shuffler):
    timed = data.draw(st.dictionaries(st.sampled_from(case_ids), SECONDS)) if case_ids else {}
    shards = all_shards(case_ids, count, timed)
    assert sorted(case for shard in shards for case in shard) == sorted(set(case_ids))

    shuffled = case_ids + case_ids
    shuffler.shuffle(shuffled)
    other_order = dict(sorted(timed.items(), reverse=True))
    assert all_shards(shuffled, count, other_order) == shards


@given(st.lists(SECONDS, min_size=1, max_size=60), st.integers(1, 8))
def test_no_shard_has_more_than_the_mean_and_one_longest_case(times, count):
    timed = {f"case {number}": seconds for number, seconds in enumerate(times)}
    loads = [sum(timed[case] + SECONDS_BESIDE for case in shard) for shard in all_shards(timed, count, timed)]
    assert max(loads) <= sum(loads) / count + max(times) + SECONDS_BESIDE + 1e-6


def test_the_longest_goes_first_to_the_shard_with_least_to_do():
    timed = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.0, "e": 1.0}
    assert all_shards("edcba", 2, timed) == [{"a", "d", "e"}, {"b", "c"}]


def test_of_equals_the_first_case_goes_to_the_first_shard():
    assert all_shards("dbca", 3, {}) == [{"a", "d"}, {"b"}, {"c"}]


def test_a_case_without_a_duration_counts_as_the_median():
    timed = {"a": 30.0, "b": 9.0, "c": 8.0, "d": 7.0, "e": 1.0}
    new = ("new", "newer")

    def divided(seconds):
        return all_shards([*timed, *new], 2, {**timed, **dict.fromkeys(new, seconds)})

    shards = all_shards([*timed, *new], 2, timed)
    assert shards == divided(8.0)
    mean, nothing, most = divided(11.0), divided(0.0), divided(30.0)
    assert shards not in (mean, nothing, most)


def test_cases_that_take_no_time_are_spread():
    sizes = [
        len(shard) for shard in all_shards([f"case {n}" for n in range(100)], 4, {f"case {n}": 0.0 for n in range(100)})
    ]
    assert sizes == [25, 25, 25, 25]


def test_more_shards_than_cases_leave_some_empty():
    assert all_shards(["a", "b"], 4, {}) == [{"a"}, {"b"}, set(), set()]


# --- durations


def test_the_shipped_durations_are_of_the_suites_cases():
    shipped = durations()
    assert len(shipped) > 500
    assert all(0 <= seconds < 60 for seconds in shipped.values())
    assert all(round(seconds, 3) == seconds for seconds in shipped.values())
    for case in shipped:
        found = re.fullmatch(r"([\w/]+)::(\w+)(?:\[.*\])?", case)
        assert found, case
        module, function = found.groups()
        path = suite_folder() / f"{module}.py"
        assert f"def {function}(" in path.read_text(encoding="utf-8"), case


@pytest.mark.parametrize("count", range(2, 17))
def test_the_suite_is_divided_evenly(count):
    """What docs/results-file.md says of the suite's own cases."""
    seconds = durations()
    loads = [sum(seconds[case] + SECONDS_BESIDE for case in shard) for shard in all_shards(seconds, count, seconds)]
    assert max(loads) <= 1.01 * sum(loads) / count


def test_durations_of_a_result_are_of_all_its_backends(tmp_path, document, verdict, probe):
    result = document(
        verdict("a/b::c", "reference", seconds=0.5),
        verdict("a/b::c", "other", seconds=2.0),
        verdict("a/b::d", "other", seconds=0.25),
        probes=(probe("reference"), probe("other")),
    )
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    assert durations(path) == {"a/b::c": 2.5, "a/b::d": 0.25}


def test_durations_of_a_result_of_format_1(tmp_path):
    path = tmp_path / "old.json"
    case = {"case": "a/b::c", "backend": "x", "outcome": "pass", "clauses": [], "seconds": 1.5, "message": ""}
    result = {"format": 1, "suite": "0.1.0", "contract": "1", "effort": "full", "date": "", "machine": {}, "counts": {}}
    result |= {"backends": [], "cases": [{**case, "evidence": "", "quality": [], "variations": {}}]}
    path.write_text(json.dumps(result), encoding="utf-8")
    assert durations(path) == {"a/b::c": 1.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "is not JSON"),
        ("[1]", "is not a result file"),
        ('{"a/b::c": 1}', "is not a result file"),
        ('{"format": 3}', "has format 3"),
        ('{"format": 1}', "'backends' is missing"),
        ('{"format": 2}', "suite is missing"),
    ],
)
def test_durations_that_cannot_be_read_are_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "times.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(ShardError) as refused:
        durations(path)
    assert str(refused.value).startswith("durations cannot be read: ")
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("seconds", ["1e999", "-1", "NaN"])
def test_a_time_that_is_none_is_refused(tmp_path, document, verdict, seconds):
    path = tmp_path / "times.json"
    text = json.dumps(document(verdict(seconds=123.0)))
    path.write_text(text.replace("123.0", seconds), encoding="utf-8")
    with pytest.raises(ShardError, match=r"^durations cannot be read: .*times\.json"):
        durations(path)


# --- digest


def test_the_digest_is_of_the_set_of_cases():
    ids = [f"a/b::c[{number}]" for number in range(50)]
    shuffled = ids + ids[:7]
    random.Random(3).shuffle(shuffled)
    assert digest(shuffled) == digest(ids) == sha256("".join(f"{id}\n" for id in sorted(ids)).encode()).hexdigest()
    assert digest(ids[1:]) != digest(ids)
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["\udc80"])
