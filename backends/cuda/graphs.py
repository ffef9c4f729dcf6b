"""Command buffers as CUDA graphs: captured at first issue, kept per lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .driver import Handle, checked, error_of
from .staging import PinnedBlock

if TYPE_CHECKING:
    from .commands import Operation
    from .engine import Engine
    from .lane import Lane


class GraphCache:
    """The executable graphs of one run of operations.

    A graph is captured from the same stream calls that the operations issue otherwise. Launches of one executable
    graph run one after another, on whatever stream they are, so each lane has one of its own: work held on one queue
    must not hold the same commands on another. A buffer has one address in its life, so a graph stays right.
    """

    def __init__(self, engine: Engine, operations: Sequence[Operation]) -> None:
        self._engine = engine
        self._operations = tuple(operations)
        self._buffers = tuple({buffer for operation in operations for buffer in operation.buffers})
        self._graphs: dict[Lane, tuple[Handle, list[PinnedBlock]]] = {}

    def __del__(self) -> None:
        # May run on any thread at any moment, with any lock held: no lock, no driver call.
        for executable, staging in getattr(self, "_graphs", {}).values():
            self._engine.discard(_destroy, executable, staging)

    def executable(self, lane: Lane) -> Handle:
        """Return the graph for a lane; the engine's role is held.

        :raises HalError: a buffer has no memory now, or the driver refuses.
        """
        for buffer in self._buffers:
            buffer.live_address()
        if lane not in self._graphs:
            self._graphs[lane] = self._build()
        return self._graphs[lane][0]

    def _build(self) -> tuple[Handle, list[PinnedBlock]]:
        context = self._engine.context
        driver, stream = context.driver, context.capture_stream
        staging: list[PinnedBlock] = []
        # Relaxed: calls of other threads meanwhile are none of this capture's business.
        relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        failure: BaseException | None = None
        try:
            checked(driver, "cuStreamBeginCapture", stream, relaxed)
            for operation in self._operations:
                operation.issue(context, stream, staging)
        except BaseException as error:  # noqa: BLE001 - the capture must be ended whatever happened
            failure = error
        result, graph = driver.cuStreamEndCapture(stream)
        try:
            if failure is not None:
                raise failure
            if result:
                raise error_of(driver, "cuStreamEndCapture", result)
            executable = checked(driver, "cuGraphInstantiate", graph, 0)
            context.graphs[id(executable)] = executable
        except BaseException:
            context.staging.release(staging)
            raise
        finally:
            failure = None  # its traceback has this frame, and the frame the buffers
            if not result:
                driver.cuGraphDestroy(graph)
        return executable, staging


def _destroy(engine: Engine, executable: Handle, staging: list[PinnedBlock]) -> None:
    """A graph is not needed any more; the engine's role is held."""
    if engine.context.is_destroyed or not engine.is_bound:  # the close destroys what is left, and has the context
        return
    engine.context.graphs.pop(id(executable), None)
    checked(engine.driver, "cuGraphExecDestroy", executable)
    engine.context.staging.release(staging)
