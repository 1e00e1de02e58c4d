"""A terminal for tests: a pseudo-terminal that a command runs in, as a shell would start it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

PATIENCE_S = 60.0
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Terminal:
    """A command in a terminal of `columns`. `text`: all that it has written so far."""

    def __init__(
        self, *command: str, cwd: Path, columns: int = 120, environment: Mapping[str, str] = {}
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns)
        variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**variables, "TERM": "xterm", **environment},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.text = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def words(self) -> str:
        """What was written, without control sequences."""
        return _SEQUENCE.sub("", self.text)

    def resize(self, columns: int) -> None:
        size = struct.pack("HHHH", 40, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def read_until(self, words: str) -> str:
        """Reads until the command has written `words` (or, for "", until it ends)."""
        deadline = time.monotonic() + PATIENCE_S
        while not words or words not in self.words:
            assert time.monotonic() < deadline, self.words
            if select.select([self._master], [], [], 1.0)[0]:
                try:
                    more = os.read(self._master, 1 << 16)
                except OSError:  # the last process of the terminal is gone
                    more = b""
                if not more:
                    assert not words, self.words
                    self.process.wait(PATIENCE_S)
                    break
                self.text += more.decode("utf-8", "replace")
        return self.words


def _take_terminal() -> None:
    """Makes standard input the terminal whose Ctrl-C goes to this process and its children."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
