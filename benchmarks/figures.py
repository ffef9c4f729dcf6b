"""Figures as a page: one table, a column for each subject, and what the figures were taken on."""

from __future__ import annotations

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    """Return the page."""
    subjects: dict[str, dict[str, Any]] = report["subjects"]
    measured = {name: subject for name, subject in subjects.items() if "device" in subject}
    rows = list(dict.fromkeys(row for subject in measured.values() for row, value in subject.items() if _is_row(value)))
    lines = ["# What timeline semaphores cost", "", *_taken_on(report, subjects), ""]
    lines += ["| measure | " + " | ".join(f"`{name}`" for name in subjects) + " |", "|---" * (len(subjects) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row} | " + " | ".join(_cell(subject.get(row)) for subject in subjects.values()) + " |")
    lines += ["", "Latencies are p50 / p99.", ""]
    if any("pending" in subject for subject in measured.values()):
        lines += ["## With many submissions pending", "", "Each waits for a value of its own of one semaphore.", ""]
        lines += ["| subject | pending | a submission | a signal, and the wait for what it releases | memory each |"]
        lines += ["|---|---|---|---|---|"]
        for name, subject in measured.items():
            for figure in subject.get("pending", ()):
                lines.append(
                    f"| `{name}` | {figure['pending']:,} | {figure['submit_us']:.1f} µs | "
                    f"{figure['signal_and_wait_us']:.1f} µs | {figure['bytes_each']:,.0f} B |"
                )
        lines.append("")
    for name, subject in subjects.items():
        if "error" in subject:
            lines += [f"`{name}` was not measured{' to the end' * (name in measured)}: {subject['error']}.", ""]
    return "\n".join(lines)


def _taken_on(report: dict[str, Any], subjects: dict[str, dict[str, Any]]) -> list[str]:
    machine = report["machine"]
    lines = [f"Taken in one run on {machine['cpu']}, {machine['system']}, Python {machine['python']}.", ""]
    for name, subject in subjects.items():
        if "device" in subject:
            versions = ", ".join(f"{part} {version}" for part, version in subject["versions"].items())
            lines.append(f"* `{name}`: {subject['device']} ({versions})")
    return lines


def _is_row(value: object) -> bool:
    return isinstance(value, dict) and ("per_second" in value or "p50_us" in value)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if "per_second" in value:
        return f"{value['per_second']:,.0f} /s"
    return f"{value['p50_us']:.1f} / {value['p99_us']:.1f} µs"
