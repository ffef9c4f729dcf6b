"""Buffers of IREE, read and written by the host through a mapping."""

from __future__ import annotations

from pytest_cuda2hal.hal import Buffer, checked_data, checked_range

from .route import Owned, Route
from .status import STATUS_ERRORS, raise_status


class IreeBuffer(Buffer):
    """A ``HalBuffer``. Side access maps it for the time of the call and takes no part in any queue's order."""

    def __init__(self, owned: Owned, size: int, route: Route) -> None:
        self.owned = owned
        self.size = size
        self._route = route

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes as they are now.

        :raises HalError: the range lies outside, or IREE refuses to map (a buffer before its allocation).
        """
        offset, length = checked_range(offset, length, self.size)
        return bytes(self._mapped()[offset : offset + length]) if length else b""

    def write(self, data: bytes, offset: int = 0) -> None:
        """Overwrite bytes; errors as for :meth:`read`."""
        data = checked_data(data)
        offset, length = checked_range(offset, len(data), self.size)
        if length:
            self._mapped()[offset : offset + length] = data

    def _mapped(self) -> memoryview:
        """Return the live bytes; the mapping ends with the last reference."""
        try:
            array = self.owned.handle.map().asarray([self.size], self._route.byte_type)
        except STATUS_ERRORS as error:
            raise_status(error)
        return memoryview(array).cast("B")
