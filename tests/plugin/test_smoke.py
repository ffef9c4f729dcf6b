"""What the smoke stage says of an adapter, before any case: by the name of what went wrong, and never for long."""

from __future__ import annotations

import threading
import time
from typing import ClassVar

import odd_backends
import pytest

from pytest_cuda2hal.hal import Backend, Capability, Device
from pytest_cuda2hal.probe import probe, probe_in_process
from pytest_cuda2hal.registry import Resolved, parse_spec
from pytest_cuda2hal.smoke import BUDGET, Check, first_failure, smoke

#: A run that asks the backend nothing itself, so that what is said comes from the stage.
CASE = "def test_it(hal_backend): ..."
CHECKS = ["semaphore", "signal", "wait", "wait that times out", "submission", "buffer", "copy", "query after"]


def in_process(device_class, name="odd"):
    """Probe a backend in this process, as one that a hook registered is."""
    backend = Backend(name, "an odd one", device_class)
    return probe_in_process(Resolved(parse_spec(name), backend, {}))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "CopiesNothing",
            "copy: after a copy and its signal the target is not as the source: byte 1 is 0x00, not 0x01",
        ),
        ("WaitsForEver", "wait: did not return within 1 s"),
        ("Crashing", "submission: crashed (SIGSEGV)"),
        ("HoldsTheLock", "submission: hangs, and keeps Python's lock meanwhile"),
        ("Quitting", "submission: ended its process (exit code 5)"),
        ("Hasty", "wait that times out: a wait for a value that nobody signaled returned as if it were reached"),
        ("RaisesInCopy", "copy: LookupError: no such queue"),
        ("NeverDone", "submission: HalError: DEADLINE_EXCEEDED: 1 is not reached"),
    ],
)
def test_the_header_says_where_an_adapter_goes_wrong_and_the_run_goes_on(suite, name, says):
    begin = time.monotonic()
    result = suite.case(CASE).run(f"--backend=odd_backends:{name}")
    result.assert_outcomes(passed=1)
    lines = [line for line in result.outlines if "smoke:" in line]
    assert lines == [f"     smoke: FAILED at {says}; look at the adapter before believing any verdict"]
    assert time.monotonic() - begin < BUDGET + 5, "the stage is bounded, and so is closing what it left"


@pytest.mark.parametrize("spec", ["minimal_backend:HostDevice", "reference", "cuda-sim"])
def test_the_header_of_a_good_adapter_says_so_in_a_word(suite, spec):
    result = suite.case(CASE).run(f"--backend={spec}")
    result.assert_outcomes(passed=1)
    assert [line for line in result.outlines if "smoke" in line] == ["     smoke: ok"]


def test_every_check_has_its_place_in_the_answer():
    good = probe(parse_spec("minimal_backend:HostDevice"))
    assert [check["name"] for check in good.smoke] == CHECKS
    assert all(check == {"name": check["name"], "ok": True, "detail": ""} for check in good.smoke)
    hanging = probe(parse_spec("odd_backends:WaitsForEver"))
    assert hanging.available
    assert [check["ok"] for check in hanging.smoke] == [True, True, *[False] * 6]
    assert {check["detail"] for check in hanging.smoke[3:]} == {"not tried: 'wait' did not return"}
    crashed = probe(parse_spec("odd_backends:Crashing"))
    assert crashed.available
    assert [check["name"] for check in crashed.smoke] == CHECKS[:5], "what came before the crash is known"


def test_a_crash_while_a_good_adapter_is_closed_is_still_a_problem():
    answer = probe(parse_spec("odd_backends:CrashesAtTheEnd"))
    assert answer.problem.startswith("backend 'odd_backends:CrashesAtTheEnd' crashed (SIGSEGV) while it was opened")
    assert not answer.smoke


