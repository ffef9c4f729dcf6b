"""A baseline is read whole, or every problem of it is named in a line of its own."""

from __future__ import annotations

import pickle
import re
from datetime import date
from pathlib import Path

import pytest

from pytest_cuda2hal.baseline import Baseline, BaselineError, Entry
from pytest_cuda2hal.baseline_reading import parse_entries
from pytest_cuda2hal.outcome import Outcome

MINIMAL = '[[deviation]]\ncase = "waits/test_any::test_it"\noutcome = "fail"\nreason = "why not"\n'


def read(text: str) -> tuple[Entry, ...]:
    return parse_entries(f"version = 1\n{text}", "hal.toml")


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(BaselineError) as caught:
        parse_entries(text, "hal.toml")
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(len(line.splitlines()) == 1 and line.startswith("hal.toml: ") for line in caught.value.problems)
    return caught.value.problems


def problem_with(line: str, entry: str = MINIMAL) -> str:
    """Return the one problem of a minimal entry to which a line was added, in the place of that of the same key."""
    key = line.partition("=")[0]
    kept = [old for old in entry.splitlines() if old.partition("=")[0] != key]
    (problem,) = problems_of("\n".join(["version = 1", *kept, line]))
    return problem


# --- what is read


def test_every_key_is_read() -> None:
    (entry,) = read(
        """
        [[deviation]]
        case = "failures/test_long_chains::*"
        backend = "iree:*"
        outcome = "device lost"
        reason = "recursion in the failure path"
        issue = "https://example.org/issues/7"
        expires = 2027-01-31
        when = { system = "Linux", device = "*H100*", iree-base-runtime = ">=3.13,<3.15" }
        rate = 0.2
        runs = 20
        """
    )
    assert entry == Entry(
        number=1,
        case="failures/test_long_chains::*",
        backend="iree:*",
        outcome=Outcome.DEVICE_LOST,
        reason="recursion in the failure path",
        issue="https://example.org/issues/7",
        expires=date(2027, 1, 31),
        when={"system": "Linux", "device": "*H100*", "iree-base-runtime": ">=3.13,<3.15"},
        rate=0.2,
        runs=20,
    )


def test_what_is_left_out_has_its_default() -> None:
    (entry,) = read(MINIMAL)
    assert entry == Entry(1, "waits/test_any::test_it", Outcome.FAIL, "why not", backend="*")
    assert not entry.flaky
    assert entry.run_count == 1


def test_entries_are_numbered_in_the_order_of_the_file() -> None:
    entries = read(MINIMAL + MINIMAL.replace("test_it", "test_other"))
    assert [(entry.number, entry.case[-5:]) for entry in entries] == [(1, "st_it"), (2, "other")]


def test_a_baseline_may_list_nothing() -> None:
    assert read("") == ()


def test_a_reason_yet_to_be_written_is_read() -> None:
    (entry,) = read(MINIMAL.replace("why not", "TODO: say why"))
    assert entry.reason == "TODO: say why"


def test_an_entry_can_be_hashed_in_spite_of_its_condition() -> None:
    (entry,) = read(MINIMAL + 'when = { system = "Linux" }')
    assert {entry: 1}[entry] == 1


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.deviates])
def test_every_deviation_can_be_listed(outcome: Outcome) -> None:
    (entry,) = read(MINIMAL.replace('"fail"', f'"{outcome.value}"'))
    assert entry.outcome is outcome


def test_load_takes_the_day_from_its_caller_and_otherwise_from_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "hal.toml"
    path.write_text("version = 1\n" + MINIMAL)
    assert Baseline.load(path, today=date(2020, 2, 2)).today == date(2020, 2, 2)
    before = date.today()
    loaded = Baseline.load(str(path))
    assert before <= loaded.today <= date.today()
    assert loaded.path == str(path)
    assert len(loaded.entries) == 1


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "hal.toml"
    path.write_bytes(b"\xef\xbb\xbfversion = 1\r\n")
    assert Baseline.load(path).entries == ()


def test_the_example_of_the_documentation_is_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert [entry.run_count for entry in parse_entries(example, "baselines.md")] == [1, 1, 21]


# --- files that cannot be read


