"""Put the results of all shards of a run together, and judge the whole: ``python -m pytest_cuda2hal merge``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .answers import answers_of
from .outcome import Outcome
from .report import FORMAT, ResultError, count_outcomes, read_result, write_result
from .sharding import digest

#: How many names a line holds, and how many deviations are printed.
NAMED = 5
PRINTED = 20
#: Exit codes of pytest after which a run has not come to its end.
_UNFINISHED = {2: "interrupted", 3: "internal error", 4: "usage error, or a backend that could not be used"}
_DEVIATIONS = frozenset(outcome.value for outcome in Outcome if outcome.deviates)
_SAME_DURATIONS = "were all shards given the same --hal-shard-durations? Run them again with one file, or with none"
#: What must be the same for the verdicts of a backend to belong together.
_SAME_BACKEND = ("versions", "profile", "capabilities", "emulated")


@dataclass(frozen=True, slots=True)
class Part:
    """The result of one shard."""

    file: Path
    document: dict[str, Any]

    @property
    def shard(self) -> dict[str, Any]:
        """The shard as the file describes it."""
        shard: dict[str, Any] = self.document["shard"]
        return shard

    @property
    def cases(self) -> list[dict[str, Any]]:
        """Its verdicts."""
        cases: list[dict[str, Any]] = self.document["cases"]
        return cases

    @property
    def case_ids(self) -> set[str]:
        """The cases that it was to judge."""
        return set(self.shard["cases"])

    @property
    def specs(self) -> list[str]:
        """The specs of its backends."""
        return [backend["spec"] for backend in self.document["backends"]]

    def __str__(self) -> str:
        return f"shard {self.shard['index']} ({self.file})"


class NotWhole(Exception):
    """The parts are not the shards of one run, or not all of it: ``problems`` says why, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def run_merge(files: Sequence[Path], output: Path) -> int:
    """Merge the shards' files and write ``output``; print the counts and what fails the run.

    Returns 0 if the run is whole and every deviation is known, 1 if it is whole and fails, 4 if it is not whole or a
    file cannot be read or written; nothing is written then.
    """
    try:
        parts = read_parts(files)
        document = merged(parts)
    except NotWhole as error:
        for problem in error.problems:
            print(f"ERROR: {problem}", file=sys.stderr)
        return 4
    failures = failures_of(document) + _unexplained(parts)
    document["exitcode"] = int(bool(failures))
    try:
        if output.resolve() in [part.file.resolve() for part in parts]:
            raise OSError(f"{output} is one of the shards; give another name")
        write_result(output, document)
    except OSError as error:
        print(f"ERROR: the merged result cannot be written: {error}", file=sys.stderr)
        return 4
    for line in (*_notes(parts), *_summary(document)):
        print(line)
    for line in failures[:PRINTED]:
        print(f"  {line}")
    if len(failures) > PRINTED:
        print(f"  and {len(failures) - PRINTED} more; all are in {output}")
    return int(document["exitcode"])


def read_parts(files: Sequence[Path]) -> list[Part]:
    """Read results of shards, in the order of their numbers. Raises :class:`NotWhole` if one is something else."""
    parts: list[Part] = []
    problems: list[str] = []
    for file in files:
        try:
            document = read_result(file)
        except (OSError, ResultError) as error:
            problems.append(str(error))
            continue
        if document["format"] != FORMAT:
            problems.append(f"{file} has format {document['format']}; run this shard again with the present version")
        elif document["shard"] is None:
            problems.append(f"{file} is not the result of a shard; it needs no merging, or was made without --shard")
        else:
            parts.append(Part(file, document))
    if problems or not parts:
        raise NotWhole(problems or ["there is nothing to merge"])
    return sorted(parts, key=lambda part: int(part.shard["index"]))


