"""Text files whose lines cannot fill the memory: a bomb of zeros, or a file without line ends, stops early."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any, cast

BLOCK = 1 << 20
_TAIL = 1 << 14
LONGEST = 1 << 28
"""Bytes of one line: what is longer is no row of evidence."""


class LineTooLong(Exception):
    """A line of more bytes than are allowed."""


def open_text(path: Path, *, bounded: bool = True) -> io.BufferedReader:
    """A text file for reading as bytes, unpacked where its name ends in .gz.

    Where `bounded`, reading raises `LineTooLong` at a line of more than `LONGEST` bytes (a JSON array may be one line).
    """
    raw = cast(io.RawIOBase, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb", buffering=0))  # noqa: SIM115
    return io.BufferedReader(_Bounded(raw) if bounded else raw, BLOCK)


class _Bounded(io.RawIOBase):
    """A stream that counts the bytes since the last line end, block by block, so that lines cost nothing."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._unended = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; raises `LineTooLong`."""
        count = self._raw.readinto(buffer) or 0
        last = bytes(buffer[max(0, count - _TAIL) : count]).rfind(b"\n")
        if last >= 0:
            self._unended = min(count, _TAIL) - 1 - last
        else:
            last = bytes(buffer[:count]).rfind(b"\n")
            self._unended = self._unended + count if last < 0 else count - 1 - last
        if self._unended > LONGEST:
            raise LineTooLong
        return count

    def close(self) -> None:
        """Close the file too."""
        self._raw.close()
        super().close()
