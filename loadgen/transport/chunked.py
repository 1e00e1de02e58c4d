"""Chunked transfer coding taken off bytes that come in any pieces (RFC 9112, section 7.1)."""

from __future__ import annotations

import re
from functools import lru_cache

_LINE_LIMIT = 16 * 1024
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")


class ChunkedDecoder:
    """Feed it raw bytes; it gives back what they carry. Chunk extensions and trailers are skipped.

    `finished`: the last chunk was read. `surplus`: bytes came after it.
    """

    def __init__(self) -> None:
        self.finished = False
        self.surplus = False
        self._held = b""
        self._left = 0
        self._after_data = False
        self._in_trailer = False
        self._at_rest = True

    def feed(self, data: bytes) -> bytes:
        """Raises ValueError where the bytes are no chunked coding."""
        if self._at_rest:  # most pieces are one whole chunk
            start = data.find(b"\r\n", 0, 20) + 2
            if start > 2 and start + _size(data[: start - 2]) + 2 == len(data) > start + 2 and data.endswith(b"\r\n"):
                return data[start:-2]
        return self._feed(data)

    def _feed(self, data: bytes) -> bytes:
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
                    raise ValueError(f"no line end where a chunk's should be: {data[at : at + 40]!r}")
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


@lru_cache(maxsize=4096)
def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not _HEX.fullmatch(digits):
        raise ValueError(f"not a chunk size: {line[:40]!r}")
    return int(digits, 16)
