"""The demand of a run: the requests of its judged stage, as they were measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foundation.errors import BadInput
from foundation.run.records import JournalEnd, Prompt, RequestRecord
from results.capacity.demand.demand import NOBODY, Demand
from results.capacity.model.models_of_run import demand_of_run
from tests.results.synthetic import inputs
from tests.run_files import MS, answer, append_prompts, header, write_block

SECOND = 1_000 * MS


def measured(run: Path, *blocks: list[RequestRecord]) -> Demand:
    """Windows from 1 s to 10 s, which end there."""
    end = JournalEnd(end="complete", ended_ns=20 * SECOND, window_end_ns=10 * SECOND)
    for number, records in enumerate(blocks, start=1):
        head = header(
            stage="main", block=number, origin_unix_ns=number, origin_monotonic_ns=number,
            window_start_ns=SECOND,
        )  # fmt: skip
        write_block(run, head, records, end)
    return demand_of_run(inputs(run, ["v"]))


def request(id: int, due_s: float, prompt: str = "q", **fields: object) -> RequestRecord:
    due = round(due_s * SECOND)
    usual = {"input_tokens": 100 + id, "output_tokens": 5 + id}
    return answer(id, prompt, due, [due + MS], **(usual | fields))


def prompts(run: Path, **after: str | None) -> None:
    """A prompt by id, after another one or None; all begin with the first letter of their id."""
    append_prompts(
        run,
        (
            Prompt(
                id=id, set="eval", after=before,
                messages={"plain": [{"role": "user", "content": id[0] * 80 + id}]},
            )
            for id, before in after.items()
        ),
    )  # fmt: skip


def test_blocks_follow_one_another_without_warm_up_and_drain(tmp_path: Path) -> None:
    demand = measured(
        tmp_path,
        [request(0, 0.5), request(1, 2.0), request(2, 9.5), request(3, 10.0)],
        [request(4, 1.0), request(5, 4.0)],
    )
    assert demand.arrival == pytest.approx([0, 7.5, 8.0, 11.0])
    assert demand.input_tokens.tolist() == [101, 102, 104, 105]
    assert demand.output_tokens.tolist() == [6, 7, 9, 10]
    assert demand.prefix.tolist() == demand.adapter.tolist() == [NOBODY] * 4


def test_a_failure_is_a_request_of_median_length(tmp_path: Path) -> None:
    failed = RequestRecord(
        id=1, prompt_id="q", scheduled_ns=3 * SECOND, sent_ns=3 * SECOND, failure="timeout_first"
    )
    demand = measured(tmp_path, [request(0, 2.0), failed, request(2, 4.0)])
    assert demand.input_tokens.tolist() == [100, 101, 102]
    assert demand.output_tokens.tolist() == [5, 6, 7]


def test_prompts_that_begin_alike_and_turns_of_a_session_share_a_prefix(tmp_path: Path) -> None:
    prompts(tmp_path, a1=None, a2=None, b1=None, s=None, t="s", u="t", lone=None)
    shared = {"a1": 50, "a2": 50, "b1": 999, "s": None, "t": 120, "u": 140, "lone": None}
    demand = measured(
        tmp_path,
        [
            request(i, 2.0 + i, prompt, shared_tokens=tokens)
            for i, (prompt, tokens) in enumerate(shared.items())
        ],
    )
    a, a_too, b, begin, turn, last, lone = demand.prefix.tolist()
    assert a == a_too and begin == turn == last and lone == NOBODY
    assert len({a, b, begin, lone}) == 4
    assert demand.prefix_tokens.tolist() == [50, 50, 102, 0, 104, 105, 0]


def test_without_requests_or_counts_there_is_no_demand(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no requests in the window of any block"):
        demand_of_run(inputs(tmp_path, ["v"]))
    uncounted = [request(0, 2.0, output_tokens=None, input_tokens=None)]
    with pytest.raises(BadInput, match="no answer has a count of input tokens"):
        measured(tmp_path, uncounted)


def test_the_variant_is_the_baseline_unless_it_is_named(tmp_path: Path) -> None:
    measured(tmp_path, [request(0, 2.0)])
    head = header(variant="w", stage="main", origin_monotonic_ns=9)
    write_block(tmp_path, head, [request(7, 2.0)], None)
    both = inputs(tmp_path, ["v", "w"])
    lengths = [demand_of_run(both, name).input_tokens for name in (None, "v", "w")]
    assert np.array(lengths).tolist() == [[100], [100], [107]]
