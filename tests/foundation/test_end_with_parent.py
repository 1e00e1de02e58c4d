"""Children end with their parent, and theirs with them, even where it is killed."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

# A parent that starts another program, which starts a process of ours.
WORKER = """
import os, time
from foundation.processes.end_with_parent import end_with
end_with(os.getppid())
print(os.getppid(), os.getpid(), flush=True)
time.sleep(600)
"""
LAUNCHER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORKER!r}])"
PARENT = f"""
import os, subprocess, sys, time
from functools import partial
from foundation.processes.end_with_parent import end_with
subprocess.Popen([sys.executable, '-c', {LAUNCHER!r}], preexec_fn=partial(end_with, os.getpid()))
time.sleep(600)
"""


def test_a_killed_parent_takes_its_family_along() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        try:
            family = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
            assert len(family) == 2 and family[0].ppid() == parent.pid
        finally:
            parent.kill()
    for _ in range(200):
        if all(map(is_gone, family)):
            return
        time.sleep(0.05)
    pytest.fail("a child went on without its parent")


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_parent_that_ended_before_is_noticed() -> None:
    code = (
        "import os; from foundation.processes.end_with_parent import end_with; "
        "end_with(os.getppid() + 1); print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
