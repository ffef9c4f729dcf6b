"""How the suite judges one mutant: where it lives meanwhile, how cases are asked, and when what they say counts."""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from mutation_page import CAUGHT as CAUGHT_BY_TESTS
from mutation_page import PASSED, digest_of
from zoo import CAUGHT, target

Item = TypeVar("Item")
Answer = TypeVar("Answer")

ROOT = Path(__file__).resolve().parent.parent
#: Seconds for a wait; for a whole case, where one hangs; for the first cases, and for the whole suite.
DEADLINE, CASE, SOON, LIMIT = 1.5, 20.0, 40.0, 400.0
ISOLATED: Final = ("--isolate", f"--hal-case-deadline={CASE}")
#: What is asked if nothing is named.
SUITE = ["pytest_cuda2hal.cts"]
#: Outcomes of a case by which the suite notices a mutant; of an error in the backend's code, too.
NOTICED: Final = frozenset({*CAUGHT, "error"})
#: The backend does not even open, and pytest's exit code for that.
NO_RUN, USAGE_ERROR = "no run", 4
#: The suite was not done in time, or ended in another way that tells nothing.
NOT_DONE = "not done"
#: How often a case that may have been too slow is asked again; what only a race shows, shows now and then.
TRIES = 3
#: What speaks of time in the message of a case.
_OF_TIME: Final = re.compile(
    r"\b(\d+(\.\d+)? m?s|after|within|in time|waited|deadline|timed? ?out|never|not so|did not|does not|late)\b"
    r"|quality clause|deadlock",
    re.IGNORECASE,
)
_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
_is_over = threading.Event()


class Over(Exception):
    """The run was stopped, and what was asked last has no answer."""


def end_all() -> None:
    """Kill what runs, and begin nothing any more."""
    _is_over.set()
    with _lock:
        for process in _running:
            _kill(process)


def map_all(pool: ThreadPoolExecutor, function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Call a function for each item, in the threads of a pool; Ctrl-C waits for nothing that is in progress."""
    try:
        return list(pool.map(function, items))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_all()
        raise


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Copies:
    """Copies of the packages, one for each job: a mutant lives in one at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        #: One that stays as it is.
        self.original = folder / "original"
        ignore = shutil.ignore_patterns("__pycache__")
        for copy in (self.original, *(folder / str(index) for index in range(count))):
            for source, inside in (("pytest_cuda2hal", ""), ("backends", "backends"), ("cts", "cts")):
                into = copy / "pytest_cuda2hal" / inside
                shutil.copytree(ROOT / source, into, ignore=ignore, dirs_exist_ok=True)
            compileall.compile_dir(copy, quiet=2)
            if copy != self.original:
                self._free.put(copy)

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[Path]:
        """Lend a copy as it is."""
        copy = self._free.get()
        try:
            yield copy
        finally:
            self._free.put(copy)

    @contextlib.contextmanager
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


def run_suite(command: Sequence[str], folder: str, environment: dict[str, str], limit: float) -> tuple[int | None, str]:
    """Run a command; return its exit code, ``None`` if it was not done in time, and what it printed.

    :raises Over: the run was stopped meanwhile.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        with _lock:
            _running.add(process)
        try:
            if _is_over.is_set():
                raise Over
            output = process.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            _kill(process)
            return None, ""
        except BaseException:  # Ctrl-C
            _kill(process)
            raise
        finally:
            with _lock:
                _running.discard(process)
        if _is_over.is_set():
            raise Over
        return process.returncode, output.decode(errors="replace")


def judge(copy: Path, spec: str, cases: Sequence[str], *arguments: str, limit: float) -> dict[str, Any]:
    """Run cases, all if none are named, until one notices the mutant; return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command, environment = suite_command(copy, spec, cases, folder)
        command += ["-x", f"--hal-deadline={DEADLINE}", f"--hal-report={report}", "--hal-strict-quality", *arguments]
        status, output = run_suite(command, folder, environment, limit)
        if status is None:
            return {"outcome": NOT_DONE, "message": f"not done after {limit:g} s"}
        found = json.loads(report.read_text(encoding="utf-8"))["cases"] if report.exists() else []
        for case in found:
            if case["outcome"] in NOTICED:
                return {"outcome": case["outcome"], "case": case["case"], "message": case["message"][:200]}
        if status == 0:
            return {"outcome": "survived"}
        outcome = NO_RUN if status == USAGE_ERROR else NOT_DONE
        return {"outcome": outcome, "message": f"exit code {status}: {output.strip()[-200:]}"}


def judge_by_tests(copy: Path, original: Path, tests: str, *, limit: float) -> bool | None:
    """Tell whether tests of the project's own notice a mutant, in each of two runs, and pass without it; ``None`` where
    nobody can say."""
    command = [sys.executable, "-P", "-m", "pytest", str(ROOT / tests), "-q", "-x", "-c", str(ROOT / "pyproject.toml")]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    for which, expected in ((copy, 1), (copy, 1), (original, 0)):
        path = os.pathsep.join([str(which), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        status, _output = run_suite(command, str(ROOT), environment, limit)
        if status != expected:
            return False if which == copy and status == 0 else None
    return True


def ask_tests(copy: Path, original: Path, tests: Iterable[str]) -> dict[str, list[str]]:
    """Return what tests of the project's own, as they are now, say of a mutant."""
    answers = {each: judge_by_tests(copy, original, each, limit=LIMIT) for each in tests}
    return {
        each: [CAUGHT_BY_TESTS if answer else PASSED, digest_of(each)]
        for each, answer in answers.items()
        if answer is not None
    }


def judge_surely(
    copy: Path, original: Path, spec: str, cases: Sequence[str], *arguments: str, limit: float
) -> dict[str, Any]:
    """The same as :func:`judge`; where something hangs an isolated run says what, and where the machine may just have
    been slow, the case is asked again, of the mutant and of the ``original``."""
    while True:
        result = judge(copy, spec, cases, *arguments, limit=limit)
        if result["outcome"] == NOT_DONE and not arguments:
            result = judge(copy, spec, cases, *ISOLATED, limit=LIMIT)
        if not is_doubtful(result):
            return result
        again = is_again(copy, original, spec, result["case"])
        if again:
            return {**result, "again": True}
        # Of the whole suite nobody knows what would have come after it.
        if again is None or result["case"] not in cases:
            return {"outcome": NOT_DONE, "message": f"{result['case']}, once: {result['message']}"}
        cases = cases[cases.index(result["case"]) + 1 :]
        if not cases:
            return {"outcome": "survived"}


def is_doubtful(result: dict[str, Any]) -> bool:
    """Whether a machine with too much to do could have made a case notice something, and nobody has asked again."""
    if result["outcome"] not in NOTICED or result.get("again"):
        return False
    return result["outcome"] in ("hang", "device lost") or _OF_TIME.search(result["message"]) is not None


def is_again(copy: Path, original: Path, spec: str, case: str) -> bool | None:
    """Whether a case notices the mutant when it is run again, alone, and finds nothing in the original as often.

    ``None`` where the original was not done in time, so that nobody can say.
    """
    alone = (spec, [case], *ISOLATED)
    if all(judge(copy, *alone, limit=LIMIT)["outcome"] not in NOTICED for _ in range(TRIES)):
        return False
    for _ in range(TRIES):
        outcome = judge(original, *alone, limit=LIMIT)["outcome"]
        if outcome != "survived":
            return None if outcome == NOT_DONE else False
    return True