def test_a_probe_that_hangs_in_the_stage_beyond_the_deadline_of_probes_has_answered(monkeypatch):
    monkeypatch.setenv("PYTEST_HAL_PROBE_DEADLINE", "1.5")
    answer = probe(parse_spec("odd_backends:HoldsTheLock"))
    failed = next(check for check in answer.smoke if not check["ok"])
    assert (failed["name"], failed["detail"]) == ("submission", "hangs")


def test_backends_of_a_hook_are_asked_too(suite):
    result = suite.hooked().case(CASE).run("--backend=minimal,deaf")
    result.assert_outcomes(passed=2)
    smoke_lines = [line for line in result.outlines if "smoke:" in line]
    assert smoke_lines[0] == "     smoke: ok"
    assert smoke_lines[1].startswith("     smoke: FAILED at wait: HalError: DEADLINE_EXCEEDED: nothing heard; ")


def test_a_device_that_failed_a_check_and_cannot_be_closed_is_left_behind():
    """In this process there is nobody to end it: closing has a deadline too."""
    answers = []
    prober = threading.Thread(target=lambda: answers.append(in_process(odd_backends.NeverDone)), daemon=True)
    prober.start()
    prober.join(BUDGET + 5)
    assert answers, "the probe hangs"
    assert answers[0].available
    assert answers[0].lines()[-1].startswith("     smoke: FAILED at submission: ")


@pytest.mark.parametrize(("profile", "closed"), [("strict", 1), ("iree", 0)])
def test_a_device_that_failed_a_check_is_closed_where_that_is_defined(profile, closed):
    class Broken(odd_backends.CopiesNothing):
        closings: ClassVar[list[int]] = []

        def close(self):
            self.closings.append(1)

    Broken.profile = profile
    answer = in_process(Broken)
    assert answer.available
    assert len(Broken.closings) == closed


@pytest.mark.parametrize(("name", "devices"), [("HostDevice", 1), ("TwoOfAKind", 2)])
def test_a_probe_says_how_many_devices_there_are(name, devices):
    assert in_process(getattr(odd_backends, name)).devices == devices


def test_a_count_that_makes_no_sense_is_a_problem():
    assert in_process(odd_backends.NoneOfAKind).problem.endswith(
        "says that there are 0 devices; it has just opened one"
    )


# --- the stage itself


def test_slow_checks_do_not_add_up(monkeypatch):
    """Each takes most of its time and none hangs: what is left when the budget is over is not tried."""
    monkeypatch.setattr("pytest_cuda2hal.smoke.BUDGET", 0.6)

    class Slow(odd_backends.HostDevice):
        def create_semaphore(self, initial_value=0):
            time.sleep(0.15)  # what a slow HAL does
            return super().create_semaphore(initial_value)

    begin = time.monotonic()
    checks = smoke(Slow(), deadline=10.0)
    assert time.monotonic() - begin < 1.0
    assert [check.name for check in checks] == CHECKS
    assert checks[0].ok
    assert checks[-1] == Check("query after", False, "not tried: all checks together have 0.6 s")


def test_whoever_watches_hears_of_each_check_before_it_begins():
    heard: list[list[Check]] = []
    checks = smoke(odd_backends.HostDevice(), before=heard.append)
    assert [told[-1].name for told in heard] == CHECKS
    assert not any(told[-1].ok for told in heard)
    assert [told[:-1] for told in heard] == [checks[:number] for number in range(len(checks))]
    assert first_failure(checks) is None


def test_the_stage_asks_for_no_capability():
    """What a device need not have, it is not asked for."""
    asked: list[str] = []

    class Bare(odd_backends.HostDevice):
        capabilities: frozenset[Capability] = frozenset()

    def refuse(name):
        def method(self, *arguments, **options):
            asked.append(name)
            raise AssertionError(name)

        return method

    needed = {"create_semaphore", "allocate_buffer", "queue_execute", "close"}
    public = [name for name in dir(Device) if not name.startswith("_") and callable(getattr(Device, name))]
    for name in set(public) - needed:
        setattr(Bare, name, refuse(name))
    assert all(check.ok for check in smoke(Bare()))
    assert asked == []
