"""Decodes content codings of a body (RFC 9110, section 8.4.1).

Some proxies compress although the request accepts only `identity`.
"""

from __future__ import annotations

import zlib

_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_RAW = -15


class Inflater:
    """Takes the pieces of a compressed body and returns their contents.

    `wrong`: why the bytes are not in that coding.
    """

    def __init__(self, coding: bytes) -> None:
        self.wrong: str | None = None
        self._window = _WINDOW.get(coding)
        if self._window is None:
            self.wrong = (
                f"content coding {coding[:40].decode('latin-1')!r}, which was not asked for"
            )
        else:
            self._member = zlib.decompressobj(self._window)
        self._fresh = True

    def take_off(self, pieces: list[bytes]) -> list[bytes]:
        """The contents of each piece. Fewer than the pieces where one is `wrong`."""
        bodies: list[bytes] = []
        try:
            while len(bodies) < len(pieces) and self._window is not None:
                bodies.append(self._inflate(pieces[len(bodies)]))
        except zlib.error as error:
            self.wrong = str(error)
        return bodies

    def _inflate(self, data: bytes) -> bytes:
        assert self._window is not None
        if (
            self._fresh
            and data
            and self._window == _WINDOW[b"deflate"]
            and data[0] & 0x0F != zlib.DEFLATED
        ):
            self._window = _RAW  # many servers send raw deflate under that name
            self._member = zlib.decompressobj(_RAW)
        self._fresh = self._fresh and not data
        body = self._member.decompress(data)
        while self._member.unused_data.strip(b"\0"):
            data = self._member.unused_data
            self._member = zlib.decompressobj(self._window)
            body += self._member.decompress(data)
        return body


def inflater(coding: bytes) -> Inflater | None:
    """The decoder for the value of a `Content-Encoding` field; None where the body is not coded."""
    coding = coding.strip().lower()
    return None if coding in (b"", b"identity") else Inflater(coding)
