"""What a run writes can be read, lists what deviated, and keeps what people wrote before."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_cuda2hal import baseline_file
from pytest_cuda2hal.baseline import Baseline, BaselineError, Entry, Facts, JudgementKind
from pytest_cuda2hal.baseline_file import Deviation, quoted, write_baseline
from pytest_cuda2hal.baseline_reading import parse_entries
from pytest_cuda2hal.outcome import Outcome

TODAY = date(2026, 6, 15)
FACTS = Facts("iree:local-task", "CPU", {"driver": "12.4"}, "Linux", "x86_64", "3.12.1")
CUDA = dataclasses.replace(FACTS, backend="cuda")
CASE = "waits/test_any::test_it[2-True]"

EVERYTHING = """\
version = 1
[[deviation]]
case = "failures/test_long_chains::*"
backend = "iree:*"
outcome = "crash"
reason = "recursion in the \\"failure\\" path"
issue = "https://example.org/issues/7"
expires = 2027-01-31
when = { system = "Linux", "odd key" = ">=1", driver = ">=12,<13" }
rate = 0.2
runs = 20
"""


def deviation(case: str = CASE, outcome: Outcome = Outcome.FAIL, message: str = "", facts: Facts = FACTS) -> Deviation:
    return Deviation(case, facts.backend, outcome, message, facts)


def previous(text: str) -> Baseline:
    return Baseline("old.toml", parse_entries(f"version = 1\n{text}", "old.toml"), TODAY)


def listed(case: str, outcome: str = "fail", reason: str = "known", *more: str) -> str:
    lines = [f'case = "{case}"', f'outcome = "{outcome}"', f'reason = "{reason}"', *more]
    return "\n".join(["[[deviation]]", *lines, ""])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hal.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For examples of hypothesis, which all share the fixtures of their test."""
    return tmp_path_factory.mktemp("examples")


def written(path: Path, *deviations: Deviation, old: Baseline | None = None, **more: Any) -> list[tuple[str, str, str]]:
    """Write, and return case, outcome and reason of what is in the file now."""
    returned = write_baseline(path, deviations, previous=old, today=TODAY, **more)
    assert returned == Baseline.load(path, today=TODAY)
    return [(entry.case, entry.outcome.value, entry.reason) for entry in returned.entries]


# --- new entries


def test_a_new_entry_names_case_backend_and_outcome_and_waits_for_a_reason(path: Path) -> None:
    write_baseline(path, [deviation(message="\n  it broke\nat once")], previous=None, today=TODAY)
    assert path.read_text() == (
        "# Known deviations of a HAL from the contract of pytest-cuda2hal.\n"
        "# Rewriting keeps entries and their order, but no comments: what must stay belongs into a reason.\n"
        "version = 1\n"
        "\n"
        "# it broke\n"
        "[[deviation]]\n"
        'case = "waits/test_any::test_it[2-True]"\n'
        'backend = "iree:local-task"\n'
        'outcome = "fail"\n'
        'reason = "TODO: say why"\n'
    )


def test_nothing_that_deviates_makes_an_empty_baseline(path: Path) -> None:
    assert written(path) == []


def test_the_order_does_not_depend_on_the_order_of_the_run(path: Path, tmp_path: Path) -> None:
    some = [
        deviation(f"waits/test_any::test_it[{number}]", facts=facts) for number in range(3) for facts in (FACTS, CUDA)
    ]
    write_baseline(path, some, previous=None, today=TODAY)
    other = tmp_path / "other.toml"
    write_baseline(other, reversed(some), previous=None, today=TODAY)
    assert path.read_text() == other.read_text()
    entries = Baseline.load(path).entries
    assert [(entry.case[-2], entry.backend) for entry in entries] == [
        (number, backend) for number in "012" for backend in ("cuda", "iree:local-task")
    ]


