"""The suite's cases, read from its source without importing it: what they are called, check and say of themselves.

Read, not collected, so that the documentation names the same cases with and without the packages that some of them
need. A test compares this with what pytest collects.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_MARKS = ("clause", "hal_clause")


@dataclass(frozen=True, slots=True)
class Case:
    """One test function; ``module`` is its path below the suite, without the ending."""

    module: str
    name: str
    clauses: tuple[str, ...]
    summary: str
    source: str

    @property
    def id(self) -> str:
        return f"{self.module}::{self.name}"

    @property
    def target(self) -> str:
        """The name under which pages link to it."""
        return f"case-{self.id}".replace("::", "-").replace("/", "-").replace("_", "-").lower()


def read_cases(suite: Path) -> list[Case]:
    """Return every case below a folder, sorted by module, in the order of the source."""
    cases: list[Case] = []
    for path in sorted(suite.rglob("test_*.py")):
        module = path.relative_to(suite).with_suffix("").as_posix()
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        constants = _constants(tree.body)
        cases += _cases_in(tree.body, module, "", _pytestmark(tree.body, constants), text.splitlines(), constants)
    return cases


def _cases_in(
    body: list[ast.stmt],
    module: str,
    prefix: str,
    outer: tuple[str, ...],
    lines: list[str],
    constants: Mapping[str, tuple[str, ...]],
) -> Iterator[Case]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            inner = (*_marked(node.decorator_list, constants), *_pytestmark(node.body, constants), *outer)
            yield from _cases_in(node.body, module, f"{prefix}{node.name}::", inner, lines, constants)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            clauses = dict.fromkeys((*_marked(node.decorator_list, constants), *outer))
            summary = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            source = "\n".join(lines[first - 1 : node.end_lineno])
            yield Case(module, prefix + node.name, tuple(clauses), summary, source)


def _pytestmark(body: list[ast.stmt], constants: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    values = [
        node.value
        for node in body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
    ]
    return _marked(values, constants)


def _marked(expressions: list[ast.expr], constants: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the ids in every ``clause(…)`` within the expressions, those on parameter sets included."""
    ids: list[str] = []
    for expression in expressions:
        for node in ast.walk(expression):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in _MARKS:
                    ids += [id for argument in node.args for id in _texts(argument, constants)]
    return tuple(ids)


def _texts(node: ast.expr, constants: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (node.value,)
    if isinstance(node, ast.Starred):
        return _texts(node.value, constants)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(text for element in node.elts for text in _texts(element, constants))
    if isinstance(node, ast.Name):
        return constants.get(node.id, ())
    return ()


def _constants(body: list[ast.stmt]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for node in body:
        if isinstance(node, ast.Assign):
            texts = _texts(node.value, found)
            found |= {target.id: texts for target in node.targets if texts and isinstance(target, ast.Name)}
    return found
