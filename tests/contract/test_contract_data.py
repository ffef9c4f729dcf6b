"""The contract is complete, consistent in itself, and agrees with the interface it speaks of."""

from __future__ import annotations

import re

import pytest

from pytest_cuda2hal.contract import (
    CLAUSES,
    CONTRACT_VERSION,
    LEGAL_PROGRAMS,
    PARTS,
    PROFILES,
    VARIATION_POINTS,
    WORDS,
    Clause,
    UnknownClause,
    clause,
    clauses_of,
)
from pytest_cuda2hal.contract.clauses import EVERY_CLAUSE
from pytest_cuda2hal.hal import Answer, Capability, Limit, VariationPoint

#: How many numbered clauses version 1 has in each part. Ids are for good, so these numbers only ever grow.
NUMBERED = {"TL": 6, "W": 13, "F": 13, "Q": 24, "C": 4, "A": 7, "T": 3, "H": 3, "L": 4, "D": 3}
QUALITY = {"W-10q", "W-11q", "Q-17q", "Q-18q", "L-1q"}
LONGEST_TEXT = 300
MOST_UNOBSERVED = 6

every_clause = pytest.mark.parametrize("one", EVERY_CLAUSE, ids=lambda one: one.id)
every_point = pytest.mark.parametrize("point", VARIATION_POINTS.values(), ids=lambda point: point.id)
every_profile = pytest.mark.parametrize("profile", PROFILES)


# --- parts and ids


def test_every_id_of_version_1_is_there_and_no_other() -> None:
    expected = {f"{part}-{number}" for part, count in NUMBERED.items() for number in range(1, count + 1)}
    assert set(CLAUSES) == expected | QUALITY
    assert CONTRACT_VERSION == "1"


def test_no_id_occurs_twice() -> None:
    assert [one.id for one in EVERY_CLAUSE] == list(CLAUSES)


def test_parts_have_distinct_ids_titles_and_folders() -> None:
    assert [part.id for part in PARTS] == list(NUMBERED)
    assert len({part.title for part in PARTS}) == len(PARTS)
    folders = {part.folder for part in PARTS}
    assert len(folders) == len(PARTS)
    assert all(folder.isidentifier() for folder in folders), "a folder of cases is an importable package"


def test_clauses_are_in_the_order_of_parts_and_numbers() -> None:
    def place(name: str) -> tuple[int, int, str]:
        letters, _, rest = name.partition("-")
        return list(NUMBERED).index(letters), int(rest.removesuffix("q")), rest

    assert list(CLAUSES) == sorted(CLAUSES, key=place)


def test_the_parts_together_have_every_clause_once() -> None:
    assert [one for part in PARTS for one in clauses_of(part)] == list(CLAUSES.values())
    assert clauses_of("W") == tuple(one for one in EVERY_CLAUSE if one.id.startswith("W-"))


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(KeyError, match="X"):
        clauses_of("X")


@every_clause
def test_an_id_is_its_part_and_a_number(one: Clause) -> None:
    assert re.fullmatch(r"[A-Z]{1,2}-[1-9]\d*q?", one.id)
    assert one.part in {part.id for part in PARTS}
    assert one in clauses_of(one.part)
    assert clause(one.id) is one


# --- what a clause says


@every_clause
def test_a_text_is_whole_sentences_and_not_too_long(one: Clause) -> None:
    assert one.text == " ".join(one.text.split())
    assert one.text[:1].isupper()
    assert one.text.endswith(".")
    assert len(one.text) <= LONGEST_TEXT
    assert not re.search(r"\bVPs?\b|\bcapability\b", one.text), "belongs into variations= or requires="


def test_no_two_clauses_say_the_same() -> None:
    assert len({one.text for one in EVERY_CLAUSE}) == len(EVERY_CLAUSE)


@every_clause
def test_quality_is_said_by_the_id(one: Clause) -> None:
    assert one.quality == one.id.endswith("q") == (one.id in QUALITY)
    if one.quality:
        assert not clause(one.id.removesuffix("q")).quality, "the must half stands beside it"


@every_clause
def test_requires_and_variations_exist_and_are_named_once(one: Clause) -> None:
    assert all(isinstance(capability, Capability) for capability in one.requires)
    assert len(set(one.requires)) == len(one.requires)
    assert set(one.variations) <= set(VARIATION_POINTS)
    assert len(set(one.variations)) == len(one.variations)