def test_of_two_deviations_of_a_case_the_first_counts(path: Path) -> None:
    assert written(path, deviation(outcome=Outcome.HANG), deviation()) == [(CASE, "hang", "TODO: say why")]


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.UNSUPPORTED, Outcome.SET_ASIDE])
def test_what_does_not_deviate_is_not_listed(path: Path, outcome: Outcome) -> None:
    path.write_text("untouched")
    with pytest.raises(ValueError, match=f"'{outcome.value}' is no deviation"):
        write_baseline(path, [deviation(outcome=outcome)], previous=None, today=TODAY)
    assert path.read_text() == "untouched"


@pytest.mark.parametrize(
    ("message", "comment"),
    [
        ("", None),
        (" \n ", None),
        ("one\rtwo", "# one"),
        ("bell \a and \x7f and \x1b[31mred", "# bell and and [31mred"),
        ("\ud800 half", "# half"),
        ("→ ü", "# → ü"),
        ("x" * 500, "# " + "x" * 199 + "…"),
    ],
)
def test_a_message_becomes_a_comment_of_one_line(path: Path, message: str, comment: str | None) -> None:
    assert written(path, deviation(message=message)) == [(CASE, "fail", "TODO: say why")]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[4] == (comment or "[[deviation]]")


# --- what stays


def test_an_entry_that_holds_stays_as_it_is(path: Path) -> None:
    old = previous(EVERYTHING.partition("\n")[2].replace('"odd key" = ">=1", ', ""))
    write_baseline(path, [deviation("failures/test_long_chains::a", Outcome.CRASH)], previous=old, today=TODAY)
    assert Baseline.load(path).entries == old.entries


def test_every_key_is_written_and_read_back(path: Path) -> None:
    old = Baseline("old.toml", parse_entries(EVERYTHING, "old.toml"), TODAY)
    write_baseline(path, [], previous=old, today=TODAY)
    assert Baseline.load(path).entries == old.entries
    assert tomllib.loads(path.read_text())["deviation"] == tomllib.loads(EVERYTHING)["deviation"]


def test_one_entry_may_hold_for_many_cases(path: Path) -> None:
    old = previous(listed("waits/*"))
    assert written(path, deviation("waits/a::b"), deviation("waits/c::d"), old=old) == [("waits/*", "fail", "known")]


def test_entries_keep_their_order_and_new_ones_follow(path: Path) -> None:
    old = previous(listed("z::z") + listed("a::*") + listed("m::m"))
    cases = ["b::new", "m::m", "a::a", "z::z"]
    now = written(path, *map(deviation, cases), old=old)
    assert [case for case, _, _ in now] == ["z::z", "a::*", "m::m", "b::new"]


def test_writing_again_changes_nothing(path: Path) -> None:
    some = [deviation(message="why it broke"), deviation("a::b", Outcome.HANG, "slow")]
    write_baseline(path, some, previous=None, today=TODAY)
    first = path.read_text()
    write_baseline(path, some, previous=Baseline.load(path, today=TODAY), today=TODAY)
    assert path.read_text() == first
    assert "# why it broke\n" in first


def test_an_expired_entry_whose_case_still_deviates_stays_expired(path: Path) -> None:
    old = previous(listed(CASE, "fail", "known", "expires = 2026-06-14"))
    assert written(path, deviation(message="m"), old=old) == [(CASE, "fail", "known")]
    assert "# expired: give it a later date, or remove it\n[[deviation]]" in path.read_text()
    assert Baseline.load(path, today=TODAY).expired()


def test_an_entry_in_force_is_preferred_to_an_expired_one(path: Path) -> None:
    old = previous(listed("waits/*", "hang", "past", "expires = 2026-06-14") + listed(CASE, "fail", "present"))
    assert written(path, deviation(), old=old, seen=[(CASE, FACTS)]) == [(CASE, "fail", "present")]


# --- what goes


@pytest.mark.parametrize("seen", [None, [(CASE, FACTS), ("a::b", FACTS)]])
def test_an_entry_that_no_case_needs_any_more_goes(path: Path, seen: list[tuple[str, Facts]] | None) -> None:
    old = previous(listed("a::*") + listed(CASE))
    assert written(path, deviation(), old=old, seen=seen) == [(CASE, "fail", "known")]


