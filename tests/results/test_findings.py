"""Faults that make a measurement suspect or worthless: each is found, counted and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.run.records import JournalEnd, JournalHeader, Prompt, RequestRecord
from results.analysis import analyse
from results.decision.verdict import judge
from results.summary import StageSummary, Summary
from tests.results.synthetic import MS, Asked, inputs, request, write_journal, write_prompts

SLO = Asked({"latency_p95": "500ms"})
N = 100


def steady(**each: Any) -> list[RequestRecord]:
    return [request(i, f"q{i}", i * 100, 60 + i % 7, 30, **each) for i in range(N)]


def rewritten(
    file: Path,
    header: Callable[[JournalHeader], JournalHeader] | None = None,
    end: Callable[[JournalEnd], JournalEnd] | None = None,
) -> None:
    lines = file.read_bytes().splitlines()
    if header:
        lines[0] = msgspec.json.encode(header(msgspec.json.decode(lines[0], type=JournalHeader)))
    if end:
        lines[-1] = msgspec.json.encode(end(msgspec.json.decode(lines[-1], type=JournalEnd)))
    file.write_bytes(b"\n".join(lines) + b"\n")


def with_header(file: Path, **changes: Any) -> None:
    rewritten(file, header=lambda header: msgspec.structs.replace(header, **changes))


def summary_of(run: Path, variants: tuple[str, ...] = ("base",), asked: Asked = SLO) -> Summary:
    return analyse(inputs(run, variants, asked))


def main(run: Path, asked: Asked = SLO) -> StageSummary:
    return summary_of(run, asked=asked).variants[0].stages[0]


def said(stage: StageSummary) -> str:
    return " ".join(stage.validity.reasons)


def written(run: Path, records: list[RequestRecord], **more: Any) -> StageSummary:
    write_journal(run, "base", 1, records, **more)
    return main(run)


class TestWhoseBlocksTheseAre:
    def test_a_journal_in_another_variants_folder_is_not_counted(self, tmp_path: Path) -> None:
        for block in (1, 2):
            write_journal(tmp_path, "base", block, steady())
            write_journal(tmp_path, "tuned", block, steady())
        shutil.copy(
            tmp_path / "load/base/main/block-01.jsonl", tmp_path / "load/tuned/main/block-01.jsonl"
        )
        stage = summary_of(tmp_path, ("base", "tuned")).variants[1].stages[0]
        assert (stage.blocks, stage.planned) == (1, N)
        assert stage.validity.level == "SUSPECT"
        assert "tuned/main/block-01.jsonl:1" in said(stage)
        assert "a journal of variant 'base', stage 'main', which this folder is not" in said(stage)

    def test_a_folder_of_nothing_else_holds_no_measurement(self, tmp_path: Path) -> None:
        write_journal(tmp_path, "base", 1, steady())
        shutil.copytree(tmp_path / "load/base", tmp_path / "load/tuned")
        asked = inputs(tmp_path, ("base", "tuned"), SLO)
        summary = analyse(asked)
        assert summary.variants[1].stages == []
        assert "a journal of variant 'base'" in " ".join(summary.notes)
        assert summary.validity.level == "SUSPECT"
        assert summary.validity.reasons[0].startswith(
            "tuned: SUSPECT: 1 journal left out, and nothing else there: tuned/main/block"
        )
        assert judge(summary, asked).variants[1].decision == "INCONCLUSIVE"

    def test_a_block_under_ten_names_is_one_block(self, tmp_path: Path) -> None:
        file = write_journal(tmp_path, "base", 1, steady(), began_ns=10**18)
        with_header(file, origin_monotonic_ns=5_000)
        for number in range(2, 11):
            shutil.copy(file, file.with_name(f"block-{number:02d}.jsonl"))
        stage = main(tmp_path)
        assert (stage.blocks, stage.planned) == (1, N)
        assert (
            stage.validity.level == "SUSPECT"
            and "a copy of block-01.jsonl: the block is counted once" in said(stage)
        )

    def test_a_copy_with_another_number_is_one_block_too(self, tmp_path: Path) -> None:
        for number in (1, 2):
            file = write_journal(tmp_path, "base", number, steady(), began_ns=10**18)
            with_header(file, origin_monotonic_ns=5_000)
        assert main(tmp_path).blocks == 1

    def test_journals_of_no_variant_are_named(self, tmp_path: Path) -> None:
        for variant in ("base", "old"):
            write_journal(tmp_path, variant, 1, steady())
        assert "load/ holds journals of no variant of this run: old" in " ".join(
            summary_of(tmp_path).notes
        )

    def test_two_journals_that_say_they_are_one_block(self, tmp_path: Path) -> None:
        for number in (1, 2):
            write_journal(tmp_path, "base", number, steady(), began_ns=number * 10**18)
        with_header(tmp_path / "load/base/main/block-02.jsonl", block=1)
        words = said(main(tmp_path))
        assert (
            "several journals say they are block 1" in words
            and "block-02.jsonl is block 1" in words
        )

    def test_blocks_that_two_variants_share_are_nobodys(self, tmp_path: Path) -> None:
        """A copy whose header names the other variant. A mix's blocks begin together."""
        for variant, more in (("base", 0), ("tuned", 0), ("other", 3)):
            records = [request(i, f"q{i}", i * 100 + more, 60 + i % 7, 30) for i in range(N)]
            write_journal(tmp_path, variant, 1, records, began_ns=10**18)
        levels = {}
        for variant in summary_of(tmp_path, ("base", "tuned", "other")).variants:
            levels[variant.variant] = variant.stages[0].validity
        assert {name: validity.level for name, validity in levels.items()} == {
            "base": "INVALID",
            "tuned": "INVALID",
            "other": "VALID",
        }
        assert "blocks of it are also those of base, main" in levels["tuned"].reasons[0]


