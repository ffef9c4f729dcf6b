"""The device: one thread that runs whatever may run next, and one that calls host functions.

Everything here is touched under ``lock``, the lock of the whole simulated driver. Nothing is scanned: a stream whose
head cannot run is put back by what it waits for; only words in memory are polled, while a stream waits for one.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from queue import SimpleQueue

from .enums import CUresult
from .handles import BLOCKED, IDLE, READY, RUNNING, Clock, CUcontext, CUhostFn, CUstream
from .operations import AWAY, DONE, DeviceFault, Operation, Record

#: How often a word is looked at that a stream waits for, in seconds: at first, and after a while. A look costs a
#: sleeping thread up to 50 us, nearly all of it the sleep's.
POLL = 0.0002
POLL_LATER = 0.001
#: While other streams keep the thread busy: after how many operations.
POLL_EVERY = 8


class ThreadState(threading.local):
    """What the driver keeps for each thread."""

    context: CUcontext | None = None
    in_host_function = False


class Engine:
    """The scheduler. With a seed it picks any stream that can go on, without one each in turn."""

    def __init__(self, seed: int | None, *, manual: bool) -> None:
        self.lock = threading.Lock()
        self.thread_state = ThreadState()
        self.manual = manual
        #: Signaled when a launch slot came free, and when a context was lost.
        self.slots = threading.Condition(self.lock)
        #: The thread that is blocked for want of a launch slot.
        self.jammed: int | None = None
        self._random = None if seed is None else random.Random(seed)
        self._ready: deque[CUstream] = deque()
        self._polled: dict[CUstream, None] = {}
        self._wake = threading.Lock()
        self._wake.acquire()
        self._asleep = False
        self._running = False
        self._returned = threading.Condition(self.lock)
        self._calls: SimpleQueue[tuple[CUstream, CUhostFn, int | None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    # --- life

    def start(self) -> None:
        """Start the threads, where they are not running. They keep the engine alive until :meth:`stop`."""
        if self._running:
            return
        self._running = True
        self._asleep = False
        self._calls = SimpleQueue()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._threads = [threading.Thread(target=self._call_host_functions, args=(self._calls,), daemon=True)]
        if not self.manual:
            self._threads.append(threading.Thread(target=self._work, args=(self._wake,), daemon=True))
        for thread, name in zip(self._threads, ("host-functions", "device"), strict=False):
            thread.name = f"simulated-cuda-{name}"
            thread.start()

    def stop(self) -> None:
        """Tell the threads to end after what they are doing."""
        self._running = False
        self._calls.put(None)
        self._rouse(always=True)

    # --- what calls do

    def submit(self, stream: CUstream, operation: Operation) -> None:
        """Enqueue an operation."""
        for block in operation.pinned:
            block.users += 1
        stream.launches += operation.slots()
        stream.queue.append(operation)
        stream.enqueued += 1
        if stream.state == IDLE:
            self.consider(stream)

    def order_after(self, stream: CUstream, record: Record) -> None:
        """Note that what is enqueued on the stream from now on comes after the record."""
        source = record.stream
        if record.done or source is stream or stream.clock.get(source.serial, 0) >= record.position:
            return
        clock: Clock = dict(stream.clock)
        for serial, position in (*record.clock.items(), (source.serial, record.position)):
            if clock.get(serial, 0) < position:
                clock[serial] = position
        stream.clock = clock

    def sleep_until(self, stream: CUstream, count: int) -> None:
        """Block the caller until the stream has completed ``count`` operations, or is lost."""
        context = stream.context
        while stream.completed < count and context.error is None:
            sleeper = _locked()
            stream.sleepers.append((count, sleeper))
            self.sleep(context, sleeper)

    def sleep(self, context: CUcontext, sleeper: threading.Lock) -> None:
        """Block the caller, without the driver's lock, until somebody wakes it."""
        context.sleepers.add(sleeper)
        self.lock.release()
        try:
            sleeper.acquire()
        finally:
            self.lock.acquire()
            context.sleepers.discard(sleeper)

    def sleep_until_recorded(self, record: Record) -> None:
        """Block the caller until the record is done, or its context lost."""
        context = record.stream.context
        while not record.done and context.error is None:
            sleeper = _locked()
            record.sleepers.append(sleeper)
            self.sleep(context, sleeper)

    def lose(self, context: CUcontext, error: CUresult) -> None:
        """End everything in a context: nothing of it runs any more, and every blocked call returns."""
        if context.error is not None:
            return
        context.error = error
        self._ready = deque(stream for stream in self._ready if stream.context is not context)
        self._polled = {stream: None for stream in self._polled if stream.context is not context}
        for sleeper in list(context.sleepers):
            self.wake(context, sleeper)
        self.slots.notify_all()
        self._returned.notify_all()

    # --- what operations ask for (operations.Scheduler)

    def consider(self, stream: CUstream) -> None:
        """Look whether the stream's head can run, unless it is ready or running already."""
        if stream.state in (READY, RUNNING) or stream.context.error is not None:
            return
        if not stream.queue:
            stream.state = IDLE
        elif stream.queue[0].ready(self, stream):
            stream.state = READY
            self._ready.append(stream)
            if self._asleep:
                self._rouse()
        else:
            stream.state = BLOCKED

    def poll(self, stream: CUstream) -> None:
        """Look at the stream every :data:`POLL` seconds, or so."""
        if stream not in self._polled:
            self._polled[stream] = None
            if self._asleep:
                self._rouse()

    def wake(self, context: CUcontext, sleeper: threading.Lock) -> None:
        """Wake a blocked call, once."""
        if sleeper in context.sleepers:
            context.sleepers.discard(sleeper)
            sleeper.release()

    def call(self, stream: CUstream, function: CUhostFn, argument: int | None) -> None:
        """Have a host function called."""
        self._calls.put((stream, function, argument))

    # --- running

    def step(self, stream: CUstream | None) -> bool:
        """Run one operation that can run, of ``stream`` or of any; tell whether there was one."""
        with self.lock:
            self._poll()
            if stream is None:
                if not self._ready:
                    return False
                stream = self._pick()
            elif stream.state == READY:
                self._ready.remove(stream)
            else:
                return False
            self._run(stream)
            while stream.state == RUNNING and stream.context.error is None:
                self._returned.wait()
            return True

    def _rouse(self, *, always: bool = False) -> None:
        if self._asleep or always:
            self._asleep = False
            if self._wake.locked():
                self._wake.release()

    def _work(self, wake: threading.Lock) -> None:
        """The device's thread."""
        turns = looks = 0
        while True:
            with self.lock:
                if not self._running or self._wake is not wake:
                    return
                turns += 1
                if self._polled and (not self._ready or turns % POLL_EVERY == 0):
                    self._poll()
                if self._ready:
                    self._run(self._pick())
                    looks = 0
                    continue
                wake.acquire(blocking=False)  # a signal that came too late for the last sleep
                self._asleep = True
                looks += 1
                pause = min(POLL_LATER, POLL * (1 + looks / 16)) if self._polled else -1
            wake.acquire(timeout=pause)

    def _poll(self) -> None:
        for stream in list(self._polled):
            if stream.state != BLOCKED or not stream.queue or stream.queue[0].ready(self, stream):
                del self._polled[stream]
                self.consider(stream)

    def _pick(self) -> CUstream:
        ready = self._ready
        if self._random is None or len(ready) == 1:
            return ready.popleft()
        index = int(self._random.random() * len(ready))
        ready[index], ready[-1] = ready[-1], ready[index]
        return ready.pop()

    def _run(self, stream: CUstream) -> None:
        operation = stream.queue[0]
        stream.state = RUNNING
        try:
            outcome = operation.run(self, stream)
        except DeviceFault as fault:
            self.lose(stream.context, fault.error)
            return
        if outcome != AWAY:
            self._go_on(stream, operation, outcome)

    def _go_on(self, stream: CUstream, operation: Operation, outcome: int) -> None:
        stream.state = BLOCKED
        if outcome == DONE:
            self._finish(stream, operation)
        self.consider(stream)

    def _finish(self, stream: CUstream, operation: Operation) -> None:
        stream.queue.popleft()
        stream.completed += 1
        if stream.destroyed and not stream.queue:
            stream.context.streams.discard(stream)
        for block in operation.pinned:
            block.users -= 1
        stream.launches -= operation.slots()
        if self.jammed is not None:
            self.slots.notify_all()
        if stream.sleepers:
            for count, sleeper in stream.sleepers:
                if count <= stream.completed:
                    self.wake(stream.context, sleeper)
            stream.sleepers = [one for one in stream.sleepers if one[0] > stream.completed]

    def _call_host_functions(self, calls: SimpleQueue[tuple[CUstream, CUhostFn, int | None] | None]) -> None:
        """The driver's thread for host functions; none is called once its context is lost."""
        self.thread_state.in_host_function = True
        while (one := calls.get()) is not None:
            stream, function, argument = one
            self.thread_state.context = stream.context
            if stream.context.error is None:
                function.call(argument)
            with self.lock:
                if stream.context.error is None:
                    operation = stream.queue[0]
                    self._go_on(stream, operation, operation.resumed(self))
                self._returned.notify_all()
            del one, stream, function


def _locked() -> threading.Lock:
    """Return a lock that is held."""
    lock = threading.Lock()
    lock.acquire()
    return lock
