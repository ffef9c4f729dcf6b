"""A fill is parted into memsets that write exactly what the fill means."""

from __future__ import annotations

import pytest

from pytest_cuda2hal.backends.cuda.commands import _fill_pieces

PATTERNS = [b"\x07", b"\x00", b"\x01\x02", b"\x03\x03", b"\x01\x02\x03\x04", b"\x01\x01\x02\x02", b"\x05\x05\x05\x05"]
UNTOUCHED = 0xEE


@pytest.mark.parametrize("pattern", PATTERNS, ids=bytes.hex)
def test_pieces_write_the_pattern_from_the_offset_on_and_nothing_else(pattern):
    for offset in range(8):
        for length in range(21):
            memory = bytearray([UNTOUCHED] * 32)
            for width, at, value, count in _fill_pieces(pattern, offset, length):
                memory[at : at + width * count] = value.to_bytes(width, "little") * count
            expected = bytearray([UNTOUCHED] * 32)
            expected[offset : offset + length] = (pattern * 21)[:length]
            assert memory == expected, (offset, length)


@pytest.mark.parametrize("pattern", PATTERNS, ids=bytes.hex)
def test_pieces_are_aligned_few_and_never_empty(pattern):
    for offset in range(8):
        for length in range(21):
            pieces = _fill_pieces(pattern, offset, length)
            assert len(pieces) <= 7
            assert all(width in (1, 2, 4) and at % width == 0 and count >= 1 for width, at, _, count in pieces)


def test_a_pattern_of_equal_bytes_is_one_memset():
    assert _fill_pieces(b"\x05\x05\x05\x05", 1, 18) == ((1, 1, 5, 18),)
