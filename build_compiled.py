"""Build hook: the compiled part of the load generator, where there are Linux and a C compiler."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE, _MADE = Path("loadgen/_compiled.c"), Path("loadgen/_compiled.abi3.so")


class CompiledPart(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        (root / _MADE).unlink(missing_ok=True)
        if sys.platform != "linux" or sys.implementation.name != "cpython":
            return
        compiler = shlex.split(os.environ.get("CC", "cc"))
        include = sysconfig.get_path("include")
        command = [*compiler, "-std=gnu11", "-O2", "-fPIC", "-shared", f"-I{include}", str(_SOURCE), "-o", str(_MADE)]
        try:
            subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
            self.app.display_warning(f"the load generator's reader was not compiled ({why}); the one in Python does its work")
            return
        # CPython's stable ABI, from the first version that the project takes.
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["artifacts"].append(str(_MADE))