@pytest.mark.parametrize("more", ['backend = "mars"', 'when = { system = "Windows" }', 'when = { driver = ">=13" }'])
@pytest.mark.parametrize("seen", [None, [(CASE, FACTS), ("a::b", FACTS)]])
def test_an_entry_for_elsewhere_stays(path: Path, more: str, seen: list[tuple[str, Facts]] | None) -> None:
    old = previous(listed("a::*", "fail", "elsewhere", more))
    assert ("a::*", "fail", "elsewhere") in written(path, deviation(), old=old, seen=seen)


def test_an_entry_whose_cases_did_not_run_stays(path: Path) -> None:
    old = previous(listed("a::*"))
    assert written(path, old=old, seen=[(CASE, FACTS)]) == [("a::*", "fail", "known")]
    assert written(path, old=old, seen=[("a::b", FACTS)]) == []


def test_a_flaky_entry_stays_although_its_case_passed(path: Path) -> None:
    old = previous(listed("a::*", "fail", "sometimes", "rate = 0.1"))
    assert written(path, old=old, seen=[("a::b", FACTS)]) == [("a::*", "fail", "sometimes")]
    now = written(path, deviation("a::b", Outcome.HANG), old=old, seen=[("a::b", FACTS)])
    assert now == [("a::b", "hang", "TODO: say why")]


# --- what changed


def test_a_changed_case_gets_an_entry_before_the_one_that_held_for_it(path: Path) -> None:
    old = previous(listed("a::*", "fail", "known", 'when = { system = "Linux" }'))
    some = [deviation("a::one"), deviation("a::two", Outcome.HANG)]
    assert written(path, *some, old=old) == [("a::two", "hang", "TODO: say why"), ("a::*", "fail", "known")]
    changed = Baseline.load(path).entries[0]
    assert changed.when == {"system": "Linux"}, "what is known of other systems stays so"


def test_a_changed_case_replaces_the_entry_that_was_its_own(path: Path) -> None:
    old = previous(listed(CASE, "crash"))
    assert written(path, deviation(), old=old) == [(CASE, "fail", "TODO: say why")]


CASES = ["a::x", "a::y", "b::x"]
DEVIATING = [outcome for outcome in Outcome if outcome.deviates][:3]

entries = st.builds(
    Entry,
    number=st.just(0),
    case=st.sampled_from([*CASES, "a::*", "*::x", "*"]),
    outcome=st.sampled_from(DEVIATING),
    reason=st.sampled_from(["TODO: say why", "one", "two"]),
    backend=st.sampled_from(["*", "cuda", "iree:*"]),
    expires=st.none(),
    when=st.sampled_from([{}, {"system": "Linux"}, {"system": "Windows"}]),
    rate=st.sampled_from([None, None, 0.5]),
)
deviations = st.dictionaries(
    st.tuples(st.sampled_from(CASES), st.sampled_from([FACTS, CUDA])), st.sampled_from(DEVIATING)
).map(lambda found: [deviation(case, outcome, "", facts) for (case, facts), outcome in found.items()])


@given(
    old=st.lists(entries, unique_by=lambda entry: (entry.case, entry.backend, entry.outcome, str(entry.when))),
    found=deviations,
    everything_ran=st.booleans(),
)
def test_after_writing_everything_that_deviated_is_known(
    folder: Path, old: list[Entry], found: list[Deviation], everything_ran: bool
) -> None:
    numbered = tuple(dataclasses.replace(entry, number=number) for number, entry in enumerate(old, 1))
    before = Baseline("old.toml", numbered, TODAY)
    seen = [(case, facts) for case in CASES for facts in (FACTS, CUDA)] if everything_ran else None
    path = folder / "hal.toml"
    after = write_baseline(path, found, previous=before, today=TODAY, seen=seen)
    for one in found:
        assert after.judge(one.case, one.facts, one.outcome).kind is JudgementKind.KNOWN
    again = write_baseline(path, found, previous=after, today=TODAY, seen=seen)
    assert [dataclasses.replace(entry, number=0) for entry in again.entries if not entry.flaky] == [
        dataclasses.replace(entry, number=0) for entry in after.entries if not entry.flaky
    ]


# --- text

