"""One queue: a thread that runs ready submissions, one at a time."""

from __future__ import annotations

import bisect
import random
import threading
from queue import SimpleQueue

from .submission import Submission


class ReferenceQueue:
    """Runs what is ready, in the order in which it became ready or, with a seed, in any.

    The worker thread knows its inbox and nothing else, so it keeps no device alive: when the last handle is dropped,
    the device goes and its finalizer stops the worker. ``SimpleQueue`` because its ``put`` is safe in a finalizer.
    """

    def __init__(self, index: int, seed: int | None, *, in_order: bool) -> None:
        self.inbox: SimpleQueue[Submission | None] = SimpleQueue()
        choice = None if seed is None else random.Random(f"{seed}/{index}")
        self.thread = threading.Thread(
            target=work_off, args=(self.inbox, choice, in_order), name=f"hal-queue-{index}", daemon=True
        )
        self.thread.start()

    def ready(self, submission: Submission) -> None:
        """Hand over a submission whose waits are all reached."""
        self.inbox.put(submission)

    def stop(self) -> None:
        """Ask the worker to end after what it is running; may be called in a finalizer."""
        self.inbox.put(None)


def work_off(inbox: SimpleQueue[Submission | None], choice: random.Random | None, in_order: bool) -> None:
    """The worker thread: take what is ready, pick one, run it, until told to stop."""
    ready: list[Submission] = []
    while True:
        while not ready or not inbox.empty():
            submission = inbox.get()
            if submission is None:
                return
            if in_order:
                bisect.insort(ready, submission, key=lambda one: one.serial)
            else:
                ready.append(submission)
            del submission  # while the worker sleeps in get(), it must not keep finished work alive
        ready.pop(choice.randrange(len(ready)) if choice and not in_order else 0).run()
