"""Calls about streams, events, host functions and words in memory."""

# ruff: noqa: N802 - the names are the driver's

from __future__ import annotations

from .calls import INVALID_HANDLE, INVALID_VALUE, SUCCESS, Calls, Maybe, Status, call
from .enums import CUevent_flags, CUresult
from .handles import CUevent, CUhostFn, CUstream
from .operations import HostFunction, Record, WaitRecord, WaitValue, WriteValue

NOT_READY = CUresult.CUDA_ERROR_NOT_READY
CAPTURING = CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED


class StreamCalls(Calls):
    """Streams, events, host functions."""

    _serial = 0

    @call(results=1, gated=True)
    def cuStreamCreate(self, flags: int) -> tuple[CUresult, Maybe]:
        """Create a stream."""
        if flags not in (0, 1):
            return INVALID_VALUE, None
        context = self.thread_context
        self._serial += 1
        stream = CUstream(context, self._serial)
        context.handles.add(stream)
        context.streams.add(stream)
        return SUCCESS, stream

    @call()
    def cuStreamDestroy(self, stream: CUstream) -> Status:
        """Destroy a stream; what is enqueued on it still runs."""
        if (error := self.unusable("cuStreamDestroy", stream, CUstream, destroying=True)) is not None:
            return (error,)
        self.checker.stream_destroyed("cuStreamDestroy", stream)
        stream.destroyed = True
        stream.unnoticed.clear()
        stream.context.handles.discard(stream)
        if stream.completed == stream.enqueued:
            stream.context.streams.discard(stream)
        if stream.capture in self.captures:
            self.captures.remove(stream.capture)
        return (SUCCESS,)

    @call(unsafe=True)
    def cuStreamSynchronize(self, stream: CUstream) -> Status:
        """Block until what was enqueued before has completed."""
        if (error := self._unusable_or_capturing("cuStreamSynchronize", stream)) is not None:
            return (error,)
        self.engine.sleep_until(stream, stream.enqueued)
        if stream.context.error is not None:
            return (stream.context.error,)
        stream.context.memory.synchronized()
        return (SUCCESS,)

    @call(unsafe=True)
    def cuStreamQuery(self, stream: CUstream) -> Status:
        """Tell whether everything enqueued has completed."""
        if (error := self._unusable_or_capturing("cuStreamQuery", stream)) is not None:
            return (error,)
        return (SUCCESS if stream.completed == stream.enqueued else NOT_READY,)

    def _unusable_or_capturing(self, name: str, stream: CUstream) -> CUresult | None:
        error = self.unusable(name, stream, CUstream)
        if error is None and stream.capture is not None:
            stream.capture.invalidated = True
            return CAPTURING
        return error

    # --- events

    @call(results=1, gated=True)
    def cuEventCreate(self, flags: int) -> tuple[CUresult, Maybe]:
        """Create an event that was never recorded."""
        if flags & ~0x7:
            return INVALID_VALUE, None
        context = self.thread_context
        event = CUevent(context, blocking=bool(flags & CUevent_flags.CU_EVENT_BLOCKING_SYNC))
        context.handles.add(event)
        return SUCCESS, event

    @call()
    def cuEventDestroy(self, event: CUevent) -> Status:
        """Destroy an event; what was enqueued with it is not affected."""
        if (error := self.unusable("cuEventDestroy", event, CUevent, destroying=True)) is not None:
            return (error,)
        self.checker.event_destroyed("cuEventDestroy", event)
        event.destroyed = True
        event.context.handles.discard(event)
        return (SUCCESS,)

    @call()
    def cuEventRecord(self, event: CUevent, stream: CUstream) -> Status:
        """Record the event; from now on it means what is enqueued on the stream so far."""
        if (error := self.unusable("cuEventRecord", event, CUevent)) is not None:
            return (error,)
        if (error := self.unusable("cuEventRecord", stream, CUstream)) is not None:
            return (error,)
        if event.context is not stream.context:
            return (INVALID_HANDLE,)
        event.captured = stream.capture
        if stream.capture is None:
            if event.blocking and (error := self.notify(stream)) is not None:
                return (error,)
            event.record = Record(stream, blocking=event.blocking)
            self.engine.submit(stream, event.record)
        return (SUCCESS,)

    @call(unsafe=True)
    def cuEventQuery(self, event: CUevent) -> Status:
        """Tell whether the newest record is done; without any it is."""
        if (error := self.unusable("cuEventQuery", event, CUevent)) is not None:
            return (error,)
        if event.captured is not None:
            return (CUresult.CUDA_ERROR_CAPTURED_EVENT,)
        return (SUCCESS if event.record is None or event.record.done else NOT_READY,)

    @call(unsafe=True)
    def cuEventSynchronize(self, event: CUevent) -> Status:
        """Block until the record that is the newest now is done."""
        if (error := self.unusable("cuEventSynchronize", event, CUevent)) is not None:
            return (error,)
        if event.captured is not None:
            return (CUresult.CUDA_ERROR_CAPTURED_EVENT,)
        if event.record is not None:
            event.synchronizing += 1
            try:
                self.engine.sleep_until_recorded(event.record)
            finally:
                event.synchronizing -= 1
            if event.context.error is not None:
                return (event.context.error,)
            event.context.memory.synchronized()
        return (SUCCESS,)

    @call()
    def cuStreamWaitEvent(self, stream: CUstream, event: CUevent, flags: int) -> Status:
        """Hold what is enqueued on the stream later until the record that is the newest now is done."""
        if (error := self.unusable("cuStreamWaitEvent", stream, CUstream)) is not None:
            return (error,)
        if (error := self.unusable("cuStreamWaitEvent", event, CUevent)) is not None:
            return (error,)
        if flags not in (0, 1):
            return (INVALID_VALUE,)
        if flags and stream.capture is None:  # it is for captures; driver 580 says so (H200)
            return (CUresult.CUDA_ERROR_ILLEGAL_STATE,)
        if event.captured is not stream.capture:
            # The driver would have the other stream join the capture; that is not modelled.
            self.checker.blame("cuStreamWaitEvent", f"{event!r} ties a capture to what is outside of it")
            return (CUresult.CUDA_ERROR_STREAM_CAPTURE_ISOLATION,)
        if stream.capture is not None:
            return (SUCCESS,)
        if event.record is None:
            self.checker.blame("cuStreamWaitEvent", f"{event!r} was never recorded: the wait waits for nothing")
        elif not event.record.done and event.record.stream is not stream:
            self.engine.order_after(stream, event.record)
            self.engine.submit(stream, WaitRecord(event.record))
            stream.unnoticed.add(event.record.stream)
        return (SUCCESS,)

    # --- host functions and words

    @call(gated=True)
    def cuLaunchHostFunc(self, stream: CUstream, function: CUhostFn, argument: int | None) -> Status:
        """Have a function called on a thread of the driver's, in the stream's order."""
        if (error := self.unusable("cuLaunchHostFunc", stream, CUstream)) is not None:
            return (error,)
        if not int(function):
            return (INVALID_VALUE,)
        if not isinstance(function, CUhostFn):
            function = CUhostFn(function)
        argument = None if argument is None else int(argument)
        if stream.capture is not None:
            return self.enqueue(stream, HostFunction(function, argument))
        told_by = tuple(one for one in stream.unnoticed if one.completed < one.enqueued)
        for teller in told_by:
            if (error := self.notify(teller)) is not None:
                return (error,)
        stream.unnoticed.clear()
        return self.enqueue(stream, HostFunction(function, argument, told_by))

    @call(gated=True)
    def cuStreamWaitValue32(self, stream: CUstream, address: int, value: int, flags: int) -> Status:
        """Hold the stream until the word at ``address`` compares with ``value`` as ``flags`` say."""
        if (error := self.unusable("cuStreamWaitValue32", stream, CUstream)) is not None:
            return (error,)
        block = stream.context.memory.known.find(int(address), 4)
        if block is None or int(address) % 4 or int(flags) & ~(3 | 1 << 30):
            return (INVALID_VALUE,)
        operation = WaitValue(block, int(address), int(value), int(flags))
        return self.enqueue(stream, operation)

    @call(gated=True)
    def cuStreamWriteValue32(self, stream: CUstream, address: int, value: int, flags: int) -> Status:
        """Write a word."""
        if (error := self.unusable("cuStreamWriteValue32", stream, CUstream)) is not None:
            return (error,)
        block = stream.context.memory.known.find(int(address), 4)
        if block is None or int(address) % 4 or int(flags) & ~1:
            return (INVALID_VALUE,)
        return self.enqueue(stream, WriteValue(block, int(address), int(value)))
