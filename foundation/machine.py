"""The machine that a speed was measured on: what another one did says nothing of this one.

Containers and cloud hosts keep their names while processor and kernel change under them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from dataclasses import astuple, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from foundation.files.cache_folder import cache_folder

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """All that a measured speed rests on."""

    host: str
    processor: str
    cores: int
    kernel: str
    python: str
    dyno: str

    @property
    def words(self) -> str:
        """As a person reads it."""
        return f"{self.processor}, {self.cores} cores, {self.kernel}"

    def file(self, what: str, ending: str) -> Path:
        """Where a measurement of this machine is kept in the user's cache."""
        key = hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:12]
        return cache_folder() / f"{what}-{self._host}-{key}{ending}"

    def others(self, what: str, ending: str) -> list[Path]:
        """Those that are kept under the same host's name for another machine than this one."""
        mine = self.file(what, ending)
        named = (
            cache_folder() / f"{what}-{self._host}{ending}",
            *cache_folder().glob(f"{what}-{self._host}-*{ending}"),
        )
        return [file for file in named if file != mine and file.is_file()]

    @property
    def _host(self) -> str:
        return re.sub(r"[^\w.-]", "_", self.host) or "here"


@cache
def this_machine() -> Machine:
    """The one that this process runs on."""
    try:
        dyno = version("tunedyno")
    except PackageNotFoundError:
        dyno = ""
    return Machine(
        host=platform.node(),
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        dyno=dyno,
    )


def processor_name() -> str:
    """Its model, as the kernel names it."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
