"""Broken on purpose, automatically: mutants of the backends' semaphores and queues, judged by the suite alone.

    python tools/mutation.py                                   # resumes what was stopped, writes docs/results/mutation
    python tools/mutation.py --group=reference --sample=100    # so many, picked by --seed
    python tools/mutation.py --only=backends/reference/semaphore.py:70

Each mutant is tried in a copy of the packages, by the cases that reach it: first those that caught others like it, then
all, at quick effort. What survives is equivalent, and ``tools/equivalents.toml`` says why, or the suite lacks a case.
"""

from __future__ import annotations

import argparse
import compileall
import difflib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mutants import Mutant, mutants_of
from mutation_page import read_equivalents, reason_of, summarize
from mutation_reach import MODULES, OUTPUT, Reach, rows_of
from zoo import CAUGHT, target

ROOT = Path(__file__).resolve().parent.parent
#: Seconds for a wait; for a whole case, where one hangs; for the first cases, and for the whole suite.
DEADLINE, CASE, SOON, LIMIT = 1.5, 20.0, 40.0, 400.0
#: Seconds for a wait where coverage.py looks on, and how often it does: what only a race reaches shows now and then.
SLOW, LOOKS = 60.0, 2
ISOLATED = ("--isolate", f"--hal-case-deadline={CASE}")
#: A case that passes where nothing was changed.
CONTROL = "submissions/test_threads::test_first_call_of_a_thread[create]"
#: How many cases are tried first, and what is tried then.
FIRST, SUITE = 20, ["pytest_cuda2hal.cts"]


class Group(NamedTuple):
    """Modules that are judged in the same way."""

    modules: tuple[str, ...]
    #: Backend specs: one that lets a mutant live passes it on to the next.
    specs: tuple[str, ...]


def _modules(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"backends/{folder}/{name}.py" for name in names)


GROUPS = {
    "reference": Group(
        _modules("reference", "semaphore", "queue", "submission", "device"),
        ("reference", *(f"reference:profile={name}:seed=7" for name in ("iree", "vulkan", "seed"))),
    ),
    "cuda": Group(
        _modules("cuda", "semaphore", "timepoints", "pending", "hostwait", "issue", "retirement", "actions", "lane")
        + _modules("cuda", "completion", "events", "engine"),
        ("cuda-sim", "cuda-sim:completion=host-function:queues=4"),
    ),
}


class Killers:
    """Which cases caught what so far. Thread-safe."""

    def __init__(self, results: Sequence[dict[str, Any]]) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, Counter[str]] = {}
        for result in results:
            self.learn(result)

    def learn(self, result: dict[str, Any]) -> None:
        """Remember who caught a mutant."""
        if case := result.get("case"):
            with self._lock:
                for key in (result["group"], result["module"], f"{result['module']}:{result['line']}"):
                    self._of.setdefault(key, Counter())[case] += 1

    def best(self, group: str, mutant: Mutant) -> list[str]:
        """Return the cases most likely to catch a mutant, those of its own line first."""
        near = [f"{mutant.module}:{mutant.line + off}" for off in (0, -1, 1)]
        found: dict[str, None] = {}
        with self._lock:
            for key, count in [*((key, 6) for key in near), (mutant.module, FIRST - 6), (group, FIRST)]:
                found |= dict.fromkeys(case for case, _ in self._of.get(key, Counter()).most_common(count))
        return list(found)[:FIRST]


class Copies:
    """Copies of the packages, one for each job: a mutant lives in one at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        ignore = shutil.ignore_patterns("__pycache__")
        for index in range(count):
            copy = folder / str(index)
            for source, inside in (("pytest_cuda2hal", ""), ("backends", "backends"), ("cts", "cts")):
                into = copy / "pytest_cuda2hal" / inside
                shutil.copytree(ROOT / source, into, ignore=ignore, dirs_exist_ok=True)
            compileall.compile_dir(copy, quiet=2)
            self._free.put(copy)

    @contextmanager
    def unchanged(self) -> Iterator[Path]:
        """Lend a copy as it is."""
        copy = self._free.get()
        try:
            yield copy
        finally:
            self._free.put(copy)

    @contextmanager
    def with_module(self, module: str, text: str) -> Iterator[Path]:
        """Lend a copy in which a module has another text."""
        with self.unchanged() as copy:
            path = copy / "pytest_cuda2hal" / module
            original = path.read_text(encoding="utf-8")
            try:
                self._write(path, text)
                yield copy
            finally:
                self._write(path, original)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()  # of the same second and size it would be taken for that of the other text
        path.write_text(text, encoding="utf-8")


def suite_command(copy: Path, spec: str, cases: Sequence[str], folder: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs cases of a copy, all if none are named, and its environment."""
    ini = Path(folder, "pytest.ini")
    ini.write_text("[pytest]\n", encoding="utf-8")
    targets = [target(case, spec) for case in cases] or SUITE
    command = [sys.executable, "-P", "-m", "pytest", "--pyargs", *targets, "-q", "--tb=short", "-c", str(ini)]
    command += ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:xdist"]
    command += [f"--backend={spec}", "--effort=quick"]
    # Bytecode is written: to rewrite the suite's assertions anew would take longer than many a mutant lives.
    path = os.pathsep.join([str(copy), *filter(None, [os.environ.get("PYTHONPATH")])])
    return command, os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": ""}


