"""The mutants of a module: what cosmic-ray makes of it, as far as that tells something, and a statement left out."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import Keyword

#: Cosmic-ray's operators that are used. Left out are those that say nothing that another one does not say: of the seven
#: ways to replace a comparison its neighbour and its opposite, of the eleven to replace an arithmetic sign one.
CHOSEN = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ReplaceUnaryOperator_Delete_Not", "NumberReplacer"),
    *("ZeroIterationForLoop", "ExceptionReplacer", "RemoveDecorator"),
    *("ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_Gt_GtE"),
    *("ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq"),
    *("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"),
    *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_FloorDiv"),
    *("ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_Add"),
    *("ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceBinaryOperator_BitOr_BitAnd"),
)
#: Decorators whose loss only a type checker or a reader notices.
INERT_DECORATORS = ("@dataclass", "@override", "@final", "@runtime_checkable", "@abstractmethod")


class LeaveOut(Operator):  # type: ignore[misc] # cosmic-ray says nothing about its types
    """Leaves a simple statement out: a call, an assignment, a ``raise``, ``del`` or ``return``.

    Nothing finds a forgotten wake-up as this does, and cosmic-ray has none of the kind.
    """

    KINDS = frozenset({"expr_stmt", "atom_expr", "await_expr", "raise_stmt", "del_stmt", "return_stmt"})

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield where a statement begins and ends."""
        if node.type == "simple_stmt" and node.children[0].type in self.KINDS:
            statement = node.children[0]
            yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Put ``pass`` in its place."""
        del index
        statement = node.children[0]
        leaf = Keyword("pass", (0, 0))
        leaf.prefix = statement.get_first_leaf().prefix
        leaf.parent = node
        node.children[0] = leaf
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """Return one, as cosmic-ray asks of its operators."""
        return (Example("woken.set()\n", "pass\n"),)


class Mutant(NamedTuple):
    """One change to one module."""

    #: Path below the root of the checkout.
    module: str
    operator: str
    occurrence: int
    line: int
    #: The function that is changed, or the class outside of its methods; empty for the module itself.
    where: str
    #: Which one it is of the operator's in the function or, outside of those, statement.
    place: int
    #: What the function or statement held: when something else of the module is edited, it stays the mutant it was.
    digest: str

    @property
    def id(self) -> str:
        """What it is called on the command line."""
        return f"{self.module}:{self.line}:{self.operator}:{self.occurrence}"

    @property
    def key(self) -> str:
        """What it is called as long as its function is as it is."""
        return f"{self.module}:{self.where}:{self.operator}:{self.place}:{self.digest}"

    def source(self, original: str) -> str | None:
        """Return the changed text of the module, ``None`` if it reads the same or is no Python."""
        try:
            changed: str | None = mutate_code(original, _operator(self.operator), self.occurrence)
        except AttributeError:
            return None  # cosmic-ray's operator for exceptions expects names
        try:
            compile(changed or "", self.module, "exec")
        except SyntaxError:
            return None  # the star of keyword-only arguments looks like a multiplication
        return changed if changed != original else None


def mutants_of(module: str, root: Path) -> list[Mutant]:
    """Return the mutants of a module, by line."""
    return mutants_in((root / module).read_text(encoding="utf-8"), module)


def mutants_in(text: str, module: str) -> list[Mutant]:
    """Return the mutants of a module's text, by line."""
    nodes = list(ast_nodes(get_ast(text)))
    tree = ast.parse(text)
    idle = list(_idle(tree))
    lines = text.splitlines()
    found: list[Mutant] = []
    for name in (*CHOSEN, "LeaveOut"):
        operator = _operator(name)
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        seen: Counter[tuple[str, str]] = Counter()
        for occurrence, (start, end) in enumerate(positions):
            where, first, last = _unit(tree, start[0])
            digest = hashlib.sha256("\n".join(lines[first - 1 : last]).encode()).hexdigest()[:12]
            place = seen[where, digest]
            seen[where, digest] += 1
            if any(begin <= start and end <= stop for begin, stop in idle):
                continue
            if name == "RemoveDecorator" and lines[start[0] - 1].strip().startswith(INERT_DECORATORS):
                continue
            found.append(Mutant(module, name, occurrence, start[0], where, place, digest))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.operator, mutant.occurrence))


def _unit(tree: ast.Module, line: int) -> tuple[str, int, int]:
    """Return the function that a line is in, or the class outside of its methods, and from where to where it reaches.

    Outside of functions it is the statement that reaches from there to there.
    """
    names: list[str] = []
    body: list[ast.stmt] = tree.body
    while True:
        for node in body:
            decorators = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            last = node.end_lineno or node.lineno
            if first <= line <= last:
                break
        else:
            return ".".join(names), line, line
        if not isinstance(node, ast.ClassDef):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.append(node.name)
            return ".".join(names), first, last
        names.append(node.name)
        body = node.body


def _idle(tree: ast.Module) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where a change changes nothing that runs: annotations, what is for the checker, texts."""
    for node in ast.walk(tree):
        parts: list[Any] = []
        match node:
            case ast.AnnAssign():
                parts = [node.annotation] if node.value else [node]
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                parts = [node.returns, *(one.annotation for one in ast.walk(node.args) if isinstance(one, ast.arg))]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                parts = [node]
            case ast.JoinedStr():
                parts = [node]
            case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__")]):
                parts = [node]
            case _:
                pass
        if isinstance(node, ast.FunctionDef) and node.name == "__repr__":
            parts.append(node)
        for part in parts:
            if part is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


@cache
def _operator(name: str) -> Any:
    if name == "LeaveOut":
        return LeaveOut()
    return cosmic_ray.plugins.get_operator(f"core/{name}")()
