"""CPU, memory and page faults of a server's processes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import psutil

_COMPUTING = ("EngineCore", "Worker", "DPCoordinator")
"""In the titles that vLLM gives the processes that compute ("VLLM::EngineCore")."""


class ProcessTree:
    """The processes of a server, as they were when it was ready.

    `pid`: the root, whose death before this moment is its watcher's business.
    """

    def __init__(self, pid: int) -> None:
        self._processes: list[tuple[psutil.Process, bool]] = []
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    computes = any(title in process.name() for title in _COMPUTING)
                    self._processes.append((process, computes))

    def read(self) -> Mapping[str, int | float]:
        """The fields of a sample, over the processes that still exist; empty when none does."""
        rss, minor, major, engine, api = 0, 0, 0, 0.0, 0.0
        living = []
        for process, computes in self._processes:
            # psutil reads each file of /proc once inside `oneshot`.
            with contextlib.suppress(psutil.Error, OSError, ValueError, IndexError):
                with process.oneshot():
                    rss += process.memory_info().rss
                    times = process.cpu_times()
                faults = _faults(process.pid)
                minor, major = minor + faults[0], major + faults[1]
                engine += (times.user + times.system) * computes
                api += (times.user + times.system) * (not computes)
                living.append((process, computes))
        self._processes = living
        if not living:
            return {}
        fields = {"rss_bytes": rss, "cpu_s": engine + api, "engine_cpu_s": engine, "api_cpu_s": api}
        return fields | {"minor_faults": minor, "major_faults": major}


def _faults(pid: int) -> tuple[int, int]:
    """Minor and major page faults of a process (proc_pid_stat(5): minflt and majflt)."""
    stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(stat[7]), int(stat[9])
