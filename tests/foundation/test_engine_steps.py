"""The steps of servers, read from engine records."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.run.engine_record import EngineLimits, EngineStep, key_parts, request_key
from foundation.run.engine_records import UNKNOWN, LeftOut
from foundation.run.engine_steps import read_server_records
from tests.run_files import MS, engine_request, engine_start, lines, write_engine

STEP = EngineStep(
    ended_ns=5, elapsed_ns=None, context_requests=1, context_tokens=9, generation_requests=2,
    generation_tokens=3, running=4, waiting=6,
)  # fmt: skip


def test_each_start_of_a_server_has_its_own_steps_and_limits(tmp_path: Path) -> None:
    request = engine_request(7, 3, (1, 2, 3), finished_ns=9 * MS, cached_tokens=4, preemptions=1)
    nobody = engine_request(7, 4, (1, 2, 3), key="cmpl-of-somebody-else", finished_ns=1)
    momentless = engine_request(7, 5, (1, 2, 3))
    limits = EngineLimits(max_num_seqs=8, kv_blocks=100, prefix_caching=True)
    file = write_engine(
        tmp_path, "v", STEP, engine_start(limits=limits), STEP, request, nobody, momentless,
        engine_start(source="vLLM 1"),
    )  # fmt: skip
    left_out = LeftOut()
    first, second = read_server_records(file, left_out)
    assert (first.limits, second.limits, second.source) == (limits, None, "vLLM 1")
    assert (len(second.steps), len(second.requests)) == (0, 0)
    columns = first.steps
    assert [column.tolist() for column in vars(columns).values()] == [
        [5], [UNKNOWN], [1], [9], [2], [3], [4], [6]
    ]  # fmt: skip
    assert [column.tolist() for column in vars(first.requests).values()] == [
        [7], [3], [9 * MS], [1], [2], [3], [10], [2], [4], [1]
    ]  # fmt: skip
    assert left_out.note() is None


def test_preemptions_that_nobody_counted_are_not_none_at_all(tmp_path: Path) -> None:
    silent = engine_request(7, 3, (1, 2, 3), finished_ns=9, preemptions=None)
    (server,) = read_server_records(write_engine(tmp_path, "v", engine_start(), silent), LeftOut())
    assert server.requests.preemptions.tolist() == [UNKNOWN]


def test_damaged_lines_are_left_out_and_named(tmp_path: Path) -> None:
    file = write_engine(tmp_path, "v", engine_start(), STEP)
    file.write_bytes(file.read_bytes() + b'{"kind":"step","ended_ns":-1}\n' + lines(STEP)[:-9])
    left_out = LeftOut()
    (server,) = read_server_records(file, left_out)
    assert len(server.steps) == 1
    assert [damage.line for damage in left_out.first] == [3, 4]
    assert read_server_records(tmp_path / "gone.jsonl", left_out) == []
    assert left_out.lines == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**62))
def test_a_key_is_read_as_it_was_written(origin: int, number: int) -> None:
    assert key_parts(request_key(origin, number)) == (origin, number)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60) | st.sampled_from([lines(STEP), lines(engine_start())])))
def test_any_bytes_are_read(parts: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "any.jsonl"
        file.write_bytes(b"\n".join(parts))
        steps = sum(len(server.steps) for server in read_server_records(file, LeftOut()))
    assert steps <= parts.count(lines(STEP))
