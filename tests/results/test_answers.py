"""Which profile is nearest to what was seen."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.answers import answers_of, nearest_profile, seen_answers
from pytest_cuda2hal.hal import PROFILES


def case(backend: str, **variations: str) -> dict[str, object]:
    return {"backend": backend, "variations": {name.replace("_", "-"): answer for name, answer in variations.items()}}


def test_answers_are_collected_by_point_sorted_and_of_one_backend_only():
    cases = [
        case("a", overtaken_signal="no-op", failed_at_submit="raises"),
        case("a", overtaken_signal="fails"),
        case("a", overtaken_signal="fails"),
        case("b", overtaken_signal="other", recall="may"),
    ]
    seen = seen_answers(cases, "a")
    assert seen == {"failed-at-submit": ["raises"], "overtaken-signal": ["fails", "no-op"]}
    assert list(seen) == ["failed-at-submit", "overtaken-signal"]


@pytest.mark.parametrize("name", PROFILES)
def test_a_backend_that_answers_as_a_profile_does_is_nearest_to_it(name):
    profile = PROFILES[name]
    points = ["non-advancing-signal", "overtaken-signal", "failed-wait-code", "transfer-granularity", "drop-order"]
    seen = {point: [answer] for point in points if (answer := profile.usual(point)) is not None}
    found = nearest_profile(seen, declared=name)
    assert found == {"profile": name, "agree": len(seen), "of": len(seen)}


def test_the_nearest_may_be_another_than_the_declared_one():
    seen = {"non-advancing-signal": ["INVALID_ARGUMENT"], "overtaken-signal": ["fails"]}
    assert nearest_profile(seen, declared="strict") == {"profile": "iree", "agree": 2, "of": 2}


def test_each_answer_to_a_point_counts():
    # strict permits no-op alone, iree fails alone.
    seen = {"overtaken-signal": ["fails", "no-op"]}
    assert nearest_profile(seen, declared="strict") == {"profile": "strict", "agree": 1, "of": 2}
    assert nearest_profile(seen, declared="iree") == {"profile": "iree", "agree": 1, "of": 2}


def test_what_a_profile_leaves_undefined_disagrees():
    # vulkan leaves the first undefined; the second is what it says, and strict does not.
    seen = {"non-advancing-signal": ["OUT_OF_RANGE"], "transfer-granularity": ["4"]}
    assert nearest_profile(seen, declared="vulkan") == {"profile": "vulkan", "agree": 1, "of": 2}
    assert nearest_profile({"non-advancing-signal": ["OUT_OF_RANGE"]}, "vulkan") == {
        "profile": "strict",
        "agree": 1,
        "of": 1,
    }


@pytest.mark.parametrize("declared", PROFILES)
def test_the_declared_profile_wins_a_tie(declared):
    assert nearest_profile({"transfer-granularity": ["nobody's"]}, declared) == {
        "profile": declared,
        "agree": 0,
        "of": 1,
    }


def test_without_a_known_declared_profile_the_first_wins_a_tie():
    found = nearest_profile({"transfer-granularity": ["nobody's"]}, "homemade")
    assert found is not None
    assert found["profile"] == next(iter(PROFILES))


@pytest.mark.parametrize("seen", [{}, {"value-max": ["5"]}, {"a point of a user": ["yes"]}, {"drop-order": []}])
def test_nothing_to_compare_gives_no_profile(seen):
    assert nearest_profile(seen, "strict") is None


def test_unknown_points_are_listed_and_do_not_count():
    answers = answers_of([case("a", homemade="yes", drop_order="any")], "a", "strict")
    assert answers["seen"] == {"drop-order": ["any"], "homemade": ["yes"]}
    assert answers["nearest"] == {"profile": "strict", "agree": 1, "of": 1}
