"""Ask what a backend is, in a process of its own.

A HAL may crash or hang while it opens, and its libraries must not be loaded into the process that controls the run. A
child opens a device, says in JSON what it found, and ends; a crash, a hang and silence are answers too.

Before a device is closed, a short stage asks it what every case asks (:mod:`.smoke`). What goes wrong there is said in
the header, and the run goes on. As the stage may end the child, the child answers before each check too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .registry import Registry, Resolved, Spec, SpecError, first_line, parse_spec

#: Seconds that a backend may take to open. A first CUDA context on a cold machine takes a few.
PROBE_DEADLINE = 60.0
#: The environment variable that says otherwise, for every run, listing and matrix on a machine.
DEADLINE_VARIABLE = "PYTEST_HAL_PROBE_DEADLINE"

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pytest_cuda2hal.probe import child; child()"
_MARK = "pytest-cuda2hal-probe:"
#: Begins an answer that stands only if the child does not live to give its last one.
_EARLY_MARK = "pytest-cuda2hal-probe-early:"

#: Seconds that a check, and closing a device after a failed one, may take.
SMOKE_DEADLINE = 1.0
#: Seconds without a sign of life after which a child in the smoke stage ends itself, also with Python's lock taken.
_WATCHDOG = SMOKE_DEADLINE + 1.0
#: What :mod:`faulthandler` writes when it ends a process for being late.
_LATE = b"Timeout ("

if TYPE_CHECKING:
    from .hal import Device


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
    #: How many devices of this kind there are on this machine.
    devices: int = 0
    #: The checks of :func:`~.smoke.smoke`, each as a dictionary; empty when no device could be opened.
    smoke: list[dict[str, object]] = field(default_factory=list)

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
        failed = next((check for check in self.smoke if not check["ok"]), None)
        if failed:
            seen = f"FAILED at {failed['name']}: {failed['detail']}"
            lines.append(f"     smoke: {seen}; look at the adapter before believing any verdict")
        elif self.smoke:
            lines.append("     smoke: ok")
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
    # Into files, not pipes: a process that the HAL leaves behind may keep its output open, and does not matter.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = child.wait(deadline)
        if status is None:
            child.kill()
            child.wait()
        printed, said = _contents(out), _contents(err)
    if status is None:  # it may have answered and then hang at its end
        return _answer(printed, "hangs") or Probe(
            spec.text,
            f"backend '{spec}' did not open within {deadline:g} s (${DEADLINE_VARIABLE}); it hangs. Try it alone: "
            f"python -m pytest_cuda2hal probe {spec}",
        )
    ending = _ending(status)
    answer = _answer(printed, "hangs, and keeps Python's lock meanwhile" if _LATE in said else ending)
    if answer is not None:
        return answer
    tail = said.decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
    return Probe(spec.text, f"backend '{spec}' {ending} while it was opened: {tail[0]}")


def _contents(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _answer(output: bytes, ending: str) -> Probe | None:
    """Find the answer in what a child printed; a HAL may print, too.

    :param ending: how the child ended, which explains an answer that was not its last.
    """
    for line in reversed(output.decode(errors="replace").splitlines()):
        if line.startswith(_MARK):
            return Probe(**json.loads(line.removeprefix(_MARK)))
        if line.startswith(_EARLY_MARK):
            return _cut_short(Probe(**json.loads(line.removeprefix(_EARLY_MARK))), ending)
    return None


def _cut_short(answer: Probe, ending: str) -> Probe | None:
    """Return what an early answer is worth: nothing when every check passed and the end came while it was closed."""
    from .smoke import UNFINISHED

    if all(check["ok"] for check in answer.smoke):
        return None
    smoke = [{**check, "detail": ending} if check["detail"] == UNFINISHED else check for check in answer.smoke]
    return replace(answer, smoke=smoke)


def _ending(returncode: int) -> str:
    if returncode < 0:
        return f"crashed ({signal.Signals(-returncode).name})"
    return f"ended its process (exit code {returncode})"


def probe_in_process(resolved: Resolved, tell: Callable[[Probe], object] | None = None) -> Probe:
    """Open the backend here and return what it is; its problem is one line.

    :param tell: called with what is known so far before each step that may end this process.
    """
    from .hal import BackendUnavailable, BadOption
    from .smoke import Check, smoke

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
            devices=device.info.count,
        )
        opened = answer

        def tell_checks(checks: list[Check]) -> Probe:
            so_far = replace(opened, smoke=[asdict(check) for check in checks])
            if tell:
                tell(so_far)
            return so_far

        checks = smoke(device, SMOKE_DEADLINE, tell_checks)
        answer = tell_checks(checks)
        if all(check.ok for check in checks):
            device.close()
        else:
            _close_if_possible(device)
    except Exception as error:  # noqa: BLE001 - the same
        what = f"{type(error).__name__}: {first_line(error)}{_place(error)}"
        return Probe(text, f"backend '{text}' opened, but cannot be asked what it is, or closed: {what}")
    return answer


def _close_if_possible(device: Device) -> None:
    """Close a device that may have unfinished work, where that is defined; a close that hangs is left behind."""
    from .abandonment import abandon
    from .hal import PROFILES

    errors: list[Exception] = []

    def close() -> None:
        try:
            device.close()
        except Exception as error:  # noqa: BLE001 - raised again below, on the right thread
            errors.append(error)

    if PROFILES[device.profile].usual("close-with-pending") is None:
        abandon(device)
        return
    thread = threading.Thread(target=close, name="device.close()", daemon=True)
    thread.start()
    thread.join(SMOKE_DEADLINE)
    if thread.is_alive():
        abandon(device)
    if errors:
        raise errors[0]


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
    count: object = device.info.count
    if not isinstance(count, int) or count < 1:
        return f"says that there are {count!r} devices; it has just opened one"
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
        answer = probe_in_process(Registry().resolve(parse_spec(text)), _tell_early)
    except SpecError as error:
        answer = Probe(text, str(error))
    faulthandler.cancel_dump_traceback_later()
    _print(_MARK, answer)
    if not all(check["ok"] for check in answer.smoke):
        os._exit(0)  # what is left of the device may hang or crash the end of an interpreter


def _tell_early(answer: Probe) -> None:
    """Print an answer, and have the process ended if no other follows: a thread may keep Python's lock for ever."""
    _print(_EARLY_MARK, answer)
    if all(check["ok"] for check in answer.smoke):
        faulthandler.cancel_dump_traceback_later()
    else:
        faulthandler.dump_traceback_later(_WATCHDOG, exit=True)


def _print(mark: str, answer: Probe) -> None:
    # On a line of its own, whatever was printed before.
    print("\n" + mark + json.dumps(asdict(answer)), flush=True)
