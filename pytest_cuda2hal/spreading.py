"""Several devices of one kind: each pytest-xdist worker gets one of them, by the variable that hides the others."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .run import Run

#: Under which a worker is told what the probes of the controlling process found.
INPUT = "hal_devices"


def device_choices(probes: list[Any], variables: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return, for each spec of which there are several devices, the variable and the values to choose from."""
    choices = {}
    for answer in probes:
        variable = variables.get(answer.spec, "")
        if variable and answer.devices > 1:
            visible = [part.strip() for part in os.environ.get(variable, "").split(",") if part.strip()]
            # What comes after a device that is not there does not count, so there may be fewer than are named.
            values = visible[: answer.devices] or [str(number) for number in range(answer.devices)]
            choices[answer.spec] = {"variable": variable, "values": values}
    return choices


def environment_for(config: pytest.Config, spec: str) -> dict[str, str]:
    """Return what to add to the environment of a process that runs cases of ``spec``; nothing outside of xdist."""
    given: dict[str, Any] = getattr(config, "workerinput", {})
    choice = given.get(INPUT, {}).get(spec)
    number = str(given.get("workerid", "")).removeprefix("gw")
    if not choice or not number.isdecimal():
        return {}
    values = choice["values"]
    return {choice["variable"]: values[int(number) % len(values)]}


def tell_worker(node: Any, run: Run, probes_input: str) -> None:
    """Tell a pytest-xdist worker, before it starts, what the controlling process knows of the backends."""
    probes = run.probes()
    node.workerinput[probes_input] = [asdict(answer) for answer in probes]
    variables = {}
    for answer in probes:
        resolved = run.resolve(answer.spec)
        # What follows the colon of package.module:Factory is no variant.
        variant = (resolved.spec.variant or "") if resolved.backend.variants else ""
        variables[answer.spec] = resolved.backend.device_variables.get(variant, "")
    node.workerinput[INPUT] = device_choices(probes, variables)


def choose_here(config: pytest.Config, specs: list[str]) -> None:
    """Choose this process's devices, for cases that run in it; before anything has opened one."""
    for spec in specs:
        os.environ.update(environment_for(config, spec))
