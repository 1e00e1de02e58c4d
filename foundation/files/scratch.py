"""Temporary folders that die with their owner: `with scratch() as folder`.

Each folder has a lock beside it, which its owner holds until it ends, however it ends. The next
process sweeps what a dead owner left: first the processes that work in the folder, then the folder.
It leaves alone a folder without a lock, with a held lock, or of another user.

Standard library only, since `serve.supervisor` runs on nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.processes.resource_tracker import TRACKER_PATIENCE_S, is_resource_tracker

PREFIX = "tunedyno-"
LOCK = ".lock"
# A socket's path has at most 107 characters; vLLM's own part takes 37.
_LONGEST_ROOT = 50
_PATIENCE_S = 5.0
# `serve.supervisor` takes 7 seconds at most to end its command and what that shares.
_TO_END_S = 8.0


@contextmanager
def scratch(root: Path | None = None) -> Iterator[Path]:
    """A new folder below `root` (default: the system's temporary folder), removed at the end.

    First removes what dead owners left below `root`.
    """
    root = root or temporary_root()
    sweep_dead(root)
    lock, folder = _locked(root)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        sweep(folder)
        folder.with_suffix(LOCK).unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def own_temporary_files() -> Iterator[Path]:
    """Puts all temporary files of this process and its children into a scratch folder."""
    before = os.environ.get("TMPDIR")
    with scratch() as folder:
        os.environ["TMPDIR"], tempfile.tempdir = str(folder), None
        try:
            yield folder
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
            tempfile.tempdir = None


def temporary_root() -> Path:
    """The folder for temporary files: $TMPDIR, unless its path is too long for a socket."""
    root = Path(tempfile.gettempdir()).resolve()
    return (
        root if len(str(root)) <= _LONGEST_ROOT or not os.access("/tmp", os.W_OK) else Path("/tmp")
    )


def outer_temporary_folder() -> Path:
    """The folder for temporary files of other programs, outside of our own scratch folder."""
    folder = Path(tempfile.gettempdir())
    return folder.parent if folder.name.startswith(PREFIX) else folder


def sweep_dead(root: Path) -> None:
    """Remove the folders below `root` whose owner is dead, and end the processes in them.

    Sends SIGTERM first: each supervisor there has more to clear away than the folder.
    """
    for path in root.glob(f"{PREFIX}{'[0-9a-f]' * 8}{LOCK}"):
        with contextlib.suppress(OSError):  # another user's, or this filesystem knows no locks
            if (lock := _lock(path)) is not None:
                if os.fstat(lock).st_uid == os.geteuid():  # anybody can put a lock into /tmp
                    folder = path.with_suffix("")
                    _signal(folder, signal.SIGTERM, _TO_END_S)
                    sweep(folder)
                    path.unlink(missing_ok=True)
                os.close(lock)


def sweep(folder: Path) -> None:
    """Kill the processes whose working directory is the folder or lies below it, then remove it.

    Resource trackers get time to remove the shared memory of the others.
    """
    _signal(folder, signal.SIGKILL, TRACKER_PATIENCE_S, is_spared=is_resource_tracker)
    _signal(folder, signal.SIGKILL, _PATIENCE_S)
    shutil.rmtree(folder, ignore_errors=True)


def _signal(
    folder: Path,
    number: signal.Signals,
    patience: float,
    is_spared: Callable[[int], bool] = lambda pid: False,
) -> None:
    """Send each process in the folder a signal once; wait at most `patience` seconds for all.

    `is_spared`: whether a process, by its id, gets no signal.
    """
    signalled: set[int] = set()
    deadline = time.monotonic() + patience
    while (pids := set(processes_in(folder))) and time.monotonic() < deadline:
        for pid in pids - signalled:
            with contextlib.suppress(ProcessLookupError):
                if not is_spared(pid):
                    os.kill(pid, number)
        signalled |= pids
        time.sleep(0.01)


def processes_in(folder: Path) -> list[int]:
    """Other processes that work in the folder and that this user may see; none without /proc."""
    inside = str(folder.parent.resolve() / folder.name)  # a link's target is not ours
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            # The kernel appends " (deleted)" to the name of a removed folder.
            at = str((entry / "cwd").readlink()).removesuffix(" (deleted)")
            if (at == inside or at.startswith(f"{inside}/")) and int(entry.name) != os.getpid():
                pids.append(int(entry.name))
    return [pid for pid in pids if not _is_zombie(pid)]


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return status.rpartition(")")[2].split()[0] == "Z"
    return True


def _locked(root: Path) -> tuple[int | None, Path]:
    """A new lock, and the path of its folder, which does not exist yet.

    None for the lock if the filesystem has no locks; then only its owner sweeps the folder.
    """
    while True:
        folder = root / f"{PREFIX}{secrets.token_hex(4)}"
        path = folder.with_suffix(LOCK)
        path.touch(mode=0o600, exist_ok=False)
        try:
            lock = _lock(path)
        except OSError:
            path.unlink()
            return None, folder
        if lock is not None:
            return lock, folder


def _lock(path: Path) -> int | None:
    """The descriptor that holds the file's lock until it is closed.

    None if another process holds the lock or has removed the file. Raises OSError if the
    filesystem has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
