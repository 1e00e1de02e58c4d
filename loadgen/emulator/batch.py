"""Writes one piece to each of many connections, as an engine step does.

It is compiled where that was possible, else the same in Python.
"""

from __future__ import annotations

import os
import time

from loadgen.emulator.connection import ClientConnection


def send_all(connections: list[ClientConnection], pieces: list[bytes]) -> list[int]:
    """Writes the pieces in order. Returns the time just before each write (CLOCK_MONOTONIC, ns).

    The times are those that `ClientConnection.send` would return.
    """
    if not all(connection.clear for connection in connections):
        return [
            connection.send(piece) for connection, piece in zip(connections, pieces, strict=True)
        ]
    stamps, partial = send_each([connection.handle for connection in connections], pieces)
    for place, sent in partial:
        connections[place].follow_up(pieces[place], sent)
    return stamps


def send_each_in_python(
    fds: list[int], pieces: list[bytes]
) -> tuple[list[int], list[tuple[int, int]]]:
    """The times, and (place, bytes taken or -errno) of the pieces that were not taken whole."""
    stamps, partial = [], []
    for place, (fd, piece) in enumerate(zip(fds, pieces, strict=True)):
        stamps.append(time.monotonic_ns())
        try:
            sent = os.write(fd, piece)
        except OSError as error:
            sent = -(error.errno or 0)
        if sent != len(piece):
            partial.append((place, sent))
    return stamps, partial


try:
    from loadgen._compiled import send_each
except ImportError:
    send_each = send_each_in_python
