"""Which entry speaks of a case, and what it makes of what the case came to."""

from __future__ import annotations

import dataclasses
from datetime import date
from fractions import Fraction
from math import comb
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_cuda2hal.baseline import (
    Baseline,
    Entry,
    Facts,
    Judgement,
    JudgementKind,
    probability_of_at_least,
    runs_to_notice_a_fix,
)
from pytest_cuda2hal.outcome import Outcome

TODAY = date(2026, 6, 15)
FACTS = Facts(
    backend="iree:local-task",
    device="NVIDIA H100 80GB",
    versions={"driver": "570.86.15", "iree-base-runtime": "3.14.0rc20260101", "vulkan": "Mesa 25 (LLVM)"},
    system="Linux",
    machine="x86_64",
    python="3.12.1",
)
CASE = "waits/test_any::test_it[2-True]"


def entry(number: int = 1, case: str = CASE, outcome: Outcome = Outcome.FAIL, **more: Any) -> Entry:
    return Entry(number, case, outcome, **{"reason": "because", **more})


def baseline(*entries: Entry) -> Baseline:
    return Baseline("hal.toml", entries, TODAY)


# --- which entry


def test_no_entry_speaks_of_a_case_that_is_not_listed() -> None:
    known = baseline(entry(case="waits/test_all::*"))
    assert known.entry_for(CASE, FACTS) is None
    judged = known.judge(CASE, FACTS, Outcome.FAIL)
    assert judged == Judgement(JudgementKind.UNLISTED, None, "not listed in hal.toml")
    assert not judged.fails


def test_the_first_entry_that_applies_counts() -> None:
    here, later = entry(2, "waits/*", Outcome.HANG), entry(3)
    known = baseline(entry(1, backend="cuda*"), here, later)
    assert known.entry_for(CASE, FACTS) is here


@pytest.mark.parametrize(
    ("backend", "applies"),
    [("*", True), ("iree:*", True), ("iree:local-task", True), ("iree", False), ("iree:?", False), ("cuda", False)],
)
def test_the_backend_is_matched_as_a_whole(backend: str, applies: bool) -> None:
    assert (baseline(entry(backend=backend)).entry_for(CASE, FACTS) is not None) is applies


@pytest.mark.parametrize(
    ("expires", "applies"), [(date(2026, 6, 14), False), (TODAY, True), (date(2026, 6, 16), True), (None, True)]
)
def test_an_entry_holds_on_its_last_day_and_not_after_it(expires: date | None, applies: bool) -> None:
    known = baseline(entry(expires=expires))
    assert (known.entry_for(CASE, FACTS) is not None) is applies
    expected = JudgementKind.KNOWN if applies else JudgementKind.UNLISTED
    assert known.judge(CASE, FACTS, Outcome.FAIL).kind is expected


def test_an_expired_entry_does_not_hide_a_later_one() -> None:
    later = entry(2, outcome=Outcome.HANG)
    assert baseline(entry(1, expires=date(2020, 1, 1)), later).entry_for(CASE, FACTS) is later


@pytest.mark.parametrize(
    ("key", "wanted", "holds"),
    [
        ("system", "Linux", True),
        ("system", "linux", True),
        ("system", "Windows", False),
        ("system", "Lin", False),
        ("machine", "x86*", True),
        ("machine", "aarch64", False),
        ("device", "*H100*", True),
        ("device", "*h100*", True),
        ("device", "H100", False),
        ("python", ">=3.12", True),
        ("python", "<3.12", False),
        ("python", "==3.12.*", True),
        ("driver", ">=570.86,<571", True),
        ("driver", ">=570.100", False),
        ("iree-base-runtime", ">=3.13,<3.15", True),
        ("iree-base-runtime", ">=3.14", False),  # a release candidate comes before its release
        ("iree-base-runtime", "<3.14", False),  # PEP 440: and `<` leaves out candidates of what it names
        ("iree-base-runtime", ">=3.14.0rc0", True),
        ("iree_base_runtime", ">=3.13", False),  # not reported under that name
        ("cuda-bindings", ">=1", False),
        ("vulkan", ">=1", False),  # no version that can be compared
    ],
)
def test_a_condition_is_checked_against_the_facts(key: str, wanted: str, holds: bool) -> None:
    assert (baseline(entry(when={key: wanted})).entry_for(CASE, FACTS) is not None) is holds