class TestWhetherTheyWereAskedOneThing:
    @pytest.mark.parametrize(
        ("change", "level", "words"),
        [
            ({"offered_rate": 1000.0}, "INVALID", "offered rate 10.0, 1000.0"),
            ({"arrivals": "poisson"}, "INVALID", "arrivals constant, poisson"),
            ({"model": "other"}, "INVALID", "model base, other"),
            ({"api": "completions"}, "INVALID", "api chat, completions"),
            ({"prompt_style": "long"}, "INVALID", "prompt style short, long"),
            ({"clock": "kernel"}, "SUSPECT", "clock user, kernel"),
        ],
    )
    def test_a_block_of_something_else(
        self, tmp_path: Path, change: dict[str, Any], level: str, words: str
    ) -> None:
        files = [
            write_journal(tmp_path, "base", number, steady(), began_ns=number * 10**18)
            for number in (1, 2, 3)
        ]
        with_header(files[2], **change)
        stage = main(tmp_path)
        assert stage.validity.level == level and words in said(stage)

    def test_blocks_of_two_identities_are_no_measurement(self, tmp_path: Path) -> None:
        for number, identity in enumerate(("a" * 64, "a" * 64, "b" * 64), start=1):
            file = write_journal(tmp_path, "base", number, steady(), began_ns=number * 10**18)
            with_header(file, identity=identity)
        stage = main(tmp_path)
        assert stage.validity.level == "INVALID" and "1 block of 3 measured something else" in said(
            stage
        )
        for file in tmp_path.rglob("block-*.jsonl"):
            with_header(file, identity="a" * 64)
        assert "something else" not in said(main(tmp_path))

    def test_another_prompt_style_than_the_variants(self, tmp_path: Path) -> None:
        with_header(write_journal(tmp_path, "base", 1, steady()), prompt_style="long")
        assert "asked in prompt style long, and variants.json says short" in said(main(tmp_path))

    def test_prompts_cut_to_length_by_a_variants_own_count_are_its_own(
        self, tmp_path: Path
    ) -> None:
        with_header(write_journal(tmp_path, "base", 1, steady()), prompt_style="base")
        assert "asked in prompt style" not in said(main(tmp_path))

    def test_a_load_that_is_not_one_was_not_held(self, tmp_path: Path) -> None:
        files = [
            write_journal(tmp_path, "base", number, steady(), began_ns=number * 10**18)
            for number in (1, 2)
        ]
        with_header(files[1], offered_rate=20.0)
        stage = main(tmp_path)
        assert stage.held is None and "not offered the same load" in (stage.held_reason or "")

    @pytest.mark.parametrize(
        ("seeds", "level"), [((1, 2, 3), "VALID"), ((7, 7, 7), "VALID"), ((7, 7, 8), "SUSPECT")]
    )
    def test_seeds_are_all_one_or_all_their_own(
        self, tmp_path: Path, seeds: tuple[int, ...], level: str
    ) -> None:
        for number, seed in enumerate(seeds, start=1):
            write_journal(tmp_path, "base", number, steady(), began_ns=number * 10**18, seed=seed)
        assert main(tmp_path).validity.level == level


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
        assert planned == N or f"{planned - N} planned requests left no record (block 1)" in said(
            stage
        )

    def test_a_line_that_can_not_be_read_is_not_counted_again_as_missing(
        self, tmp_path: Path
    ) -> None:
        journal = write_journal(tmp_path, "base", 1, steady())
        lines = journal.read_bytes().split(b"\n")
        lines[5], lines[9] = b"garbage", b"{}"
        journal.write_bytes(b"\n".join(lines))
        stage = main(tmp_path)
        assert "2 lines" in said(stage)
        assert "left no record" not in said(stage)

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
        assert "2 planned requests left no record" in said(main(tmp_path))

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
        assert "10 planned requests left no record" in said(main(tmp_path))

    def test_a_block_that_was_cut_off_says_what_is_missing(self, tmp_path: Path) -> None:
        with_header(write_journal(tmp_path, "base", 1, steady(), end=None), planned=150)
        stage = main(tmp_path)
        assert stage.validity.level == "SUSPECT" and "50 planned requests left no record" in said(
            stage
        )

    def test_duplicate_ids_are_counted_once_and_named(self, tmp_path: Path) -> None:
        records = steady()
        stage = written(tmp_path, [*records, records[3]])
        assert stage.planned == N
        assert "there is a request 3 before it" in said(stage)


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
        assert f"base/main/block-01.jsonl:44: {why}" in said(
            stage
        )  # a header, and 42 records before it
        assert stage.metrics["latency_mean"].value == pytest.approx(63, abs=1)
        assert stage.metrics["output_tokens_mean"].value == 2

    def test_a_stamp_after_the_block_has_ended(self, tmp_path: Path) -> None:
        records = steady()
        records[7].done_ns = 60_000 * MS
        assert "it ended after the block had ended" in said(
            written(tmp_path, records, ended_ns=11_000 * MS)
        )

    def test_many_of_them_leave_nothing_to_believe(self, tmp_path: Path) -> None:
        records = steady()
        for record in records[::3]:
            record.chunk_ns[0] = record.scheduled_ns - 1 if record.scheduled_ns else 0
            record.sent_ns = record.scheduled_ns + 100 * MS
        stage = written(tmp_path, records)
        assert stage.validity.level == "INVALID" and "34 lines of its journals" in said(stage)

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
        assert "3 answers without one token count a chunk: left out of ITL" in said(stage)
        assert "1 answer without one client lag a chunk" in said(stage)


