"""Parses the head of an HTTP/1.1 response and the framing of its body (RFC 9112, sections 4 to
6.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

HEAD_LIMIT = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*")


@dataclass(frozen=True)
class Head:
    """The facts of a head that matter for its body.

    `length`: bytes of the body, None where it is chunked or ends with the connection. `location`:
    the target of a redirect. `compression`: the content coding of the body, empty for none.
    """

    status: int
    chunked: bool
    length: int | None
    keep_alive: bool
    location: str | None = None
    compression: bytes = b""


@lru_cache(maxsize=64)
def parse_head(data: bytes) -> Head:
    """Parses a head without its closing empty line. Raises ValueError.

    The cache pays because most heads that a server sends within a second are equal.
    """
    first, *lines = data.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise ValueError(f"not an HTTP/1.1 status line: {first[:60]!r}")
    code = int(status[2])
    fields: dict[bytes, bytes] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise ValueError(f"not a header field: {line[:60]!r}")
        name = field[1].lower()
        fields[name] = fields[name] + b", " + field[2] if name in fields else field[2]
    options = {option.strip() for option in fields.get(b"connection", b"").lower().split(b",")}
    keep_alive = b"close" not in options and (status[1] == b"1" or b"keep-alive" in options)
    coding = fields.get(b"transfer-encoding", b"").lower()
    location = fields[b"location"].decode("latin-1") if b"location" in fields else None
    compression = fields.get(b"content-encoding", b"")
    if code in (204, 304) or code < 200:
        return Head(code, chunked=False, length=0, keep_alive=keep_alive)
    if coding:
        if coding != b"chunked":
            raise ValueError(f"transfer coding {coding[:40]!r}, which was not asked for")
        return Head(code, True, None, keep_alive, location, compression)
    if (length := fields.get(b"content-length")) is not None:
        if (
            len(lengths := {part.strip() for part in length.split(b",")}) != 1
            or not (one := lengths.pop()).isdigit()
        ):
            raise ValueError(f"content length {length[:40]!r}")
        return Head(code, False, int(one), keep_alive, location, compression)
    return Head(code, False, None, False, location, compression)
