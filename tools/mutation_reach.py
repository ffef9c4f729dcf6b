"""Which cases reach which lines of a backend, so that a mutant is judged by those that can notice it.

Most of a backend is reached by every case, but what handles the unusual is reached by few, and that is where mutants
survive: there the whole suite would run in vain. coverage.py notes the lines, with the case as its context. As a pytest
plugin, ``-p mutation_reach``, this writes what one run of the suite reached to the file that ``HAL_REACH`` names.
"""

from __future__ import annotations

import ast
import json
import os
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

from pytest_cuda2hal.identity import case_id
from pytest_cuda2hal.plugin import is_case

#: The environment variables that name the file to write, and the modules to look at.
OUTPUT, MODULES = "HAL_REACH", "HAL_REACH_MODULES"


class Recorder:
    """Runs coverage.py around the cases of a run."""

    def __init__(self, output: Path, include: Sequence[str]) -> None:
        self._output = output
        self._coverage = coverage.Coverage(
            data_file=None, include=list(include), config_file=False, branch=False, messages=False
        )
        self._seconds: dict[str, float] = {}
        self._context, self._since = "", time.monotonic()
        self._coverage.start()

    def begin(self, context: str) -> None:
        """Let what runs from here on be of a case, or of one trial of the fault loop."""
        now = time.monotonic()
        self._seconds[self._context] = self._seconds.get(self._context, 0.0) + now - self._since
        self._context, self._since = context, now
        self._coverage.switch_context(context)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Let what runs from here on be the case's."""
        if is_case(item):
            self.begin(case_id(item))
        return (yield)

    def pytest_sessionfinish(self) -> None:
        """Write what was seen."""
        self.begin("")
        self._coverage.stop()
        del self._seconds[""]
        data = self._coverage.get_data()
        lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
        self._output.write_text(json.dumps({"lines": lines, "seconds": self._seconds}), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Begin, in a run that is asked to."""
    if output := os.environ.get(OUTPUT):
        config.pluginmanager.register(Recorder(Path(output), os.environ[MODULES].split(os.pathsep)), "hal-reach")


class Reach(NamedTuple):
    """What the cases of one backend reach, or the trials of the fault loop, which are cases here."""

    #: Every case, with its seconds, the quickest first.
    seconds: dict[str, float]
    #: The cases that reach a line, by module (a path below the packages) and number.
    lines: dict[tuple[str, int], frozenset[str]]

    @classmethod
    def read(cls, paths: Iterable[Path], modules: Sequence[str]) -> Reach:
        """Put several runs together: what only a race reaches, one may miss and another may not."""
        seconds: dict[str, float] = {}
        lines: dict[tuple[str, int], frozenset[str]] = {}
        for path in paths:
            data = json.loads(path.read_text(encoding="utf-8"))
            seconds |= data["seconds"]
            for file, by_line in data["lines"].items():
                module = next(name for name in modules if file.endswith(name))
                for number, cases in by_line.items():
                    place = module, int(number)
                    lines[place] = lines.get(place, frozenset()) | frozenset(filter(None, cases))
        return cls(dict(sorted(seconds.items(), key=lambda one: one[1])), lines)

    def cases(self, module: str, rows: range | None) -> list[str]:
        """Return the cases that reach any of the rows of a module, the quickest first; ``None`` for rows means all."""
        if rows is None:
            return list(self.seconds)
        reached = frozenset[str]().union(*(self.lines.get((module, row), ()) for row in rows))
        return [case for case in self.seconds if case in reached]


def rows_of(text: str, line: int) -> range | None:
    """Return the rows of the statement that a line is in, of a compound one its head.

    ``None`` where that runs before any case does: outside of functions, and what stands in the head of one.
    """
    body: Sequence[ast.AST] = ast.parse(text).body
    inside = False
    rows: range | None = None
    while True:
        for node in body:
            first, last = _extent(node)
            if first <= line <= last:
                break
        else:
            return rows if inside else None
        parts = _parts(node)
        head = range(first, min((_extent(part)[0] for part in parts), default=last + 1))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if line in head:
                return None
            inside = True
        rows, body = head, parts


def _extent(node: ast.AST) -> tuple[int, int]:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])  # type: ignore[attr-defined]
    return first, node.end_lineno or first  # type: ignore[attr-defined]


def _parts(node: ast.AST) -> list[ast.AST]:
    """Return the statements of a compound statement, and its handlers, which have heads of their own."""
    return [part for name in ("body", "handlers", "orelse", "finalbody") for part in getattr(node, name, ())]
