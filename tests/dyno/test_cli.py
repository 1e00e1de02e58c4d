"""The command line from outside: exit codes, and one clear line for a mistake."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.dyno import stored_runs
from tests.dyno.command_tables import commands


def dyno(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dyno.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


COMMANDS = (
    "run",
    "improve",
    "finetune",
    "quantize",
    "serve",
    "profile",
    "load",
    "baseline",
    "compare",
    "plan",
    "report",
    "doctor",
    "demo",
    "calibrate",
    "calibrate-model",
    "search",
    "merge",
)


def test_help_names_every_command(tmp_path: Path) -> None:
    shown = dyno("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in shown.stdout


def test_every_command_is_known_here() -> None:
    assert sorted(COMMANDS) == sorted(commands())


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    shown = dyno("--version", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (0, f"tunedyno {metadata.version('tunedyno')}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "none.yaml"], "error: none.yaml: no such file"),
        (["run"], "error: name an experiment file, or a run to go on with"),
        (["run", "--resume", "runs/none"], "error: runs/none: not a run directory"),
        (["report", "runs/none"], "error: runs/none: not a run directory"),
        (["plan", "runs/none", "--peak-rate", "5"], "error: runs/none: not a run directory"),
        (
            ["load", "--url", "http://127.0.0.1:1/v1", "--model", "m", "--prompt", "Q"],
            "error: write --rate",
        ),
        (
            ["load", "--url", "http://127.0.0.1:1/v1", "--model", "m", "--rate", "5"],
            "error: write one of --prompt TEXT, --data",
        ),
        (
            ["load", "--url", "127.0.0.1:1", "--model", "m", "--rate", "5", "--prompt", "Q"],
            "error: --url: '127.0.0.1:1': write",
        ),
        (
            [
                "load",
                "--url",
                "http://127.0.0.1:1/v1",
                "--model",
                "m",
                "--rate",
                "no",
                "--prompt",
                "Q",
            ],
            "error: --rate: write a rate",
        ),
        (
            ["baseline", "http://127.0.0.1:1/v1", "--prompt", "Q"],
            "error: with a URL, write --model",
        ),
        (["baseline", "./no-model", "--prompt", "Q"], "error: model: './no-model' is no folder"),
        (["baseline", "./no-model", "--prompt", " "], "error: --prompt: it is empty; write what"),
        (["run", "e.yaml", "--resume", "runs/none"], "error: --resume goes on with the experiment"),
        (
            ["search", "--url", "http://127.0.0.1:1/v1", "--model", "m", "--prompt", "Q"],
            "error: with --url, write --slo: what each request must keep",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_3(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = stored_runs.dyno(capsys, monkeypatch, *arguments)
    assert code == 3, error
    assert error.startswith(says), error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_unknown_option_is_exit_code_3(tmp_path: Path) -> None:
    done = dyno("run", "--gates", cwd=tmp_path)
    assert done.returncode == 3
    assert "--gate" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    assert "Traceback" in dyno("run", "none.yaml", "--debug", cwd=tmp_path).stderr
