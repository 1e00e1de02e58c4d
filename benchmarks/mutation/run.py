"""Does a test notice? Changes the code in small ways and runs the tests that reach the change.

    python -m benchmarks.mutation.run [--sample 200] [--seed 1] [--reach FILE] [--part 1/2]
    python -m benchmarks.mutation.run --only results/decision/verdict.py
    python -m benchmarks.mutation.run --code foundation quantize/merging --tests tests/foundation

Works on a copy of the tree. A first run notes which functions each test calls, itself or in a
Python that it starts. Each change then runs in its own process, forked from one that has loaded the
libraries. It runs the tests that call the changed function, the most specific first. A change that
no test fails on survives, and is printed. Prints the number of kills and exits 1 if any survived.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.mutation import calls
from benchmarks.mutation.mutants import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[2]
CODE = ("results", "loadgen/protocol/reply.py")
TESTS = (
    "tests/results",
    "tests/loadgen/test_reply.py",
    "tests/loadgen/test_lenient_parser.py",
    "tests/test_worked_example.py",
)
LIBRARIES = (
    "numpy", "scipy.stats", "pyarrow.parquet", "pydantic", "msgspec", "yaml", "jinja2", "aiohttp",
    "regex", "pytest", "hypothesis",
)  # fmt: skip

Reach = dict[str, dict[str, list[int]]]
"""By test, by file: the lines where the functions begin that it calls."""


class Failed:
    """A pytest plugin that writes down which tests failed."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_text("")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            with self.file.open("a") as out:
                out.write(f"{report.nodeid}\n")


class Calls:
    """A pytest plugin that records which functions of `code` each test calls, and its children.

    A folder at the head of PYTHONPATH holds `calls.py` as `sitecustomize`, so that every
    Python loads it.
    """

    def __init__(self, tree: Path, code: Sequence[str], folder: Path) -> None:
        self._reach: dict[str, dict[str, set[int]]] = {}
        self._file = folder / "calls.txt"
        shutil.copy(Path(calls.__file__), folder / "sitecustomize.py")
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"
        os.environ[calls.FILE], os.environ[calls.TREE] = str(self._file), str(tree)
        os.environ[calls.CODE] = os.pathsep.join(str(tree / part) for part in code)

    def pytest_runtest_protocol(self, item: Any) -> None:
        self._file.write_text("")
        calls.note_calls()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.setprofile(None)
        files = self._reach.setdefault(nodeid, {})
        for line in self._file.read_text().splitlines():
            file, _, first = line.rpartition(":")
            files.setdefault(file, set()).add(int(first))

    @property
    def reach(self) -> Reach:
        return {
            test: {file: sorted(at) for file, at in files.items()}
            for test, files in self._reach.items()
        }


def forked(work: Callable[[], int], timeout_s: float) -> int | None:
    """The exit code of `work` in a process of its own; None where it took too long."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.setpgid(0, 0)
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run_tests(tests: Sequence[str], plugins: Sequence[object], *, all_of_them: bool) -> int:
    """Runs tests in this process; returns pytest's exit code."""
    import hypothesis
    import pytest

    hypothesis.settings.register_profile(
        "mutation", max_examples=25, derandomize=True, deadline=None, database=None
    )
    hypothesis.settings.load_profile("mutation")
    options = [
        "-q",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:timeout",
        "-o",
        "addopts=",
    ]
    return int(
        pytest.main([*options, *([] if all_of_them else ["-x"]), *tests], plugins=list(plugins))
    )


def reach_of(tree: Path, code: Sequence[str], tests: Sequence[str]) -> Reach:
    """The calls of each test, from one run of all tests. Tests that fail unchanged are left out."""
    reach_file, failing = tree / "reach.json", tree / "failed.txt"

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            calls = Calls(tree, code, Path(folder))
            status = run_tests(tests, [calls, Failed(failing)], all_of_them=True)
        reach_file.write_text(json.dumps(calls.reach))
        return status

    forked(work, 3600)
    broken = set(failing.read_text().split("\n"))
    print(
        f"left out, since they fail as they are: {', '.join(sorted(broken - {''})) or 'none'}",
        flush=True,
    )
    return {
        test: files
        for test, files in json.loads(reach_file.read_text()).items()
        if test not in broken
    }


