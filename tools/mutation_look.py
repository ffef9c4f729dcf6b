"""What there is to judge mutants: the cases of the suite, and which of them reach what, as coverage.py sees it."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutation_faults import fault_command
from mutation_judge import Copies, map_all, run_suite, suite_command
from mutation_reach import MODULES, OUTPUT, Reach

#: Seconds for a wait where coverage.py looks on, and how often it does: what only a race reaches shows now and then.
SLOW, LOOKS = 60.0, 2
#: Seconds for the whole suite then, and how many trials of the fault loop are looked at each time.
LOOK_LIMIT, LOOKED_AT = 1800.0, 1500
#: The backend of the fault loop, in the place of a spec.
FAULTS = "faults"


class Suite:
    """The cases that there are now, by function, and those that there were in earlier runs.

    A function whose text has changed is another one. What it calls, and its fixtures, are not looked at.
    """

    def __init__(self, root: Path, suites: dict[str, list[str]]) -> None:
        self._now: dict[str, str] = {}
        for path in sorted((root / "cts").rglob("test_*.py")):
            module = path.relative_to(root / "cts").with_suffix("").as_posix()
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    name = f"{module}::{node.name}"
                    self._now[name] = f"{name} {_digest(ast.unparse(node))}"
        #: Stands for this suite in results.
        self.digest = _digest("\n".join(self._now.values()))
        self._suites = suites

    def is_newer(self, case: str, digest: str) -> bool:
        """Whether a case is new, or another, since a suite that an earlier run had."""
        return self._now.get(case.partition("[")[0]) not in self._suites.get(digest, ())

    def noted(self, digests: set[str]) -> dict[str, list[str]]:
        """Return the suites of these digests, for the next run."""
        known = {**self._suites, self.digest: list(self._now.values())}
        return {one: names for one, names in known.items() if one in digests}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def find_reach(copies: Copies, modules: Mapping[str, Sequence[str]], jobs: int) -> dict[str, Reach]:
    """Run the suite under coverage.py and return what its cases reach, by backend spec.

    :param modules: what to look at, by backend spec.
    :raises SystemExit: it does not run.
    """
    with tempfile.TemporaryDirectory() as kept, ThreadPoolExecutor(jobs) as pool:

        def look(spec: str, number: int, path: Path) -> None:
            with copies.unchanged() as copy, tempfile.TemporaryDirectory() as folder:
                if spec == FAULTS:
                    few = (f"--trials={LOOKED_AT}", f"--seed={number}")
                    command, environment = fault_command(copy, folder, *few)
                else:
                    command, environment = suite_command(copy, spec, [], folder)
                    command += ["-p", "mutation_reach", "--no-isolate", f"--hal-deadline={SLOW}"]
                tools = os.pathsep.join([environment["PYTHONPATH"], str(Path(__file__).parent)])
                looked_at = os.pathsep.join(str(copy / "pytest_cuda2hal" / module) for module in modules[spec])
                environment |= {"PYTHONPATH": tools, OUTPUT: str(path), MODULES: looked_at}
                environment["COVERAGE_CORE"] = "ctrace"  # the newer one knows no contexts
                status, output = run_suite(command, folder, environment, LOOK_LIMIT)
                if status not in (0, 1) or not path.exists():  # a case may be too slow here, but all must have run
                    sys.exit(f"{spec} does not run under coverage.py: {output[-2000:]}")

        paths = {spec: [Path(kept, f"{at}-{number}") for number in range(LOOKS)] for at, spec in enumerate(modules)}
        todo = [(spec, number, path) for spec, mine in paths.items() for number, path in enumerate(mine)]
        map_all(pool, lambda one: look(*one), todo)
        return {spec: Reach.read(mine, modules[spec]) for spec, mine in paths.items()}
