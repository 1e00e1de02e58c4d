"""Notes which functions of the code a Python calls.

Uses the standard library only: it is the `sitecustomize` of each process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from types import FrameType

FILE, TREE, CODE = "MUTATION_CALLS", "MUTATION_TREE", "MUTATION_CODE"


def note_calls() -> None:
    """Append `file:line` of each function once, at its first call: a process may be killed."""
    file, tree = os.environ[FILE], os.environ[TREE]
    prefixes = tuple(os.environ[CODE].split(os.pathsep))
    noted: set[tuple[str, int]] = set()

    def event(frame: FrameType, event: str, argument: object) -> None:
        place = frame.f_code.co_filename, frame.f_code.co_firstlineno
        if event != "call" or place in noted or not place[0].startswith(prefixes):
            return
        noted.add(place)
        # The run may be over, or no more files can be opened: the code goes on all the same.
        with contextlib.suppress(OSError):
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, f"{place[0][len(tree) + 1 :]}:{place[1]}\n".encode())
            os.close(descriptor)

    threading.setprofile(event)
    sys.setprofile(event)


if __name__ == "sitecustomize" and FILE in os.environ:
    note_calls()
