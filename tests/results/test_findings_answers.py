"""Odd answers and references are found, counted and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.run.records import Prompt
from results.summary import Summary
from tests.results.steady_run import N, notes_of, steady, summary_of, with_header, written
from tests.results.synthetic import Goals, request, write_journal, write_prompts


class TestTheAnswers:
    def test_empty_ones(self, tmp_path: Path) -> None:
        records = [
            request(i, f"q{i}", i * 100, 60, 30, text="" if i < 3 else "ok") for i in range(N)
        ]
        stage = written(tmp_path, records)
        assert stage.validity.level == "SUSPECT" and "3 of 100 answers were empty" in notes_of(
            stage
        )

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
            and "50 of 100 answers were cut at max_tokens" in notes_of(stage)
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
        summary = summary_of(run, goals=Goals(quality=quality))
        return summary, notes_of(summary.variants[0].stages[0])

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
        goals = Goals(
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
        reasons = " ".join(summary_of(tmp_path, goals=goals).validity.reasons)
        assert "base, probe-facts: INVALID: 20 planned requests left no record" in reasons
