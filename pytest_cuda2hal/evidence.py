"""What a report says beyond pass and fail: clauses, expected and seen, the submissions, and how to run it again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from .case import CaseState
from .contract import CLAUSES
from .identity import case_id, suite_folder
from .observation.log import DeadlineExpired
from .observation.settle import NotYetViolated
from .plugin import PROPERTY
from .verdicts import Outcome

SECTION = "HAL conformance"
#: How much of a message a report repeats.
MESSAGE_LINES = 30


def complete_report(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Add the case's data to its report, and for a failure the evidence."""
    state = CaseState.of(item)
    if report.when == "call":
        state.passed = report.passed
    evidence = ""
    if report.failed:
        evidence = _evidence(item, call, state)
        report.sections.append((SECTION, evidence))
    if report.when == "call" or not report.passed:
        report.user_properties = [pair for pair in report.user_properties if pair[0] != PROPERTY]
        report.user_properties.append((PROPERTY, _data(item, call, state, report, evidence)))
    if report.when == "teardown":
        state.devices.clear()  # an item lives as long as the session: the logs of all devices would stay alive


def _data(
    item: pytest.Item, call: pytest.CallInfo[Any], state: CaseState, report: pytest.TestReport, evidence: str
) -> dict[str, Any]:
    """Return plain data that survives the way between processes."""
    outcome = Outcome.PASS if report.passed else Outcome.FAIL
    if report.skipped:
        unsupported = call.excinfo is not None and str(call.excinfo.value).startswith("unsupported: ")
        outcome = Outcome.UNSUPPORTED if unsupported else Outcome.SET_ASIDE
    elif report.failed and call.excinfo is not None and call.excinfo.errisinstance(DeadlineExpired):
        outcome = Outcome.HANG
    message = ""
    if call.excinfo is not None:
        message = str(call.excinfo.value)
    return {
        "case": case_id(item),
        "backend": item.callspec.params["hal_backend"],  # type: ignore[attr-defined]
        "clauses": state.clauses,
        "outcome": outcome.value,
        "stage": report.when,
        "seconds": round(report.duration, 6),
        "message": message[:4000],
        "evidence": evidence[:8000],
        "quality": state.quality,
        "variations": state.variations,
    }


def _evidence(item: pytest.Item, call: pytest.CallInfo[Any], state: CaseState) -> str:
    error = call.excinfo.value if call.excinfo is not None else None
    if call.excinfo is not None:
        state.name_objects([dict(entry.frame.f_locals) for entry in call.excinfo.traceback])
    blocks = [[f"{name}  {CLAUSES[name].text}" for name in state.clauses], _seen(error, state)]
    for device in state.devices:
        # After the close, asking a native HAL could crash the process.
        alive = [] if device.closed else device.log.live_semaphores()[:12]
        values = [device.log.state(semaphore.serial) for semaphore in alive]
        blocks.append([f"now       {', '.join(values)}"] if values else [])
        blocks.append(device.log.listing())
    blocks.append([f"replay    {_replay(item)}"])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _seen(error: BaseException | None, state: CaseState) -> list[str]:
    """Return what was expected and what was seen, in the case's own names."""
    text = str(error) if error is not None else ""
    for device in state.devices:
        observed = device.log.disagreement
        if observed is not None and repr(observed) in text:
            lines = [f"expected  {observed.expected}", f"seen      {observed.seen}"]
            if isinstance(error, NotYetViolated):
                lines[-1] += ", while settling"
            return [device.log.named(line) for line in lines]
    for device in state.devices:
        text = device.log.named(text)
    return text.splitlines()[:MESSAGE_LINES]


def _replay(item: pytest.Item) -> str:
    """Return the command that runs the case again, and nothing else."""
    path = item.path.resolve()
    name = item.nodeid.partition("::")[2]
    if path.is_relative_to(suite_folder()):
        parts = path.relative_to(suite_folder()).with_suffix("").parts
        target = f"--pyargs {shlex.quote('::'.join(['.'.join(['pytest_cuda2hal.cts', *parts]), name]))}"
    else:
        target = shlex.quote(item.nodeid)
    backend = item.callspec.params["hal_backend"]  # type: ignore[attr-defined]
    return f"pytest {target} --backend={shlex.quote(backend)}"
