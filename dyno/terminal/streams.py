"""Standard streams that are open, take every character and never end a run: what was measured is on the disk."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

# What an ASCII terminal shows for the signs that dyno prints; "?" is a mark of its own.
_PLAIN = str.maketrans(
    {
        "≈": "~",
        "×": "x",
        "µ": "u",
        "→": "->",
        "−": "-",
        "–": "-",
        "—": "-",
        "≤": "<=",
        "≥": ">=",
        "…": "...",
    }
)


class _Outlet(io.FileIO):
    """A descriptor whose reader may go away, or whose disk may fill: the first `problem` is kept, what follows is dropped."""

    problem: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        if self.problem is None:
            try:
                return super().write(data)
            except OSError as error:
                self.problem = error
        return memoryview(data).nbytes


def steady() -> None:
    """Open the standard streams that are closed, and have the two that are written to lose no run.

    A closed one would be the number of the next file that is opened, and what a library prints would go into it. Streams
    that somebody has put in their place, such as a test, are left as they are.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(
                os.open(os.devnull, os.O_RDWR), True
            )  # gets the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(
            io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8"
        )
    codecs.register_error("plain", _plain)
    if sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__:
        sys.stdout, sys.stderr = _steadied(sys.stdout, 1), _steadied(sys.stderr, 2)
        os.environ["PYTHONIOENCODING"] = (
            "utf-8:replace"  # of child processes, which write into files and to us
        )


def _steadied(stream: TextIO | None, descriptor: int) -> TextIO:
    out = io.BufferedWriter(_Outlet(descriptor, "w", closefd=False))
    if not isinstance(stream, io.TextIOWrapper):
        return io.TextIOWrapper(out, encoding="utf-8", errors="plain")
    stream.flush()
    return io.TextIOWrapper(
        out,
        encoding=stream.encoding,
        errors="plain",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(c if c.isascii() else "?" for c in text), error.end


def put(text: str) -> None:
    """A line for another program on standard output: UTF-8, whatever the terminal takes."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def lost() -> str | None:
    """Why standard output did not take everything; None where it did, or where its reader chose to go."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    problem = raw.problem if isinstance(raw, _Outlet) else None
    if problem is None or problem.errno == errno.EPIPE:
        return None
    return (
        f"standard output can't be written ({problem.strerror}); results are in the run directory"
    )
