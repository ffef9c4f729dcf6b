"""Every driver call fails once: each case of the suite, with its n-th call failing, for n = 1, 2, 3 …

SQLite tests its out-of-memory handling so. What the case itself asserts is of no interest once a call has failed, but
nothing hangs, nothing leaks, every signal of every accepted submission ends reached or failed, unrelated work still
runs unless the device is lost, and the device closes. A hang that nothing ends costs the process, and the loop goes on
behind it in another.

``python tools/fault_loop.py --output=docs/results/faults`` runs the whole, resumes what was interrupted, and writes
``faults.json`` and ``faults.md``; when the backend has changed since, it begins anew, unless ``--keep-older`` says that
what was tried of earlier code counts, too, and the page says how much that is. ``--trials=100`` tries so many, picked
at random, and ``--from=FILE`` those of a file. Several processes share the whole: each takes one case with one of the
errors, then the next.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from fault_checks import SOON, STUCK, guarded, what_is_left, what_is_wrong
from fault_page import Trial, begin_progress, code_tried_last, read_progress, summarize, trial_of

from pytest_cuda2hal.backends.faulty.failing_calls import ERRORS, Loop, Plan
from pytest_cuda2hal.case import CaseState
from pytest_cuda2hal.identity import case_id
from pytest_cuda2hal.plugin import is_case

SPEC = "pytest_cuda2hal.backends.faulty.failing_calls:BACKEND"
#: Errors, and for how many calls each: 0 for all from the n-th on. The last one is sticky, so that once is for good.
KINDS = (
    ("CUDA_ERROR_OUT_OF_MEMORY", 1),
    ("CUDA_ERROR_UNKNOWN", 1),
    ("CUDA_ERROR_INVALID_VALUE", 1),
    ("CUDA_ERROR_UNKNOWN", 0),
    ("CUDA_ERROR_ILLEGAL_ADDRESS", 1),
)
#: Of a case with more calls than this, all up to it are tried, and so many beyond, spread evenly at random.
ALL_UP_TO, BEYOND = 200, 50
#: A case with more calls than this is left out where trials are picked at random.
SMALL = 2000
#: What the tool exits with when a hang made it give up its process.
GAVE_UP = 75


class FaultLoop:
    """The pytest plugin: takes every case over."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._random = random.Random(arguments.seed)
        self._progress = Path(arguments.output) / "progress.jsonl"
        before = read_progress(self._progress)
        now = code_tried_last(self._progress)
        # Of earlier code counts what was reached and found nothing.
        done = [one for one in before if one["code"] == now or (one["call"] and not one["problems"])]
        self._found = {trial_of(one) for one in before if one["code"] != now and one["problems"]}
        self._done = {trial_of(one) for one in done}
        self._reached = sum(bool(one["call"]) for one in before)
        self._end = time.monotonic() + 60 * arguments.minutes
        self._asker = os.getppid()
        self._named: list[Trial] = arguments.named
        self._reach: Any = None
        self._is_over = self._is_enough(any(one["problems"] for one in before))
        self._plan: Plan | None = None
        self._problems: list[str] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        """Find out whether somebody notes what each trial reaches."""
        self._reach = config.pluginmanager.get_plugin("hal-reach")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep what was asked for; a random part in a random order."""
        if self._arguments.given:
            cases = {trial.case for trial in self._named}
            items[:] = [item for item in items if is_case(item) and case_id(item) in cases]
        select = self._arguments.select
        named = [item for item in items if is_case(item) and case_id(item) == select]
        items[:] = named or [item for item in items if is_case(item) and select in case_id(item)]
        if self._arguments.trials or self._arguments.jobs > 1:  # the large ones are not all at one place
            self._random.shuffle(items)
        gc.collect()
        gc.freeze()  # what is here now stays, and is looked through after each trial otherwise

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a case again and again."""
        for trials in () if self._is_over else self._parts(item):
            for trial in trials:
                if trial not in self._done and (not self._try(item, trial) or self._is_over):
                    break
        item.session._setupstate.teardown_exact(nextitem)
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Look at the devices before the fixtures close them."""
        plan = self._plan
        if plan is not None:
            plan.paused = True
            for device in CaseState.of(item).devices:
                if not device.closed:
                    self._problems += guarded(lambda device=device: what_is_wrong(device, plan))
            plan.paused = False
        yield

    def _parts(self, item: pytest.Item) -> Iterable[Iterable[Trial]]:
        """Yield what is to be tried with a case, where a call that was not reached ends a part."""
        case, arguments = case_id(item), self._arguments
        kinds = KINDS if arguments.error is None else [(arguments.error, arguments.times)]
        if arguments.given:
            yield from ([trial] for trial in self._named if trial.case == case)
        elif arguments.n:
            yield [Trial(case, arguments.n, arguments.error or "CUDA_ERROR_UNKNOWN", arguments.times)]
        elif arguments.trials:
            count = self._count(item)
            picked = random.Random(f"{arguments.seed} {case}")  # the same whatever came before
            chosen = [picked.choice(kinds) for _ in range(4 if 0 < count <= SMALL else 0)]
            yield [Trial(case, picked.randint(1, count), error, times) for error, times in chosen]
        else:
            count = None
            for error, times in kinds:
                if self._is_over or not self._take(f"{case} {error} {times}"):
                    continue
                count = self._count(item) if count is None else count
                yield [Trial(case, n, error, times) for n in self._numbers(case, count)]
                # What earlier code was found with is tried again, also where the case has fewer calls by now.
                again = [one for one in self._found if one.case == case and (one.error, one.times) == (error, times)]
                yield from ([one] for one in sorted(again))

    def _numbers(self, case: str, count: int) -> list[int]:
        """Return which calls are to fail of a case with so many."""
        numbers = list(range(1, min(count, ALL_UP_TO) + 1))
        if count > ALL_UP_TO:
            picked, step = random.Random(f"{self._arguments.seed} {case}"), (count - ALL_UP_TO) / BEYOND
            numbers += sorted({int(ALL_UP_TO + 1 + (k + picked.random()) * step) for k in range(BEYOND)})
        return numbers

    def _take(self, part: str) -> bool:
        """Tell whether a part is this worker's; what it took before its process was given up is its still."""
        if not self._arguments.taken:
            return True
        owner = Path(self._arguments.taken, hashlib.sha256(part.encode()).hexdigest())
        me = str(self._arguments.worker)
        try:
            with owner.open("x") as file:
                file.write(me)
        except FileExistsError:
            return owner.read_text() == me
        return True

    def _count(self, item: pytest.Item) -> int:
        """Run a case with no failing call and return how many there are."""
        trial = Trial(case_id(item), 0, "", 1)
        if trial in self._done:  # there is something wrong with it as it is, and it may hang
            return 0
        plan = Plan()
        self._run(item, plan, trial)
        if self._problems or trial in self._found:
            self._write(trial, plan)
        return plan.seen

    def _try(self, item: pytest.Item, trial: Trial) -> bool:
        """Run a case with a failing call; return whether the call was reached."""
        if self._reach is not None:
            self._reach.begin(json.dumps(trial))
        plan = Plan(trial.n, ERRORS[trial.error], trial.times)
        self._run(item, plan, trial)
        self._write(trial, plan)
        return bool(plan.failed)

    def _run(self, item: pytest.Item, plan: Plan, trial: Trial) -> None:
        give_up = threading.Timer(STUCK, self._give_up, (trial, plan))
        give_up.daemon = True
        give_up.start()
        try:
            self._run_with(item, plan)
        finally:
            give_up.cancel()

    def _run_with(self, item: pytest.Item, plan: Plan) -> None:
        self._problems = []
        Loop.plan = self._plan = plan
        CaseState.forget(item)
        try:
            # As if one of the same module came next, so that what cases share stays.
            following: Any = SimpleNamespace(listchain=lambda: item.listchain()[:-1])
            reports = runtestprotocol(item, nextitem=following, log=False)
        finally:
            Loop.plan = self._plan = None
            forget_trial(item)
        for report in reports:
            text = str(report.longrepr)
            if "device.close() did not return" in text:
                self._problems.append("hang: device.close() did not return")
            if "PytestUnhandledThreadException" in text or "LockOrderError" in text:
                self._problems.append(f"exception: {text.strip().splitlines()[-1][:300]}")
        del reports
        self._problems += what_is_left(plan)
        for driver in plan.drivers:  # where the release of its context failed nobody else ends its threads
            driver.engine.stop()

    def _give_up(self, trial: Trial, plan: Plan) -> None:
        self._problems.append("hang: the case did not end")
        self._write(trial, plan)
        os._exit(GAVE_UP)

    def _write(self, trial: Trial, plan: Plan) -> None:
        if os.getppid() != self._asker:  # which may be another run's progress by now
            self._is_over = True
            return
        with self._progress.open("a") as progress:
            line = {**trial._asdict(), "call": plan.failed[:1], "problems": self._problems}
            progress.write(json.dumps(line) + "\n")
        self._reached += bool(plan.failed)
        self._is_over = self._is_enough(bool(self._problems))

    def _is_enough(self, found: bool) -> bool:
        """Tell whether nothing more is asked for, or nobody asks any more."""
        if time.monotonic() > self._end or os.getppid() != self._asker:
            return True
        return (self._arguments.first and found) or 0 < self._arguments.trials <= self._reached


