"""Parses server-sent events from bytes in pieces of any size.

Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

import re
from itertools import islice

Event = tuple[bytes, bytes]
"""(type, data): the `event:` field, empty without one, and the `data:` lines joined by newlines."""

BARE = b"bare"
_BOM = b"\xef\xbb\xbf"
# JSON can't go on where one object ends and the next begins, so the empty line between two events
# is missing there.
_RUN_ON = re.compile(rb"\}\ndata: ?(?:\{|\[DONE\])")
_OBJECT_LINE = re.compile(rb"^(data: ?\{.*\}\n)", re.MULTILINE)
_LONGEST_RUN_ON = 14


class SseParser:
    """Takes bytes as they arrive and returns each event once its closing empty line has come.

    It never decodes the bytes. Three things go beyond the standard, because servers do them. An
    `error:` field is an error event. An event without data that has a line of bare JSON has the
    type BARE. Where events follow one another without an empty line (`run_on`), each line that is a
    JSON object is an event.
    """

    def __init__(self) -> None:
        self.run_on = False
        self._begun = False
        self._held = bytearray()
        self._after_cr = False

    @property
    def held(self) -> bytes:
        """The bytes after the last whole event."""
        return bytes(self._held)

    @property
    def held_bytes(self) -> int:
        """How many bytes are held."""
        return len(self._held)

    @property
    def ends_line(self) -> bool:
        """Whether the held bytes end with a line end."""
        return self._held.endswith(b"\n")

    def last_line(self) -> bytes:
        """The data of the held bytes if they are one `data:` line, else empty.

        Such a line is an event without its end, or the middle of one.
        """
        line = bytes(self._held).strip()
        return (
            line[5:].removeprefix(b" ") if line.startswith(b"data:") and b"\n" not in line else b""
        )

    def drop(self) -> None:
        """Forgets the held bytes."""
        self._held.clear()

    def take_whole(self, pieces: list[bytes], start: int) -> list[bytes]:
        """The data of pieces from `start` on that are whole events of one `data: ` line, as most
        are.

        It stops at the first other piece, which `feed` takes.
        """
        if self._held or not (data := whole_events(pieces, start)):
            return []
        self._after_cr = False
        self._begun = True
        return data

    def feed(self, data: bytes) -> list[Event]:
        """Takes one piece and returns the events that it completes."""
        if not self._begun:
            data = bytes(self._held) + data
            self._held.clear()
            self._begun = not _BOM.startswith(data)
            if not self._begun:
                self._held += data
                return []
            data = data.removeprefix(_BOM)
        if self._after_cr or b"\r" in data:
            data = self._one_newline(data)
        held = self._held
        if b"\n" in data if self.run_on else b"}\ndata:" in bytes(held[-_LONGEST_RUN_ON:]) + data:
            data = self._separated(data)
        if held:
            seen = max(0, len(held) - 1)
            held += data
            end = held.rfind(b"\n\n", seen)
            if end < 0:
                return []
            data = bytes(held[:end])
            del held[: end + 2]
        else:
            end = data.rfind(b"\n\n")
            if end < 0:
                held += data
                return []
            held += data[end + 2 :]
            data = data[:end]
        events = []
        for block in data.split(b"\n\n"):
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append((b"", block[6:]))
            elif event := _event(block):
                events.append(event)
        return events

    def _separated(self, data: bytes) -> bytes:
        """The held bytes and `data`, with an empty line after each object, if events run on; else
        `data`.
        """
        whole, start = bytes(self._held) + data, 0
        if not self.run_on:
            if (place := _RUN_ON.search(whole)) is None:
                return data
            self.run_on = True
            start = (
                whole.rfind(b"\n\n", 0, place.start()) + 2
                if b"\n\n" in whole[: place.start()]
                else 0
            )
        self._held.clear()
        return whole[:start] + _OBJECT_LINE.sub(rb"\1\n", whole[start:])

    def _one_newline(self, data: bytes) -> bytes:
        r"""Turns `\r\n` and `\r` into `\n`, also where a `\r\n` is split over two pieces."""
        if self._after_cr and data.startswith(b"\n"):
            data, self._after_cr = data[1:], False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def whole_events_in_python(pieces: list[bytes], start: int) -> list[bytes]:
    """The data of the pieces from `start` on, up to the first that is no whole one-line event."""
    data = []
    for piece in islice(pieces, start, None):
        if (
            piece[:6] != b"data: "
            or piece[-2:] != b"\n\n"
            or piece.find(b"\n") != len(piece) - 2
            or b"\r" in piece
        ):
            break
        data.append(piece[6:-2])
    return data


try:
    from loadgen._compiled import whole_events
except ImportError:
    whole_events = whole_events_in_python


def _event(block: bytes) -> Event | None:
    kind, lines, bare = b"", [], b""
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            kind = value
        elif field == b"error":
            kind = b"error"
            lines.append(value)
        elif line[:1] == b"{" and line[-1:] == b"}":
            bare = line
    if lines or kind == b"error":
        return kind, b"\n".join(lines)
    return (BARE, bare) if bare else None
