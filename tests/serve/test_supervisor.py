"""The supervisor leaves no process behind, whoever dies first. Its command starts programs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from serve import supervisor


def test_a_process_that_ends_while_its_threads_are_listed_has_no_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a run, or the supervisor's last sweep, would end with a fault."""
    listed = os.scandir

    def gone(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("/task"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert supervisor.children_of(os.getpid()) == []


# Starts a child, and a grandchild that leaves the session and outlives its own parent.
FAMILY = textwrap.dedent(
    """
    import os, signal, subprocess, sys, time
    {first}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
    print("ready", flush=True)
    {then}
    """
)


class Supervised:
    """A supervisor under a parent process of its own, so that the parent can be killed."""

    def __init__(self, folder: Path, first: str = "", then: str = "time.sleep(600)") -> None:
        program = folder / "family.py"
        self.folder = folder / "scratch"
        self.folder.mkdir()
        (self.folder / "left-behind").touch()
        program.write_text(FAMILY.format(first=first, then=then))
        parent = (
            "import subprocess, sys, time\n"
            f"p = subprocess.Popen([sys.executable, '-I', {supervisor.__file__!r}, "
            f"{str(self.folder)!r}, sys.executable, "
            f"{str(program)!r}],"
            " stdin=subprocess.PIPE, start_new_session=True)\n"
            "sys.stdin.readline(); p.stdin.close(); sys.exit(p.wait())\n"
        )
        self.parent = subprocess.Popen(
            [sys.executable, "-c", parent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.parent.stdout is not None
        assert self.parent.stdout.readline() == "ready\n"
        self.family = psutil.Process(self.parent.pid).children(recursive=True)

    @property
    def supervisors(self) -> list[psutil.Process]:
        """The first, which the parent started, and the second, which started the command."""
        return self.family[:2]

    def left(self) -> list[psutil.Process]:
        """Processes that remain after a wait. A zombie counts as gone."""
        deadline = time.monotonic() + 4 * supervisor.GRACE_S
        while (left := [p for p in self.family if _runs(p)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        while self.folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not self.folder.exists()
        return left


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def supervising(folder: Path, **program: str) -> Iterator[Supervised]:
    """Nothing of it goes on when this ends."""
    started = Supervised(folder, **program)
    try:
        yield started
    finally:
        for process in filter(_runs, started.family):
            process.kill()
        started.parent.kill()
        started.parent.wait()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with supervising(tmp_path) as started:
        assert len(started.family) == 5, (
            "two supervisors, command, its child, and the orphan that the second supervisor adopted"
        )
        yield started


def test_the_parent_closes_the_pipe(supervised: Supervised):
    supervised.parent.communicate("stop\n")
    assert supervised.left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_parent_is_killed(supervised: Supervised, number: signal.Signals):
    supervised.parent.send_signal(number)
    assert supervised.left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_supervisor_gets_a_signal_to_stop_twice(supervised: Supervised, number: signal.Signals):
    supervised.supervisors[0].send_signal(number)
    time.sleep(0.2)
    if supervised.supervisors[0].is_running():
        supervised.supervisors[0].send_signal(number)
    assert supervised.left() == []


@pytest.mark.parametrize("which", [0, 1])
def test_one_supervisor_is_killed_and_the_other_one_inherits(supervised: Supervised, which: int):
    supervised.supervisors[which].kill()
    assert supervised.left() == []


def test_both_supervisors_are_killed_and_the_command_dies_with_them(supervised: Supervised):
    """What the command started is then the next sweep's: `tests/foundation/test_scratch.py`."""
    command = supervised.family[2]
    for process in supervised.supervisors:
        process.kill()
    assert psutil.wait_procs([command], timeout=10)[1] == []


def test_a_command_that_ignores_sigterm_is_killed(tmp_path: Path):
    with supervising(tmp_path, first="signal.signal(signal.SIGTERM, signal.SIG_IGN)") as started:
        started.parent.communicate("stop\n")
        assert started.left() == []


def test_the_command_ends_by_itself_and_its_status_is_passed_on(tmp_path: Path):
    with supervising(tmp_path, then="sys.stdout.close(); time.sleep(1); os._exit(7)") as started:
        assert started.left() == []
        started.parent.communicate("\n")
        assert started.parent.returncode == 7
