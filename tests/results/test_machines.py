"""Blocks that several machines sent: how far their clocks lie apart, and machines that stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.run.records import JournalEnd, JournalHeader
from results.analysis import analyse
from results.summary import Validity
from tests.results.synthetic import Goals, inputs, request, write_journal
from tests.run_files import lines

MS = 1_000_000


def validity(
    run: Path, slo: dict[str, str], *, end: str | None = "complete", n: int = 400, **header: Any
) -> Validity:
    """Of a block of 400 requests planned, of which `n` left a record."""
    records = [request(i, f"q{i}", i * 25, 100, 50) for i in range(n)]
    file = write_journal(run, "base", 1, records, offered_rate=40.0, end=end)
    first, *rest = file.read_bytes().splitlines(keepends=True)
    head = msgspec.structs.replace(
        msgspec.json.decode(first, type=JournalHeader), planned=400, **header
    )
    file.write_bytes(b"".join([msgspec.json.encode(head) + b"\n", *rest]))
    return analyse(inputs(run, ["base"], Goals(slo))).variants[0].stages[0].validity


SLO = {"latency_p95": "500ms", "ttft_p95": "2s"}


@pytest.mark.parametrize(
    ("machines", "bound_ns", "slo"),
    [
        (1, None, SLO),
        (2, 0, SLO),
        (2, 5 * MS, SLO),
        (2, 900 * MS, {}),  # no objective on a time: nothing is judged that an offset could move
        (2, 900 * MS, {"error_rate": "1%"}),
    ],
)
def test_clocks_that_agree_well_enough(
    tmp_path: Path, machines: int, bound_ns: int | None, slo: dict[str, str]
) -> None:
    assert validity(tmp_path, slo, machines=machines, clock_bound_ns=bound_ns) == Validity(
        level="VALID", reasons=[]
    )


def test_clocks_further_apart_than_a_hundredth_of_the_tightest_objective(tmp_path: Path) -> None:
    assert validity(tmp_path, SLO, machines=3, clock_bound_ns=6 * MS) == Validity(
        level="SUSPECT",
        reasons=[
            "SUSPECT: the clocks of the 3 machines may lie 6.00 ms apart, and should lie within "
            "5.00 ms, 1 % of the tightest objective"
        ],
    )


@pytest.mark.parametrize("slo", [SLO, {}])
def test_clocks_of_which_nobody_knows_how_far_they_lie_apart(
    tmp_path: Path, slo: dict[str, str]
) -> None:
    assert validity(tmp_path, slo, machines=2) == Validity(
        level="SUSPECT",
        reasons=[
            "SUSPECT: nobody knows how far the clocks of the 2 machines lie apart (block 1), so "
            "arrivals may be shifted against one another"
        ],
    )


def test_a_machine_that_stopped_while_the_others_went_on(tmp_path: Path) -> None:
    one = validity(tmp_path / "one", SLO, end=None, n=396)
    two = validity(tmp_path / "two", SLO, end=None, n=396, machines=2, clock_bound_ns=0)
    assert one.level == "SUSPECT"  # a block that was cut off ends there
    assert two.level == "INVALID"
    assert (
        "INVALID: not all of 2 machines sent to the end of block 1: the load was lower than "
        "planned; 4 planned requests left no record"
    ) in two.reasons


def test_a_machine_that_was_interrupted_did_not_send_to_the_end(tmp_path: Path) -> None:
    one = validity(tmp_path / "one", SLO, end="interrupted")
    two = validity(tmp_path / "two", SLO, end="interrupted", machines=2, clock_bound_ns=0)
    assert one == Validity(level="VALID", reasons=[])
    assert two == Validity(
        level="INVALID",
        reasons=[
            "INVALID: not all of 2 machines sent to the end of block 1: the load was lower than "
            "planned"
        ],
    )


@pytest.mark.parametrize(("machines", "level"), [(1, "VALID"), (2, "INVALID")])
def test_a_machine_whose_own_clock_was_set(tmp_path: Path, machines: int, level: str) -> None:
    """Stamps of user space are on CLOCK_MONOTONIC, which no machine sets while it alone sends."""
    records = [request(i, f"q{i}", i * 25, 100, 50) for i in range(400)]
    file = write_journal(tmp_path, "base", 1, records, offered_rate=40.0)
    *before, last = file.read_bytes().splitlines(keepends=True)
    head = msgspec.json.decode(before[0], type=JournalHeader)
    head = msgspec.structs.replace(head, machines=machines, clock_bound_ns=0)
    end = msgspec.json.decode(last, type=JournalEnd)
    end = msgspec.structs.replace(end, clock_step_ns=250 * MS)
    file.write_bytes(b"".join([lines(head), *before[1:], lines(end)]))
    stage = analyse(inputs(tmp_path, ["base"], Goals(SLO))).variants[0].stages[0]
    assert stage.validity.level == level
    assert any("was set by up to 250 ms" in r for r in stage.validity.reasons) is (machines > 1)
