"""Libraries that vLLM wants preloaded on a CPU: a faster allocator and Intel's OpenMP.

vLLM 0.32 warns in `v1/worker/cpu_worker.py` unless `LD_PRELOAD` names libtcmalloc and, on x86,
libiomp. Its `utils/ompmultiprocessing.py` binds threads by the OpenMP library that it reads there.
"""

from __future__ import annotations

import os
import platform
import re
import site
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from foundation.files.content_hash import file_sha256

VARIABLE = "LD_PRELOAD"
_TRIAL_S = 20
_CACHED = re.compile(r"\s*(\S+) \(.*\) => (/.*)")
"""A line of `ldconfig -p`: name, flags, path."""


@dataclass(frozen=True)
class LibraryKind:
    """A kind of library that servers preload.

    `names`: file names, best first. `rivals`: parts of the names of libraries that do the same;
    a process may have only one of them. `install`: how to get one.
    """

    purpose: str
    names: tuple[str, ...]
    rivals: tuple[str, ...]
    install: str


@dataclass(frozen=True)
class Preload:
    """A library to preload, or the reason why there is none."""

    kind: LibraryKind
    library: Path | None
    why_not: str = ""


_ALLOCATOR = LibraryKind(
    "allocator",
    ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4", "libjemalloc.so.2"),
    ("malloc",),
    "apt install libtcmalloc-minimal4 (Debian, Ubuntu), dnf install gperftools-libs (Fedora), "
    "conda install gperftools",
)
_OPENMP = LibraryKind(
    "OpenMP",
    ("libiomp5.so",),
    ("libiomp", "libomp", "libgomp"),
    "pip install intel-openmp",
)


def kinds() -> tuple[LibraryKind, ...]:
    """The kinds that vLLM asks for on this processor."""
    return (_ALLOCATOR, _OPENMP) if platform.machine() == "x86_64" else (_ALLOCATOR,)


@cache
def find_preloads(inherited: str) -> tuple[Preload, ...]:
    """A library of each kind, for servers whose environment has the `LD_PRELOAD` `inherited`."""
    return tuple(_find(kind, inherited) for kind in kinds()) if sys.platform == "linux" else ()


def servers_preloads(device: Literal["cpu", "cuda"]) -> str:
    """`LD_PRELOAD` for servers on a device: the inherited libraries, then, on a CPU, ours."""
    inherited = os.environ.get(VARIABLE, "")
    choices = find_preloads(inherited) if device == "cpu" else ()
    ours = [str(preload.library) for preload in choices if preload.library is not None]
    return ":".join([*libraries(inherited), *ours])


def libraries(value: str) -> list[str]:
    """The libraries that an `LD_PRELOAD` names."""
    return [name for name in re.split("[: ]", value) if name]


def described(value: str) -> str:
    """An `LD_PRELOAD` by file names and the start of each file's SHA-256, without folders."""
    return ", ".join(_description(Path(name)) for name in libraries(value))


def _description(library: Path) -> str:
    if not library.is_file():
        return library.name
    return f"{library.resolve().name} ({file_sha256(library)[:12]})"


def _find(kind: LibraryKind, inherited: str) -> Preload:
    """The first library of a kind that loads into a process of this Python."""
    for name in libraries(inherited):
        if any(rival in Path(name).name for rival in kind.rivals):
            return Preload(kind, None, f"LD_PRELOAD names {name}")
    refusals = []
    for path in dict.fromkeys(path for name in kind.names for path in _places(name)):
        if (refusal := why_not_loadable(path)) is None:
            return Preload(kind, path)
        refusals.append(f"{path} can't be preloaded: {refusal}")
    return Preload(kind, None, refusals[0] if refusals else f"not installed: {kind.install}")


def _places(name: str) -> Iterator[Path]:
    """The files of this name beside Python's packages, then those that the linker knows."""
    for prefix in (sys.prefix, sys.base_prefix, site.getuserbase()):
        if (path := Path(prefix, "lib", name)).is_file():
            yield path
    yield from _linker_cache().get(name, ())


@cache
def _linker_cache() -> dict[str, list[Path]]:
    """Paths by name, from `ldconfig -p`; empty where it is missing or fails."""
    try:
        output = subprocess.run(
            ["/sbin/ldconfig", "-p"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TRIAL_S,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    paths: dict[str, list[Path]] = {}
    for line in filter(None, map(_CACHED.fullmatch, output.splitlines())):
        paths.setdefault(line[1], []).append(Path(line[2]))
    return paths


def why_not_loadable(library: Path) -> str | None:
    """Why a process of this Python can't preload a library; None if it can.

    The dynamic linker starts such a process without a library of another architecture or C
    library, and writes a line about it.
    """
    try:
        trial = subprocess.run(
            [sys.executable, "-I", "-S", "-c", ""],
            env={**os.environ, VARIABLE: str(library)},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TRIAL_S,
        )
    except subprocess.TimeoutExpired:
        return f"Python did not start with it in {_TRIAL_S} s"
    if trial.stderr.strip():
        return trial.stderr.strip().splitlines()[0]
    return f"Python ended with status {trial.returncode}" if trial.returncode else None
