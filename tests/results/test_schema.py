"""The schema takes what is right, refuses what is wrong, and describes everything; our own check agrees with it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import fields
from typing import Any

import jsonschema
import pytest

from pytest_cuda2hal.outcome import Outcome
from pytest_cuda2hal.probe import Probe
from pytest_cuda2hal.schema import schema_text, violations
from pytest_cuda2hal.verdicts import Verdict

SCHEMA = json.loads(schema_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
#: Keywords that say nothing about a document.
SILENT = {"$schema", "title", "description", "$defs"}
#: Those that pytest_cuda2hal.schema checks.
CHECKED = {"$ref", "type", "const", "enum", "minimum", "pattern", "items", "required", "properties"} | {
    "additionalProperties"
}


@pytest.fixture
def rich(document, verdict, probe):
    """A document that has something at every place."""
    details = {"expected": "1", "operations": ["a"], "waits": {}, "more": 1}
    quality = [{"clause": "W-10q", "kept": True, "figure": "1 ms"}]
    entry = {"case": "a", "backend": "*", "outcome": "fail", "reason": "r", "applies": True, "matched": ["a"]}
    return document(
        verdict("a", clauses=["W-1"], details=details, quality=quality, variations={"drop-order": "any"}),
        probes=(
            probe(smoke=[{"name": "signal", "ok": True, "detail": ""}], capabilities=["flush"], emulated=["update"]),
        ),
        shard={"index": 1, "count": 1, "selected": 1, "cases": ["a"], "digest": "a" * 64},
        baseline={"file": "f", "problems": ["p"], "entries": [entry]},
        isolated=["reference"],
    )


def every_schema(schema=SCHEMA, where="#"):
    """Yield each schema inside the schema, with its place."""
    yield where, schema
    for key in ("properties", "$defs"):
        for name, inner in schema.get(key, {}).items():
            yield from every_schema(inner, f"{where}/{key}/{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from every_schema(schema[key], f"{where}/{key}")


def every_place(value, path=()):
    """Yield the path of each value in a document."""
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from every_place(inner, (*path, key))


def put(document, path, value):
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    ("where", "schema"), list(every_schema()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_everything_has_a_description_and_is_checked(where, schema):
    assert "$ref" in schema or len(schema["description"]) > 5
    assert set(schema) - SILENT <= CHECKED
    if "$ref" in schema:
        assert set(schema) == {"$ref"}
        assert schema["$ref"].removeprefix("#/$defs/") in SCHEMA["$defs"]
    assert set(schema.get("required", ())) <= set(schema.get("properties", ()))


def test_it_knows_what_the_code_knows():
    definitions = SCHEMA["$defs"]
    outcomes = [outcome.value for outcome in Outcome]
    assert definitions["outcome"]["enum"] == outcomes
    assert definitions["counts"]["required"] == list(definitions["counts"]["properties"]) == outcomes
    assert set(definitions["backend"]["properties"]) == {field.name for field in fields(Probe)}
    assert set(definitions["case"]["properties"]) == {field.name for field in fields(Verdict)}


def test_a_rich_document_is_valid(rich):
    VALIDATOR.validate(rich)
    assert list(violations(rich)) == []


def test_further_details_are_allowed_and_nothing_else_is(rich):
    rich["cases"][0]["details"]["of a later version"] = {"any": [1, None]}
    assert VALIDATOR.is_valid(rich)
    for path in ((), ("cases", 0), ("shard",), ("machine",), ("backends", 0), ("baseline",), ("answers", "reference")):
        wrong = copy.deepcopy(rich)
        put(wrong, (*path, "stranger"), 1)
        assert not VALIDATOR.is_valid(wrong), path
        assert [line.rpartition(" ")[0] for line in violations(wrong)] == [
            f"{_written(path)}{'.' if path else ''}stranger is not"
        ]


@pytest.mark.parametrize(
    "path",
    [("cases", 0, "outcome"), ("effort",), ("format",), ("order",), ("shard", "digest"), ("date",), ("exitcode",)],
)
def test_wrong_values_are_refused(rich, path):
    values: list[Any] = ["flaky", "PASS", 3, -1.5, None, [], {}]
    for value in values:
        if (path, value) in ((("date",), "flaky"), (("date",), "PASS"), (("exitcode",), 3), (("exitcode",), None)):
            continue
        wrong = copy.deepcopy(rich)
        put(wrong, path, value)
        assert not VALIDATOR.is_valid(wrong), value
        (line,) = violations(wrong)
        assert line.startswith(f"{_written(path)} is "), line


def test_our_check_agrees_with_the_schema_at_every_place(rich):
    """Each value in turn is replaced by values of every type, or left out."""
    refused = accepted = 0
    for path in list(every_place(rich))[1:]:
        for value in (None, True, 0, -1, 1.5, 2.0, "", "x", [], [1], {}, {"x": 1}, "leave out"):
            changed = copy.deepcopy(rich)
            if value == "leave out":
                parent = changed
                for key in path[:-1]:
                    parent = parent[key]
                del parent[path[-1]]
            else:
                put(changed, path, value)
            valid = VALIDATOR.is_valid(changed)
            assert valid == (not list(violations(changed))), (path, value)
            refused, accepted = refused + (not valid), accepted + valid
    assert refused > 500
    assert accepted > 100


def test_every_required_key_is_missed(rich):
    for path in every_place(rich):
        value: Any = rich
        for key in path:
            value = value[key]
        required = [schema["required"] for _, schema in every_schema() if "required" in schema]
        if not isinstance(value, dict) or not any(set(keys) <= set(value) for keys in required):
            continue
        (keys,) = [keys for keys in required if set(keys) <= set(value)]
        for key in keys:
            wrong = copy.deepcopy(rich)
            parent = wrong
            for step in path:
                parent = parent[step]
            del parent[key]
            assert not VALIDATOR.is_valid(wrong), (path, key)
            assert list(violations(wrong)) == [f"{_written((*path, key))} is missing"]


@pytest.mark.parametrize("document", [None, [], 3, "text", {}, {"format": 2}])
def test_what_is_no_document_at_all_is_refused(document):
    assert not VALIDATOR.is_valid(document)
    assert list(violations(document))


def test_the_command_prints_it():
    command = [sys.executable, "-m", "pytest_cuda2hal", "schema"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == SCHEMA


def _written(path):
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
