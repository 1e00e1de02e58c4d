"""A dead owner's temporary folder is swept with its processes; a living owner's stays."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from foundation.files.scratch import (
    own_temporary_files,
    processes_in,
    scratch,
    sweep_dead,
    temporary_root,
)

OWNER = """
import subprocess, sys
from pathlib import Path
from foundation.files.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").touch()
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(sleep, cwd=folder / "inner", start_new_session=True)
    print(folder, child.pid, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def owner(root: Path) -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    """A process that owns a folder, in which a child of it works that outlives it."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        folder, pid = process.stdout.readline().split()
        child = psutil.Process(int(pid))
        try:
            yield process, Path(folder), child.pid
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    finally:
        process.kill()
        process.wait()


def runs(pid: int) -> bool:
    """A zombie does not: only its new parent has not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_folder_is_gone_when_its_owner_is_done(tmp_path: Path):
    with scratch(tmp_path) as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_the_owner_ends_and_takes_its_processes_with_it(tmp_path: Path):
    with owner(tmp_path) as (process, _, child):
        process.communicate("\n")
        assert not runs(child)
    assert list(tmp_path.iterdir()) == []


def test_the_next_owner_sweeps_what_a_killed_one_left(tmp_path: Path):
    with owner(tmp_path) as (process, folder, child):
        process.kill()
        process.wait()
        assert runs(child) and (folder / "inner" / "file").exists()
        with scratch(tmp_path) as own:
            assert not runs(child)
            assert sorted(tmp_path.iterdir()) == sorted([own, own.with_suffix(".lock")])


# As a supervisor does, which has shared memory to remove.
CLEARS_AWAY = """
import pathlib, signal, sys, time
def clear_away(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).touch()
    sys.exit()
signal.signal(signal.SIGTERM, clear_away)
print("ready", flush=True)
time.sleep(600)
"""


def test_what_a_dead_owner_left_may_clear_away_first(tmp_path: Path):
    folder, cleared = tmp_path / "tunedyno-12345678", tmp_path / "cleared"
    folder.mkdir()
    folder.with_suffix(".lock").touch()
    with subprocess.Popen(
        [sys.executable, "-c", CLEARS_AWAY, str(cleared)], cwd=folder, stdout=subprocess.PIPE
    ) as left:
        assert left.stdout is not None
        left.stdout.readline()
        sweep_dead(tmp_path)
        assert not runs(left.pid)
    assert list(tmp_path.iterdir()) == [cleared]


def test_what_a_living_owner_has_is_left_alone(tmp_path: Path):
    with owner(tmp_path) as (_, folder, child):
        sweep_dead(tmp_path)
        assert runs(child) and (folder / "inner" / "file").exists()
        assert processes_in(folder) == [child]


def test_what_has_no_lock_of_ours_is_left_alone(tmp_path: Path):
    names = [
        "tunedyno-12345678",
        "tunedyno-results",
        "tunedyno-results.lock",
        "tunedyno-notes.txt",
        "other.lock",
        "tmpabc",
    ]
    for name in names[:2]:
        (tmp_path / name).mkdir()
    for name in names[2:]:
        (tmp_path / name).touch()
    with scratch(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / "tunedyno-12345678").symlink_to(precious)
    (tmp_path / "tunedyno-12345678.lock").touch()
    with subprocess.Popen(["sleep", "600"], cwd=precious) as at_work:
        try:
            sweep_dead(tmp_path)
            assert (precious / "file").exists() and runs(at_work.pid)
        finally:
            at_work.kill()


def test_what_another_user_put_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tunedyno-12345678").mkdir()
    (tmp_path / "tunedyno-12345678.lock").touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    sweep_dead(tmp_path)
    assert (tmp_path / "tunedyno-12345678").exists()
    monkeypatch.undo()
    sweep_dead(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_this_process_and_its_children_lie_in_the_folder():
    before = tempfile.gettempdir()
    with own_temporary_files() as folder:
        assert tempfile.gettempdir() == str(folder)
        command = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
        assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == str(folder)
    assert tempfile.gettempdir() == before and not folder.exists()


def test_a_root_too_long_for_a_socket_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert temporary_root() == Path("/tmp")
    assert os.access(temporary_root(), os.W_OK)
