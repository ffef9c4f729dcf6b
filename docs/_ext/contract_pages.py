"""The contract as pages: its parts with their clauses and cases, the variation points, capabilities and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from suite_cases import Case

from pytest_cuda2hal.contract import (
    CLAUSES,
    CONTRACT_VERSION,
    LEGAL_PROGRAMS,
    PARTS,
    PROFILES,
    VARIATION_POINTS,
    WORDS,
    Clause,
    Part,
    clauses_of,
)
from pytest_cuda2hal.hal import Answer, Capability, Limit, VariationPoint

_POWERS = {
    2**bits + less: f"2^{bits}{f' - {-less}' if less else ''}" for bits in (31, 32, 63, 64) for less in (0, -1, -2)
}


def contract_pages(cases: Iterable[Case]) -> dict[str, str]:
    """Return the pages by name."""
    by_clause: dict[str, list[Case]] = {id: [] for id in CLAUSES}
    listed = list(cases)
    for case in listed:
        for id in case.clauses:
            by_clause[id].append(case)
    pages = {part.folder: _part(part, by_clause) for part in PARTS}
    pages["index"] = _index(by_clause)
    pages["variation-points"] = _variation_points()
    pages["capabilities"] = _capabilities()
    pages["words"] = _words()
    return pages


def case_pages(cases: Iterable[Case]) -> dict[str, str]:
    """Return one page for each part, with the source of its cases, and an index."""
    by_folder: dict[str, list[Case]] = {}
    for case in cases:
        by_folder.setdefault(case.module.partition("/")[0], []).append(case)
    pages = {folder: _cases(folder, mine) for folder, mine in by_folder.items()}
    entries = "\n".join(folder for folder in sorted(by_folder, key=_folder_order))
    pages["index"] = (
        "# The cases\n\nEvery case of the suite with its source. The contract's pages link here from each clause.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"
    )
    return pages


def _folder_order(folder: str) -> int:
    folders = [part.folder for part in PARTS]
    return folders.index(folder) if folder in folders else len(folders)


def _cases(folder: str, cases: list[Case]) -> str:
    title = next((part.title for part in PARTS if part.folder == folder), folder)
    lines = [f"# Cases: {title}", ""]
    module = ""
    for case in cases:
        if case.module != module:
            module = case.module
            lines += [f"## `{module}.py`", ""]
        links = ", ".join(_link(id) for id in case.clauses)
        lines += [f"({case.target})=", f"### `{case.name}`", "", f"Checks {links}." if links else "", ""]
        lines += ["````python", case.source, "````", ""]
    return "\n".join(lines)


def _index(by_clause: Mapping[str, list[Case]]) -> str:
    quality = sum(clause.quality for clause in CLAUSES.values())
    lines = [
        "# The contract",
        "",
        (
            f"Version {CONTRACT_VERSION}: {len(CLAUSES)} clauses, of which {quality} are about quality. These pages "
            "are written from the data that the cases and the reports use, so they say what is really checked."
        ),
        "",
        (
            "A clause is one promise. It is a **must** unless it is marked as **quality**: a broken quality clause "
            "is reported with its figure, and fails the run only on the project's own backends or with "
            "`--strict-quality`. Where systems legitimately differ, a clause names a "
            "[variation point](variation-points.md). What only some HALs can do, or let a test see, is a "
            "[capability](capabilities.md)."
        ),
        "",
        "| part | ids | clauses | cases |",
        "|---|---|---|---|",
    ]
    for part in PARTS:
        mine = clauses_of(part)
        cases = {case.id for clause in mine for case in by_clause[clause.id]}
        lines.append(f"| [{part.title}]({part.folder}.md) | {part.id}-… | {len(mine)} | {len(cases)} |")
    entries = [part.folder for part in PARTS] + ["variation-points", "capabilities", "words"]
    lines += ["", "```{toctree}", ":maxdepth: 1", ":hidden:", "", *entries, "```", ""]
    return "\n".join(lines)


def _part(part: Part, by_clause: Mapping[str, list[Case]]) -> str:
    lines = [f"# {part.title}", ""]
    for clause in clauses_of(part):
        lines += [f"({_target(clause.id)})=", f"## {clause.id}", "", clause.text, ""]
        lines += _about(clause)
        cases = by_clause[clause.id]
        if clause.unobserved:
            lines += [
                (
                    f"*Not checked by a case.* What is missing: {clause.unobserved.missing} "
                    f"Instead: {clause.unobserved.stand_in}"
                ),
                "",
            ]
        elif cases:
            lines += [f"- [`{case.id}`](#{case.target}){f': {case.summary}' if case.summary else ''}" for case in cases]
            lines.append("")
        else:
            lines += ["*No case yet.*", ""]
    return "\n".join(lines)


def _about(clause: Clause) -> list[str]:
    notes = []
    if clause.quality:
        notes.append("**Quality.**")
    if clause.requires:
        links = " and ".join(f"[{name}](#{_capability_target(name)})" for name in clause.requires)
        notes.append(f"Needs {links}.")
    if clause.variations:
        links = ", ".join(f"[{name}](#point-{name})" for name in clause.variations)
        notes.append(f"Depends on {links}.")
    return [" ".join(notes), ""] if notes else []


def _variation_points() -> str:
    lines = [
        "# Variation points and profiles",
        "",
        (
            "A variation point is a question that the contract leaves open, because systems that people use answer it "
            "in different ways. A *profile* is a named set of answers. A backend declares one, the suite notes what it "
            "really answers, and an answer that the profile does not permit fails the case."
        ),
        "",
        (
            "*Undefined* means that no legal program asks; under such a profile the suite never does. *Any* means that "
            "every known answer will do; the source says whether that is allowed expressly or nothing is said."
        ),
        "",
        "| profile | what it is | semaphores can fail |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{profile.name}` | {profile.summary} | {'yes' if profile.failure_state else 'no'} |"
        for profile in PROFILES.values()
    ]
    lines += [
        "",
        "## Overview",
        "",
        f"| variation point | {' | '.join(PROFILES)} |",
        "|---" * (len(PROFILES) + 1) + "|",
    ]
    for point in VARIATION_POINTS.values():
        answers = " | ".join(_answer(point, profile) for profile in PROFILES)
        lines.append(f"| [{point.id}](#point-{point.id}) | {answers} |")
    lines.append("")
    for point in VARIATION_POINTS.values():
        lines += [f"(point-{point.id})=", f"## {point.id}", "", point.question, ""]
        if point.known:
            lines += ["| known answer | what it means |", "|---|---|"]
            lines += [f"| `{answer}` | {meaning} |" for answer, meaning in point.known.items()]
            lines.append("")
        lines += ["| profile | answer | source |", "|---|---|---|"]
        lines += [f"| `{name}` | {_answer(point, name)} | {point.answers[name].source} |" for name in PROFILES]
        asking = [_link(clause.id) for clause in CLAUSES.values() if point.id in clause.variations]
        lines += ["", f"Clauses that depend on it: {', '.join(asking)}." if asking else "", ""]
    return "\n".join(lines)


def _answer(point: VariationPoint, profile: str) -> str:
    answer = point.answers[profile]
    if isinstance(answer, Limit):
        return "no limit" if answer.value is None else _POWERS.get(answer.value, str(answer.value))
    assert isinstance(answer, Answer)
    if answer.undefined:
        return "*undefined*"
    if len(point.known) > 1 and set(answer.permitted) == set(point.known):
        return "*any*"
    return " or ".join(f"`{text}`" for text in answer.permitted)


def _capabilities() -> str:
    lines = [
        "# Capabilities",
        "",
        (
            "A backend declares each capability as *native* (`Device.capabilities`) or *emulated* by its adapter "
            "(`Device.emulated`); what it does not mention is *absent*. Only what is native is judged: a case that "
            "needs something emulated or absent ends as unsupported."
        ),
        "",
    ]
    for capability in Capability:
        gated = [_link(clause.id) for clause in CLAUSES.values() if capability in clause.requires]
        lines += [f"({_capability_target(capability)})=", f"## {capability}", "", capability.sentence, ""]
        lines += [f"Clauses that need it: {', '.join(gated)}." if gated else "No clause needs it; single cases do.", ""]
    return "\n".join(lines)


def _words() -> str:
    lines = ["# Words, and legal programs", "", "## Words", "", "```{glossary}"]
    for word, meaning in WORDS.items():
        lines += [word, f"  {meaning}", ""]
    lines += ["```", "", "## Legal programs", "", LEGAL_PROGRAMS, ""]
    return "\n".join(lines)


def driver_capabilities(drivers: Mapping[str, frozenset[Capability]]) -> str:
    """Return a table of which driver has which capability by itself."""
    lines = [f"| capability | {' | '.join(f'`{name}`' for name in drivers)} |", "|---" * (len(drivers) + 1) + "|"]
    for capability in Capability:
        cells = " | ".join("native" if capability in native else "" for native in drivers.values())
        lines.append(f"| [{capability}](#{_capability_target(capability)}) | {cells} |")
    return "\n".join([*lines, ""])


def _target(clause: str) -> str:
    return f"clause-{clause.lower()}"


def _capability_target(capability: Capability) -> str:
    return f"capability-{capability}"


def _link(clause: str) -> str:
    return f"[{clause}](#{_target(clause)})"
