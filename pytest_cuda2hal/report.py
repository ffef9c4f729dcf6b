"""The result of a run as JSON: what was tested, with which versions, and every verdict."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import pytest

from . import __version__
from .contract import CONTRACT_VERSION
from .probe import Probe
from .verdicts import Outcome, Verdicts


def write_report(path: str, probes: list[Probe], verdicts: Verdicts, effort: str) -> None:
    """Write the report; directories are made as needed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "format": 1,
        "suite": __version__,
        "contract": CONTRACT_VERSION,
        "effort": effort,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "pytest": pytest.__version__,
        },
        "backends": [asdict(answer) for answer in probes],
        "counts": {
            answer.spec: {outcome.value: verdicts.count(outcome, answer.spec) for outcome in Outcome}
            for answer in probes
        },
        "cases": [{**asdict(verdict), "outcome": verdict.outcome.value} for verdict in verdicts.all()],
    }
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
