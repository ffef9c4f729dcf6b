"""What all driver calls share: the entry checks, and how handles and launches are checked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from .checker import Checker
from .engine import Engine
from .enums import CUresult, CUstreamCaptureMode
from .handles import Capture, CUcontext, CUstream, Handle
from .operations import Operation

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Calls")

SUCCESS = CUresult.CUDA_SUCCESS
INVALID_VALUE = CUresult.CUDA_ERROR_INVALID_VALUE
INVALID_HANDLE = CUresult.CUDA_ERROR_INVALID_HANDLE

#: What the driver was seen to let a host function call, though its documentation forbids all calls there.
PERMITTED = frozenset({"cuEventQuery", "cuEventRecord", "cuEventSynchronize", "cuMemsetD8Async"})

#: Interrupts that a stream may have outstanding (H100, driver 580); who asks for the next one is blocked.
NOTICES = 56

#: What a call that returns nothing else returns.
Status = tuple[CUresult]


class Calls:
    """The state of a simulated driver."""

    def __init__(self, engine: Engine, checker: Checker, *, devices: int, memory: int, launch_limit: int) -> None:
        self.engine = engine
        self.checker = checker
        self.devices = devices
        self.memory_size = memory
        self.launch_limit = launch_limit
        self.initialized = False
        #: Primary contexts, by device, while they are retained.
        self.contexts: dict[int, CUcontext] = {}
        #: Devices whose context was lost to a fault and has been released: to this process they are gone.
        self.ruined: dict[int, CUresult] = {}
        #: Captures under way that forbid other threads' unsafe calls too, or their own thread's only.
        self.captures: list[Capture] = []

    @property
    def thread_context(self) -> CUcontext:
        """The calling thread's context; the entry check saw to it that there is one."""
        context = self.engine.thread_state.context
        assert context is not None
        return context

    def unusable(self, name: str, handle: object, kind: type[Handle], *, destroying: bool = False) -> CUresult | None:
        """Return why a call with this handle fails, if it does."""
        if type(handle) is not kind or handle.destroyed:
            self.checker.unusable(name, handle, kind, destroying=destroying)
            return INVALID_HANDLE
        return handle.context.error

    def enqueue(self, stream: CUstream, operation: Operation) -> Status:
        """Enqueue or capture an operation; block while the stream has no launch slot for it."""
        if stream.capture is not None:
            stream.capture.operations.append(operation)
            return (SUCCESS,)
        engine = self.engine
        slots = operation.slots()
        if slots and stream.launches and stream.launches + slots > self.launch_limit:
            self.jam(stream, lambda: not stream.launches or stream.launches + slots <= self.launch_limit)
            if stream.context.error is not None:
                return (stream.context.error,)
        if slots:
            stream.unnoticed.add(stream)
        engine.submit(stream, operation)
        return (SUCCESS,)

    def notify(self, teller: CUstream) -> CUresult | None:
        """Take one of the interrupts that ``teller`` may have outstanding; block until there is one."""
        if teller.notices >= NOTICES:
            self.jam(teller, lambda: teller.notices < NOTICES)
        if teller.context.error is None:
            teller.notices += 1
        return teller.context.error

    def jam(self, stream: CUstream, has_room: Callable[[], bool]) -> None:
        """Block the caller until the stream has room; meanwhile others cannot create anything."""
        engine = self.engine
        engine.jammed = id(stream)
        try:
            engine.slots.wait_for(lambda: has_room() or stream.context.error is not None)
        finally:
            engine.jammed = None
            engine.slots.notify_all()

    def unsafe_in_capture(self) -> bool:
        """A call is made that captures forbid: those that it concerns become invalid."""
        concerned = [
            one
            for one in self.captures
            if one.mode == CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL or one.is_of_this_thread
        ]
        for one in concerned:
            one.invalidated = True
        return bool(concerned)

    def refuse(self, name: str, *, initialized: bool, context: bool, gated: bool, unsafe: bool) -> CUresult | None:
        """Return why the call fails before it looks at its arguments, if it does."""
        checker = self.checker
        if checker.failures and (error := checker.planned_failure(name)) is not None:
            return error
        thread = self.engine.thread_state
        if thread.in_host_function:
            checker.blame(name, "called in a host function")
            if name not in PERMITTED:
                return CUresult.CUDA_ERROR_NOT_PERMITTED
        if initialized and not self.initialized:
            return CUresult.CUDA_ERROR_NOT_INITIALIZED
        if context:
            if thread.context is None:
                checker.blame(name, "called without a current context")
                return CUresult.CUDA_ERROR_INVALID_CONTEXT
            if thread.context.error is CUresult.CUDA_ERROR_CONTEXT_IS_DESTROYED:
                checker.blame(name, "called after the context was released")
            if gated and self.engine.jammed is not None:
                self.engine.slots.wait_for(lambda: self.engine.jammed is None)
            if thread.context.error is not None:
                return thread.context.error
            if unsafe and self.captures and self.unsafe_in_capture():
                return CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        return None


def call(
    *, results: int = 0, initialized: bool = True, context: bool = True, gated: bool = False, unsafe: bool = False
) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Make a method a driver function: under the lock, counted, and refused where it must be.

    ``results``: how many values it returns beside the status. ``context``: it needs one, and fails once that is lost.
    ``gated``: it blocks while another thread is blocked in a launch. ``unsafe``: captures forbid it.
    """

    def decorate(body: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        name = body.__name__
        nothing = (None,) * results

        @functools.wraps(body)
        def function(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
            checker = self.checker
            with self.engine.lock:
                checker.calls[name] += 1
                if checker.record_calls:
                    checker.log.append((name, args))
                error = self.refuse(name, initialized=initialized, context=context, gated=gated, unsafe=unsafe)
                if error is not None:
                    return cast(R, (error, *nothing))
                return body(self, *args, **kwargs)

        return cast("Callable[Concatenate[S, P], R]", function)

    return decorate


#: A returned value that is missing where the call failed.
Maybe = Any
