"""Makes the standard streams safe: open, able to print every character, never the end of a run."""

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
    """A descriptor that drops everything after its first `problem`, such as a closed pipe."""

    problem: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        if self.problem is None:
            try:
                return super().write(data)
            except OSError as error:
                self.problem = error
        return memoryview(data).nbytes


def make_safe() -> None:
    """Opens closed standard streams, and lets no failed write to one end a run.

    The next file to be opened would get a closed stream's number, and a library's prints would go
    into it. Streams that replace the standard ones, as in a test, stay as they are.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The new file gets the lowest free number, which is `descriptor`.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(
            io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8"
        )
    codecs.register_error("plain", _plain)
    if sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__:
        sys.stdout, sys.stderr = _safe(sys.stdout, 1), _safe(sys.stderr, 2)
        # For child processes, which write to files and to us.
        os.environ["PYTHONIOENCODING"] = "utf-8:replace"


def _safe(stream: TextIO | None, descriptor: int) -> TextIO:
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


def print_utf8(text: str) -> None:
    """Prints a line for another program on standard output, in UTF-8 whatever the locale says."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def output_problem() -> str | None:
    """Why standard output is incomplete; None if it is complete, or if its reader closed it."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    problem = raw.problem if isinstance(raw, _Outlet) else None
    if problem is None or problem.errno == errno.EPIPE:
        return None
    return (
        f"standard output can't be written ({problem.strerror}); results are in the run directory"
    )
