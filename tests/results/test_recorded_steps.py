"""The work in the steps of an engine record, against what a person counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from foundation.run.engine_record import EngineLine, EngineStep
from foundation.run.engine_records import LeftOut
from foundation.run.engine_steps import ServerRecord, read_server_records
from results.capacity.model.recorded_steps import (
    IDLE,
    NOT_KNOWN,
    BlockSpan,
    recorded_steps,
    step_durations,
)
from results.capacity.model.steps import Steps
from tests.results.synthetic_engine import TRUE, Job, engine_lines, serve
from tests.run_files import MS, engine_request, engine_start, write_engine

ORIGIN = 10**12
SPAN = BlockSpan(ORIGIN, ORIGIN + 10**11, 3.0)


def step(
    ends_ms: int, prompts: int, tokens: int, decodes: int, running: int, elapsed_ms: int | None = 9
) -> EngineStep:
    elapsed_ns = None if elapsed_ms is None else elapsed_ms * MS
    return EngineStep(
        ended_ns=ORIGIN + ends_ms * MS, elapsed_ns=elapsed_ns, context_requests=prompts,
        context_tokens=tokens, generation_requests=decodes, generation_tokens=decodes,
        running=running,
    )  # fmt: skip


def request(
    number: int, input: int, output: int, ends_ms: tuple[int, int, int], **fields: int | None
):
    """`ends_ms`: when it was planned, had its first token, and its last."""
    planned, first, last = ends_ms
    return engine_request(
        ORIGIN, number, (0, (first - planned) * MS, (last - first) * MS),
        finished_ns=ORIGIN + last * MS, input_tokens=input, output_tokens=output, **fields,
    )  # fmt: skip


def record(run: Path, *rows: EngineLine) -> ServerRecord:
    (server,) = read_server_records(write_engine(run, "v", engine_start(), *rows), LeftOut())
    return server


def steps(run: Path, *rows: EngineLine) -> Steps:
    result = recorded_steps(record(run, *rows), [SPAN])
    assert isinstance(result, Steps)
    return result


THREE = (
    request(0, 100, 4, (10, 20, 50)),
    request(1, 30, 3, (20, 30, 50), cached_tokens=16),
    request(2, 50, 1, (20, 30, 30)),
)
"""Prompts of 100, of 30 (16 of them known) and of 50 tokens; the first comes a step earlier."""


def test_the_contexts_of_three_requests_by_hand(tmp_path: Path) -> None:
    result = steps(
        tmp_path,
        *THREE,
        step(20, 1, 100, 0, running=1),
        step(30, 2, 64, 1, running=2),
        step(40, 0, 0, 2, running=2),
        step(50, 0, 0, 2, running=0),
    )
    assert result.decodes.tolist() == [0, 1, 2, 2]
    assert result.prefill_tokens.tolist() == [100, 64, 0, 0]
    # request 0 has 100, 101 and 102 tokens; request 1 has 30 and 31
    assert result.kv_tokens.tolist() == [0, 100, 101 + 30, 102 + 31]
    assert result.pairs.tolist() == [100 * 50, 14 * (16 + 7) + 50 * 25, 0, 0]
    # 1 ms beside the engine's own 9 ms, after the idle moment too
    assert result.elapsed == pytest.approx([0.01] * 4)
    assert result.context == 104 and result.rate == 3.0


def test_an_engine_that_counts_no_preemptions_keeps_the_steps_that_fit(tmp_path: Path) -> None:
    first = request(0, 100, 3, (10, 20, 60), preemptions=None)  # put back at 30 and 40 ms
    other = request(1, 30, 4, (20, 30, 60), preemptions=None)
    again = structs.replace(step(50, 0, 0, 2, running=2), generation_tokens=102)
    result = steps(
        tmp_path,
        first,
        other,
        step(20, 1, 100, 0, running=1),
        step(30, 1, 30, 0, running=2),
        step(40, 0, 0, 1, running=2),
        again,
        step(60, 0, 0, 2, running=0),
    )
    assert result.decodes.tolist() == [0, 0, 1, 2]
    assert result.left_out[NOT_KNOWN] == 1


def test_a_prompt_in_pieces_has_its_context_in_each(tmp_path: Path) -> None:
    long = request(3, 150, 2, (20, 50, 60))
    result = steps(
        tmp_path,
        request(0, 100, 5, (10, 20, 60)),
        long,
        step(20, 1, 100, 0, running=1),
        step(30, 1, 60, 1, running=2),
        step(40, 1, 60, 1, running=2),
        step(50, 1, 30, 1, running=2),
        step(60, 0, 0, 2, running=0),
    )
    pieces = [60 * 30, 60 * (60 + 30), 30 * (120 + 15)]
    assert result.pairs.tolist() == [100 * 50, *pieces, 0]
    assert result.kv_tokens.tolist() == [0, 100, 101, 102, 103 + 150]


def test_steps_of_requests_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    result = steps(
        tmp_path,
        THREE[0],
        step(20, 1, 100, 0, running=1),
        step(30, 2, 64, 1, running=2),  # with prompts of somebody else
        step(40, 0, 0, 2, running=2),
        step(50, 0, 0, 1, running=0),
    )
    assert result.decodes.tolist() == [0, 1]
    assert result.left_out == {NOT_KNOWN: 2, IDLE: 0}


def test_where_steps_overlap_only_busy_ones_have_a_time(tmp_path: Path) -> None:
    result = steps(
        tmp_path,
        THREE[0],
        step(20, 1, 100, 0, running=1, elapsed_ms=None),
        step(30, 0, 0, 1, running=1, elapsed_ms=None),
        step(42, 0, 0, 1, running=1, elapsed_ms=None),
        step(50, 0, 0, 1, running=0, elapsed_ms=None),
        step(60, 0, 0, 1, running=0, elapsed_ms=None),  # planned ahead, for nobody
    )
    assert result.elapsed == pytest.approx([0.01, 0.012, 0.008])
    assert result.left_out == {NOT_KNOWN: 0, IDLE: 2}


def test_several_engines_in_one_record_are_refused(tmp_path: Path) -> None:
    rows = [step(20 + 3 * i, 0, 0, 1, running=1) for i in range(9)]
    assert step_durations(record(tmp_path, *rows).steps) == (
        "the steps in the engine record overlap: several engines write it"
    )


def test_a_late_step_after_a_request_was_aborted_began_late(tmp_path: Path) -> None:
    rows = [step(20 + 10 * i, 0, 0, 1, running=1) for i in range(5)]
    durations = step_durations(record(tmp_path, *rows, step(5000, 0, 0, 1, running=1)).steps)
    assert not isinstance(durations, str)
    assert durations[-1] == pytest.approx(0.01)


def test_every_step_of_a_busy_engine_adds_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    jobs = [
        Job(float(at), int(rng.integers(5, 900)), int(rng.integers(1, 40)))
        for at in np.cumsum(rng.exponential(0.05, 150))
    ]
    true = serve(jobs, TRUE, 0.05, 3)
    result = steps(tmp_path, *engine_lines(jobs, true, ORIGIN))
    assert result.left_out == {NOT_KNOWN: 0, IDLE: 0}
    assert any(piece.work[1] == 512 - piece.work[0] for piece in true)  # prompts in pieces
    assert result.work[:, 1:] == pytest.approx(np.array([piece.work for piece in true]))
    assert result.elapsed == pytest.approx([piece.seconds for piece in true])
