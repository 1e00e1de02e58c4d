"""Decodes chunked transfer coding from bytes in pieces of any size (RFC 9112, section 7.1)."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice

_LINE_LIMIT = 16 * 1024
_PLAIN = re.compile(rb"[0-9A-Fa-f]{1,8}")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")


class ChunkedDecoder:
    """Takes raw bytes and returns their contents. Chunk extensions and trailers are skipped.

    `finished`: the last chunk was read. `surplus`: bytes came after it. `wrong`: why the bytes are
    no chunked coding.
    """

    def __init__(self) -> None:
        self.wrong: str | None = None
        self.finished = False
        self.surplus = False
        self._held = b""
        self._left = 0
        self._after_data = False
        self._in_trailer = False
        self._at_rest = True

    def take_off(self, pieces: list[bytes]) -> list[bytes]:
        """The contents of each piece. Fewer than the pieces where one is `wrong`."""
        bodies: list[bytes] = []
        try:
            while len(bodies) < len(pieces):
                if self._at_rest:
                    bodies += whole_chunks(pieces, len(bodies))
                if len(bodies) < len(pieces):
                    bodies.append(self.feed(pieces[len(bodies)]))
        except ValueError as error:
            self.wrong = str(error)
        return bodies

    def feed(self, data: bytes) -> bytes:
        """The contents of one piece. Raises ValueError where the bytes are no chunked coding."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces = []
        at, end = 0, len(data)
        while at < end and not self.finished:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._after_data = not self._left
                continue
            newline = data.find(b"\r\n", at, at + _LINE_LIMIT)
            if newline < 0:
                if end - at >= _LINE_LIMIT or (self._after_data and data[at:] != b"\r"):
                    raise ValueError(
                        f"no line end where a chunk's should be: {data[at : at + 40]!r}"
                    )
                self._held = data[at:]
                break
            line = data[at:newline]
            at = newline + 2
            if self._after_data:
                if line:
                    raise ValueError(f"a chunk is longer than its size says: {line[:40]!r}")
                self._after_data = False
            elif self._in_trailer:
                self.finished = not line
            else:
                self._left = _size(line)
                self._in_trailer = not self._left
        self.surplus = self.finished and (self.surplus or at < end)
        self._at_rest = not (self._held or self._left or self._after_data or self._in_trailer)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def whole_chunks_in_python(pieces: list[bytes], start: int) -> list[bytes]:
    """The contents of the pieces from `start` on that are one whole chunk without extension.

    Most are. It stops at the first other piece.
    """
    bodies = []
    for piece in islice(pieces, start, None):
        size, _, rest = piece.partition(b"\r\n")
        if (
            not _PLAIN.fullmatch(size)
            or not 2 < len(rest) == int(size, 16) + 2
            or rest[-2:] != b"\r\n"
        ):
            break
        bodies.append(rest[:-2])
    return bodies


try:
    from loadgen._compiled import whole_chunks
except ImportError:
    whole_chunks = whole_chunks_in_python


@lru_cache(maxsize=4096)
def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not _HEX.fullmatch(digits):
        raise ValueError(f"not a chunk size: {line[:40]!r}")
    return int(digits, 16)