AWKWARD = ['"', "\\", "\n", "\r", "\t", "\0", "\x1f", "\x7f", "\x85", "\u2028", "'''", '"""', "\\u0041", "é→𝄞", "#", ""]


@pytest.mark.parametrize("text", [*AWKWARD, "".join(AWKWARD)])
def test_an_awkward_text_survives(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)}") == {"x": text}
    assert len(quoted(text).splitlines()) == 1


@given(st.text())
@example("\ufeff")
def test_every_text_survives(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)} # rest") == {"x": text}


@given(st.text(st.characters(categories=["Cs"]), min_size=1))
def test_half_surrogates_are_replaced(text: str) -> None:
    assert tomllib.loads(f"x = {quoted(text)}".encode().decode()) == {"x": "\ufffd" * len(text)}


@given(st.text(st.characters()), st.text(st.characters(), max_size=300))
@example("half \udc80 of a pair", "half \udc80")
@example("wild * and ?", "")
def test_every_case_and_message_can_be_written(folder: Path, parameters: str, message: str) -> None:
    path = folder / "hal.toml"
    one = deviation(f"waits/test_any::test_it[{parameters}]", Outcome.FAIL, message)
    after = write_baseline(path, [one], previous=None, today=TODAY)
    assert after.judge(one.case, FACTS, Outcome.FAIL).kind is JudgementKind.KNOWN
    assert Baseline.load(path, today=TODAY) == after


def test_two_cases_that_toml_cannot_tell_apart_share_an_entry(path: Path) -> None:
    assert written(path, deviation("a::b[\ud800]"), deviation("a::b[\ud801]")) == [("a::b[?]", "fail", "TODO: say why")]


@pytest.mark.parametrize("rate", [0.2, 1e-7, 0.1 + 0.2, 1 - 2**-53, 5e-324])
def test_a_rate_survives(path: Path, rate: float) -> None:
    entry = Entry(1, "a::b", Outcome.FAIL, "sometimes", rate=rate)
    after = write_baseline(path, [], previous=Baseline("old", (entry,), TODAY), today=TODAY)
    assert after.entries[0].rate == rate


# --- the file


def test_folders_are_made(tmp_path: Path) -> None:
    assert written(tmp_path / "new" / "folder" / "hal.toml") == []


def test_nothing_is_left_beside_the_file(path: Path) -> None:
    written(path, deviation())
    assert [found.name for found in path.parent.iterdir()] == ["hal.toml"]


@pytest.mark.parametrize("broken", ["replace", "open", "fsync", "read back", "interrupted"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path.write_text("precious")

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt if broken == "interrupted" else OSError(28, "No space left on device")

    def refuse(*_: object) -> None:
        raise BaselineError(f"{path}: No space left on device")

    if broken == "read back":
        monkeypatch.setattr(baseline_file, "parse_entries", refuse)
    elif broken in ("fsync", "interrupted"):
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, broken, fail)
    expected = KeyboardInterrupt if broken == "interrupted" else BaselineError
    with pytest.raises(expected) as caught:
        write_baseline(path, [deviation()], previous=None, today=TODAY)
    monkeypatch.undo()
    assert path.read_text() == "precious"
    assert [found.name for found in path.parent.iterdir()] == ["hal.toml"]
    if broken != "interrupted":
        assert str(path) in str(caught.value)
        assert "No space left on device" in str(caught.value)


def test_a_folder_in_the_place_of_the_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"cannot be written: .*; name a file that can be") as caught:
        write_baseline(tmp_path, [], previous=None, today=TODAY)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(BaselineError, match="cannot be written"):
        write_baseline(tmp_path / "a\0b", [], previous=None, today=TODAY)


@pytest.mark.skipif(os.name != "posix", reason="modes and links are POSIX's")
def test_mode_and_link_of_the_file_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_baseline(link, [], previous=None, today=TODAY)
    assert link.is_symlink()
    assert real.read_text().startswith("# Known deviations")
    assert real.stat().st_mode & 0o777 == 0o640


def test_lines_end_as_on_every_system(path: Path) -> None:
    written(path, deviation())
    assert b"\r" not in path.read_bytes()
