"""The fault loop finds nothing on the CUDA backend, and something on backends that a failing call breaks."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_cuda2hal.backends.faulty.failing_calls import ERRORS, Plan, open_with
from pytest_cuda2hal.hal import BackendUnavailable, HalError

TOOL = Path(__file__).parents[2] / "tools" / "fault_loop.py"
ONE = "test_joins::test_host_and_device_to_device"


def run_loop(folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the tool; return its status, its report and what it printed."""
    run = subprocess.run(
        [sys.executable, str(TOOL), f"--output={folder}", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(TOOL.parent)])},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    return run.returncode, json.loads((folder / "faults.json").read_text()), run.stdout + run.stderr


def test_whatever_call_fails_nothing_hangs_or_leaks(tmp_path: Path) -> None:
    status, report, output = run_loop(tmp_path, "--trials=60", "--seed=1")
    assert report["findings"] == [], output
    assert status == 0, output
    assert report["trials"] == 60, output
    assert "Nothing hung" in (tmp_path / "faults.md").read_text()


@pytest.mark.parametrize(("opener", "kind"), [("loses_signals", "lost signal"), ("leaks", "leak"), ("hangs", "hang")])
def test_a_backend_that_a_failing_call_breaks_is_convicted(tmp_path: Path, opener: str, kind: str) -> None:
    arguments = [f"--backend=broken_when_failing:{opener}", f"--select={ONE}", "--error=CUDA_ERROR_UNKNOWN", "--first"]
    status, report, output = run_loop(tmp_path, *arguments)
    assert status == 1, output
    assert kind in {finding["kind"] for finding in report["findings"]}, output
    for finding in report["findings"]:
        assert "--n=" in finding["again"]
        assert finding["again"].endswith(f"--backend=broken_when_failing:{opener}")


def test_several_processes_share_the_work(tmp_path: Path) -> None:
    """Each call fails once with each error, whoever does it, and nobody does what another does."""
    status, report, output = run_loop(tmp_path, "--select=timeline/test_values::test_signal_sets_the_value", "--jobs=3")
    assert status == 0, output
    assert report["cases"] == 1
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()[1:]]
    tried = [(one["error"], one["times"], one["n"]) for one in lines]
    assert len(tried) == len(set(tried))
    assert output.count("no tests ran in") == 3  # what pytest says in each process
    kinds = {(error, times) for error, times, _ in tried}
    assert len(kinds) == 5
    for kind in kinds:
        numbers = sorted(n for error, times, n in tried if (error, times) == kind)
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 10


def test_lines_that_were_cut_short_are_tried_again(tmp_path: Path) -> None:
    case = "timeline/test_values::test_signal_sets_the_value"
    progress = tmp_path / "progress.jsonl"
    arguments = (f"--select={case}", "--error=CUDA_ERROR_INVALID_VALUE")
    _, first, _ = run_loop(tmp_path, *arguments)
    text = progress.read_text()
    progress.write_text(text[: text.rindex('"problems"')])
    status, second, output = run_loop(tmp_path, *arguments)
    assert status == 0, output
    assert second["trials"] == first["trials"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs=0"], "--jobs is at least 1, not 0"),
        (["--minutes=-1"], "--minutes is at least 0, not -1.0"),
        (["--minutes=nan"], "--minutes is at least 0, not nan"),
        (["--n=-1"], "--n is at least 0, not -1"),
        (["--times=-5", "--error=CUDA_ERROR_UNKNOWN"], "--times is at least 0, not -5"),
        (["--trials=-1"], "--trials is at least 0, not -1"),
        (["--from=/nowhere/trials.json"], "No such file or directory"),
        (["--keep-older", "--first"], "--keep-older is for the whole"),
        ([f"--from={__file__}"], "it holds a JSON list of [case, n, error, times]"),
    ],
)
def test_what_is_refused_touches_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, str(TOOL), f"--output={tmp_path / 'kept'}", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert message in run.stderr
    assert not (tmp_path / "kept").exists()


