"""What a case is called: ``folder/module::function[params]`` below the suite, with no backend and no path in it.

Results, and later baselines and shards, use this alone, so that they mean the same on every machine, however the suite
was installed and whatever folder pytest was started in.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import pytest


@functools.cache
def suite_folder() -> Path:
    """Return where the suite's cases lie."""
    found = importlib.util.find_spec("pytest_cuda2hal.cts")  # finds it without importing it
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]).resolve()


@functools.cache
def _resolved(path: Path) -> Path:
    return path.resolve()


def case_id(item: pytest.Item) -> str:
    """Return the identity of a collected item; of a user's own case, its node id without the backend."""
    callspec = getattr(item, "callspec", None)
    backend = callspec.params.get("hal_backend") if callspec is not None else None
    path = _resolved(item.path)
    name = item.nodeid.partition("::")[2]
    if path.is_relative_to(suite_folder()):
        module = path.relative_to(suite_folder()).with_suffix("").as_posix()
    else:
        module = item.nodeid.partition("::")[0].removesuffix(".py")
    return f"{module}::{without_backend(name, backend if isinstance(backend, str) else None)}"


def case_key(item: pytest.Item) -> str:
    """Return what tells a case from every other one of a run, in every process of it.

    A node id does not: where several modules are named on the command line, it may lack their folders.
    """
    return f"{case_id(item)} @ {item.callspec.params['hal_backend']}"  # type: ignore[attr-defined]


def case_id_of_node(nodeid: str, backend: str) -> str:
    """Return the identity within a node id, where there is no item to ask."""
    path, _, name = nodeid.partition("::")
    module = Path(path).with_suffix("")
    for skipped in range(len(module.parts)):
        below = Path(*module.parts[skipped:])
        if (suite_folder() / below).with_suffix(".py").is_file():
            module = below
            break
    return f"{module.as_posix()}::{without_backend(name, backend)}"


def without_backend(name: str, backend: str | None) -> str:
    """Return a function's name with its parameters, less the one that is the backend's."""
    function, bracket, parameters = name.partition("[")
    if not bracket or backend is None:
        return name
    inner = parameters.removesuffix("]")
    if inner == backend:
        return function
    if inner.startswith(f"{backend}-"):
        return f"{function}[{inner.removeprefix(f'{backend}-')}]"
    if inner.endswith(f"-{backend}"):
        return f"{function}[{inner.removesuffix(f'-{backend}')}]"
    return name