def merged(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the result of the whole run; its exit code is ``None``. Raises :class:`NotWhole`.

    A later check says something sensible only if the earlier ones found nothing, so the first with problems ends it.
    """
    for check in (_differences, _absent_shards, _double_verdicts, _absent_verdicts, _absent_cases):
        problems = check(parts)
        if problems:
            raise NotWhole(problems)
    first = parts[0].document
    cases = sorted((case for part in parts for case in part.cases), key=lambda case: (case["backend"], case["case"]))
    orders = {part.document["order"] for part in parts}
    return {
        **first,
        "date": max(part.document["date"] for part in parts),
        "order": orders.pop() if len(orders) == 1 else "mixed",
        "isolated": list(dict.fromkeys(spec for part in parts for spec in part.document["isolated"])),
        "shard": None,
        "exitcode": None,
        "machine": _machine([part.document["machine"] for part in parts]),
        "backends": _backends(parts),
        "counts": {spec: count_outcomes(cases, spec) for spec in parts[0].specs},
        "answers": {
            backend["spec"]: answers_of(cases, backend["spec"], backend["profile"]) for backend in first["backends"]
        },
        "baseline": _baseline(parts),
        "cases": cases,
    }


def failures_of(document: dict[str, Any]) -> list[str]:
    """Say what fails a run, a line each: deviations that are not known, and what does not fit in the baseline."""
    lines = [
        f"{case['backend']}: {case['case']}: {case['outcome']}: {_first_line(case['judgement'] or case['message'])}"
        for case in document["cases"]
        if case["judgement"] or (case["outcome"] in _DEVIATIONS and not case["known"])
    ]
    return lines + [f"baseline: {problem}" for problem in (document["baseline"] or {}).get("problems", ())]


# --- is it whole?


def _differences(parts: Sequence[Part]) -> list[str]:
    """Find what differs although it is the same in all shards of a run."""
    facts: list[tuple[str, Callable[[Part], Any]]] = [
        ("the version of the suite", lambda part: part.document["suite"]),
        ("the version of the contract", lambda part: part.document["contract"]),
        ("the effort", lambda part: part.document["effort"]),
        ("the profile to judge by", lambda part: part.document["profile"]),
        ("the number of shards", lambda part: part.shard["count"]),
        ("the number of selected cases", lambda part: part.shard["selected"]),
        ("the selection of cases (digest)", lambda part: part.shard["digest"][:12]),
        ("the list of backends", lambda part: part.specs),
        ("the baseline", _listed),
    ]
    problems = [line for what, fact in facts for line in _difference(parts, what, fact)]
    if problems:
        return problems
    for index, spec in enumerate(parts[0].specs):
        for key in _SAME_BACKEND:
            problems += _difference(parts, f"{key} of {spec}", _of_backend(index, key))
    return problems


def _of_backend(index: int, key: str) -> Callable[[Part], Any]:
    return lambda part: part.document["backends"][index].get(key)


def _difference(parts: Sequence[Part], what: str, fact: Callable[[Part], Any]) -> list[str]:
    for part in parts[1:]:
        if fact(part) != fact(parts[0]):
            seen = [_cut(str(fact(one))) for one in (parts[0], part)]
            return [f"{what} differs: {seen[0]} in {parts[0]}, {seen[1]} in {part}; these are shards of different runs"]
    return []


def _listed(part: Part) -> Any:
    """Return what a baseline lists; the file's path may differ between machines."""
    baseline = part.document["baseline"]
    if baseline is None:
        return "none"
    return [[entry[key] for key in ("case", "backend", "outcome", "reason")] for entry in baseline["entries"]]


def _absent_shards(parts: Sequence[Part]) -> list[str]:
    count = parts[0].shard["count"]
    found: dict[int, list[Path]] = {}
    for part in parts:
        found.setdefault(part.shard["index"], []).append(part.file)
    problems = [
        f"shard {index} of {count} is there {len(files)} times, in {', '.join(map(str, files))}; give each shard once"
        for index, files in found.items()
        if len(files) > 1
    ]
    problems += [f"there is a shard {index}, but only {count} shards" for index in found if index > count]
    absent = [index for index in range(1, count + 1) if index not in found] if count <= 10_000 else []
    if count > 10_000:
        problems.append(f"{len(found)} of {count} shards are there")
    problems += [
        f"shard {index} of {count} is missing; give its file too, or run it: --shard={index}/{count}"
        for index in absent[:PRINTED]
    ]
    if len(absent) > PRINTED:
        problems.append(f"and {len(absent) - PRINTED} more shards are missing")
    for part in parts:
        ending = _UNFINISHED.get(part.document["exitcode"])
        if ending:
            problems.append(f"{part} ended with exit code {part.document['exitcode']} ({ending}); run it again")
    return problems


def _double_verdicts(parts: Sequence[Part]) -> list[str]:
    homes: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        for case in part.cases:
            homes.setdefault((case["case"], case["backend"]), []).append(part)
    double = {pair: where for pair, where in homes.items() if len(where) > 1}
    lines = [
        f"{case} has {len(where)} verdicts on {spec}, in {' and '.join(dict.fromkeys(map(str, where)))}"
        for (case, spec), where in sorted(double.items())[:NAMED]
    ]
    if len(double) > NAMED:
        lines.append(f"and {len(double) - NAMED} more cases have several verdicts")
    if lines:
        lines.append(_SAME_DURATIONS)
    return lines


def _absent_verdicts(parts: Sequence[Part]) -> list[str]:
    problems: list[str] = []
    for part in parts:
        judged: dict[str, set[str]] = {spec: set() for spec in part.specs}
        for case in part.cases:
            judged.setdefault(case["backend"], set()).add(case["case"])
        for spec in judged:
            absent, foreign = part.case_ids - judged[spec], judged[spec] - part.case_ids
            if spec not in part.specs:
                problems.append(f"{part} has verdicts on {spec}, which is none of its backends; run it again")
            elif absent:
                again = f"run it again: --shard={part.shard['index']}/{part.shard['count']}"
                problems.append(f"{part} lacks {len(absent)} verdicts on {spec}: {_names(absent)}; {again}")
            if foreign:
                problems.append(f"{part} has verdicts on {spec} of cases that it was not given: {_names(foreign)}")
    return problems


def _absent_cases(parts: Sequence[Part]) -> list[str]:
    union = {id for part in parts for id in part.case_ids}
    selected = parts[0].shard["selected"]
    if len(union) == selected and digest(union) == parts[0].shard["digest"]:
        return []
    return [
        f"the shards have {len(union)} cases together, which are not the {selected} that were selected",
        _SAME_DURATIONS,
    ]


# --- the whole


def _machine(machines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    cores = {machine["cores"] for machine in machines}
    return {
        "system": _joined(machine["system"] for machine in machines),
        "cores": cores.pop() if len(cores) == 1 else None,
        "python": _joined(machine["python"] for machine in machines),
        "pytest": _joined(machine["pytest"] for machine in machines),
    }


def _backends(parts: Sequence[Part]) -> list[dict[str, Any]]:
    same_place = zip(*(part.document["backends"] for part in parts), strict=True)
    return [{**answers[0], "device": _joined(answer["device"] for answer in answers)} for answers in same_place]


def _baseline(parts: Sequence[Part]) -> dict[str, Any] | None:
    baselines = [part.document["baseline"] for part in parts]
    if baselines[0] is None:
        return None
    problems = list(dict.fromkeys(problem for baseline in baselines for problem in baseline["problems"]))
    entries = []
    same_place = zip(*(baseline["entries"] for baseline in baselines), strict=True)
    for number, answers in enumerate(same_place, 1):
        entry = {
            **answers[0],
            "applies": any(answer["applies"] for answer in answers),
            "matched": sorted({case for answer in answers for case in answer["matched"]}),
        }
        entries.append(entry)
        label = f"entry {number} ({entry['case']})"
        if entry["applies"] and not entry["matched"] and not any(label in problem for problem in problems):
            text = f"{label} matches no case of any shard; correct its 'case', or remove it"
            problems.append(f"{baselines[0]['file']}: {text}")
    return {"file": baselines[0]["file"], "problems": problems, "entries": entries}


def _unexplained(parts: Sequence[Part]) -> list[str]:
    """Find shards that failed for a reason outside of their result, which is no reason to call the run good."""
    return [
        f"{part} ended with exit code 1, and nothing in its result says why; did another test of it fail?"
        for part in parts
        if part.document["exitcode"] == 1 and not failures_of(part.document)
    ]


# --- what is printed


def _notes(parts: Sequence[Part]) -> list[str]:
    lines: list[str] = []
    for index, spec in enumerate(parts[0].specs):
        for key in ("device", "queues", "devices"):
            seen = list(dict.fromkeys(str(_of_backend(index, key)(part)) for part in parts))
            if len(seen) > 1:
                lines.append(f"note: {spec}: {key} is not the same in all shards: {', '.join(seen)}")
    return lines


def _summary(document: dict[str, Any]) -> list[str]:
    known = Counter((case["backend"], case["outcome"]) for case in document["cases"] if case["known"])
    lines = []
    for spec, counts in document["counts"].items():
        texts = [
            f"{number} {outcome}" + (f" ({known[spec, outcome]} known)" if known[spec, outcome] else "")
            for outcome, number in counts.items()
            if number
        ]
        lines.append(f"{spec}: {', '.join(texts) or 'no cases'}")
    return lines


def _joined(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(texts))


def _names(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def _first_line(text: str) -> str:
    return _cut(next(iter(text.splitlines()), ""))


def _cut(text: str) -> str:
    return text if len(text) <= 160 else text[:158] + " …"
