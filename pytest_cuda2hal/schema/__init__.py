"""The JSON Schema of the result file, and a check against it that needs nothing beyond the standard library."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: The JSON Schema (2020-12) of a result file of format 2.
SCHEMA_FILE = Path(__file__).with_name("result-2.json")

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
    "array": list,
    "object": dict,
}


def schema_text() -> str:
    """Return the schema as it is published."""
    return SCHEMA_FILE.read_text(encoding="utf-8")


@functools.cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schema_text())
    return schema


def violations(document: object) -> Iterator[str]:
    """Yield what is wrong with a document, a line each: where, and what is expected there.

    Knows the keywords of JSON Schema that the schema uses, and no others.
    """
    yield from _check(document, _schema(), "")


def _check(value: object, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = _schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    expected = schema.get("type", [])
    names = [expected] if isinstance(expected, str) else expected
    if names and not any(_has_type(value, name) for name in names):
        yield f"{where or 'the document'} is {_shown(value)}; expected {' or '.join(names)}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where} is {_shown(value)}; expected {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {_shown(value)}; expected one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, (int, float)) and value < schema.get("minimum", value):
        yield f"{where} is {_shown(value)}; expected at least {schema['minimum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where} is {_shown(value)}; expected a match of {schema['pattern']}"
    if isinstance(value, list) and "items" in schema:
        for index, element in enumerate(value):
            yield from _check(element, schema["items"], f"{where}[{index}]")
    if isinstance(value, dict):
        yield from _check_object(value, schema, where)


def _check_object(value: Mapping[str, object], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    prefix = f"{where}." if where else ""
    yield from (f"{prefix}{name} is missing" for name in schema.get("required", ()) if name not in value)
    known: Mapping[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, element in value.items():
        if name in known:
            yield from _check(element, known[name], f"{prefix}{name}")
        elif others is False:
            yield f"{prefix}{name} is not expected"
        elif others is not True:
            yield from _check(element, others, f"{prefix}{name}")


def _has_type(value: object, name: str) -> bool:
    if isinstance(value, bool):  # an int to Python
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