def test_all_conditions_must_hold() -> None:
    assert entry(when={"system": "Linux", "driver": ">=570"}).matches(CASE, FACTS)
    assert not entry(when={"system": "Linux", "driver": ">=571"}).matches(CASE, FACTS)
    assert not entry(when={"system": "Windows", "driver": ">=570"}).matches(CASE, FACTS)


def test_a_python_from_a_branch_is_that_version() -> None:
    built = dataclasses.replace(FACTS, python="3.12.1+")
    assert entry(when={"python": ">=3.12"}).matches(CASE, built)
    assert not entry(when={"python": ">=3.13"}).matches(CASE, built)


# --- judging


@pytest.mark.parametrize(
    ("outcome", "kind", "fails"),
    [
        (Outcome.CRASH, JudgementKind.KNOWN, False),
        (Outcome.PASS, JudgementKind.FIXED, True),
        *(
            (outcome, JudgementKind.CHANGED, True)
            for outcome in Outcome
            if outcome not in (Outcome.CRASH, Outcome.PASS)
        ),
    ],
)
def test_a_listed_case_is_judged_by_its_outcome(outcome: Outcome, kind: JudgementKind, fails: bool) -> None:
    listed = entry(4, outcome=Outcome.CRASH, reason="two\n  lines")
    judged = baseline(listed).judge(CASE, FACTS, outcome)
    assert (judged.kind, judged.entry, judged.fails) == (kind, listed, fails)
    assert f"hal.toml, entry 4 ({CASE}), lists crash" in judged.text
    assert len(judged.text.splitlines()) == 1


def test_the_text_of_a_judgement_says_what_to_do() -> None:
    def text(outcome: Outcome, **more: Any) -> str:
        listed = entry(outcome=Outcome.CRASH, **{"backend": FACTS.backend, **more})
        return baseline(listed).judge(CASE, FACTS, outcome).text

    assert text(Outcome.CRASH, reason="two\n  lines").endswith("lists crash: two lines")
    assert text(Outcome.PASS).endswith("; remove the entry")
    assert text(Outcome.PASS, case="waits/*").endswith("; narrow or remove the entry")
    assert text(Outcome.PASS, backend="*").endswith("; narrow or remove the entry")
    assert text(Outcome.HANG).startswith("it came to hang, but")
    assert text(Outcome.UNSUPPORTED).startswith("it was not judged (unsupported), but")
    assert text(Outcome.SET_ASIDE).startswith("it was not judged (set aside), but")


@pytest.mark.parametrize("kind", JudgementKind)
def test_what_is_wrong_with_the_baseline_fails_the_run(kind: JudgementKind) -> None:
    assert Judgement(kind, None, "").fails is (kind not in (JudgementKind.UNLISTED, JudgementKind.KNOWN))


# --- flaky cases


def judged_runs(rate: float, deviated: int, total: int, *others: Outcome) -> Judgement:
    flaky = entry(outcome=Outcome.HANG, rate=rate)
    runs = [Outcome.HANG] * deviated + [Outcome.PASS] * (total - deviated - len(others)) + list(others)
    judged = baseline(flaky).judge_runs(flaky, runs)
    assert judged.entry is flaky
    assert len(judged.text.splitlines()) == 1
    return judged


@pytest.mark.parametrize(
    ("rate", "deviated", "total", "kind"),
    [
        (0.2, 3, 21, JudgementKind.KNOWN),
        (0.2, 21, 21, JudgementKind.INCONSISTENT),
        (0.2, 9, 21, JudgementKind.KNOWN),  # 9 or more: 0.0144
        (0.2, 10, 21, JudgementKind.INCONSISTENT),  # 10 or more: 0.0041
        (0.2, 0, 20, JudgementKind.KNOWN),  # none in 20: 0.0115
        (0.2, 0, 21, JudgementKind.FIXED),  # none in 21: 0.0092
        (0.2, 1, 1000, JudgementKind.KNOWN),  # rarer than declared, but not gone
        (0.01, 1, 1, JudgementKind.KNOWN),  # 0.01 is not less than 0.01
        (0.009, 1, 1, JudgementKind.INCONSISTENT),
        (0.995, 0, 1, JudgementKind.FIXED),
        (0.5, 2000, 4000, JudgementKind.KNOWN),
        (0.5, 2100, 4000, JudgementKind.INCONSISTENT),
    ],
)
def test_a_flaky_case_is_judged_by_its_runs(rate: float, deviated: int, total: int, kind: JudgementKind) -> None:
    judged = judged_runs(rate, deviated, total)
    assert judged.kind is kind
    assert judged.text.startswith(f"deviated in {deviated} of {total} runs; declared rate {rate}")