def test_trials_of_a_file(tmp_path: Path) -> None:
    """Those and no others, also where somebody noted what they reach."""
    case = "timeline/test_values::test_signal_sets_the_value"
    trials = [[case, 3, "CUDA_ERROR_UNKNOWN", 1], [case, 2, "CUDA_ERROR_INVALID_VALUE", 0]]
    given = tmp_path / "trials.json"
    given.write_text(json.dumps(trials))
    status, report, output = run_loop(tmp_path, f"--from={given}")
    assert status == 0, output
    assert report["trials"] == 2
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()[1:]]
    assert [[one["case"], one["n"], one["error"], one["times"]] for one in lines if one["n"]] == trials


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (tmp_path / "progress.jsonl").open("a") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        command = [sys.executable, str(TOOL), f"--output={tmp_path}"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "another run writes into" in run.stderr


def test_what_is_out_of_time_is_a_part(tmp_path: Path) -> None:
    status, report, output = run_loop(tmp_path, "--minutes=0", "--jobs=1")
    assert status == 0, output
    assert report["trials"] == 0
    assert report["extent"].startswith("a part so far")
    assert "Nothing was tried" in (tmp_path / "faults.md").read_text()


def test_what_was_interrupted_is_resumed(tmp_path: Path) -> None:
    case = "timeline/test_values::test_signal_sets_the_value"
    status, first, output = run_loop(tmp_path, f"--select={case}")
    assert status == 0, output
    progress = tmp_path / "progress.jsonl"
    lines = progress.read_text().splitlines()
    progress.write_text("\n".join(lines[:-3]) + "\n")
    status, second, output = run_loop(tmp_path, f"--select={case}")
    assert status == 0, output
    assert second["trials"] >= first["trials"] - 3
    assert len(progress.read_text().splitlines()) <= len(lines) + 3


def test_what_was_tried_on_other_code_is_tried_again(tmp_path: Path) -> None:
    progress = tmp_path / "progress.jsonl"
    found = {
        "case": "x::y",
        "n": 1,
        "error": "CUDA_ERROR_UNKNOWN",
        "times": 1,
        "call": ["cuInit"],
        "problems": ["hang"],
    }
    progress.write_text(json.dumps({"code": "of yesterday"}) + "\n" + json.dumps(found) + "\n")
    status, report, output = run_loop(tmp_path, "--minutes=0", "--jobs=1")
    assert status == 0, output
    assert "begins anew" in output
    assert report["findings"] == []
    assert len(progress.read_text().splitlines()) == 1


def test_what_was_tried_on_earlier_code_counts_if_one_says_so(tmp_path: Path) -> None:
    case = "timeline/test_values::test_signal_sets_the_value"
    arguments = (f"--select={case}", "--error=CUDA_ERROR_UNKNOWN", "--jobs=1")
    status, first, output = run_loop(tmp_path, *arguments)
    assert status == 0, output
    progress = tmp_path / "progress.jsonl"
    header, *lines = progress.read_text().splitlines()
    older = json.dumps(json.loads(header) | {"code": "of yesterday"})
    one = json.loads(lines[0])
    assert one["call"]
    lines[0] = json.dumps(one | {"problems": ["hang: once"]})
    beyond = json.dumps(one | {"n": 9000, "problems": ["hang: there is no such call any more"]})
    as_it_is = json.dumps(one | {"n": 0, "error": "", "call": [], "problems": ["hang: with no failing call"]})
    progress.write_text("\n".join([older, *lines, beyond, as_it_is]) + "\n")
    status, second, output = run_loop(tmp_path, *arguments, "--keep-older")
    assert status == 0, output
    assert second["trials"] == first["trials"]
    assert second["of_earlier_code"] == first["trials"] - 1  # what had found something is tried again
    assert "of earlier code is not tried again" in output
    assert second["findings"] == []
    assert "were made with earlier code" in (tmp_path / "faults.md").read_text()
    progress.write_text(progress.read_text().replace('"backend": "', '"backend": "another.'))
    status, third, output = run_loop(tmp_path, "--minutes=0", "--jobs=1", "--keep-older")
    assert "begins anew" in output
    assert third["trials"] == 0


@pytest.mark.parametrize("error", ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_UNKNOWN", "CUDA_ERROR_ILLEGAL_ADDRESS"])
@pytest.mark.parametrize("completion", ["event", "host-function"])
def test_every_call_of_opening_fails_once(error: str, completion: str) -> None:
    n = refused = 0
    while True:
        n += 1
        plan = Plan(n, ERRORS[error], opening=True)
        try:
            device = open_with(plan, completion=completion)
        except (HalError, BackendUnavailable):
            refused += 1
        else:
            plan.paused = True  # closing is the fault loop's business
            device.close()
        [driver] = plan.drivers
        end = time.monotonic() + 5
        while driver.contexts and time.monotonic() < end:
            time.sleep(0.001)  # the completers that had begun take down what there is
        assert driver.contexts == {}, (n, plan.failed)
        if not plan.is_sticky:
            assert driver.violations == [], (n, plan.failed)
        if not plan.failed:
            break
    assert refused == n - 1  # each of them matters
