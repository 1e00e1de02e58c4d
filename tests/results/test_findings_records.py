"""Records that are missing, impossible or out of time are found, counted and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.run.records import Prompt, RequestRecord
from tests.results.steady_run import N, main, notes_of, rewritten, steady, with_header, written
from tests.results.synthetic import MS, write_journal


class TestWhetherTheRecordsAreThere:
    @pytest.mark.parametrize(
        ("planned", "level"), [(N, "VALID"), (N + 2, "SUSPECT"), (2 * N, "INVALID")]
    )
    def test_planned_requests_without_a_record(
        self, tmp_path: Path, planned: int, level: str
    ) -> None:
        with_header(write_journal(tmp_path, "base", 1, steady()), planned=planned)
        stage = main(tmp_path)
        assert stage.validity.level == level
        assert (
            planned == N
            or f"{planned - N} planned requests left no record (block 1)" in notes_of(stage)
        )

    def test_a_line_that_can_not_be_read_is_not_counted_again_as_missing(
        self, tmp_path: Path
    ) -> None:
        journal = write_journal(tmp_path, "base", 1, steady())
        lines = journal.read_bytes().split(b"\n")
        lines[5], lines[9] = b"garbage", b"{}"
        journal.write_bytes(b"\n".join(lines))
        stage = main(tmp_path)
        assert "2 lines" in notes_of(stage)
        assert "left no record" not in notes_of(stage)

    def test_sessions_without_their_first_turn(self, tmp_path: Path) -> None:
        """20 sessions of five turns were planned, and the 100 records are of 18 first turns."""
        with (tmp_path / "prompts.jsonl").open("wb") as file:
            for i in range(N):
                after = None if i < 18 else f"q{i - 18}"
                messages = {"short": [{"role": "user", "content": "x"}]}
                file.write(
                    msgspec.json.encode(
                        Prompt(id=f"q{i}", set="eval", messages=messages, after=after)
                    )
                    + b"\n"
                )
        with_header(write_journal(tmp_path, "base", 1, steady()), planned=20)
        assert "2 planned requests left no record" in notes_of(main(tmp_path))

    def test_a_closed_loops_warm_up_comes_on_top(self, tmp_path: Path) -> None:
        """100 planned; 10 of the 100 records are of the warm-up."""
        with_header(
            write_journal(
                tmp_path,
                "base",
                1,
                steady(),
                offered_rate=None,
                concurrency=4,
                window_ms=(1_000, 10_000),
            ),
            planned=N,
        )
        assert "10 planned requests left no record" in notes_of(main(tmp_path))

    def test_a_block_that_was_cut_off_says_what_is_missing(self, tmp_path: Path) -> None:
        with_header(write_journal(tmp_path, "base", 1, steady(), end=None), planned=150)
        stage = main(tmp_path)
        assert (
            stage.validity.level == "SUSPECT"
            and "50 planned requests left no record" in notes_of(stage)
        )

    def test_duplicate_ids_are_counted_once_and_named(self, tmp_path: Path) -> None:
        records = steady()
        stage = written(tmp_path, [*records, records[3]])
        assert stage.planned == N
        assert "there is a request 3 before it" in notes_of(stage)


class TestWhatCantBe:
    def change(self, **changes: Any) -> Callable[[RequestRecord], None]:
        def apply(record: RequestRecord) -> None:
            for name, value in changes.items():
                setattr(record, name, value(record) if callable(value) else value)

        return apply

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            (
                {"sent_ns": lambda r: r.scheduled_ns + 50 * MS},
                "its first chunk came before it was sent",
            ),
            (
                {"done_ns": lambda r: r.scheduled_ns + 40 * MS},
                "it ended before its last chunk came",
            ),
            ({"sent_ns": None}, "an answer came to a request that was never sent"),
            (
                {"chunk_ns": lambda r: [90_000_000_000_000, 10]},
                "it ended before its last chunk came",
            ),
            ({"done_ns": lambda r: 90_000_000_000_000}, "it took more than a day"),
            ({"output_tokens": 2_000_000_000}, "it has more than 10,000,000 tokens"),
            ({"chunk_tokens": [5_000_000, 6_000_000]}, "it has more than 10,000,000 tokens"),
        ],
    )
    def test_a_record_that_cant_be_is_left_out_and_named(
        self, tmp_path: Path, changes: dict[str, Any], why: str
    ) -> None:
        records = steady()
        self.change(**changes)(records[42])
        stage = written(tmp_path, records)
        assert (stage.planned, stage.succeeded) == (N - 1, N - 1)
        assert stage.validity.level == "SUSPECT"
        assert f"base/main/block-01.jsonl:44: {why}" in notes_of(
            stage
        )  # a header, and 42 records before it
        assert stage.metrics["latency_mean"].value == pytest.approx(63, abs=1)
        assert stage.metrics["output_tokens_mean"].value == 2

    def test_a_stamp_after_the_block_has_ended(self, tmp_path: Path) -> None:
        records = steady()
        records[7].done_ns = 60_000 * MS
        assert "it ended after the block had ended" in notes_of(
            written(tmp_path, records, ended_ns=11_000 * MS)
        )

    def test_many_of_them_leave_nothing_to_believe(self, tmp_path: Path) -> None:
        records = steady()
        for record in records[::3]:
            record.chunk_ns[0] = record.scheduled_ns - 1 if record.scheduled_ns else 0
            record.sent_ns = record.scheduled_ns + 100 * MS
        stage = written(tmp_path, records)
        assert stage.validity.level == "INVALID" and "34 lines of its journals" in notes_of(stage)

    def test_one_clock_may_be_a_little_before_the_other(self, tmp_path: Path) -> None:
        records = steady()
        records[5].done_ns = records[5].scheduled_ns + 64 * MS  # its last chunk: 65 ms
        assert written(tmp_path, records).validity.level == "VALID"

    def test_numbers_that_are_not_one_a_chunk(self, tmp_path: Path) -> None:
        records = steady()
        for record in records[:3]:
            record.chunk_tokens = [2]
        for record in records[1:]:
            record.client_lag_ns = [10, 10]
        stage = written(tmp_path, records)
        assert stage.validity.level == "SUSPECT"
        assert "3 answers without one token count a chunk: left out of ITL" in notes_of(stage)
        assert "1 answer without one client lag a chunk" in notes_of(stage)


class TestTheClient:
    def test_requests_that_went_out_before_they_were_due(self, tmp_path: Path) -> None:
        stage = written(tmp_path / "all", _early(N))
        assert stage.validity.level == "INVALID"
        assert "99 requests went out before they were due, by up to 20 ms" in notes_of(
            stage
        )  # the first was due at 0
        assert written(tmp_path / "two", _early(3)).validity.level == "SUSPECT"

    @pytest.mark.parametrize(
        ("clock", "step_ms", "level"),
        [
            ("kernel", 0.5, "VALID"),
            ("kernel", -3, "SUSPECT"),
            ("kernel", -150, "INVALID"),
            ("user", 150, "VALID"),
        ],
    )
    def test_a_clock_that_was_set(
        self, tmp_path: Path, clock: str, step_ms: float, level: str
    ) -> None:
        file = write_journal(tmp_path, "base", 1, steady())
        rewritten(
            file,
            lambda header: msgspec.structs.replace(header, clock=clock),
            lambda end: msgspec.structs.replace(end, clock_step_ns=round(step_ms * MS)),
        )
        stage = main(tmp_path)
        assert stage.validity.level == level
        assert (
            level == "VALID"
            or f"was set by up to {abs(step_ms):.0f} ms during 1 block" in notes_of(stage)
        )


def _early(count: int) -> list[RequestRecord]:
    records = steady()
    for record in records[1:count]:
        record.sent_ns = record.scheduled_ns - 20 * MS
    return records
