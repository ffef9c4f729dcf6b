"""Running cases that pytest's own protocol does not do for: in a process of their own, or several times."""

from __future__ import annotations

import faulthandler
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from .outcome import Outcome
from .plugin import CASE_DATA, is_case

if TYPE_CHECKING:
    from .baseline import Entry, Facts, Judgement
    from .isolation.supervisor import Ahead, Ended, Supervisor
    from .run import Run


class CaseRunner:
    """Takes over cases that are isolated, or that the baseline lists; all others are none of its business."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._supervisor: Supervisor | None = None
        self._isolated: dict[str, bool] = {}
        #: The place of each item in the session; made when it is first needed.
        self._places: dict[pytest.Item, int] = {}

    def prepare(self, spec: str) -> None:
        """Start a process for the cases of a backend before it is known whether there will be any."""
        self._supervise().prepare(spec)

    def begin(self, spec: str) -> None:
        """Let a process for the cases of a backend collect them while this one does."""
        self._supervise().begin(spec)

    def keep_what_was_begun(self, items: Sequence[pytest.Item]) -> None:
        """End the process that was started if the first of these items that needs one needs another, or none does."""
        specs = (spec_of(item) for item in items if is_case(item))
        self._supervise().dismiss(unless=next((spec for spec in specs if self.isolates(spec)), ""))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run an item and log its reports."""
        if not is_case(item):
            return None
        spec = spec_of(item)
        entry = self._entry_for(item, spec)
        if not self.isolates(spec) and entry is None:
            return None
        if self.isolates(spec):
            faulthandler.cancel_dump_traceback_later()  # pytest's own, which would end this process and not the case's
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item, nextitem, spec, entry):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Let the process that cases ran in come to its end while other plugins come to theirs."""
        if self._supervisor is not None:
            self._supervisor.begin_to_close()

    def close(self) -> None:
        """End the process that cases ran in."""
        if self._supervisor is not None:
            self._supervisor.close()
            self._run.notes += self._supervisor.notes
            if self._run.is_worker:
                from .selection import NOTES_OUTPUT

                getattr(self._run.config, "workeroutput", {})[NOTES_OUTPUT] = self._supervisor.notes
            self._supervisor = None

    def isolates(self, spec: str) -> bool:
        """Whether the cases of a backend run in a process of their own."""
        if spec not in self._isolated:
            self._isolated[spec] = self._run.isolates(spec)
        return self._isolated[spec]

    def _supervise(self) -> Supervisor:
        if self._supervisor is None:
            from .isolation.supervisor import Supervisor

            self._supervisor = Supervisor(self._run.config, self._run.settings.case_deadline)
        return self._supervisor

    # --- one case

    def _reports(
        self, item: pytest.Item, nextitem: pytest.Item | None, spec: str, entry: Entry | None
    ) -> list[pytest.TestReport]:
        if entry is None:
            return self._attempt(item, nextitem, spec, self._ahead(item, nextitem, spec))
        count = entry.run_count if entry.flaky else 1
        outcomes: list[Outcome] = []
        chosen: list[pytest.TestReport] = []
        for _ in range(count):
            # With the item itself as the next one, its own fixtures would stay.
            reports = self._attempt(item, nextitem, spec)
            if not any(CASE_DATA in report.__dict__ for report in reports):
                return reports  # nothing of it was run
            outcome = _outcome(reports, entry)
            outcomes.append(outcome)
            # What the reader should see of many runs: a deviation that is not the listed one, else one that is.
            if not chosen or _weight(outcome, entry) >= _weight(_outcome(chosen, entry), entry):
                chosen = reports
        baseline, facts = self._run.baseline, self._run.facts(spec)
        assert baseline is not None
        assert facts is not None
        if entry.flaky:
            judgement = baseline.judge_runs(entry, outcomes)
        else:
            judgement = baseline.judge(_data(chosen)["case"], facts, outcomes[0])
        apply(judgement, chosen)
        return chosen

    def _ahead(self, item: pytest.Item, nextitem: pytest.Item | None, spec: str) -> Ahead | None:
        """Return what the process may go on with by itself, where it is sure that pytest will ask for it next."""
        # A pytest-xdist worker does not know the next but one. Where nothing is captured, what cases print would come
        # before the names of their cases.
        config = self._run.config
        if not self.isolates(spec) or self._run.is_worker or config.getoption("capture", None) == "no":
            return None
        if (upcoming := _if_of(nextitem, spec)) is None:
            return None
        items = item.session.items
        if len(self._places) != len(items):
            self._places = {one: place for place, one in enumerate(items)}
        place = self._places.get(upcoming, 0)
        if self._places.get(item) != place - 1:  # something else than pytest's own loop is at work
            return None
        from .isolation.supervisor import Ahead

        return Ahead(upcoming, _if_of(items[place + 1] if place + 1 < len(items) else None, spec))

    def _attempt(
        self, item: pytest.Item, nextitem: pytest.Item | None, spec: str, ahead: Ahead | None = None
    ) -> list[pytest.TestReport]:
        if self.isolates(spec):
            return self._in_a_process(item, spec, _if_of(nextitem, spec), ahead)
        from _pytest.runner import runtestprotocol  # as pytest-xdist and pytest-rerunfailures do

        from .case import CaseState

        CaseState.forget(item)
        return runtestprotocol(item, nextitem=nextitem, log=False)

    def _in_a_process(
        self, item: pytest.Item, spec: str, following: pytest.Item | None, ahead: Ahead | None
    ) -> list[pytest.TestReport]:
        supervisor = self._supervise()
        run = supervisor.run(item, spec, following, ahead)
        if run.ended is not None:
            from .isolation.reports import reports_of_ending

            reports = [*run.reports, *reports_of_ending(item, run.ended)]
        else:
            reports = run.reports
        if run.before is not None:
            self._report_late_end(*run.before)
        if reports:
            from .isolation.reports import add_output

            ended = run.ended
            out, err = (ended.stdout, ended.stderr) if ended is not None else (run.stdout, run.stderr)
            add_output(reports, out, err, supervisor.last_healthy)
        return reports

    def _report_late_end(self, item: pytest.Item, ended: Ended) -> None:
        """Report what became of a process after a case whose own reports are out already."""
        from .isolation.reports import reports_of_ending

        for report in reports_of_ending(item, ended):
            item.ihook.pytest_runtest_logreport(report=report)

    def _entry_for(self, item: pytest.Item, spec: str) -> Entry | None:
        baseline = self._run.baseline
        facts: Facts | None = self._run.facts(spec) if baseline is not None else None
        if baseline is None or facts is None:
            return None
        from .identity import case_id

        return baseline.entry_for(case_id(item), facts)


def spec_of(item: pytest.Item) -> str:
    """Return the backend of a case."""
    return str(item.callspec.params["hal_backend"])  # type: ignore[attr-defined]


def _if_of(item: pytest.Item | None, spec: str) -> pytest.Item | None:
    """Return a case if it is of this backend."""
    return item if item is not None and is_case(item) and spec_of(item) == spec else None


def apply(judgement: Judgement, reports: Sequence[pytest.TestReport]) -> None:
    """Change the reports of a case as the baseline has it: a known deviation is expected, a surprise is a failure."""
    data = _data(reports)
    if judgement.fails:
        data["judgement"] = judgement.text
        report = next((one for one in reports if one.failed), None) or _carrier(reports)
        if not report.failed:
            report.outcome = "failed"
            report.longrepr = judgement.text
            report.__dict__.pop("wasxfail", None)  # with it pytest would not count the failure
        else:
            report.sections.append(("HAL baseline", judgement.text))
        return
    data["known"] = judgement.entry.reason if judgement.entry is not None else ""
    for report in reports:
        if report.failed:
            report.outcome = "skipped"
            report.wasxfail = f"reason: {judgement.text}"


def _carrier(reports: Sequence[pytest.TestReport]) -> pytest.TestReport:
    """Return the report that speaks of the case."""
    return next(report for report in reversed(reports) if CASE_DATA in report.__dict__)


def _data(reports: Sequence[pytest.TestReport], expected: Outcome | None = None) -> dict[str, Any]:
    """Return what the reports carry of the case: of a phase that deviated, if one did, best otherwise than expected."""
    carried = [report.__dict__[CASE_DATA] for report in reports if CASE_DATA in report.__dict__]
    deviating = [data for data in carried if Outcome(data["outcome"]).deviates]
    surprising = [data for data in deviating if Outcome(data["outcome"]) is not expected]
    found: dict[str, Any] = (surprising or deviating or carried[-1:])[0]
    return found


def _outcome(reports: Sequence[pytest.TestReport], entry: Entry) -> Outcome:
    return Outcome(_data(reports, entry.outcome)["outcome"])


def _weight(outcome: Outcome, entry: Entry) -> int:
    return 2 * outcome.deviates + (outcome.deviates and outcome is not entry.outcome)