def forget_trial(item: pytest.Item) -> None:
    """Let fixtures that outlive a case forget what was made of them for it, which pytest has them remember."""
    function: Any = item
    for definitions in function._fixtureinfo.name2fixturedefs.values():
        for definition in definitions:
            if definition.scope != "function":  # what ends itself stays, what ends another because of it goes
                definition._finalizers[:] = [
                    one
                    for one in definition._finalizers
                    if getattr(getattr(one, "func", None), "__name__", "") != "finish"
                ]


def read_trials(path: str) -> list[Trial]:
    """Read trials, each as a JSON list of the case, the call, the error and how many calls fail.

    :raises ValueError: there is no such file, or it holds something else.
    """
    try:
        trials = [Trial(*one) for one in json.loads(Path(path).read_text())]
        for trial in trials:
            if trial.error not in ERRORS or not all(type(one) is int and one >= 0 for one in (trial.n, trial.times)):
                raise ValueError(f"{list(trial)} is no trial")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"--from={path}: {error}; it holds a JSON list of [case, n, error, times]") from None
    return trials


def read_arguments(texts: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=0, help="how many, at random; without it everything is tried")
    parser.add_argument("--seed", type=int, default=0, help="picks what is tried at random")
    parser.add_argument("--first", action="store_true", help="stop at the first finding")
    parser.add_argument("--select", default="", help="only the case of this id, or those whose ids contain it")
    parser.add_argument("--backend", default=SPEC, help="a backend that opens its devices with failing_calls.open_with")
    parser.add_argument("--output", default="build/faults", help="folder for the report, and what was tried so far")
    parser.add_argument("--from", dest="given", default="", metavar="FILE", help="only these trials")
    parser.add_argument("--n", type=int, default=0, help="try this call only")
    parser.add_argument("--error", choices=sorted(ERRORS), metavar="NAME", help="try this error only")
    parser.add_argument("--times", type=int, default=1, help="with --error: how many fail from there on; 0 for all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, where everything is tried")
    parser.add_argument("--keep-older", action="store_true", help="do not begin anew where the backend has changed")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing after so many")
    parser.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--taken", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args(texts)
    if arguments.jobs < 1:
        parser.error(f"--jobs is at least 1, not {arguments.jobs}")
    if arguments.keep_older and (arguments.n or arguments.trials or arguments.first or arguments.given):
        parser.error(
            "--keep-older is for the whole: what is asked for by --n, --trials, --first or --from is tried anew"
        )
    for name in ("minutes", "n", "times", "trials"):
        if not getattr(arguments, name) >= 0:
            parser.error(f"--{name} is at least 0, not {getattr(arguments, name)}")
    try:
        arguments.named = read_trials(arguments.given) if arguments.given else []
    except ValueError as error:
        parser.error(str(error))
    return arguments


