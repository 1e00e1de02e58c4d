"""Locks a folder for one process. The kernel drops the lock when its owner ends."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from foundation.errors import BadInput
from foundation.files.atomic_write import sweep

FILE = ".lock"
# `check_free` of another process holds the lock for some microseconds.
_TRIES, _PAUSE_S = 10, 0.02


class Holder(msgspec.Struct, frozen=True):
    """The holder of a folder: process, machine, and start (ISO 8601 with the time zone)."""

    pid: int
    host: str
    since: str


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises BadInput that names another holder."""
    descriptor = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _lock(descriptor, fcntl.LOCK_EX):
            raise _busy(folder, descriptor)
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(
            descriptor, msgspec.json.encode(Holder(os.getpid(), platform.node(), now)) + b"\n", 0
        )
        sweep(folder)
        yield
    finally:
        os.close(descriptor)


def check_free(folder: Path) -> None:
    """Raises BadInput if a process is at work in the folder, which may be read-only."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        if not _lock(descriptor, fcntl.LOCK_SH):
            raise _busy(folder, descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return True
    return False


def _busy(folder: Path, descriptor: int) -> BadInput:
    try:
        holder = msgspec.json.decode(os.pread(descriptor, 1000, 0), type=Holder)
        who = f"process {holder.pid} on {holder.host} has been at work in it since {holder.since}"
    except msgspec.DecodeError:  # it has not written its name yet
        who = "another process is at work in it"
    return BadInput(f"{folder}: {who}; wait until it ends, or stop it")
