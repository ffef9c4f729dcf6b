"""Broken on purpose, automatically: mutants of the backends' semaphores and queues, judged by the suite alone.

    python tools/mutation.py                                   # resumes what was stopped, writes docs/results/mutation
    python tools/mutation.py --group=reference --sample=100    # so many, picked by --seed
    python tools/mutation.py --only=backends/reference/semaphore.py:70

Each mutant is tried in a copy of the packages, by the cases that reach it: first those that caught others like it, then
all, at quick effort. What survives is equivalent, and ``tools/equivalents.toml`` says why, or the suite lacks a case.
"""

from __future__ import annotations

import argparse
import difflib
import fcntl
import hashlib
import json
import os
import random
import signal
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
from mutation_judge import (
    ISOLATED,
    LIMIT,
    NO_RUN,
    NOT_DONE,
    NOTICED,
    ROOT,
    SOON,
    Copies,
    Over,
    end_all,
    is_doubtful,
    judge,
    judge_surely,
    run_suite,
    suite_command,
)
from mutation_page import read_equivalents, reason_of, summarize
from mutation_reach import MODULES, OUTPUT, Reach, rows_of

#: Seconds for a wait where coverage.py looks on, and how often it does: what only a race reaches shows now and then.
SLOW, LOOKS = 60.0, 2
#: Seconds for the whole suite then.
LOOK_LIMIT = 1800.0
EQUIVALENTS = ROOT / "tools" / "equivalents.toml"
#: A case that passes where nothing was changed.
CONTROL = "submissions/test_threads::test_first_call_of_a_thread[create]"
#: How many cases are tried first. For how many mutants it is not worth while to see which cases reach them.
FIRST, FEW = 20, 8
#: After how many results they are written.
KEPT_EVERY = 5


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
                environment["COVERAGE_CORE"] = "ctrace"  # the newer one knows no contexts
                command += ["-p", "mutation_reach", "--no-isolate", f"--hal-deadline={SLOW}"]
                status, output = run_suite(command, folder, environment, LOOK_LIMIT)
                if status not in (0, 1) or not path.exists():  # a case may be too slow here, but all must have run
                    sys.exit(f"{spec} does not run under coverage.py: {output[-2000:]}")

        paths = {spec: [Path(kept, f"{number}-{look}") for look in range(LOOKS)] for number, spec in enumerate(modules)}
        list(pool.map(lambda one: look(*one), [(spec, path) for spec, mine in paths.items() for path in mine]))
        return {spec: Reach.read(mine, modules[spec]) for spec, mine in paths.items()}


def try_out(
    copy: Path,
    original: Path,
    group: str,
    mutant: Mutant,
    killers: Killers,
    reach: Mapping[str, Reach],
    rows: range | None,
) -> dict[str, Any]:
    """Let the suite judge a mutant in ``copy``, which changes a statement in ``rows``."""
    is_reached = not reach
    undecided: dict[str, Any] = {}
    for spec in GROUPS[group].specs:
        first = killers.best(group, mutant)
        everything: list[str] = []  # whatever there is
        if spec in reach:
            everything = reach[spec].cases(mutant.module, rows)
            if not everything:
                continue
            is_reached = True
            first = [case for case in first if case in everything]
        result: dict[str, Any] = {"outcome": "survived"}
        if first:
            result = judge_surely(copy, original, spec, first, limit=SOON)
        if result["outcome"] not in NOTICED:
            # Where the first cases were not run, as one of them may have another name by now, they are asked again.
            asked = first if result["outcome"] == "survived" else []
            rest = [case for case in everything if case not in asked]
            if rest or not everything:
                result = judge_surely(copy, original, spec, rest, *ISOLATED, limit=LIMIT)
        if result["outcome"] == NOT_DONE:
            undecided = {**result, "spec": spec}
        elif result["outcome"] != "survived":
            return {**result, "spec": spec}
    return undecided or ({"outcome": "survived"} if is_reached else {"outcome": "survived", "unreached": True})


def try_without_a_mutant(copies: Copies, groups: Iterable[str], jobs: int, *, whole: bool) -> None:
    """See that the suite, or one case, passes here: where it does not, every mutant would seem to be caught.

    :raises SystemExit: it does not.
    """

    def control(spec: str) -> dict[str, Any]:
        with copies.unchanged() as copy:
            result: dict[str, Any] = judge(copy, spec, [] if whole else [CONTROL], limit=LIMIT)
            return result

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
    for name in ("minutes", "sample"):
        if not getattr(options, name) >= 0:
            parser.error(f"--{name} is at least 0, not {getattr(options, name)}")
    return options


def is_kept(result: dict[str, Any]) -> bool:
    """Whether a result of an earlier run stands: it decides, and was asked for again where a slow machine could."""
    if result["outcome"] == NO_RUN:
        return "exit code 4" in result["message"]
    return result["outcome"] != NOT_DONE and not is_doubtful(result)


