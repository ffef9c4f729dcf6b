"""The hooks that a conftest or another plugin may implement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .hal import Backend


@pytest.hookspec
def pytest_hal_backends(config: pytest.Config) -> Iterable[Backend]:  # type: ignore[empty-body]
    """Return backends that ``--backend`` may name; a name that is also an entry point's takes its place.

    Called once, when backends are first asked for. Must not load a native library: a backend's ``open`` does that.
    """
