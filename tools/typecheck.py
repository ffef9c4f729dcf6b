"""Run mypy on the whole repository, the mapped folders under the names that they install as.

mypy takes a module's name from its path, and would see ``backends/cuda/stream.py`` as ``backends.cuda.stream``: its
relative imports would end at ``backends``, and every import of ``pytest_cuda2hal.backends`` would be unknown. So the
installed layout is staged with links in ``build/typecheck``, mypy looks at that, and paths in its messages are turned
back into paths of the repository. Arguments are passed to mypy.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "build" / "typecheck"
PACKAGE = "pytest_cuda2hal"

#: Folders that install inside the package.
MAPPED = ("backends", "cts")
#: What is checked beside the package, where it exists.
BESIDE = ("benchmarks", "tests", "tools")


def stage() -> list[str]:
    """Lay out links to the sources as an install lays out the files; return the names to check."""
    layout = {Path(PACKAGE, entry.name): entry for entry in (ROOT / PACKAGE).iterdir() if entry.name != "__pycache__"}
    layout |= {Path(PACKAGE, name): ROOT / name for name in MAPPED}
    beside = [name for name in BESIDE if any((ROOT / name).rglob("*.py"))]
    layout |= {Path(name): ROOT / name for name in beside}

    (STAGE / PACKAGE).mkdir(parents=True, exist_ok=True)
    for stale in (*STAGE.iterdir(), *(STAGE / PACKAGE).iterdir()):
        if stale.is_symlink():
            stale.unlink()
    for link, source in layout.items():
        (STAGE / link).symlink_to(source)
    return [PACKAGE, *beside]


def in_repository(line: str) -> str:
    """Turn the staged path at the beginning of a message into the one in the repository."""
    return re.sub(rf"^{PACKAGE}/({'|'.join(MAPPED)})/", r"\1/", line)


def main(arguments: list[str]) -> int:
    """Run mypy and return its exit status."""
    command = [sys.executable, "-P", "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}"]
    command += [f"--cache-dir={ROOT / '.mypy_cache'}", *arguments, *stage()]
    with subprocess.Popen(command, cwd=STAGE, stdout=subprocess.PIPE, text=True, encoding="utf-8") as mypy:
        assert mypy.stdout is not None
        for line in mypy.stdout:
            print(in_repository(line), end="")
    return mypy.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
