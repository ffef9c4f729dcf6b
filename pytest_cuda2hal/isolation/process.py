"""A child process that runs cases: started, spoken to, and ended whatever state it is in."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from .output import OutputReader

#: Seconds that a child may take until it has collected its cases.
START_DEADLINE = 120.0
#: Seconds that it may take to end when it is asked to.
END_DEADLINE = 10.0

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pytest_cuda2hal.isolation.child import main; main()"
)


class ChildEnded(Exception):
    """The child ended, or is out of reach."""


class ChildProcess:
    """A fresh interpreter that runs pytest with the given arguments and waits to be told which case to run.

    :raises ChildEnded: it ended before it was ready, or was not ready in time; ``output()`` says what it printed.
    """

    def __init__(self, arguments: dict[str, Any], *, environment: dict[str, str], folder: str, echo: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pytest-cuda2hal-", ignore_cleanup_errors=True)
        self.journal = Path(self._folder.name, "journal")
        self.stacks = Path(self._folder.name, "stacks")
        key, token = secrets.token_bytes(16), secrets.token_hex(8)
        listener = Listener(authkey=key)
        try:
            settings = {
                **arguments,
                "address": listener.address,
                "key": key.hex(),
                "token": token,
                "supervisor": os.getpid(),
                "journal": str(self.journal),
                "stacks": str(self.stacks),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE, json.dumps([str(folder) for folder in sys.path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=folder,
                # Not in this process's group: a signal to the terminal is for the supervisor, which ends its child.
                start_new_session=True,
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            assert self._process.stderr is not None
            with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:  # not where everybody can read it
                stdin.write(json.dumps(settings).encode())
            self._out = OutputReader(self._process.stdout, token, 1 if echo else None)
            self._err = OutputReader(self._process.stderr, token, 2 if echo else None)
            self._connection = self._accept(listener)
        finally:
            listener.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _accept(self, listener: Listener) -> Connection[Any, Any]:
        """Wait for the child to connect; look meanwhile whether it is still there."""
        accepted: list[Connection[Any, Any]] = []

        def accept() -> None:
            with contextlib.suppress(Exception):  # a stranger without the key, or a listener that was closed
                accepted.append(listener.accept())

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        deadline = time.monotonic() + START_DEADLINE
        while thread.is_alive() and time.monotonic() < deadline and self._process.poll() is None:
            thread.join(0.01)
        if not accepted:
            status = self._process.poll()
            how = "it did not start in time" if status is None else f"it ended before it was ready ({ending(status)})"
            self.kill()
            printed = "\n".join(text.strip() for text in (self._out.of_the_last_case(), self._err.of_the_last_case()))
            raise ChildEnded(f"{how}\n{printed.strip()[-4000:]}".rstrip())
        return accepted[0]

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
        try:
            if not self._connection.poll(max(0.0, seconds)):
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

    def end(self) -> int | None:
        """Ask it to end and wait; return its exit status, ``None`` if it had to be killed."""
        with contextlib.suppress(ChildEnded):
            self.send({"end": True})
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
        self._folder.cleanup()


def ending(status: int) -> str:
    """Say how a process ended: a signal's name, or its exit code."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
        return f"signal {-status}"
    return f"exit code {status}"
