"""CPU time and memory of a process and its children, from outside (Linux)."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress

import numpy as np
import psutil

_EVERY_S = 0.1
_CHILDREN_EVERY = 10


class Watch:
    """Samples a process tree until it ends. `between` interpolates; `peak_bytes` is summed RSS."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._process = psutil.Process(pid)
        self._times: list[int] = []
        self._user: list[float] = []
        self._system: list[float] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def between(self, start_ns: float, end_ns: float) -> tuple[float, float]:
        """CPU seconds in user space and in the kernel between two times on CLOCK_MONOTONIC."""
        user, system = (
            np.interp([start_ns, end_ns], self._times, spent)
            for spent in (self._user, self._system)
        )
        return float(user[1] - user[0]), float(system[1] - system[0])

    def _watch(self) -> None:
        """Samples seldom, and children even less: it uses the cores under measurement."""
        tree = [self._process]
        for sample in itertools.count():
            try:
                if sample % _CHILDREN_EVERY == 0:
                    tree = [self._process, *self._process.children(recursive=True)]
                if self._process.status() == psutil.STATUS_ZOMBIE:
                    return
            except psutil.NoSuchProcess:
                return
            user, system, memory = 0.0, 0.0, 0
            for process in tree:
                with suppress(psutil.NoSuchProcess), process.oneshot():  # a child may end meanwhile
                    times = process.cpu_times()
                    user += times.user
                    system += times.system
                    memory += process.memory_info().rss
            self._times.append(time.monotonic_ns())
            self._user.append(user)
            self._system.append(system)
            self.peak_bytes = max(self.peak_bytes, memory)
            time.sleep(_EVERY_S)