def read_results(path: Path, current: Mapping[str, Mutant]) -> dict[str, dict[str, Any]]:
    """Return the results that stand, of functions that are as they were, by the keys of their mutants.

    What is above a function may have been edited: it is elsewhere by now.
    """
    if not path.exists():
        return {}
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    found = {result["key"]: result for result in results if result.get("key") in current and is_kept(result)}
    return {key: result | {"id": current[key].id, **current[key]._asdict()} for key, result in found.items()}


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep other runs from what this one writes.

    :raises SystemExit: another one has it.
    """
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    with Path(tempfile.gettempdir(), f"mutation-{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another run writes {path}: wait for it, or give another --output")
        yield


def choose(
    options: argparse.Namespace, mutants: Mapping[str, list[Mutant]], known: Mapping[str, dict[str, Any]]
) -> list[tuple[str, Mutant]]:
    """Return what is to be tried, in a random order.

    :raises SystemExit: nothing is called as ``--only`` says.
    """
    chosen: list[tuple[str, Mutant]] = []
    for group, each in mutants.items():
        if group in (options.group or GROUPS):
            shuffled = random.Random(options.seed).sample(each, len(each))
            chosen += [(group, mutant) for mutant in shuffled[: options.sample or None]]
    if options.only:
        todo = [one for one in chosen if one[1].id.startswith(options.only)]
        if not todo:
            sys.exit(f"--only={options.only}: there is no such mutant")
    elif options.survivors:
        survivors = [result for result in known.values() if result["outcome"] == "survived"]
        equivalents = read_equivalents(EQUIVALENTS)
        alive = {result["key"] for result in survivors if not reason_of(result, equivalents)}
        todo = [one for one in chosen if one[1].key in alive]
    else:
        todo = [one for one in chosen if one[1].key not in known]
    random.Random(options.seed).shuffle(todo)
    return todo


class Run:
    """The results of one run, and how they come about. Thread-safe."""

    def __init__(self, output: Path, known: dict[str, dict[str, Any]], total: int) -> None:
        self._output, self._known, self._total = output, known, total
        self._killers = Killers(list(known.values()))
        self._lock = threading.Lock()
        self._new = 0

    def try_all(self, todo: Sequence[tuple[str, Mutant]], copies: Copies, options: argparse.Namespace) -> None:
        """Try mutants, until they are done or the time is over."""
        groups = {group for group, _ in todo}
        is_long = not options.only and len(todo) > FEW
        try_without_a_mutant(copies, groups, options.jobs, whole=is_long)
        reach = find_reach(copies, groups, options.jobs) if is_long else {}
        end = time.monotonic() + 60 * options.minutes

        def work(one: tuple[str, Mutant]) -> None:
            if time.monotonic() < end:
                self._try(*one, copies, reach)

        try:
            with ThreadPoolExecutor(options.jobs) as pool:
                try:
                    list(pool.map(work, todo))
                except BaseException:  # Ctrl-C: nobody waits for what is in progress
                    pool.shutdown(wait=False, cancel_futures=True)
                    end_all()
                    raise
        finally:
            self.keep()

    def _try(self, group: str, mutant: Mutant, copies: Copies, reach: Mapping[str, Reach]) -> None:
        result: dict[str, Any] = {"id": mutant.id, "key": mutant.key, "group": group, **mutant._asdict()}
        began = time.monotonic()
        try:
            original = (ROOT / mutant.module).read_text(encoding="utf-8")
            changed = mutant.source(original)
            if changed is None:
                result |= {"outcome": "no mutant"}
            else:
                result["before"], result["after"] = lines_of(original, changed)
                rows = rows_of(original, mutant.line)
                with copies.with_module(mutant.module, changed) as copy:
                    result |= try_out(copy, copies.original, group, mutant, self._killers, reach, rows)
        except Over:
            raise
        except Exception as error:  # noqa: BLE001 - one that cannot be tried costs no other
            result |= {"outcome": NOT_DONE, "message": f"{type(error).__name__}: {error}"}
        result["seconds"] = round(time.monotonic() - began, 1)
        self._killers.learn(result)
        with self._lock:
            self._known[mutant.key] = result
            print(f"{mutant.id}: {result['outcome']} {result.get('case', '')} {result['seconds']} s", flush=True)
            self._new += 1
            if self._new % KEPT_EVERY == 0:
                self.keep()

    def keep(self) -> int:
        """Write what is known; return 1 if a survivor has no explanation."""
        return int(summarize(self._output, list(self._known.values()), read_equivalents(EQUIVALENTS), self._total))


def main(texts: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 if a survivor has no explanation."""
    options = parse(texts)
    mutants = {
        group: [mutant for module in GROUPS[group].modules for mutant in mutants_of(module, ROOT)] for group in GROUPS
    }
    current = {mutant.key: mutant for each in mutants.values() for mutant in each}
    with alone_with(options.output), tempfile.TemporaryDirectory() as folder:
        known = read_results(options.output.with_suffix(".json"), current)
        todo = choose(options, mutants, known)
        run = Run(options.output, known, len(current))
        if todo:
            run.try_all(todo, Copies(Path(folder), options.jobs), options)
        return run.keep()


def _stop(*_: object) -> None:
    """A polite end is one like that of Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
