"""The zoo is what it says: named, dated, about every part of the contract, and right where a defect does not show."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_cuda2hal.backends.faulty import BACKEND, NAMES, ZOO, Chance, open_faulty
from pytest_cuda2hal.backends.faulty.frame import defect
from pytest_cuda2hal.contract import CLAUSES
from pytest_cuda2hal.hal import BadOption, Device

#: How many defects there must be at least: in all, and over the reference backend; rare showings do not count.
AT_LEAST, OVER_REFERENCE = 60, 42
WHOLE = [name for name in NAMES if ZOO[name].one_in == 1]
OVER_THE_REFERENCE = [name for name in WHOLE if ".over_cuda" not in (ZOO[name].open.__module__ or "")]
FIRST_KILLS = sorted(Path(__file__).parent.glob("first_kills*.json"))


def test_there_are_enough_of_them():
    assert len(WHOLE) >= AT_LEAST
    assert len(OVER_THE_REFERENCE) >= OVER_REFERENCE


def test_names_are_names():
    assert [name for name in NAMES if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)] == []
    assert list(BACKEND.variants) == list(NAMES)


def test_no_two_have_one_name():
    with pytest.raises(ValueError, match=f"two defects are named '{NAMES[0]}'"):
        defect(NAMES[0], happened="nowhere", clauses=("Q-1",))(ZOO[NAMES[0]].open)


@pytest.mark.parametrize("name", WHOLE)
def test_docstring_says_what_where_and_which_clauses(name):
    one = ZOO[name]
    text = one.open.__doc__ or ""
    assert re.fullmatch(r"[A-Z].{20,110}\.", one.summary)
    assert text.startswith(one.summary)
    assert f"Happened in {one.happened}." in text
    assert f"Breaks {', '.join(one.clauses)}." in text


@pytest.mark.parametrize("name", NAMES)
def test_clauses_exist(name):
    assert ZOO[name].clauses
    assert set(ZOO[name].clauses) <= set(CLAUSES)


@pytest.mark.parametrize("name", WHOLE)
def test_it_happened_somewhere_that_can_be_looked_up(name):
    """A commit, an issue, an item of the review of the seed, a case that found it, or the call that is known for it."""
    known = r"\b[0-9a-f]{7,10}\b|#\d+|\bS\d+\b|this project|UpdateCaptures|FailedDealloca|\bcu[A-Z]\w+"
    assert re.search(known, ZOO[name].happened)


def test_every_part_of_the_contract_is_broken():
    broken = {clause.partition("-")[0] for name in WHOLE for clause in ZOO[name].clauses}
    assert broken == {id.partition("-")[0] for id in CLAUSES}


@pytest.mark.parametrize("one_in", [50, 1000])
def test_some_show_rarely(one_in):
    rare = [name for name in NAMES if ZOO[name].one_in == one_in]
    assert len(rare) >= 5
    for name in rare:
        assert name.endswith(f"-1-in-{one_in}")
        assert f"1 time in {one_in:,}" in ZOO[name].summary


@pytest.mark.parametrize("path", FIRST_KILLS, ids=[path.stem for path in FIRST_KILLS])
def test_first_kills_are_of_known_defects(path):
    assert set(json.loads(path.read_text(encoding="utf-8"))) <= set(NAMES)


def test_chance_that_is_certain():
    assert all(Chance().strikes() for _ in range(1000))


def test_chance_follows_from_its_seed():
    def decisions(seed: int) -> list[bool]:
        chance = Chance(5, seed)
        return [chance.strikes() for _ in range(200)]

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


@pytest.mark.parametrize("one_in", [2, 50, 1000])
def test_chance_is_as_often_as_it_says(one_in):
    chance = Chance(one_in)
    strikes = sum(chance.strikes() for _ in range(100 * one_in))
    assert 60 <= strikes <= 140  # four standard deviations


def test_chance_may_be_asked_by_many_threads():
    alone, shared = Chance(7), Chance(7)
    struck: list[bool] = []
    threads = [threading.Thread(target=lambda: struck.extend(shared.strikes() for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(struck) == sum(alone.strikes() for _ in range(8000))


def test_one_in_is_at_least_one():
    with pytest.raises(BadOption, match="at least 1"):
        open_faulty(variant=NAMES[0], one_in=0)


def used(device: Device) -> bytes:
    """Use a little of everything, as the reference backend lets one, and return what was computed."""
    try:
        semaphore, seen = device.create_semaphore(), device.create_semaphore()
        buffer, copy = device.allocate_buffer(64), device.allocate_buffer(64)
        taken = device.queue_alloca(64, wait=[semaphore @ 1], signal=[semaphore @ 2])
        device.queue_fill(taken, b"\1\2", wait=[semaphore @ 2], signal=[semaphore @ 3])
        device.queue_copy(taken, buffer, wait=[semaphore @ 3], signal=[semaphore @ 4], queue=1)
        device.queue_update(buffer, b"abc", offset=3, wait=[semaphore @ 4], signal=[semaphore @ 5])
        device.queue_dealloca(taken, wait=[semaphore @ 5], signal=[semaphore @ 6])
        recorded = device.create_command_buffer([])
        device.queue_execute(recorded, wait=[semaphore @ 6], signal=[semaphore @ 7])
        device.queue_copy(buffer, copy, wait=[semaphore @ 6, semaphore @ 7], signal=[semaphore @ 8])
        device.queue_host_call(lambda: seen.signal(5), wait=[semaphore @ 8], signal=[semaphore @ 9])
        semaphore.signal(1)
        device.wait_semaphores([semaphore @ 9, seen @ 5], timeout=20)
        return copy.read()
    finally:
        device.close()


@pytest.mark.parametrize("name", OVER_THE_REFERENCE)
def test_nothing_is_wrong_while_the_chance_does_not_strike(name):
    """So every defect asks its chance, before it does anything else."""
    expected = bytearray(b"\1\2" * 32)
    expected[3:6] = b"abc"
    assert used(open_faulty(variant=name, one_in=10**12)) == expected


def test_what_a_defect_is_not_about_passes(tmp_path):
    """A bystander: signals and queries of the host, on devices that are wrong elsewhere."""
    names = ["alloca-blocks", "fault-never-signals", "close-leaves-who-waits", "command-list-by-reference"]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "pytest_cuda2hal.cts.timeline.test_values"),
            *("-p", "no:cacheprovider", "-q", f"--backend={','.join(f'faulty:{name}' for name in names)}"),
        ],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\d\d+ passed", run.stdout)
