"""``--list-backends``: what is there, what is missing, and what to install."""

from __future__ import annotations

from .probe import probe
from .registry import Registry, SpecError, parse_spec


def print_backends(registry: Registry) -> None:
    """Print each backend and variant with its options, and whether a device of it can be opened here."""
    for name in registry.names():
        try:
            backend = registry.backend(name)
        except SpecError as error:
            print(f"{name}: {error}")
            continue
        print(f"{name}: {backend.summary}")
        options = [
            f"{key}={parameter.default}" if parameter.default not in (None, parameter.empty) else key
            for key, parameter in backend.options().items()
        ]
        if options:
            print(f"    options: {', '.join(options)}")
        if not backend.listed:
            print(
                f"    {len(backend.variants)} variants, such as {name}:{next(iter(backend.variants), '')}; not probed"
            )
            continue
        for variant, summary in backend.variants.items() or [("", "")]:
            text = f"{name}:{variant}" if variant else name
            title = f"{text} ({summary})" if summary else text
            if registry.has_hook_backend(name):
                print(f"    {title}: registered by a hook of this project; not probed")
                continue
            answer = probe(parse_spec(text))
            if answer.available:
                versions = ", ".join(f"{key} {value}" for key, value in answer.versions.items())
                print(f"    {title}: available; {answer.device}{f' ({versions})' if versions else ''}")
            else:
                print(f"    {title}: unavailable; {answer.problem}")
    print("one of your own: --backend=package.module:Factory")
