"""From a spec on the command line to a backend.

A spec is ``NAME[:VARIANT][:KEY=VALUE]…``, safe in every shell, in tox and in TOML; commas separate specs. ``NAME`` is a
registered backend (entry point group ``pytest_cuda2hal.backends``, or the hook ``pytest_hal_backends``); any other name
is read as ``package.module:Factory``, where the factory is a :class:`~pytest_cuda2hal.hal.Device` class, a
:class:`~pytest_cuda2hal.hal.Backend`, or a function that returns a device.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hal import Backend, Device

ENTRY_POINT_GROUP = "pytest_cuda2hal.backends"


class SpecError(Exception):
    """A spec that cannot be read or resolved; the text is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One backend in one configuration, as the user wrote it."""

    text: str
    name: str
    variant: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


def parse_spec(text: str) -> Spec:
    """Read one spec.

    :raises SpecError: an empty part, a second variant, or a repeated key.
    """
    name, *parts = text.strip().split(":")
    if not name or not all(parts):
        raise SpecError(f"backend spec '{text}' has an empty part; write NAME[:VARIANT][:KEY=VALUE]…")
    variant: str | None = None
    options: dict[str, str] = {}
    for position, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not equals:
            if position:
                raise SpecError(f"backend spec '{text}': '{part}' must be KEY=VALUE; only the first part is a variant")
            variant = part
        elif not key:
            raise SpecError(f"backend spec '{text}': '{part}' has no key before the '='")
        elif key in options:
            raise SpecError(f"backend spec '{text}' gives '{key}' twice; give it once")
        else:
            options[key] = value
    return Spec(text.strip(), name, variant, options)


def parse_specs(texts: Iterable[str]) -> list[Spec]:
    """Read comma lists of specs; a spec given twice is taken once."""
    specs = {part.strip(): parse_spec(part) for text in texts for part in text.split(",")}
    return list(specs.values())


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec with the backend that it names; opening a device may still fail."""

    spec: Spec
    backend: Backend
    keywords: Mapping[str, object]

    def open_device(self) -> Device:
        """Open a device. Raises whatever the backend raises."""
        return self.backend.open(**self.keywords)


class Registry:
    """The backends known by name: those of entry points, and those that hooks gave."""

    def __init__(self, from_hooks: Iterable[Backend] = ()) -> None:
        self._from_hooks = {backend.name: backend for backend in from_hooks}

    def names(self) -> list[str]:
        """Return every registered name, without loading anything."""
        return sorted({*self._from_hooks, *(point.name for point in _entry_points())})

    def has_hook_backend(self, name: str) -> bool:
        """Tell whether ``name`` was registered by a hook, and so is not known outside this process."""
        return name in self._from_hooks

    def backend(self, name: str) -> Backend:
        """Load a registered backend.

        :raises SpecError: unknown, or what its registration names cannot be loaded.
        """
        if name in self._from_hooks:
            return self._from_hooks[name]
        point = next((point for point in _entry_points() if point.name == name), None)
        if point is not None:
            return _loaded(name, point.value, lambda: _as_backend(name, point.load()))
        hint = self._hint(name)
        raise SpecError(
            f"unknown backend '{name}'; {hint}known: {', '.join(self.names())}; "
            "one of your own is named package.module:Factory"
        )

    def _hint(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(), 1)
        return f"did you mean '{near[0]}'? " if near else ""

    def resolve(self, spec: Spec) -> Resolved:
        """Find the backend of a spec and check variant and options.

        :raises SpecError: no such backend, variant or option; the text lists the known ones.
        """
        if spec.name not in self.names() and spec.variant and (spec.variant.isidentifier() or "." in spec.variant):
            target = f"{spec.name}:{spec.variant}"
            backend = _loaded(target, target, lambda: _as_backend(target, _attribute(target)), self._hint(spec.name))
            return self._with_keywords(spec, backend, {})
        backend = self.backend(spec.name)
        if backend.variants:
            listed = ", ".join(f"{backend.name}:{variant}" for variant in backend.variants)
            if spec.variant is None:
                raise SpecError(f"backend '{backend.name}' needs a variant; write one of {listed}")
            if spec.variant not in backend.variants:
                raise SpecError(f"backend '{backend.name}' has no variant '{spec.variant}'; known: {listed}")
            return self._with_keywords(spec, backend, {"variant": spec.variant})
        if spec.variant is not None:
            raise SpecError(f"backend '{backend.name}' has no variants; '{spec.variant}' must be KEY=VALUE")
        return self._with_keywords(spec, backend, {})

    def _with_keywords(self, spec: Spec, backend: Backend, keywords: dict[str, object]) -> Resolved:
        from .hal import BadOption

        try:
            keywords.update(backend.parse_options(spec.options))
        except BadOption as error:
            raise SpecError(str(error)) from error
        return Resolved(spec, backend, keywords)


def _entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    return tuple(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))


def _loaded(name: str, target: str, load: Callable[[], Backend], hint: str = "") -> Backend:
    """Load, and turn whatever goes wrong into one line."""
    try:
        return load()
    except SpecError:
        raise
    except ModuleNotFoundError as error:
        raise SpecError(
            f"backend '{name}' cannot be loaded: there is no module '{error.name}' (asked for by '{target}'); "
            f"{hint}check the name, install its package, or run where it can be imported"
        ) from error
    except Exception as error:
        what = f"{type(error).__name__} while importing '{target}': {first_line(error)}"
        raise SpecError(f"backend '{name}' cannot be loaded: {what}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "(no text)"


def _attribute(target: str) -> object:
    module_name, _, path = target.partition(":")
    # As `python -m pytest` does: a module beside the tests can be named although it is not installed.
    if "" not in sys.path and "." not in sys.path:
        sys.path.append("")
    found: object = importlib.import_module(module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise SpecError(f"backend '{target}': module '{module_name}' has no '{path}'; check the name") from None
    return found


def _as_backend(name: str, found: object) -> Backend:
    from .hal import Backend

    if isinstance(found, Backend):
        return found
    if callable(found):
        summary = (found.__doc__ or "").strip().partition("\n")[0]
        return Backend(name=name, summary=summary, open=found, native=True)
    raise SpecError(f"backend '{name}' is {type(found).__name__}; a Device class, a Backend or a function is needed")