@pytest.mark.parametrize("other", [outcome for outcome in Outcome if outcome not in (Outcome.PASS, Outcome.HANG)])
def test_one_run_with_another_outcome_is_a_change(other: Outcome) -> None:
    for deviated in (0, 3, 20):
        judged = judged_runs(0.2, deviated, 21, other)
        assert judged.kind is JudgementKind.CHANGED
        shown = other.value if other.deviates else f"not judged ({other.value})"
        assert judged.text.startswith(f"of 21 runs: {shown} in 1; but hal.toml, entry 1")


def test_every_other_outcome_is_counted() -> None:
    text = judged_runs(0.2, 3, 21, Outcome.FAIL, Outcome.FAIL, Outcome.UNSUPPORTED).text
    assert text.startswith("of 21 runs: fail in 2, not judged (unsupported) in 1; but")


def test_judging_runs_needs_a_flaky_entry_and_a_run() -> None:
    with pytest.raises(ValueError, match="has no rate"):
        baseline().judge_runs(entry(), [Outcome.PASS])
    with pytest.raises(ValueError, match="without a run"):
        baseline().judge_runs(entry(rate=0.5), [])


def test_a_single_run_of_a_flaky_case_proves_little() -> None:
    known = baseline(entry(outcome=Outcome.HANG, rate=0.2))
    kinds = {outcome: known.judge(CASE, FACTS, outcome).kind for outcome in (Outcome.PASS, Outcome.HANG, Outcome.FAIL)}
    assert kinds == {
        Outcome.PASS: JudgementKind.KNOWN,
        Outcome.HANG: JudgementKind.KNOWN,
        Outcome.FAIL: JudgementKind.CHANGED,
    }


@pytest.mark.parametrize(
    ("rate", "runs", "expected"), [(0.2, None, 21), (0.05, None, 90), (0.01, None, 100), (0.5, 3, 3), (0.01, 500, 500)]
)
def test_how_often_a_flaky_case_runs(rate: float, runs: int | None, expected: int) -> None:
    assert entry(rate=rate, runs=runs).run_count == expected


@given(st.floats(min_value=1e-4, max_value=0.9999))
@example(0.99)
def test_a_fixed_case_is_noticed_after_that_many_runs_and_not_before(rate: float) -> None:
    needed = runs_to_notice_a_fix(rate)
    assert judged_runs(rate, 0, needed).kind is JudgementKind.FIXED
    assert needed == 1 or judged_runs(rate, 0, needed - 1).kind is JudgementKind.KNOWN
    assert (1 - rate) ** needed < 0.01 * (1 + 1e-9)


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1 - 2**-53])
def test_extreme_rates_are_no_error(rate: float) -> None:
    assert 1 <= entry(rate=rate).run_count <= 100
    assert judged_runs(rate, 0, 100).kind in (JudgementKind.KNOWN, JudgementKind.FIXED)
    assert judged_runs(rate, 100, 100).kind in (JudgementKind.KNOWN, JudgementKind.INCONSISTENT)


@given(st.integers(1, 60), st.floats(0.001, 0.999), st.data())
def test_the_tail_is_the_binomial_one(runs: int, rate: float, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, runs))
    p = Fraction(rate)
    exact = sum(comb(runs, hits) * p**hits * (1 - p) ** (runs - hits) for hits in range(count, runs + 1))
    assert probability_of_at_least(count, runs, rate) == pytest.approx(float(exact), rel=1e-9)


# --- entries that are wrong by themselves

OTHER = dataclasses.replace(FACTS, backend="cuda", versions={}, system="Windows")


def test_a_baseline_that_is_used_has_no_problems() -> None:
    assert baseline(entry(), entry(2, "waits/*")).problems([(CASE, FACTS), ("waits/x::y", FACTS)], TODAY) == []


