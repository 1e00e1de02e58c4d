"""Files are the old one or the new one, whatever ends the writing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.files.atomic_write import sweep, whole_file, write_whole


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    write_whole(file, "old")
    with pytest.raises(ZeroDivisionError), whole_file(file) as place:
        place.write_bytes(b"half of the ne")
        raise ZeroDivisionError
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_what_is_being_written_does_not_bear_the_name(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    with whole_file(file) as place:
        place.write_bytes(b"new")
        assert not file.exists() and place.parent == tmp_path
    assert file.read_bytes() == b"new"


def test_a_killed_writers_part_is_swept(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; "
        "from foundation.files.atomic_write import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as place:\n"
        "    place.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    below = tmp_path / "load" / "base"
    below.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-c", code, below / "requests.parquet"], check=False, env={**os.environ}
    )
    assert len(list(below.iterdir())) == 1 and not (below / "requests.parquet").exists()
    sweep(tmp_path)
    assert list(below.iterdir()) == []


def test_text_is_utf_8_and_half_a_character_loses_no_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "µ ≈ 日本 \ud800\n")
    assert (tmp_path / "text").read_bytes() == "µ ≈ 日本 ?\n".encode()


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    write_whole(tmp_path / "link", "one")
    write_whole(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink() and (
        tmp_path / "elsewhere" / "file"
    ).read_text() == "two"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from foundation.files.atomic_write import write_whole; "
        "write_whole(Path('/dev/stdout'), 'to the pipe')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("to the pipe", "")
    shell = tmp_path / "shell.txt"
    with shell.open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
        assert (
            shell.stat().st_ino == os.fstat(out.fileno()).st_ino
        )  # what the shell has opened was not replaced
    assert shell.read_text() == "to the pipe"


def test_the_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as refused:
        write_whole(tmp_path / "none" / "file", "x")
    assert (refused.value.errno, refused.value.filename) == (
        errno.ENOENT,
        str(tmp_path / "none" / "file"),
    )
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError) as refused:
        write_whole(tmp_path / "loop" / "file", "x")
    assert (refused.value.errno, refused.value.filename) == (
        errno.ELOOP,
        str(tmp_path / "loop" / "file"),
    )
    (tmp_path / "full").mkdir()
    with pytest.raises(OSError) as refused, whole_file(tmp_path / "full" / "file") as place:
        place.touch()
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
    assert (refused.value.errno, refused.value.filename) == (
        errno.ENOSPC,
        str(tmp_path / "full" / "file"),
    )