def judge(copy: Path, spec: str, cases: Sequence[str], *arguments: str, limit: float) -> dict[str, Any]:
    """Run cases, all if none are named, until one catches the mutant; return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command, environment = suite_command(copy, spec, cases, folder)
        command += ["-x", f"--hal-deadline={DEADLINE}", f"--hal-report={report}", "--hal-strict-quality"]
        with subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                output = process.communicate(timeout=limit)[0].decode(errors="replace")
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return {"outcome": "not done", "message": f"not done after {limit:g} s"}
        found = json.loads(report.read_text(encoding="utf-8"))["cases"] if report.exists() else []
        for case in found:
            if case["outcome"] in CAUGHT:
                return {"outcome": case["outcome"], "case": case["case"], "message": case["message"][:200]}
        if process.returncode:
            return {"outcome": "no run", "message": f"exit code {process.returncode}: {output.strip()[-200:]}"}
        return {"outcome": "survived"}


def find_reach(copies: Copies, groups: Iterable[str], jobs: int) -> dict[str, Reach]:
    """Run the suite under coverage.py and return what its cases reach, by backend spec.

    :raises SystemExit: it does not run.
    """
    modules = {spec: GROUPS[group].modules for group in groups for spec in GROUPS[group].specs}
    with tempfile.TemporaryDirectory() as kept, ThreadPoolExecutor(jobs) as pool:

        def look(spec: str, path: Path) -> None:
            with copies.unchanged() as copy, tempfile.TemporaryDirectory() as folder:
                command, environment = suite_command(copy, spec, [], folder)
                tools = os.pathsep.join([environment["PYTHONPATH"], str(Path(__file__).parent)])
                looked_at = os.pathsep.join(str(copy / "pytest_cuda2hal" / module) for module in modules[spec])
                environment |= {"PYTHONPATH": tools, OUTPUT: str(path), MODULES: looked_at}
                command += ["-p", "mutation_reach", "--no-isolate", f"--hal-deadline={SLOW}"]
                run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
                if not path.exists():
                    sys.exit(f"{spec} does not run under coverage.py: {run.stdout.decode()[-2000:]}")

        paths = {spec: [Path(kept, f"{number}-{look}") for look in range(LOOKS)] for number, spec in enumerate(modules)}
        list(pool.map(lambda one: look(*one), [(spec, path) for spec, mine in paths.items() for path in mine]))
        return {spec: Reach.read(mine, modules[spec]) for spec, mine in paths.items()}


def try_out(
    copy: Path, group: str, mutant: Mutant, killers: Killers, reach: Mapping[str, Reach], rows: range | None
) -> dict[str, Any]:
    """Let the suite judge a mutant, which changes a statement in ``rows``."""
    is_reached = not reach
    for spec in GROUPS[group].specs:
        first = killers.best(group, mutant)
        then: list[str] | None = None
        if spec in reach:
            then = reach[spec].cases(mutant.module, rows)
            is_reached = is_reached or bool(then)
            first = [case for case in first if case in then]
            then = [case for case in then if case not in first]
        result = judge_surely(copy, spec, first, limit=SOON) if first else {"outcome": "survived"}
        # Where the first cases do not run, one of them may have another name by now: the others tell.
        if result["outcome"] not in CAUGHT and then != []:
            result = judge_surely(copy, spec, then or [], *ISOLATED, limit=LIMIT)
        if result["outcome"] != "survived":
            return {**result, "spec": spec}
    return {"outcome": "survived"} if is_reached else {"outcome": "survived", "unreached": True}


def judge_surely(copy: Path, spec: str, cases: Sequence[str], *arguments: str, limit: float) -> dict[str, Any]:
    """The same as :func:`judge`; where something hangs an isolated run says what, and where the machine may just have
    been slow, the case is asked once more."""
    while True:
        result = judge(copy, spec, cases, *arguments, limit=limit)
        if result["outcome"] == "not done" and not arguments:
            result = judge(copy, spec, cases, *ISOLATED, limit=LIMIT)
        if not cases or result["outcome"] not in CAUGHT or not is_doubtful(result) or is_again(copy, result, spec):
            return result
        cases = cases[cases.index(result["case"]) + 1 :]
        if not cases:
            return {"outcome": "survived"}


def is_doubtful(result: dict[str, Any]) -> bool:
    """Whether a machine with too much to do could have caught a mutant by itself."""
    return result["outcome"] == "hang" or "quality clause" in result["message"]


def is_again(copy: Path, result: dict[str, Any], spec: str) -> bool:
    """Whether a case catches the mutant when it is run once more, alone."""
    again = judge(copy, spec, [result["case"]], *ISOLATED, limit=LIMIT)
    return bool(again["outcome"] != "survived")


def try_without_a_mutant(copies: Copies, groups: Iterable[str], jobs: int, *, whole: bool) -> None:
    """See that the suite, or one case, passes here: where it does not, every mutant would seem to be caught.

    :raises SystemExit: it does not.
    """

    def control(spec: str) -> dict[str, Any]:
        with copies.unchanged() as copy:
            return judge(copy, spec, [] if whole else [CONTROL], limit=LIMIT)

    specs = list(dict.fromkeys(spec for group in groups for spec in GROUPS[group].specs))
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(control, specs))
    for spec, result in zip(specs, results, strict=True):
        if result["outcome"] != "survived":
            why = " ".join(result.get(key, "") for key in ("outcome", "case", "message"))
            sys.exit(f"{spec}, as it is, fails already: {why}")


def lines_of(original: str, changed: str) -> tuple[str, str]:
    """Return what a mutant took away and what it put there."""
    lines = list(difflib.ndiff(original.splitlines(), changed.splitlines()))
    return tuple("\n".join(line[2:].strip() for line in lines if line.startswith(sign)) for sign in "-+")  # type: ignore[return-value]


def parse(texts: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=sorted(GROUPS), action="append", help="default: all")
    parser.add_argument("--sample", type=int, default=0, help="of each group so many; without it all")
    parser.add_argument("--seed", type=int, default=0, help="picks the sample, and the order")
    parser.add_argument("--only", default="", help="only mutants whose id begins so, and again: MODULE:LINE:OPERATOR:N")
    parser.add_argument("--survivors", action="store_true", help="only those that survived without a reason, and again")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="how many at a time")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin none after so many")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "mutation", metavar="PATH")
    options = parser.parse_args(texts)
    if options.jobs < 1:
        parser.error(f"--jobs is at least 1, not {options.jobs}")
    if not options.minutes >= 0:
        parser.error(f"--minutes is at least 0, not {options.minutes}")
    return options


def main(texts: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 if a survivor has no explanation."""
    options = parse(texts)
    path = options.output.with_suffix(".json")
    known: dict[str, dict[str, Any]] = {}
    if path.exists():
        known = {result["key"]: result for result in json.loads(path.read_text())["results"] if "key" in result}
    equivalents = read_equivalents(ROOT / "tools" / "equivalents.toml")
    chosen: list[tuple[str, Mutant]] = []
    current: dict[str, Mutant] = {}
    for group in GROUPS:
        mutants = [mutant for module in GROUPS[group].modules for mutant in mutants_of(module, ROOT)]
        current |= {mutant.key: mutant for mutant in mutants}
        if group in (options.group or GROUPS):
            random.Random(options.seed).shuffle(mutants)
            chosen += [(group, mutant) for mutant in mutants[: options.sample or None]]
    # The rest is of functions as they were. What is above a function may have been edited: it is elsewhere by now.
    known = {key: known[key] | {"id": now.id, **now._asdict()} for key, now in current.items() if key in known}
    if options.only:
        todo = [(group, mutant) for group, mutant in chosen if mutant.id.startswith(options.only)]
    elif options.survivors:
        survivors = [result for result in known.values() if result["outcome"] == "survived"]
        alive = {result["key"] for result in survivors if not reason_of(result, equivalents)}
        todo = [one for one in chosen if one[1].key in alive]
    else:
        todo = [(group, mutant) for group, mutant in chosen if mutant.key not in known]
    random.Random(options.seed).shuffle(todo)
    killers = Killers(list(known.values()))
    end = 0.0
    lock = threading.Lock()
    done: list[str] = []

    def work(one: tuple[str, Mutant]) -> None:
        group, mutant = one
        if time.monotonic() > end:
            return
        original = (ROOT / mutant.module).read_text(encoding="utf-8")
        changed = mutant.source(original)
        began = time.monotonic()
        result: dict[str, Any] = {"id": mutant.id, "key": mutant.key, "group": group, **mutant._asdict()}
        if changed is None:
            result |= {"outcome": "no mutant"}
        else:
            result["before"], result["after"] = lines_of(original, changed)
            with copies.with_module(mutant.module, changed) as copy:
                result |= try_out(copy, group, mutant, killers, reach, rows_of(original, mutant.line))
        result["seconds"] = round(time.monotonic() - began, 1)
        killers.learn(result)
        with lock:
            known[mutant.key] = result
            print(f"{mutant.id}: {result['outcome']} {result.get('case', '')} {result['seconds']} s", flush=True)
            done.append(mutant.id)
            if len(done) % 20 == 0:
                summarize(options.output, list(known.values()), equivalents, len(current))

    with tempfile.TemporaryDirectory() as folder:
        copies = Copies(Path(folder), options.jobs)
        groups = {group for group, _ in todo}
        try_without_a_mutant(copies, groups, options.jobs, whole=not options.only)
        reach = {} if options.only else find_reach(copies, groups, options.jobs)
        end = time.monotonic() + 60 * options.minutes
        try:
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(work, todo))
        finally:
            status = summarize(options.output, list(known.values()), equivalents, len(current))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
