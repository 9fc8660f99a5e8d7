"""Pieces of a file, and bytes between them, as one file."""

from __future__ import annotations

import io
import itertools
import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, BinaryIO, TypeAlias

__all__ = ["Piece", "Pieces"]

#: Bytes as they are, or positions in a file: of the first byte, and of the one after the last.
Piece: TypeAlias = bytes | tuple[int, int]


class Pieces(io.RawIOBase):
    """A file of which some pieces are read, one after the other.

    Decoders written in C read it through callbacks, which must not raise: Python would print a traceback. A seek to
    a place that does not exist changes nothing.

    Parameters
    ----------
    file : binary file
        The file of the pieces; it must stay open.
    pieces : sequence of bytes or (int, int)
        Bytes as they are, or positions in ``file``: of a first byte, and of the one after the last.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.pieces import Pieces
    >>> Pieces(io.BytesIO(b"one two three"), [(0, 3), b" and ", (8, 13)]).read()
    b'one and three'
    """

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        self._file, self._pieces = file, pieces
        lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._starts = [0, *itertools.accumulate(lengths)]
        self._position = 0

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._starts[-1]

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that reading can go on anywhere."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence, -1)
        if base >= 0 and base + offset >= 0:
            self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there are bytes; return their number."""
        view, n_read = memoryview(buffer).cast("B"), 0
        while n_read < len(view) and self._position < self.size:
            block = self._read_piece(len(view) - n_read)
            if not block:  # the file became shorter
                break
            view[n_read : n_read + len(block)] = block
            n_read += len(block)
            self._position += len(block)
        return n_read

    def _read_piece(self, size: int) -> bytes:
        """Read from the piece at this position, not beyond its end."""
        index = bisect_right(self._starts, self._position) - 1
        piece, offset = self._pieces[index], self._position - self._starts[index]
        size = min(size, self._starts[index + 1] - self._position)
        if isinstance(piece, bytes):
            return piece[offset : offset + size]
        try:
            self._file.seek(piece[0] + offset)
            return self._file.read(size)
        except (OSError, ValueError):
            return b""