def work(arguments: argparse.Namespace) -> int:
    """Run cases in this process."""
    command = ["--pyargs", "pytest_cuda2hal.cts", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
    command += ["-q", "--no-header", "--no-summary", f"--backend={arguments.backend}", "--hal-no-isolate"]
    command += ["--hal-effort=quick", f"--hal-deadline={SOON}", "--tb=native"]  # nobody reads it: half of the time
    command += ["-p", "mutation_reach"] if "HAL_REACH" in os.environ else []
    return int(pytest.main(command, plugins=[FaultLoop(arguments)]))


def main(texts: list[str] | None = None) -> int:
    """Run the loop; 1 if anything was found."""
    arguments = read_arguments(texts)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.worker:
        return work(arguments)
    progress = folder / "progress.jsonl"
    with progress.open("a") as kept:
        try:
            fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another run writes into {folder}: wait for it, or give another --output")
        one = bool(arguments.n or arguments.trials or arguments.first or arguments.given)
        if one:
            kept.truncate(0)  # what is asked for is tried, whatever was before
        if said := begin_progress(progress, arguments.backend, keep_older=arguments.keep_older):
            print(said)
        return supervise(arguments, sys.argv[1:] if texts is None else texts, 1 if one else arguments.jobs)


def supervise(arguments: argparse.Namespace, given: list[str], jobs: int) -> int:
    """Have workers run the cases, and sum up what they found; 1 if anything was."""
    begin = time.monotonic()
    # Each trial has threads of its own. With an arena for each of them malloc would keep gigabytes in pieces.
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ}

    def run(worker: int) -> int:
        status = GAVE_UP
        while status == GAVE_UP:
            left = max(0.0, arguments.minutes - (time.monotonic() - begin) / 60)
            command = [*given, f"--jobs={jobs}", f"--minutes={left}", f"--worker={worker}", f"--taken={taken}"]
            status = subprocess.run([sys.executable, __file__, *command], env=environment, check=False).returncode
        if status:
            print(f"worker {worker} ended with exit code {status}, and what it had taken was not tried to its end")
        return status

    with tempfile.TemporaryDirectory() as taken, ThreadPoolExecutor(jobs) as pool:
        status = next(filter(None, pool.map(run, range(1, jobs + 1))), 0)
    is_late = time.monotonic() - begin > 60 * arguments.minutes
    extent = f"all calls up to the {ALL_UP_TO}th of a case, and {BEYOND} beyond, picked by seed {arguments.seed}"
    if arguments.trials:
        extent = f"{arguments.trials} picked at random by seed {arguments.seed}, of cases with at most {SMALL} calls"
    if status or is_late or arguments.select or arguments.error or arguments.first or arguments.n or arguments.given:
        extent = f"a part so far; the whole is {extent}"
    result = summarize(Path(arguments.output), extent, "" if arguments.backend == SPEC else arguments.backend)
    for one in result["findings"]:
        print(one["count"], "x", one["problem"], "\n   ", one["again"])
    print(f"{result['trials']} failing calls in {result['cases']} cases, {len(result['findings'])} kinds of findings")
    return 1 if result["findings"] or status else 0


if __name__ == "__main__":
    sys.exit(main())
