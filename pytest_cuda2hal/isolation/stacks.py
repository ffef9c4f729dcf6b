"""Where the threads of another process are, below Python: what the C watchdog cannot tell."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

#: Seconds that a tool may take.
TOOL_DEADLINE = 6.0
#: Threads that are listed from /proc.
_MOST_THREADS = 64


def native_stacks(pid: int) -> str:
    """Return C and Python stacks of every thread of a running process, as far as this machine has the means.

    py-spy or gdb give stacks; without either, Linux says in which system call each thread is. Never raises. The process
    stands still meanwhile.
    """
    for name, command in _tools(pid):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TOOL_DEADLINE, check=False
            )
            text = done.stdout.decode(errors="replace").strip()
            if done.returncode == 0 and text:
                return f"({name})\n{text}"
    return _kernel_view(pid)


def _tools(pid: int) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    scripts = sysconfig.get_path("scripts")
    if py_spy := shutil.which("py-spy", path=os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])):
        found.append(("py-spy", [py_spy, "dump", "--native", "--pid", str(pid)]))
    if gdb := shutil.which("gdb"):
        found.append(("gdb", [gdb, "-nx", "-batch", "-p", str(pid), "-ex", "thread apply all backtrace 32"]))
    return found


def _kernel_view(pid: int) -> str:
    lines = []
    with contextlib.suppress(OSError):
        for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name))[:_MOST_THREADS]:
            facts = {name: _read(task / name) for name in ("comm", "wchan", "syscall")}
            state = _read(task / "stat").rpartition(")")[2].split()[:1]
            lines.append(
                f"thread {task.name} {facts['comm']}: state {''.join(state) or '?'}, in the kernel at "
                f"{facts['wchan'] or '?'}, system call {facts['syscall'].partition(' ')[0] or '?'}"
            )
    if not lines:
        return ""
    return "(no py-spy and no gdb here; what Linux says)\n" + "\n".join(lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