def load_problem(path: Path) -> str:
    with pytest.raises(BaselineError) as caught:
        Baseline.load(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    return problem


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    assert "there is no such baseline" in load_problem(tmp_path / "none.toml")


def test_a_folder_is_no_baseline(tmp_path: Path) -> None:
    assert "cannot be read: " in load_problem(tmp_path)


def test_an_unreadable_file_is_said_to_be_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cannot be read: Permission denied" in load_problem(tmp_path / "hal.toml")


def test_a_path_that_is_none_is_one_line(tmp_path: Path) -> None:
    assert "cannot be read: embedded null byte" in load_problem(tmp_path / "a\0b")


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hal.toml"
    path.write_bytes("version = 1 # ä".encode("latin-1"))
    assert "not UTF-8 (byte 14); save the file as UTF-8" in load_problem(path)


@pytest.mark.parametrize(
    "text",
    [
        "version = ",
        "version = 1\nversion = 1",
        'version = 1\n[[deviation]]\ncase = "a',
        "version = 1\nx = 2027-02-30",
        "version = " + "9" * 5000,
        "version = " + "[" * 20000,
    ],
)
def test_malformed_toml_is_one_problem(text: str) -> None:
    (problem,) = problems_of(text)
    assert "not TOML" in problem
    assert "correct it" in problem


# --- the file as a whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no 'version'"),
        ("version = 2", "version 2;"),
        ("version = 0", "version 0;"),
        ("version = true", "version True;"),
        ("version = 1.0", "version 1.0;"),
        ('version = "1"', "version '1';"),
    ],
)
def test_only_version_1_is_read(text: str, said: str) -> None:
    (problem,) = problems_of(text)
    assert said in problem
    assert "write 'version = 1'" in problem


def test_an_unknown_key_of_the_file_is_named_with_what_may_be_meant() -> None:
    (problem,) = problems_of("version = 1\n[[deviations]]\n")
    assert problem == ("hal.toml: unknown key 'deviations'; did you mean 'deviation'? known: version, deviation")


@pytest.mark.parametrize("text", ["[deviation]", "deviation = 3", 'deviation = ["a::b"]', "deviation = [{}, 1]"])
def test_deviation_must_be_a_list_of_tables(text: str) -> None:
    (problem,) = problems_of(f"version = 1\n{text}")
    assert "'deviation' must be a list of tables; write each as [[deviation]]" in problem


def test_every_problem_of_a_file_is_named_in_its_order() -> None:
    problems = problems_of(
        """
        version = 3
        colour = "red"
        [[deviation]]
        case = "a::b"
        outcome = "pass"
        [[deviation]]
        case = "c::d"
        outcome = "fail"
        reason = "fine"
        [[deviation]]
        case = 7
        outcome = "fail"
        reason = "x"
        rate = 2
        """
    )
    starts = ["version 3", "unknown key 'colour'", "entry 1 (a::b): no 'reason'", "entry 1 (a::b): outcome 'pass'"]
    starts += ["entry 3: 'case'", "entry 3: 'rate'"]
    assert len(problems) == len(starts)
    for problem, start in zip(problems, starts, strict=True):
        assert problem.startswith(f"hal.toml: {start}"), problem


def test_the_error_keeps_its_lines_when_it_is_sent_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(BaselineError("a: b", "c: d")))
    assert error.problems == ("a: b", "c: d")
    assert str(error) == "a: b\nc: d"
    assert isinstance(error, ValueError)


# --- single entries


@pytest.mark.parametrize("key", ["case", "outcome", "reason"])
def test_a_required_key_that_is_missing_is_named(key: str) -> None:
    text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(key))
    (problem,) = problems_of(f"version = 1\n{text}")
    assert f"no '{key}'; every entry needs one" in problem
    assert problem.startswith("hal.toml: entry 1" + ("" if key == "case" else " (waits/test_any::test_it)"))


def test_an_unknown_key_of_an_entry_is_named_with_what_may_be_meant() -> None:
    problem = problem_with('expire = "x"')
    assert "entry 1 (waits/test_any::test_it): unknown key 'expire'; did you mean 'expires'? known: case," in problem


@pytest.mark.parametrize("key", ["case", "backend", "outcome", "reason", "issue"])
@pytest.mark.parametrize("value", ["1", "true", '["a"]', '""', '"  "', "{}"])
def test_texts_are_texts_that_are_not_empty(key: str, value: str) -> None:
    assert f"'{key}' must be a text that is not empty" in problem_with(f"{key} = {value}")


def test_a_case_that_can_match_nothing_is_refused() -> None:
    assert "'case' can match no case" in problem_with('case = "test_it"')
    assert read(MINIMAL.replace("waits/test_any::test_it", "*"))[0].case == "*"


