"""Ask what a backend is, in a process of its own.

A HAL may crash or hang while it opens, and its libraries must not be loaded into the process that controls the run. A
child opens a device, says in JSON what it found, and ends; a crash, a hang and silence are answers too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .registry import Registry, Resolved, Spec, SpecError, first_line, parse_spec

#: Seconds that a backend may take to open. A first CUDA context on a cold machine takes a few.
PROBE_DEADLINE = 60.0
#: The environment variable that says otherwise, for every run, listing and matrix on a machine.
DEADLINE_VARIABLE = "PYTEST_HAL_PROBE_DEADLINE"

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pytest_cuda2hal.probe import child; child()"
_MARK = "pytest-cuda2hal-probe:"


@dataclass(frozen=True, slots=True)
class Probe:
    """What a backend answered. ``problem`` is one line, empty when a device could be opened."""

    spec: str
    problem: str = ""
    #: Whether the problem is that this machine lacks something, as the backend itself says: no defect of anybody's.
    lacking: bool = False
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    capabilities: list[str] = field(default_factory=list)
    emulated: list[str] = field(default_factory=list)
    profile: str = ""
    queues: int = 0
    own: bool = False
    native: bool = False

    @property
    def available(self) -> bool:
        """Whether a device could be opened."""
        return not self.problem

    def lines(self) -> list[str]:
        """Return what the session header says of the backend."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        queues = f"{self.queues} queue" + ("s" if self.queues != 1 else "")
        lines = [
            f"hal: {self.spec}: {self.device} ({versions or 'no versions given'}); profile {self.profile}; {queues}"
        ]
        lines.append("     capabilities: " + (", ".join(self.capabilities) or "none"))
        if self.emulated:
            lines.append("     emulated by the adapter, so not judged: " + ", ".join(self.emulated))
        return lines


def probe_deadline() -> float:
    """Return the seconds that a backend may take to open.

    :raises SpecError: the environment variable says something that is no such number.
    """
    text = os.environ.get(DEADLINE_VARIABLE) or str(PROBE_DEADLINE)
    try:
        deadline = float(text)
    except ValueError:
        deadline = 0.0
    if not 0 < deadline < 86400:
        raise SpecError(f"${DEADLINE_VARIABLE} takes seconds above 0 and below 86400, not '{text}'")
    return deadline


def probe(spec: Spec) -> Probe:
    """Open the backend of ``spec`` in a child process and return what it said. Raises nothing."""
    try:
        deadline = probe_deadline()
    except SpecError as error:
        return Probe(spec.text, str(error))
    command = [sys.executable, "-c", _CHILD, json.dumps([str(folder) for folder in sys.path]), spec.text]
    try:
        done = subprocess.run(command, capture_output=True, timeout=deadline, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired as hang:
        # It may have answered and then hang at its end, or have left a process that keeps its output open.
        return _answer(hang.stdout or b"") or Probe(
            spec.text,
            f"backend '{spec}' did not open within {deadline:g} s (${DEADLINE_VARIABLE}); it hangs. Try it alone: "
            f"python -m pytest_cuda2hal probe {spec}",
        )
    answer = _answer(done.stdout)
    if answer is not None:
        return answer
    tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    return Probe(spec.text, f"backend '{spec}' {_ending(done.returncode)} while it was opened: {tail[0]}")


def _answer(output: bytes) -> Probe | None:
    """Find the answer in what a child printed; a HAL may print, too."""
    for line in reversed(output.decode(errors="replace").splitlines()):
        if line.startswith(_MARK):
            return Probe(**json.loads(line.removeprefix(_MARK)))
    return None


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"crashed ({signal.Signals(-returncode).name})"
    return f"ended its process (exit code {returncode})"


def probe_in_process(resolved: Resolved) -> Probe:
    """Open the backend here and return what it is; its problem is one line."""
    from .hal import BackendUnavailable, BadOption

    text = resolved.spec.text
    try:
        device = resolved.open_device()
    except BackendUnavailable as error:
        return Probe(text, f"backend '{text}' is not available: {error}", lacking=True)
    except BadOption as error:
        return Probe(text, str(error))
    except Exception as error:  # noqa: BLE001 - whatever a factory raises becomes one line
        what = f"{type(error).__name__}: {first_line(error)}{_place(error)}"
        return Probe(text, f"backend '{text}' failed to open: {what}")
    try:
        wrong = _shape(device)
        if wrong:
            return Probe(text, f"backend '{text}' {wrong}")
        answer = Probe(
            spec=text,
            device=str(device.info.name),
            versions={str(name): str(version) for name, version in device.info.versions.items()},
            capabilities=[str(item) for item in sorted(device.capabilities, key=str)],
            emulated=[str(item) for item in sorted(device.emulated, key=str)],
            profile=device.profile,
            queues=device.queue_count,
            own=resolved.backend.own,
            native=resolved.backend.native,
        )
        device.close()
    except Exception as error:  # noqa: BLE001 - the same
        what = f"{type(error).__name__}: {first_line(error)}{_place(error)}"
        return Probe(text, f"backend '{text}' opened, but cannot be asked what it is, or closed: {what}")
    return answer


def _shape(device: object) -> str:
    """Say what is wrong with what a factory returned, before anything relies on it."""
    from .hal import PROFILES, Capability, Device, DeviceInfo

    if not isinstance(device, Device):
        return f"returned {type(device).__name__}; its factory must return a Device"
    if device.profile not in PROFILES:
        return f"declares profile '{device.profile}'; known profiles: {', '.join(PROFILES)}"
    queues: object = device.queue_count  # whatever its author made it
    if not isinstance(queues, int) or queues < 1:
        return f"declares {device.queue_count!r} queues; a device has at least one"
    if not isinstance(device.info, DeviceInfo):
        return f"has an info that is {type(device.info).__name__}; use DeviceInfo(name, versions)"
    declared: set[object] = {*device.capabilities, *device.emulated}
    strangers = [item for item in declared if not isinstance(item, Capability)]
    if strangers:
        return f"declares {strangers[0]!r} as a capability; use members of Capability"
    both = sorted(str(item) for item in device.capabilities & device.emulated)
    if both:
        return f"declares {', '.join(both)} as native and as emulated; it can be one of the two"
    return ""


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if not trace:
        return ""
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"


def child() -> None:
    """Entry point of the child process: its second argument is the spec."""
    text = sys.argv[2]
    try:
        answer = probe_in_process(Registry().resolve(parse_spec(text)))
    except SpecError as error:
        answer = Probe(text, str(error))
    # On a line of its own, whatever was printed before.
    print("\n" + _MARK + json.dumps(asdict(answer)), flush=True)
