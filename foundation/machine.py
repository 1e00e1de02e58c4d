"""Identifies the machine that a speed was measured on; another machine's speed says nothing here.

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
from foundation.processor import processor_name


@dataclass(frozen=True)
class Machine:
    """Everything that a measured speed depends on."""

    host: str
    processor: str
    cores: int
    kernel: str
    python: str
    dyno: str

    @property
    def words(self) -> str:
        """One line for a reader: processor, cores, kernel."""
        return f"{self.processor}, {self.cores} cores, {self.kernel}"

    def file(self, measurement: str, ending: str) -> Path:
        """The cache file that keeps a measurement of this machine."""
        key = hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:12]
        return cache_folder() / f"{measurement}-{self._host}-{key}{ending}"

    def others(self, measurement: str, ending: str) -> list[Path]:
        """Cache files of the same measurement and host name, but of another machine."""
        mine = self.file(measurement, ending)
        named = (
            cache_folder() / f"{measurement}-{self._host}{ending}",
            *cache_folder().glob(f"{measurement}-{self._host}-*{ending}"),
        )
        return [file for file in named if file != mine and file.is_file()]

    @property
    def _host(self) -> str:
        return re.sub(r"[^\w.-]", "_", self.host) or "here"


@cache
def this_machine() -> Machine:
    """The machine that this process runs on."""
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
