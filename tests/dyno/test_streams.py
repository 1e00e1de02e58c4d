"""Terminals and pipes that close, fill or know only ASCII: the run and exit code stay right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dyno.stored_runs import StoredRun

DYNO = [sys.executable, "-m", "dyno.cli"]
# Ships, and differs by less than noise from its like: "≈" and "µ" are on the screen.
SHIPS = StoredRun(variants=("a", "b"), sections="slo: {latency_p95: 10s}")
AROUND = {
    "nobody reads": '"$@" 2>err | true',
    "one line is read": '"$@" 2>err | head -1 >/dev/null',
    "nothing is open": '"$@" <&- >&- 2>&-',
    "a full disk": '"$@" >/dev/full 2>err',
    "an ASCII terminal": 'LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii "$@" >out 2>err',
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield SHIPS.write(tmp_path_factory.mktemp("runs") / "made")


@pytest.mark.parametrize("how", AROUND)
def test_no_terminal_loses_a_run_or_changes_a_verdict(run: Path, tmp_path: Path, how: str) -> None:
    (run / "summary.json").unlink(missing_ok=True)
    line = f"set -o pipefail; {AROUND[how]}"
    done = subprocess.run(
        ["bash", "-c", line, "bash", *DYNO, "report", str(run), "--gate"], cwd=tmp_path, check=False
    )
    error = (tmp_path / "err").read_text() if (tmp_path / "err").exists() else ""
    assert done.returncode == 0, error
    assert {v["variant"] for v in json.loads((run / "summary.json").read_bytes())["variants"]} == {
        "a",
        "b",
    }
    assert error == (
        "error: standard output can't be written (No space left on device); "
        "results are in the run directory\n"
        if how == "a full disk"
        else ""
    )
    if how == "an ASCII terminal":
        shown = (tmp_path / "out").read_bytes().decode("ascii")
        assert "gate: open" in shown and "\n" in shown and "~ " in shown


def script(
    text: str, *, shell: str = '"$@"', environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    whole = f"from dyno.terminal import streams\nimport os, sys\nstreams.make_safe()\n{text}"
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", whole]
    return subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, **(environment or {})}
    )


def test_a_file_is_never_opened_as_a_closed_stream(tmp_path: Path) -> None:
    text = (
        f"file = open({str(tmp_path / 'journal')!r}, 'wb'); os.write(1, b'noise'); os.write(2, "
        "b'noise'); file.close()"
    )
    assert script(text, shell='"$@" <&- >&- 2>&-').returncode == 0
    assert (tmp_path / "journal").read_bytes() == b""


def test_signs_have_likes_in_ascii_and_json_stays_utf_8() -> None:
    done = script(
        "print('≈ 3 µs, 2 × 日')\nstreams.print_utf8('{\"name\": \"日\"}')",
        environment={"PYTHONIOENCODING": "ascii"},
    )
    assert (done.stdout, done.stderr) == (b"~ 3 us, 2 x ?\n" + '{"name": "日"}\n'.encode(), b"")
