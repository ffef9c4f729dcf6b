"""Broken on purpose, automatically: mutants of the backends' semaphores and queues, judged by the suite alone.

    python tools/mutation.py                                   # resumes what was stopped, writes docs/results/mutation
    python tools/mutation.py --group=reference --sample=100    # so many, picked by --seed
    python tools/mutation.py --only=backends/reference/semaphore.py:70

Each mutant is tried in a copy of the packages, first with the cases that caught others like it, then with the whole
suite at quick effort. What survives is equivalent, and ``tools/equivalents.toml`` says why, or the suite lacks a case.
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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mutants import Mutant, mutants_of
from mutation_page import read_equivalents, reason_of, summarize
from zoo import CAUGHT, target

ROOT = Path(__file__).resolve().parent.parent
#: Seconds for a wait; for a whole case, where one hangs; for the first cases, and for the whole suite.
DEADLINE, CASE, SOON, LIMIT = 1.5, 9.0, 60.0, 400.0
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


def judge(copy: Path, spec: str, cases: Sequence[str], *arguments: str, limit: float) -> dict[str, Any]:
    """Run cases, all if none are named, until one catches the mutant; return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        report, ini = Path(folder, "report.json"), Path(folder, "pytest.ini")
        ini.write_text("[pytest]\n", encoding="utf-8")
        targets = [target(case, spec) for case in cases] or SUITE
        command = [sys.executable, "-P", "-m", "pytest", "--pyargs", *targets, "-x", "-q", "--tb=short", "-c", str(ini)]
        command += ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:hypothesispytest", "-p", "no:xdist"]
        command.append(f"--backend={spec}")
        command += ["--effort=quick", f"--hal-deadline={DEADLINE}", f"--hal-report={report}", "--hal-strict-quality"]
        # Bytecode is written: to rewrite the suite's assertions anew would take longer than many a mutant lives.
        path = os.pathsep.join([str(copy), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": ""}
        with subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=os.environ | environment,
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


def try_out(copy: Path, group: str, mutant: Mutant, killers: Killers) -> dict[str, Any]:
    """Let the suite judge a mutant."""
    result: dict[str, Any] = {}
    for spec in GROUPS[group].specs:
        first = killers.best(group, mutant)
        for cases in [first, []] if first else [[]]:
            result = judge(copy, spec, cases, limit=SOON if cases else LIMIT)
            if result["outcome"] == "not done":  # somewhere it hangs: an isolated run says where
                arguments = ("--isolate", f"--hal-case-deadline={CASE}")
                result = judge(copy, spec, cases, *arguments, limit=LIMIT)
            # Where the first cases do not run, one of them may have another name by now: the whole suite tells.
            if result["outcome"] in CAUGHT or (result["outcome"] != "survived" and not cases):
                return {**result, "spec": spec}
    return result


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
                result |= try_out(copy, group, mutant, killers)
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
        try_without_a_mutant(copies, {group for group, _ in todo}, options.jobs, whole=not options.only)
        end = time.monotonic() + 60 * options.minutes
        try:
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(work, todo))
        finally:
            status = summarize(options.output, list(known.values()), equivalents, len(current))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
