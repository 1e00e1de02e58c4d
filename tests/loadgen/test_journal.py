"""A journal that can't be written any more ends its block at once, with one line that names it."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.errors import SystemFailed
from tests.loadgen.conftest import RunBlock, StartEmulator

LONG = {"rate": 100, "duration": "60s"}


def write_little(path: Path) -> None:
    """The header and a few records; workers inherit it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def remove_soon(path: Path) -> None:
    def remove() -> None:
        while not path.exists():
            time.sleep(0.02)
        path.unlink()

    threading.Thread(target=remove, daemon=True).start()


@pytest.mark.parametrize(
    ("harm", "workers", "says"),
    [
        (write_little, 1, "File too large; allow larger files"),
        (write_little, 2, "File too large; allow larger files"),
        (remove_soon, 1, "was moved or removed while the load went on"),
    ],
)
def test_a_lost_journal_ends_the_load(
    emulator: StartEmulator,
    block: RunBlock,
    tmp_path: Path,
    harm: Callable[[Path], None],
    workers: int,
    says: str,
) -> None:
    server = emulator("--tokens", "1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    harm(tmp_path / "block.jsonl")
    try:
        with pytest.raises(SystemFailed, match=says) as lost:
            block(server.endpoint, LONG, workers=workers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(lost.value).startswith(str(tmp_path / "block.")) and "\n" not in str(lost.value)
    assert len(server.truth()) < 3_000  # of 6,000
