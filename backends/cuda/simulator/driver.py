"""The simulated driver."""

from __future__ import annotations

from collections import Counter, deque

from . import enums, handles
from .checker import Checker, Failure, live
from .engine import Engine
from .graph_calls import GraphCalls
from .memory_calls import MemoryCalls
from .operations import Fault
from .stream_calls import StreamCalls
from .transfer_calls import TransferCalls


class SimulatedDriver(MemoryCalls, StreamCalls, TransferCalls, GraphCalls):
    """A CUDA driver in host memory: functions, argument orders and returned tuples of ``cuda.bindings.driver``.

    It does what the driver does, silent no-ops, blocked launches and sticky errors included. Work runs on a thread of
    its own, never inside the call that enqueues it: with a ``seed`` across streams in any legal order, without one a
    stream at a time in turn, and with ``manual`` only in :meth:`step` and :meth:`run_until_idle`. ``memory`` is bytes
    for each device. With ``check`` it also notes in :attr:`violations` what is legal but wrong for this project. All
    functions may be called on any thread.
    """

    CUresult = enums.CUresult
    CUstream_flags = enums.CUstream_flags
    CUevent_flags = enums.CUevent_flags
    CUevent_wait_flags = enums.CUevent_wait_flags
    CUstreamWaitValue_flags = enums.CUstreamWaitValue_flags
    CUstreamWriteValue_flags = enums.CUstreamWriteValue_flags
    CUstreamCaptureMode = enums.CUstreamCaptureMode
    CUdevice_attribute = enums.CUdevice_attribute
    CUmemPool_attribute = enums.CUmemPool_attribute
    CUmemAllocationType = enums.CUmemAllocationType
    CUmemAllocationHandleType = enums.CUmemAllocationHandleType
    CUmemLocationType = enums.CUmemLocationType
    CU_MEMHOSTALLOC_PORTABLE = enums.CU_MEMHOSTALLOC_PORTABLE
    CU_MEMHOSTALLOC_DEVICEMAP = enums.CU_MEMHOSTALLOC_DEVICEMAP
    CU_MEMHOSTALLOC_WRITECOMBINED = enums.CU_MEMHOSTALLOC_WRITECOMBINED
    CUdevice = handles.CUdevice
    CUdeviceptr = handles.CUdeviceptr
    CUcontext = handles.CUcontext
    CUstream = handles.CUstream
    CUevent = handles.CUevent
    CUgraph = handles.CUgraph
    CUgraphExec = handles.CUgraphExec
    CUmemoryPool = handles.CUmemoryPool
    CUmemPoolProps = handles.CUmemPoolProps
    CUmemLocation = handles.CUmemLocation
    CUhostFn = handles.CUhostFn
    cuuint64_t = handles.cuuint64_t

    def __init__(
        self,
        seed: int | None = None,
        memory: int = 64 * 2**20,
        devices: int = 1,
        manual: bool = False,
        check: bool = True,
        launch_limit: int = 1020,
        version: int = 13000,
        *,
        record_calls: bool = False,
    ) -> None:
        engine = Engine(seed, manual=manual)
        checker = Checker(enabled=check, record_calls=record_calls)
        super().__init__(engine, checker, devices=devices, memory=memory, launch_limit=launch_limit)
        self.version = version

    # --- the schedule

    def step(self, stream: handles.CUstream | None = None) -> bool:
        """Run one operation that can run, of ``stream`` or of any; tell whether there was one. For ``manual`` only.

        A host function has returned when this does; a graph takes a step for each of its nodes.
        """
        if not self.engine.manual:
            raise RuntimeError("the device runs on a thread of its own; use SimulatedDriver(manual=True)")
        return self.engine.step(stream)

    def run_until_idle(self) -> int:
        """Step until nothing can run any more; return how many steps that were."""
        steps = 0
        while self.step():
            steps += 1
        return steps

    # --- what was seen, and what is to go wrong

    @property
    def violations(self) -> list[str]:
        """What was legal but wrong, each in a line that begins with the call's name."""
        return self.checker.violations

    @property
    def calls(self) -> Counter[str]:
        """How often each function was called."""
        return self.checker.calls

    @property
    def log(self) -> deque[tuple[str, tuple[object, ...]]]:
        """The calls with their arguments, the newest 100,000, where ``record_calls`` was asked for."""
        return self.checker.log

    def live(self) -> Counter[str]:
        """Count what exists in all contexts, by kind: names of handle types, "pinned" and "device memory"."""
        with self.engine.lock:
            return sum((live(context) for context in self.contexts.values()), Counter())

    def fail(
        self, name: str, n: int = 1, error: enums.CUresult = enums.CUresult.CUDA_ERROR_UNKNOWN, times: int | None = 1
    ) -> None:
        """Let the ``n``-th call of a function from now on return ``error`` and do nothing; ``times=None``: for good."""
        if not hasattr(self, name):
            raise AttributeError(f"no driver function {name}")
        with self.engine.lock:
            self.checker.failures.setdefault(name, []).append(Failure(n - 1, error, times))

    def inject_fault(self, error: enums.CUresult, stream: handles.CUstream | None = None) -> None:
        """Lose a context as a wild pointer in a kernel does: in the stream's order, or at once in every context."""
        with self.engine.lock:
            if stream is not None:
                self.engine.submit(stream, Fault(error))
                return
            for context in self.contexts.values():
                self.engine.lose(context, error)

    def lose(self, error: enums.CUresult) -> None:
        """Lose every context at once."""
        self.inject_fault(error)
