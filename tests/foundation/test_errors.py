"""A refusal is one clear line with exit code 3 (a bad place) or 4 (it broke during a run)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from foundation.errors import BadInput, DynoError, SystemFailed, refused_by_system


def error_of(number: int, file: str | None = "runs/a/summary.json") -> OSError:
    return (
        OSError(number, os.strerror(number), file) if file else OSError(number, os.strerror(number))
    )


@pytest.mark.parametrize(
    ("number", "kind", "line"),
    [
        (
            errno.ENOSPC,
            SystemFailed,
            "runs/a/summary.json: No space left on device; make room on its disk",
        ),
        (
            errno.EDQUOT,
            SystemFailed,
            "runs/a/summary.json: Disk quota exceeded; make room on its disk",
        ),
        (
            errno.EMFILE,
            SystemFailed,
            "runs/a/summary.json: Too many open files; allow more open files (ulimit -n)",
        ),
        (
            errno.EROFS,
            BadInput,
            "runs/a/summary.json: Read-only file system; name a place that can be written",
        ),
        (
            errno.EACCES,
            BadInput,
            "runs/a/summary.json: Permission denied; name a place that can be read and written",
        ),
        (
            errno.ENOENT,
            SystemFailed,
            "runs/a/summary.json: No such file or directory; it was moved, removed or never there",
        ),
    ],
)
def test_a_refusal_names_the_file_and_what_to_do(
    number: int, kind: type[DynoError], line: str
) -> None:
    refusal = refused_by_system(error_of(number))
    assert type(refusal) is kind and str(refusal) == line


def test_without_a_file_the_reason_stands_alone() -> None:
    assert (
        str(refused_by_system(error_of(errno.EMFILE, None)))
        == "Too many open files; allow more open files (ulimit -n)"
    )


@pytest.mark.parametrize(
    "error",
    [error_of(errno.ECONNREFUSED), error_of(errno.EPIPE), OSError("odd"), RuntimeError("odd")],
)
def test_what_is_about_no_file_stays_a_fault(error: OSError | RuntimeError) -> None:
    assert refused_by_system(error) is None


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises((OSError, RuntimeError)) as raised:
        loop.resolve(strict=True)
    refusal = refused_by_system(raised.value)
    assert (
        isinstance(refusal, BadInput)
        and str(refusal).startswith(f"{loop}: ")
        and "symbolic link" in str(refusal)
    )
