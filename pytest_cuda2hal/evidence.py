"""What a report says beyond pass and fail: clauses, expected and seen, the submissions, and how to run it again."""

from __future__ import annotations

from typing import Any

import pytest

from .case import CaseState
from .contract import CLAUSES
from .identity import case_id
from .observation.log import DeadlineExpired
from .plugin import PROPERTY
from .verdicts import Outcome

SECTION = "HAL conformance"


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


def _data(
    item: pytest.Item, call: pytest.CallInfo[Any], state: CaseState, report: pytest.TestReport, evidence: str
) -> dict[str, Any]:
    """Return plain data that survives the way between processes."""
    outcome = Outcome.PASS if report.passed else Outcome.FAIL
    if report.skipped:
        outcome = Outcome.UNSUPPORTED
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
    frames: list[dict[str, object]] = []
    text = ""
    if call.excinfo is not None:
        frames = [dict(entry.frame.f_locals) for entry in call.excinfo.traceback]
        text = str(call.excinfo.value)
    state.name_objects(frames)
    lines: list[str] = []
    for name in state.clauses:
        lines += [f"{name}  {CLAUSES[name].text}"]
    for device in state.devices:
        text = device.log.named(text)
    if text:
        lines += ["", *text.splitlines()[:30]]
    for device in state.devices:
        points = getattr(call.excinfo.value, "points", ()) if call.excinfo is not None else ()
        if points:
            lines += ["", *("  " + line for line in device.log.explain(points))]
        listing = device.log.listing()
        states = [device.log.state(semaphore.serial) for semaphore in device.log.live_semaphores()[:12]]
        if states:
            lines += ["", "now  " + ", ".join(states)]
        lines += listing
    identity = case_id(item)
    backend = item.callspec.params["hal_backend"]  # type: ignore[attr-defined]
    lines += ["", f"replay  pytest --pyargs pytest_cuda2hal.cts -k '{_expression(identity)}' --backend={backend}"]
    return "\n".join(lines)


def _expression(identity: str) -> str:
    """Return what ``-k`` takes to find the case again."""
    module, _, function = identity.rpartition("::")
    name, bracket, parameters = function.partition("[")
    words = [module.rpartition("/")[2], name]
    if bracket and parameters.removesuffix("]").replace("-", "_").isidentifier():
        words.append(parameters.removesuffix("]"))
    return " and ".join(words)
