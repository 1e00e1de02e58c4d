"""CPU time and memory of a process and its children, from outside (Linux)."""

from __future__ import annotations

import threading
import time

import numpy as np
import psutil

_EVERY_S = 0.02


class Watch:
    """Samples a process tree until it ends. `cpu_between` interpolates; `peak_bytes` is the sum of resident sets."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._process = psutil.Process(pid)
        self._times: list[int] = []
        self._cpu: list[float] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def cpu_between(self, start_ns: float, end_ns: float) -> float:
        """CPU seconds spent between two times on CLOCK_MONOTONIC."""
        begun, ended = np.interp([start_ns, end_ns], self._times, self._cpu)
        return float(ended - begun)

    def _watch(self) -> None:
        while True:
            try:
                processes = [self._process, *self._process.children(recursive=True)]
                cpu, memory = 0.0, 0
                for process in processes:
                    with process.oneshot():
                        times = process.cpu_times()
                        cpu += times.user + times.system
                        memory += process.memory_info().rss
            except psutil.NoSuchProcess:
                return
            if self._process.status() == psutil.STATUS_ZOMBIE:
                return
            self._times.append(time.monotonic_ns())
            self._cpu.append(cpu)
            self.peak_bytes = max(self.peak_bytes, memory)
            time.sleep(_EVERY_S)
