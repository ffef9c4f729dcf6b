"""Broken on purpose, automatically: mutants of the backends' semaphores and queues, judged by the suite alone.

    python tools/mutation.py                                   # resumes what was stopped, writes docs/results/mutation
    python tools/mutation.py --group=reference --sample=100    # so many, picked by --seed
    python tools/mutation.py --only=backends/reference/semaphore.py:70
    python tools/mutation.py --own-tests                       # of survivors left to tests of the project's own

Each mutant is tried in a copy of the packages, by the cases that reach it: first those that caught others like it, then
all, at quick effort. What handles calls that fail no case reaches, as none fails: mutants of the CUDA backend that live
on are left to trials of the fault loop, which is the suite on a driver whose calls fail. What survives that, too, is
equivalent, and ``tools/equivalents.toml`` says why, or the suite lacks a case. Where a reason names tests of the
project's own, these are run on the mutant, too, and it counts only if they fail.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mutants import Mutant, mutants_of
from mutation_faults import judge_surely_by_faults
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
    ask_tests,
    is_doubtful,
    judge,
    judge_surely,
    map_all,
)
from mutation_killers import Killers
from mutation_look import FAULTS, Suite, find_reach
from mutation_page import Reason, read_equivalents, reason_of, summarize, tests_of
from mutation_reach import Reach, rows_of

#: How many trials that reach a mutant judge it.
TRIALS = 60
EQUIVALENTS = ROOT / "tools" / "equivalents.toml"
#: A case that passes where nothing was changed.
CONTROL = "submissions/test_threads::test_first_call_of_a_thread[create]"
#: For how many mutants it is not worth while to see which cases reach them.
FEW = 8
#: Of a mutant that is tried for the first time.
NOTHING_KNOWN: Mapping[str, Any] = {}
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
        (
            "cuda-sim",
            FAULTS,
            # Little of everything, so that what waits for room and what is not kept is seen, too.
            "cuda-sim:completion=host-function:queues=4:streams=2:max_in_flight=3:event_pool_capacity=1",
        ),
    ),
}


def try_out(
    copy: Path,
    original: Path,
    group: str,
    mutant: Mutant,
    killers: Killers,
    reach: Mapping[str, Reach],
    rows: range | None,
    before: Mapping[str, Any] = NOTHING_KNOWN,
    is_newer: Callable[[str], bool] = lambda _: False,
) -> dict[str, Any]:
    """Let the suite judge a mutant in ``copy``, which changes a statement in ``rows``.

    :param before: the result of an earlier run: what let the mutant live then is asked of newer cases only.
    :param is_newer: whether a case is new since.
    """
    is_reached = not reach
    undecided: dict[str, Any] = {}
    asked = asked_of(before)
    answered = set(asked)
    for spec in GROUPS[group].specs:
        judges = reach[spec].cases(mutant.module, rows) if spec in reach else []
        if spec == FAULTS:  # beside what trials reach stands what their cases do where no call fails
            judges = [text for text in judges if text.startswith("[")]
        is_reached |= bool(judges)
        if spec in asked:
            judges = [one for one in judges if is_newer(json.loads(one)[0] if spec == FAULTS else one)]
        if spec in reach and not judges:
            result: dict[str, Any] = {"outcome": "survived"}
        elif spec == FAULTS:
            trials = [json.loads(text) for text in random.Random(mutant.key).sample(judges, min(TRIALS, len(judges)))]
            if not reach:  # nobody knows what reaches it, but what caught it before
                trials = [before["trial"]] if "trial" in before else []
                if not trials:
                    continue
            result = judge_surely_by_faults(copy, original, trials, limit=LIMIT)
        else:
            first = [case for case in killers.best(group, mutant) if case in judges or spec not in reach]
            result = _ask_cases(copy, original, spec, first, judges)
        if result["outcome"] == NOT_DONE:
            undecided = {**result, "spec": spec}
        elif result["outcome"] != "survived":
            return {**result, "spec": spec}
        answered.add(spec)
    if undecided:
        return undecided
    lived: dict[str, Any] = {"outcome": "survived", "asked": sorted(answered)}
    return lived if is_reached else {**lived, "unreached": True}


def _ask_cases(copy: Path, original: Path, spec: str, first: list[str], judges: list[str]) -> dict[str, Any]:
    """Let cases judge, ``first`` those most likely to catch something; all there are, if none are named as judges."""
    result: dict[str, Any] = {"outcome": "survived"}
    if first:
        result = judge_surely(copy, original, spec, first, limit=SOON)
    if result["outcome"] not in NOTICED:
        # Where the first cases were not run, as one of them may have another name by now, they are asked again.
        done = first if result["outcome"] == "survived" else []
        rest = [case for case in judges if case not in done]
        if rest or not judges:
            result = judge_surely(copy, original, spec, rest, *ISOLATED, limit=LIMIT)
    return result


def try_without_a_mutant(copies: Copies, groups: Iterable[str], jobs: int, *, whole: bool) -> None:
    """See that the suite, or one case, passes here: where it does not, every mutant would seem to be caught.

    :raises SystemExit: it does not.
    """

    def control(spec: str) -> dict[str, Any]:
        with copies.unchanged() as copy:
            if spec == FAULTS:  # each trial that finds something is tried with the original, too
                return {"outcome": "survived"}
            result: dict[str, Any] = judge(copy, spec, [] if whole else [CONTROL], limit=LIMIT)
            return result

    specs = list(dict.fromkeys(spec for group in groups for spec in GROUPS[group].specs))
    with ThreadPoolExecutor(jobs) as pool:
        results = map_all(pool, control, specs)
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
    parser.add_argument(
        "--own-tests", action="store_true", help="ask survivors left to the project's own tests of these"
    )
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


def asked_of(result: Mapping[str, Any]) -> set[str]:
    """Return the specs that let a mutant live."""
    return set(result.get("asked", ()))


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
    options: argparse.Namespace,
    mutants: Mapping[str, list[Mutant]],
    known: Mapping[str, dict[str, Any]],
    suite: Suite,
    equivalents: list[Reason],
) -> list[tuple[str, Mutant]]:
    """Return what is to be tried, in a random order.

    :raises SystemExit: nothing is called as ``--only`` says.
    """
    survivors = {result["key"]: result for result in known.values() if result["outcome"] == "survived"}
    alive = {key for key, result in survivors.items() if not reason_of(result, equivalents)}
    unasked = {  # also where there is a reason: it falls when a newer case catches the mutant
        key
        for key, result in survivors.items()
        if result.get("suite") != suite.digest
        or set(GROUPS[result["group"]].specs) - asked_of(result)
        or tests_of(result, equivalents)
    }
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
        todo = [one for one in chosen if one[1].key in alive]
    elif options.own_tests:
        todo = [one for one in chosen if (key := one[1].key) in survivors and tests_of(survivors[key], equivalents)]
    else:
        todo = [one for one in chosen if one[1].key not in known or one[1].key in unasked]
    random.Random(options.seed).shuffle(todo)
    # First what only newer cases and backends are asked of; what has a reason to live is asked last.
    todo.sort(key=lambda one: 0 if one[1].key in alive else 1 if one[1].key not in known else 2)
    return todo


class Run:
    """The results of one run, and how they come about. Thread-safe."""

    def __init__(
        self, output: Path, known: dict[str, dict[str, Any]], total: int, suite: Suite, equivalents: list[Reason]
    ) -> None:
        self._output, self._known, self._total, self._suite = output, known, total, suite
        self._equivalents = equivalents
        self._killers = Killers(list(known.values()))
        self._lock = threading.Lock()
        self._new = 0
        self._again = False

    def try_all(self, todo: Sequence[tuple[str, Mutant]], copies: Copies, options: argparse.Namespace) -> None:
        """Try mutants, until they are done or the time is over."""
        groups = {group for group, _ in todo}
        self._again = bool(options.only or options.survivors)
        is_long = not options.only and (len(todo) > FEW or any(FAULTS in GROUPS[group].specs for group in groups))
        reach: dict[str, Reach] = {}
        if not options.own_tests:
            try_without_a_mutant(copies, groups, options.jobs, whole=is_long)
            modules = {spec: GROUPS[group].modules for group in groups for spec in GROUPS[group].specs}
            reach = find_reach(copies, modules, options.jobs) if is_long else {}
        end = time.monotonic() + 60 * options.minutes

        def work(one: tuple[str, Mutant]) -> None:
            if time.monotonic() >= end:
                return
            if options.own_tests:
                self._ask_own_tests(one[1], copies)
            else:
                self._try(*one, copies, reach)

        try:
            with ThreadPoolExecutor(options.jobs) as pool:
                map_all(pool, work, todo)
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
                    before = self._known.get(mutant.key, {})
                    if self._again:
                        before = {**before, "asked": []}
                    is_newer = partial(self._suite.is_newer, digest=before.get("suite", ""))
                    known = self._killers, reach, rows, before, is_newer
                    result |= try_out(copy, copies.original, group, mutant, *known)
                    if result["outcome"] == "survived":
                        result["tests"] = {} if self._again else before.get("tests", {})
                        tests = tests_of(result, self._equivalents)
                        result["tests"] |= ask_tests(copy, copies.original, tests)
        except Over:
            raise
        except Exception as error:  # noqa: BLE001 - one that cannot be tried costs no other
            result |= {"outcome": NOT_DONE, "message": f"{type(error).__name__}: {error}"}
        result |= {"seconds": round(time.monotonic() - began, 1), "suite": self._suite.digest}
        self._killers.learn(result)
        self._note(mutant, result, f"{result['outcome']} {result.get('case', '')} {result['seconds']} s")

    def _ask_own_tests(self, mutant: Mutant, copies: Copies) -> None:
        """Ask a survivor of what it is left to; what the suite said of it stands."""
        result = self._known[mutant.key]
        changed = mutant.source((ROOT / mutant.module).read_text(encoding="utf-8"))
        assert changed is not None  # it was tried
        with copies.with_module(mutant.module, changed) as copy:
            answers = ask_tests(copy, copies.original, tests_of(result, self._equivalents))
        said = ", ".join(f"{tests}: {answer}" for tests, (answer, _) in answers.items())
        self._note(mutant, result | {"tests": result.get("tests", {}) | answers}, said or "nobody can say")

    def _note(self, mutant: Mutant, result: dict[str, Any], said: str) -> None:
        with self._lock:
            self._known[mutant.key] = result
            print(f"{mutant.id}: {said}", flush=True)
            self._new += 1
            if self._new % KEPT_EVERY == 0:
                self.keep()

    def keep(self) -> int:
        """Write what is known; return 1 if a survivor has no explanation."""
        results = list(self._known.values())
        suites = self._suite.noted({one["suite"] for one in results if one["outcome"] == "survived" and "suite" in one})
        return int(summarize(self._output, results, self._equivalents, self._total, suites))


def main(texts: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 if a survivor has no explanation."""
    options = parse(texts)
    mutants = {
        group: [mutant for module in GROUPS[group].modules for mutant in mutants_of(module, ROOT)] for group in GROUPS
    }
    current = {mutant.key: mutant for each in mutants.values() for mutant in each}
    with alone_with(options.output), tempfile.TemporaryDirectory() as folder:
        path = options.output.with_suffix(".json")
        known = read_results(path, current)
        suite = Suite(ROOT, json.loads(path.read_text()).get("suites", {}) if path.exists() else {})
        equivalents = read_equivalents(EQUIVALENTS)
        todo = choose(options, mutants, known, suite, equivalents)
        run = Run(options.output, known, len(current), suite, equivalents)
        if todo:
            run.try_all(todo, Copies(Path(folder), options.jobs), options)
        return run.keep()


def _stop(*_: object) -> None:
    """A polite end is one like that of Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