class TestTheClient:
    def test_requests_that_went_out_before_they_were_due(self, tmp_path: Path) -> None:
        stage = written(tmp_path / "all", _early(N))
        assert stage.validity.level == "INVALID"
        assert "99 requests went out before they were due, by up to 20 ms" in said(
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
        assert level == "VALID" or f"was set by up to {abs(step_ms):.0f} ms during 1 block" in said(
            stage
        )


def _early(count: int) -> list[RequestRecord]:
    records = steady()
    for record in records[1:count]:
        record.sent_ns = record.scheduled_ns - 20 * MS
    return records


class TestTheAnswers:
    def test_empty_ones(self, tmp_path: Path) -> None:
        records = [
            request(i, f"q{i}", i * 100, 60, 30, text="" if i < 3 else "ok") for i in range(N)
        ]
        stage = written(tmp_path, records)
        assert stage.validity.level == "SUSPECT" and "3 of 100 answers were empty" in said(stage)

    def test_an_answer_that_the_server_broke_off_failed_however_it_was_recorded(
        self, tmp_path: Path
    ) -> None:
        records = steady()
        for record, reason in zip(
            records, ("abort", "error", "", None, "content_filter", "tool_calls"), strict=False
        ):
            record.finish_reason = reason
        stage = written(tmp_path, records)
        assert stage.failures == {"aborted": 4}
        assert "1 answer ended by a content filter" in " ".join(stage.notes)

    def test_what_is_odd_about_answers_is_counted_and_said(self, tmp_path: Path) -> None:
        records = steady()
        records[1].notes, records[2].notes = ["no_done"], ["no_done", "usage_odd"]
        notes = written(tmp_path, records).notes
        assert sum(note.startswith("2 answers ended without [DONE]") for note in notes) == 1
        assert sum("contradict one another" in note for note in notes) == 1
        assert not any("compressed" in note for note in notes)

    def test_no_tokens_beside_a_text_are_not_counted(self, tmp_path: Path) -> None:
        records = steady()
        for record in records[:50]:
            record.input_tokens = record.output_tokens = 0
        stage = written(tmp_path, records)
        assert (
            stage.metrics["output_tokens_mean"].value,
            stage.metrics["output_tokens_mean"].n,
        ) == (2, 50)
        assert "50 answers without a token count" in " ".join(stage.notes)

    def test_half_of_them_cut_at_the_limit(self, tmp_path: Path) -> None:
        records = steady()
        for record in records[:50]:
            record.finish_reason = "length"
        stage = written(tmp_path, records)
        assert (
            stage.validity.level == "SUSPECT"
            and "50 of 100 answers were cut at max_tokens" in said(stage)
        )
        for record in records[:10]:
            record.finish_reason = "stop"
        stage = written(tmp_path, records)
        assert stage.validity.level == "VALID" and "40 answers cut at the token limit" in " ".join(
            stage.notes
        )

    def test_answers_of_a_length_that_was_asked_for(self, tmp_path: Path) -> None:
        """All are cut at the 10 tokens they were to have, but for 3 that end early."""
        with (tmp_path / "prompts.jsonl").open("wb") as file:
            for i in range(N):
                prompt = Prompt(
                    id=f"q{i}",
                    set="eval",
                    messages={"short": [{"role": "user", "content": "x"}]},
                    output_tokens=10,
                )
                file.write(msgspec.json.encode(prompt) + b"\n")
        records = [
            request(i, f"q{i}", i * 100, 60, 30, output_tokens=4 if i < 3 else 10) for i in range(N)
        ]
        for record in records:
            record.finish_reason = "length"
        stage = written(tmp_path, records)
        assert stage.validity.reasons == [
            "SUSPECT: 3 of 100 answers were shorter than asked by more than 10%"
        ]

    @pytest.mark.parametrize(("there", "short"), [(3, False), (2, True)])
    def test_of_short_answers_one_token_less_is_let_pass(
        self, tmp_path: Path, there: int, short: bool
    ) -> None:
        """All were to have 4 tokens; one token is more than 10 % of them."""
        with (tmp_path / "prompts.jsonl").open("wb") as file:
            for i in range(N):
                prompt = Prompt(
                    id=f"q{i}",
                    set="eval",
                    messages={"short": [{"role": "user", "content": "x"}]},
                    output_tokens=4,
                )
                file.write(msgspec.json.encode(prompt) + b"\n")
        stage = written(
            tmp_path, [request(i, f"q{i}", i * 100, 60, 30, output_tokens=there) for i in range(N)]
        )
        assert ("were shorter than asked" in " ".join(stage.validity.reasons)) is short


class TestWhatTheyAreScoredBy:
    def scored(
        self, run: Path, references: dict[str, str | None], quality: dict[str, Any]
    ) -> tuple[Summary, str]:
        run.mkdir(exist_ok=True)
        with (run / "prompts.jsonl").open("wb") as file:
            for name, reference in references.items():
                messages = {"short": [{"role": "user", "content": name}]}
                file.write(
                    msgspec.json.encode(
                        Prompt(id=name, set="eval", messages=messages, reference=reference)
                    )
                    + b"\n"
                )
        write_journal(run, "base", 1, steady(text="yes"))
        summary = summary_of(run, asked=Asked(quality=quality))
        return summary, said(summary.variants[0].stages[0])

    def test_references_for_ten_of_a_hundred(self, tmp_path: Path) -> None:
        references = {f"q{i}": "yes" if i < 10 else None for i in range(N)}
        summary, words = self.scored(tmp_path, references, {"min": 0.5})
        assert "10 of 100 prompts have a reference: quality is of their answers only" in words
        assert summary.validity.level == "SUSPECT"
        assert (
            self.scored(tmp_path / "all", dict.fromkeys(references, "yes"), {"min": 0.5})[1] == ""
        )
        assert self.scored(tmp_path / "none", dict.fromkeys(references, None), {})[1] == ""

    def test_prompts_that_nobody_knows(self, tmp_path: Path) -> None:
        _, words = self.scored(tmp_path, {f"q{i}": "yes" for i in range(95)}, {"min": 0.5})
        assert (
            "5 of 100 prompts that were asked are not in prompts.jsonl (q95, q96, "
            "q97): their answers are not scored" in words
        )

    def test_references_that_are_no_label(self, tmp_path: Path) -> None:
        references = {f"q{i}": "yes" if i % 2 else "maybe" for i in range(N)}
        _, words = self.scored(tmp_path, references, {"scorer": "choice", "labels": ["yes", "no"]})
        assert (
            "50 of 100 references can't be met by any answer: 'maybe' is none of the labels "
            "(yes, no)" in words
        )

    def test_a_probe_is_looked_at_too(self, tmp_path: Path) -> None:
        asked = Asked(
            quality={"probes": [{"name": "facts", "data": "f.jsonl", "scorer": "exact_match"}]}
        )
        write_journal(tmp_path, "base", 1, steady())
        file = write_journal(
            tmp_path,
            "base",
            1,
            steady(text="A"),
            stage="probe-facts",
            offered_rate=None,
            concurrency=4,
        )
        with_header(file, planned=N + 20)
        write_prompts(tmp_path, {f"q{i}": "A" for i in range(N)}, "facts")
        reasons = " ".join(summary_of(tmp_path, asked=asked).validity.reasons)
        assert "base, probe-facts: INVALID: 20 planned requests left no record" in reasons
