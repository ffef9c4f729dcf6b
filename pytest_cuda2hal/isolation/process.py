"""A child process that runs cases: started, spoken to, and ended whatever state it is in."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .output import OutputReader

#: Seconds that a child may take until it has collected its cases.
START_DEADLINE = 120.0
#: Seconds that it may take to end when it is asked to.
END_DEADLINE = 10.0

#: Where there is a file system in memory, with so many bytes to spare, the journal lies there: each page of it that
#: goes to a disk holds its writer up.
_SHARED_MEMORY, _SPARE = "/dev/shm", 2**26

#: Seconds between two looks at whether the child is still there.
_SLICE = 0.2

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pytest_cuda2hal.isolation.child import main; main()"
)


class ChildEnded(Exception):
    """The child ended, or is out of reach."""


class ChildProcess:
    """A fresh interpreter that, once it is instructed, runs pytest and waits to be told which case to run.

    The connection is a pair of sockets, inherited by descriptor, so nothing of it has a name that others could use.

    :raises OSError: no process or socket can be had.
    """

    def __init__(self, *, environment: dict[str, str], folder: str, echo: bool, journal: bool) -> None:
        self.environment, self.path = environment, list(sys.path)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._kept: list[int] = []
        self._keeps_journal = journal
        #: Files that it writes, once it is instructed; of the journal only where one is kept.
        self.journal = self.stacks = Path(os.devnull)
        self.is_instructed = self._is_asked_to_end = False
        self._token = token = secrets.token_hex(8)
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _CODE, json.dumps([str(folder) for folder in sys.path])),
                    *(str(theirs.fileno()), str(os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=folder,
                pass_fds=[theirs.fileno()],
                # Not in this process's group: a signal to the terminal is for the supervisor, which ends its child.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._connection: Connection[Any, Any] = Connection(ours.detach())
        self._arrivals = select.poll()  # the connection's own poll() makes a new one each time, which takes a while
        self._arrivals.register(self._connection.fileno(), select.POLLIN)
        self._out = OutputReader(self._process.stdout, token, 1 if echo else None)
        self._err = OutputReader(self._process.stderr, token, 2 if echo else None)

    def instruct(self, arguments: dict[str, Any]) -> None:
        """Let it begin, with arguments for pytest and what else it has to know.

        :raises OSError: no folder can be had.
        """
        self._folder = tempfile.TemporaryDirectory(
            prefix="pytest-cuda2hal-", dir=_quick_folder(), ignore_cleanup_errors=True
        )
        if self._keeps_journal:
            self.journal = Path(self._folder.name, "journal")
        self.stacks = Path(self._folder.name, "stacks")
        self.is_instructed = True
        with contextlib.suppress(ChildEnded):  # who asks what it says will see that it has ended
            self.send(
                {
                    **arguments,
                    "token": self._token,
                    "journal": str(self.journal) if self._keeps_journal else None,
                    "stacks": str(self.stacks),
                }
            )

    def keep_files(self) -> None:
        """Keep journal and stacks without names, so that nothing stays of them whatever ends this process.

        Called once the child has both open.
        """
        self._kept = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (self.journal, self.stacks)]
        self.journal, self.stacks = (Path(f"/dev/fd/{descriptor}") for descriptor in self._kept)
        self._remove_folder()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, whatever may still hold its connection open."""
        return self._process.poll() is not None

    def send(self, message: dict[str, Any]) -> None:
        """Tell it something.

        :raises ChildEnded: nobody is there.
        """
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise ChildEnded(str(error)) from None

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Return what it says next, or ``None`` if it says nothing for so long.

        :raises ChildEnded: it has ended.
        """
        deadline = time.monotonic() + seconds
        try:
            # In slices: a process that the HAL has forked may keep the connection open beyond the end of the child.
            while not self._arrivals.poll(1000 * max(0.0, min(_SLICE, deadline - time.monotonic()))):
                if self.has_ended and not self._arrivals.poll(0):
                    raise ChildEnded("it has ended")
                if time.monotonic() >= deadline:
                    return None
            message: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise ChildEnded(str(error)) from None
        return message

    def output(self, *, ended: bool) -> tuple[str, str]:
        """Return what the case that is over, or during which the child ended, printed on both streams."""
        if ended:
            return self._out.of_the_last_case(), self._err.of_the_last_case()
        return self._out.of_this_case(), self._err.of_this_case()

    def written_stacks(self) -> str:
        """Return the Python stacks that the child's interpreter wrote when it crashed or its watchdog rang."""
        try:
            return self.stacks.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def wait(self, seconds: float) -> int | None:
        """Return its exit status once it has ended, or ``None`` if it has not by then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(0.0, seconds))
        return None

    def kill(self) -> int:
        """End it and whatever it started; return its exit status."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        return self._process.wait()

    def ask_to_end(self) -> None:
        """Ask it to end."""
        if not self._is_asked_to_end:
            self._is_asked_to_end = True
            with contextlib.suppress(ChildEnded):
                self.send({"end": True})

    def end(self) -> int | None:
        """Ask it to end and wait; return its exit status, ``None`` if it had to be killed."""
        self.ask_to_end()
        deadline = time.monotonic() + END_DEADLINE
        with contextlib.suppress(ChildEnded):
            while time.monotonic() < deadline and self.receive(deadline - time.monotonic()):
                pass
        status = self.wait(deadline - time.monotonic())
        self.kill()
        return status

    def close(self) -> None:
        """Give back everything here; the child has ended."""
        self._connection.close()
        self._remove_folder()
        for descriptor in self._kept:
            os.close(descriptor)
        self._kept = []

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _quick_folder() -> str | None:
    """Return where a journal costs its writer least, ``None`` for where temporary files belong."""
    if os.environ.get("TMPDIR"):  # somebody has said where
        return None
    with contextlib.suppress(OSError):
        if os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free >= _SPARE:
            return _SHARED_MEMORY
    return None


def ending(status: int) -> str:
    """Say how a process ended: a signal's name, or its exit code."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
        return f"signal {-status}"
    return f"exit code {status}"
