"""The compiled part on every supported Python: each builds it, and loads only its own build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
CORE = (
    "test_batch",
    "test_receiver",
    "test_sse",
    "test_framing",
    "test_transport",
    "test_reply",
    "test_block",
)
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "hypothesis")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which(os.environ.get("CC", "cc")) is None,
        reason="nothing to compile",
    ),
]


def interpreter(version: str) -> Path:
    """A Python of that version on this machine: one on the path that runs, or pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    for candidate in [
        *([Path(on_path)] if on_path else []),
        *pyenv.glob(f"{version}.*/bin/python{version}"),
    ]:
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"no Python {version} here")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def built(version: str, folder: Path) -> Path:
    """The wheel that this Python builds, from a copy of the sources without any compiled file."""
    tree = folder / f"tree-{version}"
    listed = run("git", "ls-files", "-z", "--", ":!tests", ":!benchmarks", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / "loadgen" / "_compiled.abi3.so").write_bytes(b"left by an earlier build")
    run(interpreter(version), "-m", "pip", "wheel", "-q", "--no-deps", ".", "-w", folder, cwd=tree)
    assert not list(tree.rglob("*.so"))
    [wheel] = folder.glob(f"tunedyno-*-cp{version.replace('.', '')}-*.whl")
    return wheel


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wheel_works_on_the_python_that_built_it(version: str, tmp_path: Path) -> None:
    wheel = built(version, tmp_path)
    run(interpreter(version), "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    locks = [
        option
        for lock in ("cpu", "dev")
        for option in ("-c", str(ROOT / "requirements" / f"{lock}.lock"))
    ]
    run(python, "-m", "pip", "install", "-q", *locks, wheel, *TOOLS, cwd=tmp_path)
    shutil.copytree(
        ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(
        ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__")
    )
    kind = run(
        python,
        "-c",
        "from loadgen.transport import receiver; print(receiver.KIND, receiver.__file__)",
        cwd=tmp_path,
    )
    assert kind.startswith("compiled ") and str(tmp_path / "venv") in kind
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\ntimeout = 300\nmarkers = slow\n"
    )
    files = [f"tests/loadgen/{name}.py" for name in CORE]
    print(
        run(
            python,
            "-m",
            "pytest",
            "-q",
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            *files,
            cwd=tmp_path,
        )
    )


@pytest.mark.parametrize("builder", VERSIONS)
def test_no_other_python_loads_it(builder: str, tmp_path: Path) -> None:
    wheel = built(builder, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".so")]
        archive.extract(name, tmp_path)
    load = "import importlib.util; print(importlib.util.find_spec('_compiled') is not None)"
    for version in VERSIONS:
        is_loaded = run(interpreter(version), "-c", load, cwd=tmp_path / "loadgen").strip()
        assert is_loaded == str(version == builder), f"built by {builder}, loaded by {version}"
