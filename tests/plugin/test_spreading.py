"""Several devices of one kind: which of them a pytest-xdist worker uses, and what it is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from imperfect_backends import DEVICES_VARIABLE, PAIR_VARIABLE

from pytest_cuda2hal.probe import Probe
from pytest_cuda2hal.spreading import INPUT, choose_here, device_choices, environment_for

CASES = f"""
    import os
    import pytest
    from pathlib import Path

    @pytest.mark.parametrize("number", range(12))
    def test_it(hal_device, number):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "none")
        with Path("chosen").open("a") as file:
            file.write(f"{{worker}}={{os.environ.get('{DEVICES_VARIABLE}')}}={{hal_device.info.count}}\\n")
"""


@pytest.fixture(autouse=True)
def _none_chosen(monkeypatch):
    for name in (DEVICES_VARIABLE, PAIR_VARIABLE):
        monkeypatch.setenv(name, "")  # so that it is as it was in the end, whatever a test makes of it
        monkeypatch.delenv(name)


def worker(number, **choices):
    """Return the configuration of a worker that was told of these choices."""
    return SimpleNamespace(workerinput={"workerid": f"gw{number}", INPUT: choices})


def values(*listed, variable=DEVICES_VARIABLE):
    return {"variable": variable, "values": list(listed)}


def test_choices_are_the_devices_that_were_counted():
    probes = [Probe("several", devices=4), Probe("one", devices=1), Probe("plain", devices=4), Probe("none", "broken")]
    choices = device_choices(probes, {"several": DEVICES_VARIABLE, "one": DEVICES_VARIABLE, "plain": ""})
    assert choices == {"several": values("0", "1", "2", "3")}


@pytest.mark.parametrize(
    ("preset", "count", "expected"),
    [
        ("2,3", 2, ["2", "3"]),
        (" 3 , 2 ", 2, ["3", "2"]),
        ("GPU-8a1f,GPU-9b2e,", 2, ["GPU-8a1f", "GPU-9b2e"]),
        ("", 2, ["0", "1"]),
        ("2,3,9", 2, ["2", "3"]),  # CUDA ignores what comes after the first that is not there
    ],
)
def test_devices_that_the_caller_chose_are_the_choices(monkeypatch, preset, count, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", preset)
    choices = device_choices([Probe("cuda", devices=count)], {"cuda": "CUDA_VISIBLE_DEVICES"})
    assert choices == {"cuda": values(*expected, variable="CUDA_VISIBLE_DEVICES")}


def test_one_device_that_the_caller_chose_stays_chosen(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert device_choices([Probe("cuda", devices=1)], {"cuda": "CUDA_VISIBLE_DEVICES"}) == {}


def test_workers_take_turns():
    chosen = [environment_for(worker(number, several=values("2", "3")), "several") for number in range(5)]
    assert [one[DEVICES_VARIABLE] for one in chosen] == ["2", "3", "2", "3", "2"]


@pytest.mark.parametrize(
    "config",
    [
        SimpleNamespace(),
        SimpleNamespace(workerinput={}),
        SimpleNamespace(workerinput={"workerid": "gw1"}),
        SimpleNamespace(workerinput={"workerid": "hal0", INPUT: {"several": values("2", "3")}}),
        worker(1, other=values("2", "3")),
    ],
)
def test_whoever_is_told_nothing_chooses_nothing(config):
    assert environment_for(config, "several") == {}


def test_choice_is_made_in_the_environment(monkeypatch):
    import os

    choose_here(worker(1, a=values("2", "3"), b=values("7", "8", variable=PAIR_VARIABLE)), ["a", "b", "c"])
    assert os.environ[DEVICES_VARIABLE] == "3"
    assert os.environ[PAIR_VARIABLE] == "8"


def chosen():
    """Return which devices each worker used, and how many it saw."""
    found: dict[str, set[tuple[str, str]]] = {}
    for line in Path("chosen").read_text().splitlines():
        name, device, count = line.split("=")
        found.setdefault(name, set()).add((device, count))
    Path("chosen").unlink()
    return found


@pytest.mark.parametrize("isolated", [(), ("--isolate",)])
@pytest.mark.parametrize("preset", ["", "5,7"])
def test_workers_are_spread_over_the_devices(suite, monkeypatch, preset, isolated):
    """Three workers and four devices, or the two that the caller chose."""
    if preset:
        monkeypatch.setenv(DEVICES_VARIABLE, preset)
    suite.case(CASES)
    arguments = ("--backend=imperfect_backends:SEVERAL", "-n", "3", *isolated)
    result = suite.run_child(*arguments)
    assert result.ret == 0, result.stdout.str()
    result.assert_outcomes(passed=12)
    devices = preset.split(",") if preset else ["0", "1", "2", "3"]
    found = chosen()
    assert len(found) > 1
    for name, seen in found.items():
        number = int(name.removeprefix("gw"))
        assert seen == {(devices[number % len(devices)], "1")}


def test_backend_of_a_hook_is_spread_too(suite):
    suite.pytester.makeconftest("from imperfect_backends import SEVERAL\ndef pytest_hal_backends(): return SEVERAL\n")
    assert suite.case(CASES).run_child("--backend=several", "-n", "3").ret == 0
    found = chosen()
    assert {name: device for name, ((device, _),) in ((n, tuple(s)) for n, s in found.items())}.items() <= {
        "gw0": "0",
        "gw1": "1",
        "gw2": "2",
    }.items()


@pytest.mark.parametrize("isolated", ["--no-isolate", "--isolate"])
def test_run_without_workers_leaves_the_devices_to_the_backend(suite, isolated):
    assert suite.case(CASES).run_child("--backend=imperfect_backends:SEVERAL", isolated).ret == 0
    assert {pair for seen in chosen().values() for pair in seen} == {("None", "4")}


def test_backend_without_a_variable_is_not_spread(suite):
    suite.case(CASES)
    assert suite.run_child("--backend=imperfect_backends:Several", "-n", "2").ret == 0
    assert {pair for seen in chosen().values() for pair in seen} == {("None", "4")}