def tests_of(mutant: Mutant, reach: Reach, most: int) -> list[str]:
    """The tests that call the changed function (or use the file), the most specific first."""
    reaching = [
        test
        for test, files in reach.items()
        if mutant.file in files
        and (mutant.function is None or mutant.function in files[mutant.file])
    ]
    return sorted(reaching, key=lambda test: sum(map(len, reach[test].values())))[:most]


def copied(folder: Path) -> Path:
    """A copy of the tree in `folder`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def sampled(
    tree: Path, code: Sequence[str], count: int, seed: int, only: str | None
) -> list[Mutant]:
    """A random sample of the mutants."""
    files = [
        file
        for part in code
        for file in ([tree / part] if part.endswith(".py") else sorted((tree / part).rglob("*.py")))
    ]
    names = [str(file.relative_to(tree)) for file in files]
    every = [
        mutant
        for name in names
        if only in (None, name)
        for mutant in mutants_of(name, (tree / name).read_bytes())
    ]
    return random.Random(seed).sample(every, min(count, len(every)))


def survivors(
    tree: Path, mutants: Sequence[Mutant], reach: Reach, most: int, timeout_s: float
) -> Iterator[Mutant]:
    """`most`: the tests that are tried on a change, the most specific first."""
    for number, mutant in enumerate(mutants, start=1):
        began, file = time.monotonic(), tree / mutant.file
        source, tests = file.read_bytes(), tests_of(mutant, reach, most)
        write(file, mutant.applied(source), 2 * number)
        failed = Failed(tree / "failed.txt")
        code = (
            forked(partial(run_tests, tests, [failed], all_of_them=False), timeout_s)
            if tests
            else 0
        )
        write(file, source, 2 * number + 1)
        by = failed.file.read_text().strip() or f"exit code {code}"
        what = (
            f"SURVIVED {len(tests)} tests"
            if code == 0
            else f"killed by {by}"
            if code is not None
            else "killed: took too long"
        )
        print(
            f"{number}/{len(mutants)} {mutant}: {what}, {time.monotonic() - began:.1f} s",
            flush=True,
        )
        if code == 0:
            yield mutant


def write(file: Path, source: bytes, stamp: int) -> None:
    """Writes a source file. `stamp`: a new mtime each time, so that Python drops its bytecode."""
    file.write_bytes(source)
    os.utime(file, (stamp, stamp))


def main() -> None:
    """Prints the fate of each mutant; exits 1 if any survived."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="a file, such as results/statistics/intervals.py")
    parser.add_argument(
        "--reach",
        type=Path,
        help="which tests call what, kept from an earlier run of the same code",
    )
    parser.add_argument("--part", default="1/1", help="the first of three parts of the sample: 1/3")
    parser.add_argument("--code", nargs="+", default=CODE, help="files and folders to change")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files and folders of tests")
    parser.add_argument(
        "--load", nargs="+", default=(), help="more libraries to load once, such as torch"
    )
    parser.add_argument(
        "--most",
        type=int,
        default=40,
        help="tests that are tried on a change, the most specific first",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=90.0,
        help="seconds; longer where other work goes on beside",
    )
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    kept = options.reach.resolve() if options.reach else None
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder).resolve())
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[:] = [
            str(tree),
            *(path for path in sys.path if Path(path or ".").resolve() != ROOT),
        ]
        for name in (*LIBRARIES, *options.load):
            importlib.import_module(name)
        mutants = sampled(tree, options.code, options.sample, options.seed, options.only)[
            part - 1 :: parts
        ]
        reach = (
            json.loads(kept.read_text())
            if kept and kept.is_file()
            else reach_of(tree, options.code, options.tests)
        )
        if kept and not kept.is_file():
            kept.write_text(json.dumps(reach))
        print(f"{len(mutants)} changes, {len(reach)} tests", flush=True)
        left = list(survivors(tree, mutants, reach, options.most, options.timeout))
    print(f"\n{len(mutants) - len(left)} of {len(mutants)} killed")
    for mutant in left:
        print(f"survived: {mutant}")
    sys.exit(bool(left))


if __name__ == "__main__":
    main()
