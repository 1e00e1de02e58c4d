"""What a server takes around its engine, from requests whose times are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foundation.run.engine_records import read_engine_records
from foundation.run.journal import Journal, read_journal
from foundation.run.records import RequestRecord
from foundation.run.requests import Requests
from results.capacity.model.engine_model import FrontEnd, StepTime
from results.capacity.model.front_end import comes_alone, recorded_front_end, stamped_front_end
from results.capacity.model.stamped_steps import waits_for_step
from tests.run_files import (
    MS,
    answer,
    engine_request,
    engine_start,
    header,
    write_block,
    write_engine,
)

ORIGIN = 10**12
STEP = StepTime(10e-3, 1e-3, 0.1e-3)


def request(id: int, sent_ms: float, first_ms: float, tokens: int = 100) -> RequestRecord:
    """Two tokens, the second 10 ms after the first."""
    first, sent = round(first_ms * MS), round(sent_ms * MS)
    return answer(id, f"q{id}", sent, [first, 10 * MS], input_tokens=tokens)


def block(run: Path, *records: RequestRecord) -> Requests:
    head = header(origin_monotonic_ns=ORIGIN, clock="kernel")
    journal = read_journal(write_block(run, head, records, None))
    assert isinstance(journal, Journal)
    return read_engine_records(run / "engine").timed(journal).requests


def alone(count: int, front_ms: float, token_ms: float) -> list[RequestRecord]:
    """Requests of 100, 110, ... tokens, a second apart, on an engine that is `STEP`."""
    return [
        request(i, i * 1e3, i * 1e3 + 10 + (0.1 + token_ms) * n + front_ms, n)
        for i, n in enumerate(range(100, 100 + 10 * count, 10))
    ]


def test_requests_are_alone_if_all_before_them_have_ended(tmp_path: Path) -> None:
    requests = block(
        tmp_path,
        request(0, 0, 20),
        request(1, 25, 50),  # the first ends at 30
        request(2, 100, 120),
        RequestRecord(id=3, prompt_id="q", scheduled_ns=200 * MS, sent_ns=200 * MS),
        request(4, 300, 320),  # nobody knows when the one before it ended
    )
    assert comes_alone(requests).tolist() == [True, False, True, False, False]


def test_stamps_show_a_request_and_a_token_of_its_prompt(tmp_path: Path) -> None:
    fit = stamped_front_end([block(tmp_path, *alone(30, 4.0, 0.01))], STEP)
    assert (fit.front.per_request, fit.front.per_input_token) == pytest.approx((4e-3, 1e-5))
    assert (fit.front.per_output_token, fit.notes) == (0.0, ())


def test_few_requests_show_no_line(tmp_path: Path) -> None:
    fit = stamped_front_end([block(tmp_path, *alone(7, 4.0, 0.01))], STEP)
    assert fit.front == FrontEnd(pytest.approx(4e-3 + 130e-5), 0.0, 0.0)


def test_the_wait_for_a_step_is_an_upper_bound(tmp_path: Path) -> None:
    long = answer(0, "q", 0, [20 * MS] + [10 * MS] * 40, input_tokens=9)
    others = [
        answer(i, f"q{i}", (17 + 30 * i) * MS, [(40 + 30 * i) * MS + 20_000], input_tokens=9)
        for i in range(1, 10)
    ]
    requests = block(tmp_path, long, *others)
    # a request is sent 3 ms before a step ends, and has its token with the next but one
    assert waits_for_step(requests)[1:] == pytest.approx([13e-3] * 9)
    fit = stamped_front_end([requests], STEP)
    assert fit.front == FrontEnd(pytest.approx(13e-3), 0.0, 0.0)
    assert fit.notes == (
        "1 request came to an engine at rest: the time before the queue is the 5th percentile of "
        "all waits, and so an upper bound",
    )


def test_the_record_shows_the_way_back_of_a_token(tmp_path: Path) -> None:
    """Queued 3 ms after it was sent; the first token comes 2 ms after its step."""
    records = alone(6, 5.0, 0.0)
    write_engine(
        tmp_path, "v", engine_start(),
        *(
            engine_request(
                ORIGIN, each.id, (0, each.chunk_ns[0] - each.sent_ns - 5 * MS, 10 * MS),
                finished_ns=ORIGIN + each.chunk_ns[0] + 8 * MS,
            )
            for each in records if each.sent_ns is not None
        ),
    )  # fmt: skip
    fit = recorded_front_end([block(tmp_path, *records)])
    assert fit.front == FrontEnd(pytest.approx(3e-3), 0.0, pytest.approx(2e-3))


def test_without_any_time_the_front_end_takes_none_and_says_so(tmp_path: Path) -> None:
    fit = recorded_front_end([block(tmp_path, request(0, 0, 20))])
    assert fit.front == FrontEnd()
    assert fit.notes == (
        "nothing shows what the server takes around the engine: it counts as no time",
    )
    assert np.isnan(waits_for_step(block(tmp_path, request(0, 0, 20)))).all()