@pytest.mark.parametrize("outcome", ["pass", "unsupported", "set aside"])
def test_an_outcome_that_does_not_deviate_is_refused(outcome: str) -> None:
    problem = problem_with(f'outcome = "{outcome}"')
    assert f"outcome '{outcome}' is no deviation" in problem
    assert "one of: fail, variation, hang, crash, device lost, error" in problem


def test_an_unknown_outcome_is_named_with_what_may_be_meant() -> None:
    assert "unknown outcome 'crashed'; did you mean 'crash'? known: fail," in problem_with('outcome = "crashed"')


@pytest.mark.parametrize(
    "url", ["#7", "example.org/7", "ftp://example.org", "https://", "http://[", "https://a b.org", "https://a\\nb"]
)
def test_an_issue_must_be_a_url(url: str) -> None:
    assert "'issue' must be a URL such as" in problem_with(f'issue = "{url}"')


@pytest.mark.parametrize(
    "value", ['"2027-01-31"', "2027-01-31T00:00:00", "2027-01-31T00:00:00Z", "20270131", "00:00:00"]
)
def test_expires_must_be_a_date(value: str) -> None:
    assert "'expires' must be a date without quotes and time" in problem_with(f"expires = {value}")


@pytest.mark.parametrize("value", ['"Linux"', "1", '["Linux"]'])
def test_when_must_be_a_table(value: str) -> None:
    assert "'when' must be a table" in problem_with(f"when = {value}")


@pytest.mark.parametrize("key", ["system", "machine", "device", "python", "driver"])
@pytest.mark.parametrize("value", ["1", "true", '""', '" "', '[">=1"]', "{}"])
def test_conditions_are_texts_that_are_not_empty(key: str, value: str) -> None:
    assert f"'when.{key}' must be a text that is not empty" in problem_with(f"when = {{ {key} = {value} }}")


@pytest.mark.parametrize("key", ["python", "driver", "iree-base-runtime"])
@pytest.mark.parametrize("value", ["3.13", ">=", "3.*", ">=3.13 <3.15", ",", "new"])
def test_versions_must_be_ranges(key: str, value: str) -> None:
    assert f"'when.{key}' must be a PEP 440 range" in problem_with(f'when = {{ {key} = "{value}" }}')


def test_every_wrong_condition_is_named() -> None:
    problems = problems_of(f"version = 1\n{MINIMAL}when = {{ system = 1, python = 'x', driver = 'y' }}")
    assert [problem.partition("'when.")[2].partition("'")[0] for problem in problems] == ["system", "python", "driver"]


@pytest.mark.parametrize("value", ["0", "1", "0.0", "1.0", "-0.2", "1.5", "nan", "inf", "true", '"0.2"'])
def test_a_rate_lies_between_0_and_1(value: str) -> None:
    assert "'rate' must be a number between 0 and 1" in problem_with(f"rate = {value}")


@pytest.mark.parametrize("value", ["0", "-1", "2.0", "true", '"7"'])
def test_runs_are_a_whole_number(value: str) -> None:
    assert "'runs' must be a whole number from 1 on" in problem_with(f"runs = {value}", MINIMAL + "rate = 0.5\n")


def test_runs_need_a_rate() -> None:
    assert "'runs' has a meaning with 'rate' only" in problem_with("runs = 7")


# --- entries twice

CONDITION = 'when = { system = "Linux", driver = ">=1,<2" }\n'


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (MINIMAL, MINIMAL),
        (MINIMAL, MINIMAL.replace("why not", "another reason") + "rate = 0.5\n"),
        (MINIMAL, MINIMAL + 'backend = "*"\n'),
        (MINIMAL, MINIMAL + "when = {}\n"),
        (MINIMAL + CONDITION, MINIMAL + 'when = { driver = "<2, >=1", system = "linux" }\n'),
    ],
)
def test_the_same_deviation_twice_is_refused(one: str, two: str) -> None:
    other = MINIMAL.replace("test_it", "test_other")
    (problem,) = problems_of(f"version = 1\n{one}{other}{two}")
    assert "entry 3 (waits/test_any::test_it) has the case, backend, outcome and condition of entry 1" in problem


@pytest.mark.parametrize(
    "two",
    [
        MINIMAL.replace("test_it", "test_other"),
        MINIMAL.replace('"fail"', '"hang"'),
        MINIMAL + 'backend = "iree:*"\n',
        MINIMAL + CONDITION,
    ],
)
def test_entries_that_differ_in_what_they_list_are_two(two: str) -> None:
    assert len(read(MINIMAL + two)) == 2