def test_an_expired_entry_is_a_problem_wherever_it_applies() -> None:
    known = baseline(entry(expires=date(2026, 6, 14)), entry(2, "a::*", backend="mars", expires=date(2026, 1, 1)))
    one, two = known.problems([(CASE, FACTS)], TODAY)
    assert one.startswith(f"hal.toml: entry 1 ({CASE}) expired on 2026-06-14; fix the deviation")
    assert two.startswith("hal.toml: entry 2 (a::*) expired on 2026-01-01")
    assert known.problems([(CASE, FACTS)], date(2026, 1, 1)) == []


def test_an_entry_that_matches_no_case_is_a_problem() -> None:
    (line,) = baseline(entry(case="waits/test_gone::*")).problems([(CASE, FACTS)], TODAY)
    assert line == "hal.toml: entry 1 (waits/test_gone::*) matches no case that ran; correct its 'case', or remove it"


@pytest.mark.parametrize("more", [{"backend": "mars"}, {"when": {"system": "Darwin"}}, {"when": {"nothing": ">=1"}}])
def test_an_entry_for_elsewhere_is_no_problem(more: dict[str, Any]) -> None:
    assert baseline(entry(case="waits/test_gone::*", **more)).problems([(CASE, FACTS), (CASE, OTHER)], TODAY) == []


def test_a_case_that_ran_on_another_backend_only_is_not_matched() -> None:
    seen = [(CASE, OTHER), ("waits/x::y", FACTS)]
    (line,) = baseline(entry(backend="iree:*")).problems(seen, TODAY)
    assert "matches no case that ran" in line
    assert baseline(entry(backend="cuda")).problems(seen, TODAY) == []


def test_an_entry_behind_others_that_list_its_cases_is_a_problem() -> None:
    general = entry(1, "waits/*")
    (line,) = baseline(general, entry(2)).problems([(CASE, FACTS)], TODAY)
    assert line.startswith(f"hal.toml: entry 2 ({CASE}) is never used, earlier entries list its cases")
    assert baseline(dataclasses.replace(general, expires=date(2020, 1, 1)), entry(2)).unused([(CASE, FACTS)]) == []
    assert baseline(dataclasses.replace(general, backend="cuda"), entry(2)).unused([(CASE, FACTS), (CASE, OTHER)]) == []


def test_nothing_can_be_unused_where_nothing_ran() -> None:
    assert baseline(entry()).problems([], TODAY) == []


# --- notes


def test_a_sound_baseline_has_no_notes() -> None:
    sound = baseline(entry(when={"driver": ">=1", "device": "x", "python": ">=3"}), entry(2, rate=0.2))
    assert sound.notes([(CASE, FACTS)]) == []


def test_a_missing_reason_is_a_note_and_no_problem() -> None:
    known = baseline(entry(reason="TODO: say why"), entry(2, "waits/*", reason="a todo elsewhere"))
    (line,) = known.notes()
    assert line == f"hal.toml: entry 1 ({CASE}) has no reason yet; say why the case deviates"
    assert known.expired() == []


def test_too_few_runs_are_a_note_unless_the_entry_expires() -> None:
    (line,) = baseline(entry(rate=0.2, runs=20)).notes()
    assert "20 runs cannot show that a deviation of rate 0.2 is fixed; set 'runs' to 21" in line
    (line,) = baseline(entry(rate=0.01)).notes()
    assert "100 runs cannot show" in line
    assert "set 'runs' to 459" in line
    assert baseline(entry(rate=0.01, expires=TODAY)).notes() == []
    assert baseline(entry(rate=0.01, runs=459)).notes() == []


def test_a_version_that_cannot_be_compared_is_noted_for_the_backends_it_is_about() -> None:
    known = baseline(entry(when={"vulkan": ">=1"}, backend="iree:*"), entry(2, when={"iree": ">=1"}, backend="iree:*"))
    one, two = known.notes([(CASE, FACTS), ("a::b", FACTS), (CASE, OTHER)])
    assert one.endswith("'vulkan' cannot hold: iree:local-task reports 'Mesa 25 (LLVM)', which is no PEP 440 version")
    assert "'iree' cannot hold: iree:local-task reports no such version (it reports driver, iree-base" in two
    assert known.notes([(CASE, OTHER)]) == []
