"""llm-compressor's own environment: it needs other versions of our libraries, so it is installed apart, once, in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from foundation.errors import SystemFailed
from foundation.files.cache_folder import cache_folder
from foundation.processes.python_child import run_module
from foundation.progress import Progress

LOCK = Path(__file__).with_name("requirements.lock")
_TORCH_FOR_CPUS = "https://download.pytorch.org/whl/cpu"


def folder() -> Path:
    """Where the environment is, or will be: named by its lock and by this Python's version."""
    pinned = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    return (
        cache_folder()
        / f"llmcompressor-{pinned}-py{sys.version_info.major}{sys.version_info.minor}"
    )


def python(progress: Progress) -> Path:
    """The environment's Python, set up first where it is not there. Raises SystemFailed with pip's last lines."""
    there = folder()
    if not there.is_dir():
        progress.stage("set up llm-compressor's own environment (about 1.5 GB, once)", None, "step")
        there.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=there.parent, prefix=f"{there.name}-"))
        try:
            _install(made)
            made.rename(there)
        except OSError as error:  # another process was first, or the disk is full
            if not there.is_dir():
                raise SystemFailed(
                    f"{there}: llm-compressor's environment could not be made ({error})"
                ) from None
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return there / "bin" / "python"


def installed_version() -> str:
    """The version of llm-compressor that the lock names."""
    return next(
        line
        for line in LOCK.read_text(encoding="utf-8").splitlines()
        if line.startswith("llmcompressor==")
    ).partition("==")[2]


def _install(into: Path) -> None:
    _run(run_module("venv", str(into)))
    pip = [
        str(into / "bin" / "python"),
        "-P",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--constraint",
        str(LOCK),
    ]
    torch, for_cpus = _torch()
    try:
        _run([*pip, torch])
    except SystemFailed:
        if not for_cpus:
            raise
        _run([*pip, "--extra-index-url", _TORCH_FOR_CPUS, torch])
    _run([*pip, "llmcompressor"])


def _torch() -> tuple[str, bool]:
    """The pinned torch, as a build for CPUs where ours is one: the usual build brings gigabytes of CUDA along."""
    pinned = next(
        line for line in LOCK.read_text(encoding="utf-8").splitlines() if line.startswith("torch==")
    )
    try:
        for_cpus = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        for_cpus = False
    return (f"{pinned}+cpu" if for_cpus else pinned), for_cpus


def _run(command: list[str]) -> None:
    # PYTHONPATH and an active environment are ours and not that one's.
    own = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=own
    )
    if done.returncode:
        what = " ".join(command[command.index("-m") + 1 :])
        raise SystemFailed(
            f"llm-compressor's environment could not be made: {what}", done.stderr[-2000:]
        )
