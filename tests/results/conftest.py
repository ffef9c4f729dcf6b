"""Results as a run would write them, made without running anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_cuda2hal.__main__ import main
from pytest_cuda2hal.outcome import Outcome
from pytest_cuda2hal.probe import Probe
from pytest_cuda2hal.report import RunFacts, result_document
from pytest_cuda2hal.schema import schema_text
from pytest_cuda2hal.sharding import Shard, digest, select
from pytest_cuda2hal.verdicts import Verdict

CHECK = jsonschema.Draft202012Validator(json.loads(schema_text())).validate
CASES = tuple(f"waits/test_any::test_it[{number}]" for number in range(12))


def make_probe(spec: str = "reference", **facts: Any) -> Probe:
    known = {"device": "host memory", "versions": {"python": "3.11"}, "profile": "strict", "queues": 4, "own": True}
    return Probe(spec, **{**known, **facts})


def make_verdict(
    case: str = CASES[0], backend: str = "reference", outcome: Outcome = Outcome.PASS, **facts: Any
) -> Any:
    return Verdict(case=case, backend=backend, outcome=outcome, **facts)


def make_document(*verdicts: Any, probes: tuple[Probe, ...] = (make_probe(),), **facts: Any) -> dict[str, Any]:
    """A document as read back from a file."""
    document = result_document(RunFacts(**{"effort": "quick", "exitcode": 0, **facts}), probes, verdicts)
    read: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
    return read


class Shards:
    """The documents of all shards of a run of ``CASES``, to be changed and then written."""

    def __init__(self, folder: Path, count: int, specs: tuple[str, ...], **facts: Any) -> None:
        self._folder = folder
        self.documents = []
        for index in range(1, count + 1):
            mine = sorted(select(CASES, Shard(index, count), {}))
            shard = {"index": index, "count": count, "selected": len(CASES), "cases": mine}
            verdicts = [make_verdict(case, spec, clauses=["W-1"]) for spec in specs for case in mine]
            probes = tuple(make_probe(spec) for spec in specs)
            facts = {**facts, "shard": {**shard, "digest": digest(CASES)}}
            self.documents.append(make_document(*verdicts, probes=probes, **facts))

    def write(self) -> list[Path]:
        paths = []
        for number, document in enumerate(self.documents, 1):
            path = self._folder / f"part-{number}.json"
            path.write_text(json.dumps(document), encoding="utf-8")
            paths.append(path)
        return paths


@pytest.fixture
def verdict():
    return make_verdict


@pytest.fixture
def probe():
    return make_probe


@pytest.fixture
def document():
    return make_document


@pytest.fixture
def cases():
    return CASES


@pytest.fixture
def shards(tmp_path):
    """Make the shards of a run: ``shards(3)``."""

    def make(count: int = 3, specs: tuple[str, ...] = ("reference", "iree:local-task"), **facts: Any) -> Shards:
        return Shards(tmp_path, count, specs, **facts)

    return make


@pytest.fixture
def merge(tmp_path, capsys):
    """Merge files and return the exit code, the document (``None`` if none was written) and the lines printed."""

    def run(paths):
        output = tmp_path / "made" / "whole.json"
        code = main(["merge", *map(str, paths), "--output", str(output)])
        printed = capsys.readouterr()
        document = json.loads(output.read_text(encoding="utf-8")) if output.exists() else None
        if document is not None:
            CHECK(document)
            assert document["exitcode"] == code
            assert not printed.err
        return code, document, (printed.err or printed.out).splitlines()

    return run
