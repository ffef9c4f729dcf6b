"""What a child says, made into what pytest has for it in this process."""

from __future__ import annotations

import builtins
import warnings
from typing import Any

import pytest


def report_of(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    """Make a report of what came as JSON, which knows no tuples."""
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(config=config, data=data)
    if isinstance(report.longrepr, list):
        report.longrepr = tuple(report.longrepr)
    path, line, name = report.location
    report.location = (path, line, name)
    report.sections = [(name, text) for name, text in report.sections]
    report.user_properties = [(name, value) for name, value in report.user_properties]
    return report


def pass_on_warning(config: pytest.Config, told: dict[str, Any]) -> None:
    """Give a warning of the child's to this process's summary."""
    found = getattr(builtins, told["category"], None) or getattr(pytest, told["category"], None)
    category = found if isinstance(found, type) and issubclass(found, Warning) else UserWarning
    location = told["location"]
    config.hook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": warnings.WarningMessage(
                category(told["warning"]), category, told["filename"], told["line"]
            ),
            "when": told["when"],
            "nodeid": told["nodeid"],
            "location": tuple(location) if location else None,
        }
    )
