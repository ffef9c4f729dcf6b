"""Who may import whom, read from the sources."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

STDLIB = sys.stdlib_module_names | {"__future__"}


def folder(package: str) -> Path:
    """Return where a package lies, in a checkout as in an install."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


ROOT = folder("pytest_cuda2hal")
PACKAGES = {
    "pytest_cuda2hal": ROOT,
    "pytest_cuda2hal.backends": folder("pytest_cuda2hal.backends"),
    "pytest_cuda2hal.cts": folder("pytest_cuda2hal.cts"),
}
BACKENDS = sorted(path.parent.name for path in PACKAGES["pytest_cuda2hal.backends"].glob("*/__init__.py"))


def modules(package: str) -> dict[str, Path]:
    """Return every module of a package by its name, subpackages included."""
    name = max((name for name in PACKAGES if f"{package}.".startswith(f"{name}.")), key=len)
    below = package.removeprefix(name).strip(".").replace(".", "/")
    base = PACKAGES[name] / below
    found: dict[str, Path] = {}
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    assert found, package
    return found


def for_types_only(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def statements(node: ast.AST, *, top_only: bool) -> Iterator[ast.stmt]:
    """Yield every import that runs; with ``top_only`` none that a function makes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and for_types_only(child):
            yield from statements(ast.Module(child.orelse, []), top_only=top_only)
        elif not (top_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield from statements(child, top_only=top_only)


def imports(name: str, path: Path, *, top_only: bool = False) -> set[str]:
    """Return the full names of what a module imports, ``package.module`` or ``package.module.attribute``."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), top_only=top_only):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def strangers(package: str, allowed: tuple[str, ...], *, top_only: bool = False) -> list[str]:
    """Return a line for each import of a package that is neither allowed nor the standard library's."""
    return [
        f"{name} imports {target}"
        for name, path in modules(package).items()
        for target in sorted(imports(name, path, top_only=top_only))
        if target.partition(".")[0] not in STDLIB
        and not any(f"{target}.".startswith(f"{prefix}.") for prefix in allowed)
    ]


def test_the_interface_imports_the_standard_library_only() -> None:
    assert strangers("pytest_cuda2hal.hal", ("pytest_cuda2hal.hal",)) == []


#: What a backend is made of, beside the interface and its own modules.
FOREIGN = {
    "cuda": ("cuda",),
    "iree": ("iree", "numpy"),
    # Wrong on purpose: small changes to what is right.
    "faulty": ("pytest_cuda2hal.backends.reference", "pytest_cuda2hal.backends.cuda"),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_imports_the_interface_and_itself(backend: str) -> None:
    package = f"pytest_cuda2hal.backends.{backend}"
    assert strangers(package, ("pytest_cuda2hal.hal", package, *FOREIGN.get(backend, ()))) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_loads_what_is_foreign_on_demand(backend: str) -> None:
    package = f"pytest_cuda2hal.backends.{backend}"
    init = strangers(package, ("pytest_cuda2hal.hal", package), top_only=True)
    assert [line for line in init if line.startswith(f"{package} imports")] == []


def test_the_suite_imports_the_interface_and_itself() -> None:
    allowed = ("pytest_cuda2hal.hal", "pytest_cuda2hal.cts", "pytest", "hypothesis")
    assert strangers("pytest_cuda2hal.cts", allowed) == []


def test_the_suite_names_no_backend() -> None:
    """Not even in a text: what a case does must not depend on who is asked."""
    named = []
    for name, path in modules("pytest_cuda2hal.cts").items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.split(":")[0] in BACKENDS:
                named.append(f"{name}:{node.lineno} says {node.value!r}")
            if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node).endswith("backends"):
                named.append(f"{name}:{node.lineno} says {ast.unparse(node)}")
    assert named == []


def test_the_harness_names_no_backend_and_loads_none() -> None:
    allowed = ("pytest", "_pytest", "pluggy", "packaging", "pytest_cuda2hal")  # pytest depends on packaging
    harness = {name: path for name, path in modules("pytest_cuda2hal").items() if path.is_relative_to(ROOT)}
    found = [f"{name} imports {target}" for name, path in harness.items() for target in imports(name, path)]
    assert [line for line in found if "pytest_cuda2hal.backends" in line or "pytest_cuda2hal.cts" in line] == []
    assert [
        line for line in strangers("pytest_cuda2hal", allowed) if ".backends." not in line and ".cts" not in line
    ] == []


def test_nobody_imports_the_faulty_backends() -> None:
    everyone = {name: path for package in PACKAGES for name, path in modules(package).items()}
    offenders = [
        name
        for name, path in everyone.items()
        if ".backends.faulty" not in name
        and any(target.startswith("pytest_cuda2hal.backends.faulty") for target in imports(name, path))
    ]
    assert offenders == []


@pytest.mark.parametrize("module", ["plugin", "run", "settings", "hookspecs", "fixtures", "__init__"])
def test_what_every_run_imports_is_the_standard_library_and_pytest(module: str) -> None:
    """And, of ours, only each other."""
    small = {f"pytest_cuda2hal.{name}" for name in ("run", "settings")}
    name = "pytest_cuda2hal" if module == "__init__" else f"pytest_cuda2hal.{module}"
    found = imports(name, ROOT / f"{module}.py", top_only=True)
    foreign = {
        target
        for target in found
        if target.partition(".")[0] not in STDLIB | {"pytest"}
        and not any(f"{target}.".startswith(f"{prefix}.") for prefix in small)
    }
    assert foreign == set()


def test_the_reader_of_imports_sees_what_it_should(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "from ..hal import Device\n"
        "from . import sibling\n"
        "if TYPE_CHECKING:\n    import unseen\nelse:\n    import seen\n"
        "def f():\n    import late.one\n"
        "class C:\n    import early\n"
        "try:\n    import tried\nexcept ImportError:\n    pass\n"
    )
    top = {"typing.TYPE_CHECKING", "p.hal.Device", "p.q.sibling", "seen", "early", "tried"}
    assert imports("p.q.module", source, top_only=True) == top
    assert imports("p.q.module", source) == top | {"late.one"}
