"""Which cores a load generator and its servers get, on machines of many sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foundation.cores import (
    CoreDivision,
    divide_cores,
    on_processors,
    parse_processors,
    processor_words,
    quota_cores,
    usable_cores,
)


def machine(cores: int, threads: int = 1) -> list[frozenset[int]]:
    """Linux numbers the second threads of all cores after the first ones."""
    return [frozenset(core + cores * thread for thread in range(threads)) for core in range(cores)]


@pytest.mark.parametrize(
    ("cores", "processes", "load", "servers"),
    [
        (3, 1, "2", "0-1"),
        (4, 1, "3", "0-2"),
        (4, 2, "2-3", "0-1"),
        (4, 4, "2-3", "0-1"),
        (16, 1, "15", "0-14"),
        (16, 3, "13-15", "0-12"),
        (64, 1, "63", "0-62"),
        (64, 64, "32-63", "0-31"),
    ],
)
def test_each_process_of_the_load_gets_a_core_and_the_servers_the_rest(
    cores: int, processes: int, load: str, servers: str
) -> None:
    division = divide_cores(machine(cores), processes)
    assert division is not None
    assert (processor_words(division.load), processor_words(division.servers)) == (load, servers)
    assert not division.load & division.servers


@pytest.mark.parametrize("cores", [1, 2])
def test_two_cores_are_shared(cores: int) -> None:
    assert divide_cores(machine(cores), 1) is None
    assert divide_cores(machine(cores, threads=2), 1) is None


def test_both_threads_of_a_core_go_to_one_side() -> None:
    assert divide_cores(machine(4, threads=2), 1) == CoreDivision(
        load=frozenset({3, 7}), servers=frozenset({0, 1, 2, 4, 5, 6})
    )


@pytest.mark.parametrize(("quota", "shared"), [(1.5, True), (2.0, True), (3.0, False)])
def test_a_container_that_may_use_the_time_of_two_cores_is_as_small(
    quota: float, shared: bool
) -> None:
    assert (divide_cores(machine(64), 1, quota) is None) == shared


def test_threads_of_a_core_are_read_and_only_allowed_processors_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for processor in range(8):
        folder = tmp_path / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{processor % 4},{processor % 4 + 4}\n")
    (tmp_path / "cpu3" / "topology" / "thread_siblings_list").write_text("damaged")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 3, 5, 9})
    assert usable_cores(tmp_path) == [{1, 5}, {2}, {3}, {9}]


@pytest.mark.parametrize(
    ("text", "cores"),
    [("150000 100000\n", 1.5), ("max 100000\n", None), ("", None), ("1 0", None)],
)
def test_the_quota_of_a_container(tmp_path: Path, text: str, cores: float | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert quota_cores(tmp_path / "cpu.max") == cores
    assert quota_cores(tmp_path / "absent") is None


def test_processors_in_the_kernels_form() -> None:
    numbers = [0, 1, 2, 8, 10, 11]
    assert processor_words(numbers) == "0-2,8,10-11"
    assert parse_processors("0-2,8,10-11\n") == numbers


def test_what_is_started_inside_stays_on_the_processors() -> None:
    before = os.sched_getaffinity(0)
    last = frozenset({max(before)})
    program = "import os; print(os.sched_getaffinity(0))"
    with on_processors(last):
        child = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True)
    assert child.stdout.decode().strip() == str(set(last))
    assert os.sched_getaffinity(0) == before
    with on_processors(None):
        assert os.sched_getaffinity(0) == before
