"""Tables of options, from the parsers and signatures that read them."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from pytest_cuda2hal import plugin, probe, settings
from pytest_cuda2hal.registry import Registry


class RecordingParser:
    """Stands in for pytest's parser, and its groups, and remembers what is declared."""

    def __init__(self) -> None:
        self.options: list[tuple[tuple[str, ...], dict[str, Any]]] = []
        self.inis: list[tuple[str, str]] = []

    def getgroup(self, *_: object, **__: object) -> RecordingParser:
        return self

    def addoption(self, *names: str, **attributes: Any) -> None:
        self.options.append((names, attributes))

    def parse_known_and_unknown_args(self, arguments: list[str]) -> tuple[None, list[str]]:
        return None, arguments  # every short alias is free

    def addini(self, name: str, text: str, *_: object, **__: object) -> None:
        self.inis.append((name, text))


def declared() -> RecordingParser:
    """Return what the plugin declares."""
    parser: Any = RecordingParser()
    plugin.pytest_addoption(parser)
    settings.add_aliases(parser)
    recorded: RecordingParser = parser
    return recorded


def pytest_options() -> str:
    """Return the table of command-line options."""
    rows: dict[str, list[str]] = {}
    options = declared().options
    texts = {attributes["dest"]: attributes["help"] for _, attributes in reversed(options)}
    for names, attributes in options:
        choices = attributes.get("choices")
        value = "|".join(choices) if choices else attributes.get("metavar", "")
        if attributes.get("action") == "store_true":
            value = ""
        shown = [f"`{name}{f'={value}' if value else ''}`" for name in names]
        rows.setdefault(texts[attributes["dest"]], []).extend(shown)
    lines = [f"| {_cell('<br>'.join(reversed(shown)))} | {_cell(text)} |" for text, shown in rows.items()]
    return "\n".join(["| option | what it does |", "|---|---|", *lines, ""])


def ini_values() -> str:
    """Return the table of ini values."""
    lines = [f"| `{name}` | {_cell(text)} |" for name, text in declared().inis]
    return "\n".join(["| ini value | what it does |", "|---|---|", *lines, ""])


def environment() -> str:
    """Return the table of environment variables."""
    variables = {
        settings.BACKEND_VARIABLE: "specs of the backends to test, separated by commas or spaces",
        probe.DEADLINE_VARIABLE: f"seconds that a backend may take to open (default: {probe.PROBE_DEADLINE:g})",
    }
    lines = [f"| `{name}` | {text} |" for name, text in variables.items()]
    return "\n".join(["| variable | what it does |", "|---|---|", *lines, ""])


def commands() -> str:
    """Return what ``python -m pytest_cuda2hal`` says of itself and of its commands."""
    blocks = []
    for command in ("", "matrix", "repeat", "table", "probe", "merge", "schema"):
        arguments = [*([command] if command else []), "--help"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest_cuda2hal", *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
        )
        blocks.append(f"```console\n$ python -m pytest_cuda2hal {' '.join(arguments)}\n{done.stdout.rstrip()}\n```\n")
    return "\n".join(blocks)


def backend_options(name: str) -> str:
    """Return the table of a backend's options, from the signature and docstring of its ``open``."""
    backend = Registry().backend(name)
    said = dict(_parameters(inspect.getdoc(backend.open) or ""))
    lines = ["| option | type | default | what it does |", "|---|---|---|---|"]
    for key, parameter in backend.options().items():
        kind = parameter.annotation
        shown = getattr(kind, "__name__", None) or str(kind)
        default = "" if parameter.default in (None, parameter.empty) else f"`{parameter.default}`"
        lines.append(f"| `{key}` | {_cell(shown)} | {default} | {_cell(said.get(key, ''))} |")
    return "\n".join([*lines, ""])


def backend_variants(name: str) -> str:
    """Return the table of a backend's variants."""
    rows = [f"| `{name}:{variant}` | {_cell(text)} |" for variant, text in Registry().backend(name).variants.items()]
    return "\n".join(["| spec | what it is |", "|---|---|", *rows, ""])


def _parameters(docstring: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"^:param (\w+): (.*(?:\n +.*)*)", docstring, re.MULTILINE):
        yield found[1], " ".join(found[2].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")