@every_clause
def test_a_variation_point_named_in_the_text_is_referred_to(one: Clause) -> None:
    named = {point for point in VARIATION_POINTS if re.search(rf"(?<![\w-]){point}(?![\w-])", one.text)}
    assert named <= set(one.variations)


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("TL-5", set()),
        ("W-13", {"wait-any"}),
        ("F-1", {"host-fail"}),
        ("F-4", {"host-fail", "fail-code"}),
        ("F-7", {"fault-injection"}),
        ("F-10", {"device-loss-injection"}),
        ("Q-3", {"async-submit"}),
        ("Q-20", {"multi-queue"}),
        ("Q-21", {"flush"}),
        ("Q-24", {"hold", "async-submit"}),
        ("C-1", {"reusable-commands"}),
        ("A-2", {"async-alloc", "bounded-memory"}),
        ("L-1", {"statistics"}),
        ("L-1q", set()),
        ("D-1", set()),
        ("D-2", set()),
    ],
)
def test_what_gates_a_clause(name: str, capabilities: set[str]) -> None:
    assert {capability.value for capability in clause(name).requires} == capabilities


def test_whole_parts_are_gated_by_their_capability() -> None:
    assert all(Capability.ASYNC_ALLOC in one.requires for one in clauses_of("A"))
    assert all(Capability.HOST_CALL in one.requires for one in clauses_of("H"))
    own = {"F-7": Capability.FAULT_INJECTION, "F-10": Capability.DEVICE_LOSS_INJECTION}
    assert all(own.get(one.id, Capability.HOST_FAIL) in one.requires for one in clauses_of("F"))


def test_few_clauses_are_unobserved_and_these_say_why() -> None:
    unobserved = [one for one in EVERY_CLAUSE if one.unobserved is not None]
    assert len(unobserved) <= MOST_UNOBSERVED, [one.id for one in unobserved]
    assert all(one.unobserved and one.unobserved.missing and one.unobserved.stand_in for one in unobserved)


# --- variation points and profiles


def test_every_variation_point_is_used_by_a_clause() -> None:
    used = {point for one in EVERY_CLAUSE for point in one.variations}
    assert set(VARIATION_POINTS) - used == set()


@every_point
def test_a_variation_point_is_a_question_with_known_answers_or_a_limit(point: VariationPoint) -> None:
    assert VARIATION_POINTS[point.id] is point
    assert point.question.endswith("?")
    assert set(point.answers) == set(PROFILES)
    kind = Answer if point.known else Limit
    assert all(isinstance(answer, kind) for answer in point.answers.values())
    assert len(point.known) != 1 or any(
        isinstance(answer, Answer) and answer.undefined for answer in point.answers.values()
    ), "one known answer that every profile gives is no variation"


@every_profile
@every_point
def test_every_profile_answers_with_known_answers_and_says_where_from(point: VariationPoint, profile: str) -> None:
    answer = point.answers[profile]
    assert answer.source
    if isinstance(answer, Answer):
        assert set(answer.permitted) <= set(point.known)
        assert len(set(answer.permitted)) == len(answer.permitted)
        assert answer.undefined == (not answer.permitted)


@every_point
def test_the_strict_profile_gives_one_answer_and_leaves_nothing_undefined(point: VariationPoint) -> None:
    answer = point.answers["strict"]
    assert isinstance(answer, Limit) or (len(answer.permitted) == 1 and not answer.undefined)


@every_profile
def test_a_profile_knows_its_name_and_its_largest_value(profile: str) -> None:
    assert PROFILES[profile].name == profile
    assert 2**31 - 2 <= PROFILES[profile].value_max < 2**64


# --- looking up, and the words


@pytest.mark.parametrize(
    ("asked", "nearest"), [("W10", "W-10"), ("q-3", "Q-3"), ("TL7", "TL-6"), ("L-1Q", "L-1q"), ("W-99", "W-9")]
)
def test_an_unknown_clause_names_the_nearest(asked: str, nearest: str) -> None:
    with pytest.raises(UnknownClause) as caught:
        clause(asked)
    assert isinstance(caught.value, KeyError)
    assert nearest in caught.value.nearest
    message = str(caught.value)
    assert f"'{asked}'" in message
    assert nearest in message.partition("nearest: ")[2].split(", ")


def test_an_unknown_clause_that_looks_like_none_says_what_ids_look_like() -> None:
    with pytest.raises(UnknownClause) as caught:
        clause("everything")
    assert caught.value.nearest == ()
    assert "'everything'" in str(caught.value)
    assert all(part.id in str(caught.value) for part in PARTS)


def test_the_contract_cannot_be_changed_by_a_reader() -> None:
    with pytest.raises(TypeError):
        CLAUSES["W-1"] = clause("W-2")  # type: ignore[index]
    with pytest.raises(AttributeError):
        clause("W-1").text = ""  # type: ignore[misc]


def test_the_words_are_explained() -> None:
    assert list(WORDS) == ["semaphore", "timepoint", "submission", "reached", "failed", "held"]
    assert all(text.endswith(".") for text in WORDS.values())
    assert LEGAL_PROGRAMS.endswith(".")
    assert "max-difference" in LEGAL_PROGRAMS
