"""Run the commands whose output the documentation shows, and keep the output in ``docs/captured/``.

Not part of a build: run it, with IREE installed, when messages or results have changed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "pytest --pyargs pytest_cuda2hal.cts"
FAILING = "test_work_waits_for_the_host"
HANGING = "consumer_submitted_before_its_producer"

#: Name -> command.
CAPTURES = {
    "reference": f"{SUITE} --backend=reference -q",
    "iree": f"{SUITE} --backend=iree:local-task -q --tb=no",
    "failure": f"{SUITE} --backend=saboteurs:open_saboteur:clause=Q-1 -k {FAILING} --tb=short",
    "hang": f"{SUITE} --backend=forgetful:open_forgetful -k {HANGING} --tb=short --hal-deadline=2",
    "crash": f"{SUITE}.transfers --backend=imperfect_hal:ImperfectDevice -k copy-source-far-away --tb=short",
    "minimal": f"{SUITE}.transfers --backend=minimal_backend:HostDevice -q",
    "list-backends": "pytest --list-backends",
    "misspelt": f"{SUITE} --backend=refrence",
    "bad-option": f"{SUITE} --backend=reference:queue=2",
}


def capture(command: str) -> str:
    """Run a command and return it and its output, less what belongs to this machine."""
    program, *arguments = shlex.split(command)
    if program == "pytest":
        arguments = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments]
    with tempfile.TemporaryDirectory() as empty:
        Path(empty, "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=empty,
            env={
                **os.environ,
                "COLUMNS": "80",
                "PYTHONPATH": os.pathsep.join(
                    str(ROOT / folder) for folder in ("tests", "tests/plugin", "docs/examples")
                ),
                "PYTHONSAFEPATH": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    text = done.stdout.replace(f"{ROOT}/", "").replace(str(ROOT), ".")
    text = re.sub(
        r"^(platform|rootdir|configfile|plugins|cachedir|using --randomly|testpaths).*\n", "", text, flags=re.MULTILINE
    )
    text = re.sub(r"/tmp/\S*?(pytest-cuda2hal-)\w+", r"/tmp/\1…", text)
    text = re.sub(r"\(See full trace.*\n|^\n(?=\n)", "", text, flags=re.MULTILINE)
    return f"$ {command}\n{text.strip()}\n"


def main() -> None:
    for name in sys.argv[1:] or CAPTURES:
        target = ROOT / "docs" / "captured" / f"{name}.txt"
        target.parent.mkdir(exist_ok=True)
        text = capture(CAPTURES[name])
        if name == "iree":  # the stacks of a crash are long and say nothing to the reader of a manual
            command, _, rest = text.partition("\n")
            text = f"{command}\n…\n{rest[re.search(r'^=+ HAL conformance', rest, re.MULTILINE).start() :]}"
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
