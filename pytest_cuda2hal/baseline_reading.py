"""Reading a baseline from its TOML file, with everything in it checked."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .baseline import GLOB_CONDITIONS, BaselineError, Entry, one_line
from .outcome import Outcome

VERSION = 1

_LISTABLE = [outcome.value for outcome in Outcome if outcome.deviates]


def read_entries(path: str | Path) -> tuple[Entry, ...]:
    """Read the entries of a baseline.

    :raises BaselineError: the file cannot be read, or something in it is wrong; every problem is named.
    """
    try:
        # A byte order mark, as some editors write it, is no reason to refuse a file.
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BaselineError(f"{path}: there is no such baseline; check the path, or write one first") from None
    except UnicodeDecodeError as error:
        raise BaselineError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BaselineError(f"{path}: cannot be read: {reason}; give a file that can be") from None
    return parse_entries(text, str(path))


def parse_entries(text: str, path: str) -> tuple[Entry, ...]:
    """Read the entries of a baseline's text; ``path`` is for messages.

    :raises BaselineError: something is wrong; every problem is named.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise BaselineError(f"{path}: not TOML that can be read: nested too deeply; correct it") from None
    except ValueError as error:
        raise BaselineError(f"{path}: not TOML: {one_line(str(error))}; correct it") from None
    problems: list[str] = []
    version = document.pop("version", None)
    if type(version) is not int or version != VERSION:
        said = "no 'version'" if version is None else f"version {version!r}"
        problems.append(f"{path}: {said}; this release reads version {VERSION}, write 'version = {VERSION}'")
    tables = document.pop("deviation", [])
    problems += [f"{path}: {_unknown('key', name, ['version', 'deviation'])}" for name in document]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        problems.append(f"{path}: 'deviation' must be a list of tables; write each as [[deviation]]")
        tables = []
    entries = [_Table(path, number, table, problems).entry() for number, table in enumerate(tables, 1)]
    first: dict[object, Entry] = {}
    for entry in filter(None, entries):
        other = first.setdefault(identity(entry), entry)
        if other is not entry:
            problems.append(
                f"{path}: {entry.label} has the case, backend, outcome and condition of entry {other.number}; "
                "remove one of them"
            )
    if problems:
        raise BaselineError(*problems)
    return tuple(entry for entry in entries if entry is not None)


def identity(entry: Entry) -> object:
    """Return what no two entries of a file may have in common."""
    when = frozenset(
        (key, value.casefold() if key in GLOB_CONDITIONS else _normal_range(value)) for key, value in entry.when.items()
    )
    return entry.case, entry.backend, entry.outcome, when


def _normal_range(text: str) -> str:
    from packaging.specifiers import SpecifierSet

    return str(SpecifierSet(text))


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown {what} '{one_line(name)}'; {hint}known: {', '.join(known)}"


class _Table:
    """One ``[[deviation]]`` on its way to an entry; what is wrong is added to ``problems``."""

    def __init__(self, path: str, number: int, table: Mapping[str, object], problems: list[str]) -> None:
        case = table.get("case")
        self._where = f"{path}: entry {number}" + (f" ({one_line(case)})" if isinstance(case, str) else "")
        self._number = number
        self._table = table
        self._problems = problems

    def entry(self) -> Entry | None:
        """Return the entry, or nothing if there was a problem."""
        before = len(self._problems)
        readers: dict[str, Callable[[str], Any]] = {
            "case": self._case,
            "backend": self._text,
            "outcome": self._outcome,
            "reason": self._text,
            "issue": self._issue,
            "expires": self._expires,
            "when": self._when,
            "rate": self._rate,
            "runs": self._runs,
        }
        for key in self._table:
            if key not in readers:
                self._wrong(_unknown("key", key, readers))
        for key in ("case", "outcome", "reason"):
            if key not in self._table:
                self._wrong(f"no '{key}'; every entry needs one")
        values = {key: read(key) for key, read in readers.items() if key in self._table}
        if len(self._problems) > before:
            return None
        return Entry(self._number, **values)

    def _wrong(self, text: str) -> None:
        self._problems.append(f"{self._where}: {text}")

    def _text(self, key: str) -> str:
        value = self._table[key]
        if isinstance(value, str) and value.strip():
            return value
        self._wrong(f"'{key}' must be a text that is not empty, not {value!r}")
        return ""

    def _case(self, key: str) -> str:
        case = self._text(key)
        if case and "::" not in case and not set(case) & {"*", "?"}:
            self._wrong("'case' can match no case; write its id, folder/module::function[parameters], or use *")
        return case

    def _outcome(self, key: str) -> Outcome | None:
        value = self._text(key)
        if value in _LISTABLE:
            return Outcome(value)
        if value in [outcome.value for outcome in Outcome]:
            self._wrong(f"outcome '{value}' is no deviation; write one of: {', '.join(_LISTABLE)}")
        elif value:
            self._wrong(_unknown("outcome", value, _LISTABLE))
        return None

    def _issue(self, key: str) -> str:
        value = self._text(key)
        try:
            parts = urlsplit(value)
        except ValueError:
            parts = urlsplit("")
        if value and (parts.scheme not in ("http", "https") or not parts.netloc or re.search(r"\s", value)):
            self._wrong(f"'issue' must be a URL such as https://example.org/issues/7, not {value!r}")
        return value

    def _expires(self, key: str) -> date | None:
        value = self._table[key]
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        self._wrong(f"'expires' must be a date without quotes and time, such as 2027-01-31, not {str(value)!r}")
        return None

    def _when(self, key: str) -> dict[str, str]:
        table = self._table[key]
        if not isinstance(table, dict):
            self._wrong(f"'when' must be a table such as {{ system = \"Linux\" }}, not {table!r}")
            return {}
        for name, value in table.items():
            if not isinstance(value, str) or not value.strip():
                self._wrong(f"'when.{one_line(name)}' must be a text that is not empty, not {value!r}")
            elif name not in GLOB_CONDITIONS and not _is_range(value):
                self._wrong(f"'when.{one_line(name)}' must be a PEP 440 range such as '>=3.13,<3.15', not {value!r}")
        return table

    def _rate(self, key: str) -> float:
        value = self._table[key]
        if isinstance(value, float) and 0 < value < 1:
            return value
        self._wrong(f"'rate' must be a number between 0 and 1, such as 0.2, not {value!r}; leave it out for 'always'")
        return 0.0

    def _runs(self, key: str) -> int:
        value = self._table[key]
        if "rate" not in self._table:
            self._wrong("'runs' has a meaning with 'rate' only; add one, or remove 'runs'")
        if type(value) is int and value >= 1:
            return value
        self._wrong(f"'runs' must be a whole number from 1 on, not {value!r}")
        return 1


def _is_range(text: str) -> bool:
    from packaging.specifiers import InvalidSpecifier

    try:
        # An empty range, such as ",", would hold for every version.
        return bool(_normal_range(text))
    except InvalidSpecifier:
        return False
