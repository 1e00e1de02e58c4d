"""A folder's lock names the process that works in it, and ends with that process."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.files.folder_lock import check_free, locked

HOLDS = """
import sys
from pathlib import Path
from foundation.files.folder_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> None:
    with locked(folder):
        pass


@pytest.mark.parametrize("use", [hold, check_free])
def test_the_second_process_is_told_who_holds_it_and_a_killed_one_holds_nothing(
    tmp_path: Path, use: Callable[[Path], None]
) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        with pytest.raises(BadInput) as refused:
            use(tmp_path)
        assert str(refused.value).startswith(
            f"{tmp_path}: process {first.pid} on {platform.node()} has been at work in it since 20"
        )
        assert "\n" not in str(refused.value)
        first.kill()
    use(tmp_path)


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_half_written_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".summary.json.1234.unfinished").write_text("ha")
    (tmp_path / "summary.json").write_text("whole")
    hold(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "summary.json"]


def test_a_holder_that_has_not_said_who_it_is_is_told_so(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(BadInput, match="another process is at work in it"):
            check_free(tmp_path)
