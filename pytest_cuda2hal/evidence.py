"""What a report says beyond pass and fail: clauses, expected and seen, the submissions, and how to run it again."""

from __future__ import annotations

import shlex
import sysconfig
from pathlib import Path
from typing import Any

import _pytest
import pytest

from .case import CaseState, OtherAnswer
from .contract import CLAUSES
from .hal import Capability, HalError, UnsupportedOperation
from .identity import case_id, suite_folder
from .lifetime import loss
from .observation.log import DeadlineExpired
from .observation.settle import NotYetViolated
from .outcome import Outcome
from .plugin import CASE_DATA
from .run import run_of

SECTION = "HAL conformance"
#: How much of a message a report repeats.
MESSAGE_LINES = 30
_PYTEST = Path(_pytest.__file__).resolve().parent
#: Where the standard library is: what it raises is its caller's doing.
_LIBRARIES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
_HEALTHY = pytest.StashKey[dict[str, str]]()
#: A case that needs one of these loses its device, or work on it, on purpose.
_LOSING = frozenset({Capability.FAULT_INJECTION, Capability.DEVICE_LOSS_INJECTION})


def complete_report(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Add the case's data to its report, and for a failure the evidence."""
    state = CaseState.of(item)
    if report.when == "call":
        state.passed = report.passed
    if report.when == "call" or not report.passed:
        details: dict[str, Any] = {"stage": report.when}
        evidence = ""
        if report.failed:
            if well := _healthy(item).get(_backend(item)):
                details["last_healthy"] = well
            evidence = _evidence(item, call, state, details)
            state.lost = _loss(item, call, state)
            if state.lost:
                details["device"] = state.lost
                evidence += f"\n\nafter it  the device is lost: {state.lost}"
            report.sections.append((SECTION, evidence))
        outcome = _outcome(item, call, report, state)
        message = str(call.excinfo.value) if call.excinfo is not None else ""
        attach(report, item, case_data(item, outcome, report.duration, message, evidence, details))
    if report.when == "teardown":
        if state.passed and report.passed:
            _healthy(item)[_backend(item)] = case_id(item)
        state.devices.clear()  # an item lives as long as the session: the logs of all devices would stay alive


def _healthy(item: pytest.Item) -> dict[str, str]:
    """Return the newest case of each backend that passed, in this process."""
    return item.config.stash.setdefault(_HEALTHY, {})


def _backend(item: pytest.Item) -> str:
    return str(item.callspec.params["hal_backend"])  # type: ignore[attr-defined]


def case_data(
    item: pytest.Item, outcome: Outcome, seconds: float, message: str, evidence: str, details: dict[str, Any]
) -> dict[str, Any]:
    """Return what a report carries of a case: plain data that survives the way between processes."""
    state = CaseState.of(item)
    return {
        "case": case_id(item),
        "backend": _backend(item),
        "clauses": state.clauses,
        "outcome": outcome.value,
        "seconds": round(seconds, 6),
        "message": message[:4000],
        "evidence": evidence[:16000],
        "details": details,
        "quality": state.quality,
        "variations": state.variations,
    }


def attach(report: pytest.TestReport, item: pytest.Item, data: dict[str, Any]) -> None:
    """Put a case's data on its report, and what fits there into the properties that JUnit files show."""
    report.__dict__[CASE_DATA] = data
    properties = [
        ("hal_case", data["case"]),
        ("hal_backend", data["backend"]),
        ("hal_outcome", data["outcome"]),
        ("hal_clauses", " ".join(data["clauses"])),
        *((f"hal_answer_{point}", answer) for point, answer in data["variations"].items()),
        *((f"hal_quality_{one['clause']}", one["figure"]) for one in data["quality"]),
    ]
    names = {name for name, _ in properties}
    for kept in (item, report):  # the item's go into the reports that are still to come
        kept.user_properties[:] = [pair for pair in kept.user_properties if pair[0] not in names] + properties


def _outcome(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport, state: CaseState) -> Outcome:
    error = call.excinfo
    if error is None:
        return Outcome.PASS if report.passed else Outcome.ERROR  # as of a case that was to fail, strictly, and did not
    if report.passed:
        return Outcome.PASS
    if report.skipped:
        return Outcome.UNSUPPORTED if str(error.value).startswith("unsupported: ") else Outcome.SET_ASIDE
    if state.lost:
        return Outcome.DEVICE_LOST
    if error.errisinstance(DeadlineExpired):
        return Outcome.HANG
    if isinstance(error.value, OtherAnswer) and error.value.is_known:
        return Outcome.VARIATION
    return Outcome.ERROR if _is_of_the_harness(error, item) else Outcome.FAIL


def _is_of_the_harness(error: pytest.ExceptionInfo[BaseException], item: pytest.Item) -> bool:
    """Tell whether neither the HAL raised this nor a case on purpose: a defect of the case, of pytest, or of ours."""
    if isinstance(error.value, (HalError, UnsupportedOperation, pytest.fail.Exception, Warning)):
        return False
    paths = [Path(entry.path).resolve() for entry in reversed(error.traceback)]
    if isinstance(error.value, AssertionError):
        return paths[:1] == [_PYTEST / "runner.py"]  # its own, about what was not torn down
    package = Path(__file__).parent
    for path in paths:
        if path == item.path.resolve() or path.is_relative_to(suite_folder()) or path.is_relative_to(_PYTEST):
            return True
        if path.is_relative_to(package):
            # What comes out of a call that the observation passes on is the HAL's, which may be native code.
            return not any(path.is_relative_to(package / name) for name in ("backends", "observation"))
        installed = {"site-packages", "dist-packages"} & set(path.parts)
        if installed or not any(path.is_relative_to(folder) for folder in _LIBRARIES):
            return False  # an adapter
    return True


def _loss(item: pytest.Item, call: pytest.CallInfo[Any], state: CaseState) -> str:
    """Say why the devices of a case that deviated complete nothing any more; empty if they do, or if it is meant so."""
    wanted = {capability for mark in item.iter_markers("hal_requires") for capability in mark.args}
    if call.excinfo is None or wanted & _LOSING or isinstance(call.excinfo.value, OtherAnswer):
        return ""
    if not _submits(item):
        return ""
    return next((text for device in state.devices if not device.closed and (text := loss(device))), "")


def _submits(item: pytest.Item) -> bool:
    """Whether an empty submission was seen to complete on a device of this backend before any case ran."""
    for answer in run_of(item.config).probes():
        if answer.spec == _backend(item):
            return any(check["name"] == "submission" and check["ok"] for check in answer.smoke)
    return False


def _evidence(item: pytest.Item, call: pytest.CallInfo[Any], state: CaseState, details: dict[str, Any]) -> str:
    """Return the text of the evidence, and add its parts to ``details``."""
    error = call.excinfo.value if call.excinfo is not None else None
    if call.excinfo is not None:
        state.name_objects([dict(entry.frame.f_locals) for entry in call.excinfo.traceback])
    graph = getattr(error, "graph", None)
    if graph is not None:
        details["waits"] = graph.to_json()
    blocks = [clause_lines(state), _seen(error, state, details)]
    operations: list[str] = []
    for device in state.devices:
        # After the close, asking a native HAL could crash the process.
        alive = [] if device.closed else device.log.live_semaphores()[:12]
        values = [device.log.state(semaphore.serial) for semaphore in alive]
        blocks.append([f"now       {', '.join(values)}"] if values else [])
        blocks.append(device.log.listing())
        operations += blocks[-1]
    if operations:
        details["operations"] = operations
    if "last_healthy" in details:
        blocks.append([f"last healthy case  {details['last_healthy']}"])
    blocks.append([f"replay    {replay(item)}"])
    return joined(blocks)


def clause_lines(state: CaseState) -> list[str]:
    """Return the clauses of a case, with their sentences."""
    return [f"{name}  {CLAUSES[name].text}" for name in state.clauses]


def joined(blocks: list[list[str]]) -> str:
    """Return blocks of lines with a free line between them."""
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _seen(error: BaseException | None, state: CaseState, details: dict[str, Any]) -> list[str]:
    """Return what was expected and what was seen, in the case's own names."""
    text = str(error) if error is not None else ""
    for device in state.devices:
        observed = device.log.disagreement
        if observed is not None and repr(observed) in text:
            details["expected"] = device.log.named(observed.expected)
            details["seen"] = device.log.named(observed.seen)
            while_settling = ", while settling" if isinstance(error, NotYetViolated) else ""
            return [f"expected  {details['expected']}", f"seen      {details['seen']}{while_settling}"]
    for device in state.devices:
        text = device.log.named(text)
    lines = text.splitlines()[:MESSAGE_LINES]
    if error is not None and error.__cause__ is not None:
        lines.append(f"caused by {type(error.__cause__).__name__}: {error.__cause__}")
    details["seen"] = "\n".join(lines)
    return lines


def replay(item: pytest.Item) -> str:
    """Return the command that runs the case again, and nothing else."""
    path = item.path.resolve()
    name = item.nodeid.partition("::")[2]
    if path.is_relative_to(suite_folder()):
        parts = path.relative_to(suite_folder()).with_suffix("").parts
        target = f"--pyargs {shlex.quote('::'.join(['.'.join(['pytest_cuda2hal.cts', *parts]), name]))}"
    else:
        target = shlex.quote(item.nodeid)
    return f"pytest {target} --backend={shlex.quote(_backend(item))}"
