"""The end of a run: what the baseline says of it as a whole, and the files that were asked for."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .verdicts import Verdict

#: Notes on a baseline that a summary has room for.
_NOTES = 3

if TYPE_CHECKING:
    from .baseline import Facts
    from .run import Run


def finish(run: Run, session: pytest.Session) -> None:
    """Judge the run by its baseline and write its files; the exit status says what went wrong."""
    if run.is_worker or run.only_lists:
        return
    if run.baseline is not None and run.has_verdicts:
        run.baseline_problems = _problems(run)
        notes = run.baseline.notes(_seen(run))
        run.notes += notes[:_NOTES]
        if len(notes) > _NOTES:
            run.notes.append(f"and {len(notes) - _NOTES} more about {run.baseline.path}")
        if run.baseline_problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for option, path, write in (
        ("--hal-report", run.settings.report, _write_report),
        ("--hal-write-baseline", run.settings.write_baseline, _write_baseline),
    ):
        if path is None:
            continue
        try:
            write(run, path, int(session.exitstatus))
        except (OSError, ValueError, pytest.UsageError) as error:
            writer = session.config.get_terminal_writer()
            writer.line()
            for line in str(error).splitlines():  # a baseline may have several problems
                writer.line(f"ERROR: {option}: {line}", red=True)
            session.exitstatus = pytest.ExitCode.USAGE_ERROR


def _seen(run: Run) -> list[tuple[str, Facts]]:
    """Return what there was to judge: the collected cases on each backend that was probed."""
    ids = run.selection.collected if run.selection is not None else sorted({one.case for one in run.verdicts.all()})
    return [(id, facts) for answer in run.probes() if (facts := run.facts(answer.spec)) for id in ids]


def _problems(run: Run) -> list[str]:
    baseline = run.baseline
    assert baseline is not None
    whole = run.selection is not None and run.selection.whole
    return baseline.expired() + (baseline.unused(_seen(run)) if whole else [])


def _write_report(run: Run, path: str, exitcode: int) -> None:
    from .report import RunFacts, write_report

    seed = run.settings.order_seed
    facts = RunFacts(
        effort=run.settings.effort.name,
        exitcode=exitcode,
        profile=run.settings.profile,
        order="definition" if seed is None else f"random:{seed}",
        isolated=[spec for spec in run.spec_texts() if run.isolates(spec)],
        shard=run.selection.shard if run.selection is not None else None,
        baseline=_baseline_facts(run),
    )
    verdicts = run.verdicts.all()
    write_report(path, facts, run.probes(), verdicts)
    _draw(Path(path), verdicts)


def _draw(report: Path, verdicts: list[Verdict]) -> None:
    """Put a picture of each wait-for graph beside the report, and remove those of an earlier run."""
    folder = report.with_name(f"{report.stem}-waits")
    drawn = [verdict for verdict in verdicts if verdict.details.get("waits")]
    for old in folder.glob("*.svg"):
        old.unlink()
    if not drawn:
        return
    from .picture import svg
    from .waitgraph import WaitGraph

    folder.mkdir(parents=True, exist_ok=True)
    for verdict in drawn:
        name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in verdict.case)
        backend = "".join(letter if letter.isalnum() else "-" for letter in verdict.backend)
        target = folder / f"{backend}-{name}"[:180]
        picture = svg(WaitGraph.from_json(verdict.details["waits"]))
        target.with_name(target.name + ".svg").write_text(picture, encoding="utf-8")


def _baseline_facts(run: Run) -> dict[str, Any] | None:
    baseline = run.baseline
    if baseline is None:
        return None
    seen = _seen(run)
    whole = run.selection is not None and run.selection.whole
    return {
        "file": baseline.path,
        "problems": run.baseline_problems,
        "entries": [
            {
                "case": entry.case,
                "backend": entry.backend,
                "outcome": entry.outcome.value,
                "reason": entry.reason,
                "applies": whole
                and not entry.expired(baseline.today)
                and any(entry.applies_to(facts) for _, facts in seen),
                "matched": sorted({case for case, facts in seen if entry.matches(case, facts)}),
            }
            for entry in baseline.entries
        ],
    }


def _write_baseline(run: Run, path: str, exitcode: int) -> None:
    from .baseline import Baseline
    from .baseline_file import Deviation, write_baseline

    del exitcode
    if not run.has_verdicts:
        raise ValueError("no case ran, so nothing was written")
    deviations = [
        Deviation(one.case, one.backend, one.outcome, one.message, facts)
        for one in run.verdicts.all()
        if one.outcome.deviates and (facts := run.facts(one.backend)) is not None
    ]
    previous = run.baseline or (Baseline.load(path) if Path(path).exists() else None)
    ran = [(one.case, facts) for one in run.verdicts.all() if (facts := run.facts(one.backend)) is not None]
    written = write_baseline(path, deviations, previous=previous, today=date.today(), seen=ran)
    run.notes.append(f"wrote {len(written.entries)} known deviations to {path}; give each a reason")
