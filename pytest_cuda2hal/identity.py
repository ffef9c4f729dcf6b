"""What a case is called: ``folder/module::function[params]`` below the suite, with no backend and no path in it.

Results, replay lines, and later baselines and shards use this alone, so that they mean the same on every machine.
"""

from __future__ import annotations

import pytest

_ROOT = "cts/"


def case_id(item: pytest.Item) -> str:
    """Return the identity of a collected item."""
    callspec = getattr(item, "callspec", None)
    backend = callspec.params.get("hal_backend") if callspec is not None else None
    return without_backend(item.nodeid, backend if isinstance(backend, str) else None)


def without_backend(nodeid: str, backend: str | None) -> str:
    """Return the identity within a node id; ``backend`` is the parameter id to leave out."""
    path, separator, rest = nodeid.partition("::")
    path = path.replace("\\", "/")
    _, found, below = path.rpartition(_ROOT)
    path = (below if found else path).removesuffix(".py")
    name, bracket, parameters = rest.partition("[")
    if bracket and backend is not None:
        inner = parameters.removesuffix("]")
        kept = inner.removeprefix(backend).removeprefix("-") if inner.startswith(backend) else inner
        kept = kept.removesuffix(f"-{backend}") if kept == inner else kept
        rest = f"{name}[{kept}]" if kept else name
    return f"{path}{separator}{rest}"
