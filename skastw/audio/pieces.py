"""Read parts of a file, and several parts as one file."""

import itertools
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import BinaryIO, TypeAlias

#: Bytes, or a range of a file: positions of its first byte and of the byte after its last.
Piece: TypeAlias = bytes | tuple[int, int]
#: Number of bytes that are searched at a time.
_WINDOW = 2**13


def read_at(file: BinaryIO, start: int, size: int) -> bytes:
    """Return ``size`` bytes of ``file`` from position ``start``, or fewer at its end.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.pieces import read_at
    >>> read_at(io.BytesIO(b"RIFF....WAVE"), 8, 100)
    b'WAVE'
    """
    file.seek(start)
    return file.read(size)


def find_all(file: BinaryIO, pattern: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the positions from ``start`` to ``end`` at which a pattern begins.

    Parameters
    ----------
    file : binary file
    pattern : bytes
        Regular expression for up to four bytes.
    start, end : int
        Positions of the first byte to search and of the byte after the last.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.pieces import find_all
    >>> list(find_all(io.BytesIO(b"one two three"), b"t[wh]", 0, 13))
    [4, 8]
    """
    for position in range(start, end, _WINDOW):
        window = read_at(file, position, _WINDOW + 3)
        for match in re.finditer(pattern, window, re.DOTALL):
            if match.start() < min(_WINDOW, end - position):
                yield position + match.start()


class Pieces:
    """A read-only file that consists of ranges of another file and of given bytes.

    Decoders written in C read it through callbacks. These must not raise an error, since Python would only print it. A
    seek to a position that does not exist is therefore ignored.

    Parameters
    ----------
    file : binary file
        File that the ranges refer to; it must stay open.
    pieces : sequence of bytes or (int, int)
        Content of this file in order. A pair is a range of ``file``: positions of its first byte and of the byte after
        its last.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.pieces import Pieces
    >>> Pieces(io.BytesIO(b"one two three"), [(0, 3), b" and ", (8, 13)]).read(100)
    b'one and three'
    """

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        self._file, self._pieces = file, pieces
        lengths = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._starts = [0, *itertools.accumulate(lengths)]
        self._position = 0

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}.get(whence, -1)
        if base >= 0 and base + offset >= 0:
            self._position = base + offset
        return self._position

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or fewer at the end. The memory depends on the bytes that exist."""
        blocks = []
        while size > 0 and self._position < self._starts[-1]:
            block = self._read_piece(size)
            if not block:  # the file became shorter
                break
            blocks.append(block)
            size -= len(block)
            self._position += len(block)
        return b"".join(blocks)

    def _read_piece(self, size: int) -> bytes:
        """Read at most ``size`` bytes from the piece at the current position."""
        index = bisect_right(self._starts, self._position) - 1
        piece, offset = self._pieces[index], self._position - self._starts[index]
        size = min(size, self._starts[index + 1] - self._position)

        if isinstance(piece, bytes):
            return piece[offset : offset + size]
        try:
            return read_at(self._file, piece[0] + offset, size)
        except (OSError, ValueError):
            return b""
