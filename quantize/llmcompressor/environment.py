"""llm-compressor's own environment, installed once, in the cache.

It needs other versions of our libraries, so it can't share our environment.
"""

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
    """The environment's folder, installed or not, named by its lock and this Python's version."""
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    python_version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return cache_folder() / f"llmcompressor-{lock}-{python_version}"


def python(progress: Progress) -> Path:
    """The environment's Python; the first call installs it.

    Raises SystemFailed with pip's last lines.
    """
    environment = folder()
    if not environment.is_dir():
        progress.stage("set up llm-compressor's own environment (about 1.5 GB, once)", None, "step")
        environment.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=environment.parent, prefix=f"{environment.name}-"))
        try:
            _install(partial)
            partial.rename(environment)
        except OSError as error:  # another process was first, or the disk is full
            if not environment.is_dir():
                raise SystemFailed(
                    f"{environment}: llm-compressor's environment could not be made ({error})"
                ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return environment / "bin" / "python"


def installed_version() -> str:
    """The version of llm-compressor that the lock names."""
    return _pinned("llmcompressor").partition("==")[2]


def _pinned(package: str) -> str:
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


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
    """The pinned torch, and whether it is the build for CPUs, as ours is.

    The usual build brings gigabytes of CUDA along.
    """
    pinned = _pinned("torch")
    try:
        for_cpus = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        for_cpus = False
    return (f"{pinned}+cpu" if for_cpus else pinned), for_cpus


def _run(command: list[str]) -> None:
    # PYTHONPATH and an active environment are ours and not that one's.
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {key: value for key, value in os.environ.items() if key not in ours}
    result = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False, env=variables
    )
    if result.returncode:
        what = " ".join(command[command.index("-m") + 1 :])
        raise SystemFailed(
            f"llm-compressor's environment could not be made: {what}", result.stderr[-2000:]
        )
