"""A stage in a process of its own: what comes back, and what is said when nothing does."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dyno.own_process import isolated
from foundation.errors import BadInput, SystemFailed
from foundation.files.atomic_write import whole_file
from foundation.progress import Progress

PATHS = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


class Told:
    """Keeps what a stage tells."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def stage(self, name: str, total: float | None, unit: str) -> None:
        self.calls.append(("stage", name, total, unit))

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.calls.append(("advance", amount, note))

    def log(self, line: str) -> None:
        self.calls.append(("log", line))


def counts(upto: int, progress: Progress) -> int:
    progress.stage("count", upto, "steps")
    for _ in range(upto):
        progress.advance(1, "on")
    progress.log("done")
    print("noise from a library")
    return os.getpid()


def refuses(progress: Progress) -> None:
    raise BadInput("data.jsonl:3: empty line")


def breaks(progress: Progress) -> None:
    raise ZeroDivisionError("by zero")


def is_killed(progress: Progress) -> None:
    print("the last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends(progress: Progress) -> None:
    progress.log(str(os.getpid()))
    time.sleep(600)


def test_result_and_progress_come_back_and_noise_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Told()
    assert isolated(counts, 2, progress=told, log=tmp_path / "logs" / "count.log") != os.getpid()
    assert told.calls == [
        ("stage", "count", 2, "steps"),
        ("advance", 1, "on"),
        ("advance", 1, "on"),
        ("log", "done"),
    ]
    assert capfd.readouterr().out == ""
    assert "noise" in (tmp_path / "logs" / "count.log").read_text()


def test_a_clear_error_stays_clear(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^data.jsonl:3: empty line$"):
        isolated(refuses, progress=Told(), log=tmp_path / "log")


def test_a_fault_names_its_kind_and_carries_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(SystemFailed, match="breaks: ZeroDivisionError: by zero") as error:
        isolated(breaks, progress=Told(), log=tmp_path / "log")
    assert "test_own_process.py" in error.value.detail


def test_a_killed_process_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(SystemFailed, match="memory ran out") as error:
        isolated(is_killed, progress=Told(), log=tmp_path / "log")
    assert "the last words" in error.value.detail


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int] = []

    class Interrupts(Told):
        def log(self, line: str) -> None:
            pids.append(int(line))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        isolated(never_ends, progress=Interrupts(), log=tmp_path / "log")
    assert not psutil.pid_exists(pids[0])


def fills_the_disk(progress: Progress) -> None:
    with whole_file(Path("adapter")) as place:
        place.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        SystemFailed, match=r"^adapter: No space left on device; make room on its disk$"
    ):
        isolated(fills_the_disk, progress=Told(), log=tmp_path / "log")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_dyno_ends_the_stage_too(tmp_path: Path, number: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from dyno.terminal.signals import end_as_ctrl_c\n"
        "from dyno.own_process import isolated\n"
        "from tests.dyno.test_own_process import Told, never_ends\n"
        "class Prints(Told):\n"
        "    def log(self, line): print(line, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    end_as_ctrl_c()\n"
        "    isolated(never_ends, progress=Prints(), log=Path('log'))\n"
    )
    with subprocess.Popen(
        [sys.executable, script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=PATHS,
    ) as process:
        assert process.stdout is not None
        try:
            child = int(process.stdout.readline())
            process.send_signal(number)
            assert process.wait(20) != 0
        finally:
            process.kill()
    for _ in range(40):  # the kernel ends it where its parent could not
        if not psutil.pid_exists(child):
            return
        time.sleep(0.05)
    pytest.fail("the stage went on without its parent")
