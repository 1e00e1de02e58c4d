"""Build hook: the compiled part of the load generator, where there are Linux and a C compiler.

It belongs to the Python that builds it, and bears its name
(`_compiled.cpython-311-x86_64-linux-gnu.so`): no other Python loads it. An installation in place
gets it beside its source; a wheel gets it from a folder of its own. The source tree stays clean.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = Path("loadgen/_compiled.c")
_ANY_PYTHON = Path("loadgen/_compiled.abi3.so")
"""What builds before left in the tree: made with the headers of one Python, and loaded by all."""


class CompiledPart(BuildHookInterface[Any]):
    _folder: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        (root / _ANY_PYTHON).unlink(missing_ok=True)
        if sys.platform != "linux" or sys.implementation.name != "cpython":
            return
        made = _SOURCE.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
        if version == "editable":
            target = root / made
            target.unlink(missing_ok=True)
        else:
            self._folder = tempfile.mkdtemp(prefix="tunedyno-")
            target = Path(self._folder) / made.name
        compiler = shlex.split(os.environ.get("CC", "cc"))
        include = sysconfig.get_path("include")
        command = [
            *compiler,
            "-std=gnu11",
            "-O2",
            "-fPIC",
            "-shared",
            f"-I{include}",
            str(_SOURCE),
            "-o",
            str(target),
        ]
        try:
            subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[0]
            self.app.display_warning(
                f"the load generator's reader was not compiled ({why}); "
                "the one in Python does its work"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(target)] = str(made)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
