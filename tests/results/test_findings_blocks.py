"""Whose blocks journals are, and whether all of them sent the same requests."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from results.analysis import analyse
from results.decision.verdict import judge
from tests.results.steady_run import SLO, N, main, notes_of, steady, summary_of, with_header
from tests.results.synthetic import inputs, request, write_journal


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
        assert "tuned/main/block-01.jsonl:1" in notes_of(stage)
        assert "a journal of variant 'base', stage 'main', which this folder is not" in notes_of(
            stage
        )

    def test_a_folder_of_nothing_else_holds_no_measurement(self, tmp_path: Path) -> None:
        write_journal(tmp_path, "base", 1, steady())
        shutil.copytree(tmp_path / "load/base", tmp_path / "load/tuned")
        run_inputs = inputs(tmp_path, ("base", "tuned"), SLO)
        summary = analyse(run_inputs)
        assert summary.variants[1].stages == []
        assert "a journal of variant 'base'" in " ".join(summary.notes)
        assert summary.validity.level == "SUSPECT"
        assert summary.validity.reasons[0].startswith(
            "tuned: SUSPECT: 1 journal left out, and nothing else there: tuned/main/block"
        )
        assert judge(summary, run_inputs).variants[1].decision == "INCONCLUSIVE"

    def test_a_block_under_ten_names_is_one_block(self, tmp_path: Path) -> None:
        file = write_journal(tmp_path, "base", 1, steady(), began_ns=10**18)
        with_header(file, origin_monotonic_ns=5_000)
        for number in range(2, 11):
            shutil.copy(file, file.with_name(f"block-{number:02d}.jsonl"))
        stage = main(tmp_path)
        assert (stage.blocks, stage.planned) == (1, N)
        assert (
            stage.validity.level == "SUSPECT"
            and "a copy of block-01.jsonl: the block is counted once" in notes_of(stage)
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
        words = notes_of(main(tmp_path))
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
        assert stage.validity.level == level and words in notes_of(stage)

    def test_blocks_of_two_identities_are_no_measurement(self, tmp_path: Path) -> None:
        for number, identity in enumerate(("a" * 64, "a" * 64, "b" * 64), start=1):
            file = write_journal(tmp_path, "base", number, steady(), began_ns=number * 10**18)
            with_header(file, identity=identity)
        stage = main(tmp_path)
        assert (
            stage.validity.level == "INVALID"
            and "1 block of 3 measured something else" in notes_of(stage)
        )
        for file in tmp_path.rglob("block-*.jsonl"):
            with_header(file, identity="a" * 64)
        assert "something else" not in notes_of(main(tmp_path))

    def test_another_prompt_style_than_the_variants(self, tmp_path: Path) -> None:
        with_header(write_journal(tmp_path, "base", 1, steady()), prompt_style="long")
        assert "asked in prompt style long, and variants.json says short" in notes_of(
            main(tmp_path)
        )

    def test_prompts_cut_to_length_by_a_variants_own_count_are_its_own(
        self, tmp_path: Path
    ) -> None:
        with_header(write_journal(tmp_path, "base", 1, steady()), prompt_style="base")
        assert "asked in prompt style" not in notes_of(main(tmp_path))

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
