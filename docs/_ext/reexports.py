"""References to ``pytest_cuda2hal.hal.<module>.<Name>`` lead to where it is documented: ``pytest_cuda2hal.hal.<Name>``.

The interface is spread over modules and documented as one; annotations name the modules.
"""

from __future__ import annotations

import re
from typing import Any

_INSIDE = re.compile(r"pytest_cuda2hal\.hal\.[a-z_]+\.([A-Z].*)")


def _resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    found = _INSIDE.fullmatch(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or found is None:
        return None
    target = f"pytest_cuda2hal.hal.{found[1]}"
    return env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], target, node, contnode
    ) or env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)


def setup(app: Any) -> dict[str, bool]:
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True}
