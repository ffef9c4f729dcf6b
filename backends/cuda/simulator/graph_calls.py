"""Calls about captures and graphs."""

# ruff: noqa: N802 - the names are the driver's

from __future__ import annotations

import threading

from .calls import INVALID_VALUE, SUCCESS, Calls, Maybe, Status, call
from .enums import CUresult, CUstreamCaptureMode
from .handles import Capture, CUgraph, CUgraphExec, CUstream
from .operations import GraphLaunch


class GraphCalls(Calls):
    """Captures and graphs."""

    @call()
    def cuStreamBeginCapture(self, stream: CUstream, mode: int) -> Status:
        """Note what is enqueued on the stream from now on, instead of running it."""
        if (error := self.unusable("cuStreamBeginCapture", stream, CUstream)) is not None:
            return (error,)
        if stream.capture is not None:
            return (CUresult.CUDA_ERROR_ILLEGAL_STATE,)
        if mode not in list(CUstreamCaptureMode):
            return (INVALID_VALUE,)
        stream.capture = Capture(int(mode))
        self.captures.append(stream.capture)
        return (SUCCESS,)

    @call(results=1)
    def cuStreamEndCapture(self, stream: CUstream) -> tuple[CUresult, Maybe]:
        """End the capture and return the graph."""
        if (error := self.unusable("cuStreamEndCapture", stream, CUstream)) is not None:
            return error, None
        capture = stream.capture
        if capture is None:
            return CUresult.CUDA_ERROR_ILLEGAL_STATE, None
        relaxed = capture.mode == CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        if capture.thread != threading.get_ident() and not relaxed:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, None
        stream.capture = None
        self.captures.remove(capture)
        if capture.invalidated:
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None
        graph = CUgraph(stream.context, tuple(capture.operations))
        stream.context.handles.add(graph)
        return SUCCESS, graph

    @call(results=1, gated=True)
    def cuGraphInstantiate(self, graph: CUgraph, flags: int) -> tuple[CUresult, Maybe]:
        """Make a graph executable."""
        if (error := self.unusable("cuGraphInstantiate", graph, CUgraph)) is not None:
            return error, None
        executable = CUgraphExec(graph.context, graph.operations)
        graph.context.handles.add(executable)
        return SUCCESS, executable

    @call()
    def cuGraphLaunch(self, executable: CUgraphExec, stream: CUstream) -> Status:
        """Run a graph in the stream's order, after its launches before."""
        if (error := self.unusable("cuGraphLaunch", executable, CUgraphExec)) is not None:
            return (error,)
        if (error := self.unusable("cuGraphLaunch", stream, CUstream)) is not None:
            return (error,)
        if stream.capture is not None:  # a graph in a graph is not modelled
            self.checker.blame("cuGraphLaunch", f"{stream!r} is capturing")
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        return self.enqueue(stream, GraphLaunch(executable, stream))

    @call()
    def cuGraphExecDestroy(self, executable: CUgraphExec) -> Status:
        """Destroy an executable graph; launches in flight go on."""
        if (error := self.unusable("cuGraphExecDestroy", executable, CUgraphExec, destroying=True)) is not None:
            return (error,)
        executable.destroyed = True
        executable.context.handles.discard(executable)
        return (SUCCESS,)

    @call()
    def cuGraphDestroy(self, graph: CUgraph) -> Status:
        """Destroy a graph; what was instantiated from it stays."""
        if (error := self.unusable("cuGraphDestroy", graph, CUgraph, destroying=True)) is not None:
            return (error,)
        graph.destroyed = True
        graph.context.handles.discard(graph)
        return (SUCCESS,)
