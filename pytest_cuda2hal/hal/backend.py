"""A backend: a name, and how to open a device of it."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .device import Device

#: What the type of an option may be built with: ``int | None`` and ``Optional[int]``.
_UNIONS = (types.UnionType, typing.Union)


class BadOption(ValueError):
    """A backend was given a key it does not know, or a value it cannot read."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What a registration gives: how to open a device, and what the harness must know before it does.

    ``open`` takes the options of the spec as keywords; its signature is their documentation: names, types (``int``,
    ``float``, ``bool``, ``str``) and defaults. Where the backend has variants (``NAME:VARIANT``) it takes ``variant``
    as well. It imports native libraries itself, inside the call, and raises
    :class:`~pytest_cuda2hal.hal.BackendUnavailable` when they or the device are not there.
    """

    name: str
    summary: str
    open: Callable[..., Device]
    #: Variant name -> one line about it; empty when there are none. The first is not a default: it must be named.
    variants: Mapping[str, str] = field(default_factory=dict)
    #: True when native code runs in the process, so that a defect may hang or crash it.
    native: bool = False
    #: Variant (``""`` without one) -> the environment variable that chooses among several devices of this machine by
    #: their numbers, as ``CUDA_VISIBLE_DEVICES`` does. With it, pytest-xdist workers are spread over the devices.
    device_variables: Mapping[str, str] = field(default_factory=dict)
    #: False for what is no subject by itself, such as backends that are wrong on purpose: the matrix leaves it out, and
    #: the listing its variants.
    listed: bool = True
    #: True for this package's own HALs: every case must pass and none may be skipped.
    own: bool = False

    def options(self) -> dict[str, inspect.Parameter]:
        """Return the option names that ``open`` takes, with their parameters; none where it has no signature."""
        try:
            signature = inspect.signature(self.open)
        except (TypeError, ValueError):  # some callables of C extensions
            return {}
        return {
            name: parameter
            for name, parameter in signature.parameters.items()
            if name != "variant" and parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        }

    def parse_options(self, texts: Mapping[str, str]) -> dict[str, object]:
        """Turn the texts of a spec into keyword arguments for ``open``.

        :raises BadOption: unknown key (the known ones are listed), or a value that its type cannot read.
        """
        known = self.options()
        result: dict[str, object] = {}
        for key, text in texts.items():
            if key not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise BadOption(f"backend '{self.name}' has no option '{key}'; known options: {listed}")
            result[key] = _parsed(self.name, key, text, self._annotation(known[key]))
        return result

    def _annotation(self, parameter: inspect.Parameter) -> object:
        """Return a parameter's type; one that cannot be evaluated at run time counts as text."""
        annotation: object = parameter.annotation
        if not isinstance(annotation, str):
            return annotation
        names = getattr(inspect.unwrap(self.open), "__globals__", {})
        if inspect.isclass(self.open):
            names = vars(sys.modules[self.open.__module__])
        try:
            return eval(annotation, dict(names))  # the annotation of code that is about to run anyway
        except Exception:  # noqa: BLE001 - types that exist for type checkers only fail in many ways
            return str


def _parsed(backend: str, key: str, text: str, annotation: object) -> object:
    kinds = typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else (annotation,)
    try:
        if bool in kinds:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if int in kinds:
            return int(text, 0)
        if float in kinds:
            return float(text)
    except (ValueError, KeyError):
        wanted = "true or false" if bool in kinds else "a number"
        raise BadOption(f"backend '{backend}': option '{key}' takes {wanted}, not '{text}'") from None
    return text
