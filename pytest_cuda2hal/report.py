"""The result of a run as JSON, format 2: what was tested, with which versions, and every verdict.

``schema/result-2.json`` describes the file. Format 1 is what versions before 0.2 wrote; it can still be read.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from . import __version__
from .answers import answers_of
from .contract import CONTRACT_VERSION
from .outcome import Outcome
from .probe import Probe
from .verdicts import Verdict

FORMAT = 2
#: Details nest no deeper; what is below is written as text.
DEEPEST = 40


class ResultError(ValueError):
    """A file is not a result file that can be read; the message is one line that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """How a run was made, as far as its result file says so."""

    effort: str
    #: The exit code, ``None`` if it is not known yet.
    exitcode: int | None
    #: The profile that all backends are judged by, ``None`` for each by its own.
    profile: str | None = None
    #: ``definition`` or ``random:SEED``.
    order: str = "definition"
    #: The specs whose cases run in processes of their own.
    isolated: Sequence[str] = ()
    #: ``index``, ``count``, ``selected`` (how many case ids all shards have together), ``digest`` (of these), and
    #: ``cases`` (the case ids of this shard).
    shard: Mapping[str, Any] | None = None
    #: ``file``, ``problems`` and ``entries`` of the known deviations.
    baseline: Mapping[str, Any] | None = None


def write_report(path: str | Path, run: RunFacts, probes: Sequence[Probe], verdicts: Iterable[Verdict]) -> None:
    """Write the result of a run; directories are made as needed. Raises :class:`OSError`."""
    write_result(path, result_document(run, probes, verdicts))


def result_document(run: RunFacts, probes: Sequence[Probe], verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Return the result of a run, made now and on this machine, as plain data that JSON can hold."""
    cases = [_case(verdict) for verdict in sorted(verdicts, key=lambda verdict: (verdict.backend, verdict.case))]
    document: dict[str, Any] = plain(
        {
            "format": FORMAT,
            "suite": __version__,
            "contract": CONTRACT_VERSION,
            "effort": run.effort,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "profile": run.profile,
            "order": run.order,
            "isolated": run.isolated,
            "shard": run.shard,
            "exitcode": run.exitcode,
            "machine": {
                "system": f"{platform.system()} {platform.machine()}",
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "pytest": pytest.__version__,
            },
            "backends": [asdict(answer) for answer in probes],
            "counts": {answer.spec: count_outcomes(cases, answer.spec) for answer in probes},
            "answers": {answer.spec: answers_of(cases, answer.spec, answer.profile) for answer in probes},
            "baseline": run.baseline,
            "cases": cases,
        }
    )
    return document


def _case(verdict: Verdict) -> dict[str, Any]:
    return {
        "case": verdict.case,
        "backend": verdict.backend,
        "outcome": verdict.outcome.value,
        "clauses": verdict.clauses,
        "seconds": verdict.seconds,
        "message": verdict.message,
        "evidence": verdict.evidence,
        "details": verdict.details,
        "quality": verdict.quality,
        "variations": verdict.variations,
        "known": verdict.known,
        "judgement": verdict.judgement,
    }


def count_outcomes(cases: Iterable[Mapping[str, Any]], spec: str) -> dict[str, int]:
    """Count the cases of one backend, as written in a result file, by outcome; every outcome is there."""
    counts = {outcome.value: 0 for outcome in Outcome}
    for case in cases:
        if case["backend"] == spec:
            counts[case["outcome"]] += 1
    return counts


def plain(value: object, depth: int = 0) -> Any:
    """Return what JSON can hold and every reader of JSON accepts; a HAL's texts may hold anything."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth < DEEPEST:
        if isinstance(value, Mapping):
            return {_text(name): plain(element, depth + 1) for name, element in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(element, depth + 1) for element in value]
        if isinstance(value, (set, frozenset)):
            return sorted((plain(element, depth + 1) for element in value), key=str)
    return _text(value)


def _text(value: object) -> str:
    # UTF-8 has no halves of a surrogate pair, which is what Python makes of bytes that are no text.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def write_result(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a document as a whole or not at all; directories are made as needed. Raises :class:`OSError`."""
    target = Path(path).resolve()  # of a link, what it names is replaced, not the link
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        target.write_text(text, encoding="utf-8")  # /dev/stdout or a pipe must not be replaced
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def read_result(path: Path) -> dict[str, Any]:
    """Read a result file of format 2, or of format 1, which has fewer keys.

    Raises :class:`ResultError` for a file that is something else, and :class:`OSError` if it cannot be read at all.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict) or "format" not in document:
        raise ResultError(f"{path} is not a result file: make one with --hal-report")
    if document["format"] == 1 and not isinstance(document["format"], bool):
        problem = _problem_of_format_1(document)
    elif document["format"] == FORMAT:
        from .schema import violations

        problem = next(violations(document), "")
    else:
        raise ResultError(f"{path} has format {document['format']!r}; this version reads formats 1 and 2 only")
    if problem:
        raise ResultError(f"{path} is not a whole result file of format {document['format']}: {problem}")
    return document


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _problem_of_format_1(document: Mapping[str, Any]) -> str:
    """Say what is wrong, as far as anybody here reads the old format."""
    try:
        for backend in document["backends"]:
            _ = dict(document["counts"][backend["spec"]])
            _ = backend["device"], dict(backend["versions"]), backend["profile"], backend["queues"]
        for case in document["cases"]:
            _ = case["outcome"], list(case["clauses"]), str(case["message"]), dict(case["variations"])
            if not isinstance(case["case"], str) or not isinstance(case["seconds"], (int, float)):
                return "a case has no id, or no time"
            _ = [(entry["clause"], entry["kept"], entry["figure"]) for entry in case["quality"]]
        _ = document["suite"], document["contract"], document["effort"], document["date"], dict(document["machine"])
    except KeyError as error:
        return f"{error} is missing"
    except (TypeError, ValueError):
        return "a value has the wrong type"
    return ""
