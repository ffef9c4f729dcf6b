"""Calls that fill and copy memory."""

# ruff: noqa: N802 - the names are the driver's

from __future__ import annotations

from .calls import INVALID_VALUE, SUCCESS, Calls, Status, call
from .enums import CUresult
from .handles import CUstream
from .operations import Copy, Memset, PageableRead, PageableWrite


class TransferCalls(Calls):
    """Fills and copies. Counts of fills are in elements, sizes of copies in bytes; nothing to do is done at once."""

    @call()
    def cuMemsetD8Async(self, address: int, value: int, count: int, stream: CUstream) -> Status:
        """Fill with a byte."""
        return self._fill("cuMemsetD8Async", address, value, 1, count, stream)

    @call()
    def cuMemsetD16Async(self, address: int, value: int, count: int, stream: CUstream) -> Status:
        """Fill with two bytes; the address must be a multiple of 2."""
        return self._fill("cuMemsetD16Async", address, value, 2, count, stream)

    @call()
    def cuMemsetD32Async(self, address: int, value: int, count: int, stream: CUstream) -> Status:
        """Fill with four bytes; the address must be a multiple of 4."""
        return self._fill("cuMemsetD32Async", address, value, 4, count, stream)

    def _fill(self, name: str, address: int, value: int, width: int, count: int, stream: CUstream) -> Status:
        if (error := self.unusable(name, stream, CUstream)) is not None:
            return (error,)
        address = int(address)
        block = stream.context.memory.known.find(address, width * count)
        if block is None or address % width or count < 0:
            return (INVALID_VALUE,)
        if not count:
            return (SUCCESS,)
        pattern = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        return self.enqueue(stream, Memset(block, address, pattern, count))

    @call()
    def cuMemcpyDtoDAsync(self, target: int, source: int, size: int, stream: CUstream) -> Status:
        """Copy within what the device can see."""
        name = "cuMemcpyDtoDAsync"
        if (error := self.unusable(name, stream, CUstream)) is not None:
            return (error,)
        known = stream.context.memory.known
        blocks = known.find(int(target), size), known.find(int(source), size)
        if None in blocks or size < 0:
            return (INVALID_VALUE,)
        if not size:
            return (SUCCESS,)
        return self.enqueue(stream, Copy(int(target), int(source), size, *blocks))

    @call()
    def cuMemcpyHtoDAsync(self, target: int, source: int, size: int, stream: CUstream) -> Status:
        """Copy from host memory. Where that is not pinned, the caller is blocked until it has happened."""
        return self._cross("cuMemcpyHtoDAsync", target, source, size, stream, to_host=False)

    @call()
    def cuMemcpyDtoHAsync(self, target: int, source: int, size: int, stream: CUstream) -> Status:
        """Copy to host memory. Where that is not pinned, the caller is blocked until it has happened."""
        return self._cross("cuMemcpyDtoHAsync", target, source, size, stream, to_host=True)

    def _cross(self, name: str, target: int, source: int, size: int, stream: CUstream, *, to_host: bool) -> Status:
        if (error := self.unusable(name, stream, CUstream)) is not None:
            return (error,)
        target, source = int(target), int(source)
        host, device = (target, source) if to_host else (source, target)
        known = stream.context.memory.known
        block = known.find(device, size)
        if block is None or not host or size < 0:
            return (INVALID_VALUE,)
        if not size:
            return (SUCCESS,)
        pinned = known.find(host, size)
        if pinned is not None:
            return self.enqueue(stream, Copy(target, source, size, pinned, block))
        operation = (PageableWrite if to_host else PageableRead)(target, source, size, block)
        status = self.enqueue(stream, operation)
        if status == (CUresult.CUDA_SUCCESS,) and stream.capture is None:
            self.engine.sleep_until(stream, stream.enqueued)
            if stream.context.error is not None:
                return (stream.context.error,)
        return status
