"""Signals end any command with 130: it keeps what it measured and leaves no process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

LOAD = ["load", "--model", "m", "--prompt", "Say hello", "--warmup", "0s", "--blocks", "1"]


@contextmanager
def loading(
    folder: Path, url: str, *flags: str, before: Callable[[], object] | None = None
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dyno.cli", *LOAD, "--url", url, *flags]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=before,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_waiting_for_a_server_ends_at_once(silent: str, tmp_path: Path, number: int) -> None:
    with loading(tmp_path, silent, "--concurrency", "1", "--requests", "5") as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("reach servers"):
            assert line, "it ended before the signal"
        process.send_signal(number)
        shown, _ = process.communicate(timeout=40)  # the first answer may take 60 s
    assert process.returncode == 130
    assert shown.splitlines()[-1] == "interrupted; go on with: dyno run --resume runs/load"


FETCHES = """
import time
from concurrent.futures import ThreadPoolExecutor
from dyno.terminal.signals import end_as_ctrl_c, ending_now
end_as_ctrl_c()
with ending_now(), ThreadPoolExecutor() as pool:
    pool.submit(time.sleep, 3600)
    print("fetching", flush=True)
"""


def test_the_threads_of_a_library_are_not_waited_for() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FETCHES], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "fetching\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(40) == 130
        finally:
            process.kill()


def test_a_hang_up_in_a_load_ends_its_journal(calm_url: str, tmp_path: Path) -> None:
    with loading(tmp_path, calm_url, "--concurrency", "2", "--duration", "120s") as process:
        journal = wait_for_records(tmp_path, process)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=40)
    assert process.returncode == 130
    *_, last = journal.read_text().splitlines()
    assert json.loads(last)["end"] == "interrupted"


def test_a_hang_up_that_is_ignored_stays_so(calm_url: str, tmp_path: Path) -> None:
    """As `nohup` does."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with loading(
        tmp_path, calm_url, "--concurrency", "2", "--requests", "8", before=ignore
    ) as process:
        wait_for_records(tmp_path, process)
        process.send_signal(signal.SIGHUP)
        shown, _ = process.communicate(timeout=100)
    assert process.returncode == 0, shown


def wait_for_records(folder: Path, process: subprocess.Popen[str]) -> Path:
    while True:
        for journal in folder.glob("runs/load/load/*/*/block-01.jsonl"):
            if journal.read_bytes().count(b"\n") > 3:
                return journal
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
