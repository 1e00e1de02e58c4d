"""Sessions, mixes and salts in blocks against the emulator."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.progress import Silent
from foundation.run.records import RequestRecord
from loadgen import BlockPlan, Question, run_block, run_mix
from loadgen.config import Stage, WorkloadConfig
from loadgen.event_loop import run
from loadgen.schedule.arrivals import MixPlace, schedule
from tests.loadgen.conftest import Journal, RunBlock, StartEmulator, questions, read_journal


def talk(name: str, *texts: str, answer: int = 3) -> Question:
    """A session of so many turns."""
    turns = [
        Question(f"{name}.{len(texts) - place}", [{"role": "user", "content": text}], (), answer)
        for place, text in enumerate(texts)
    ]
    return replace(turns[0], then=tuple(turns[1:]))  # numbered from the end


SESSIONS = [talk(f"s{i}", f"ask {i}", f"go on {i}", f"bye {i}") for i in range(6)]


def by_id(journal: Journal) -> list[RequestRecord]:
    return sorted(journal.records, key=lambda record: record.id)


@pytest.mark.parametrize(
    ("stage", "workers"),
    [
        ({"rate": 60, "arrivals": "constant", "requests": 6}, 1),
        ({"concurrency": 2, "requests": 6}, 2),
    ],
)
def test_a_turn_waits_for_the_answer_before_it_and_the_thought(
    emulator: StartEmulator, block: RunBlock, stage: Any, workers: int
) -> None:
    server = emulator("--ttft", "20ms", "--itl", "2ms", "--tokens", "40")
    dataset = {"synthetic": {"input_tokens": 9, "output_tokens": 3, "turns": 3}}
    journal = block(
        server.endpoint, {**stage, "think": "50ms"}, SESSIONS, dataset=dataset, workers=workers
    )
    assert (
        journal.end.end == "complete"
        and len({r.id for r in journal.records}) == len(journal.records) == 18
    )
    turns = {record.prompt_id: record for record in journal.records}
    for i in range(6):
        first, second, third = (turns[f"s{i}.{n}"] for n in (3, 2, 1))
        for before, after in ((first, second), (second, third)):
            assert after.failure is None and after.output_tokens == 3
            assert after.scheduled_ns - before.done_ns >= 49_000_000
            assert after.shared_tokens == before.input_tokens + before.output_tokens
        assert first.shared_tokens is None
    end_ns = journal.end.window_end_ns
    if "rate" in stage:  # whole sessions are in the window
        assert (
            journal.header.window_end_ns is None
            and max(r.scheduled_ns for r in journal.records) < end_ns
        )
    else:
        sessions = sorted(
            (turns[f"s{i}.3"].scheduled_ns, turns[f"s{i}.1"].done_ns) for i in range(6)
        )
        assert max(sum(a <= b <= c for a, c in sessions) for b, _ in sessions) == 2


def test_a_recorded_turn_waits_as_recorded_at_the_speed_of_the_replay(
    emulator: StartEmulator, block: RunBlock, tmp_path: Path
) -> None:
    (tmp_path / "trace.jsonl").write_text('{"at": 0}\n{"at": 0.01}\n')
    session = talk("s", "one", "two", "three")
    second, third = session.then
    session = replace(
        session, then=(replace(second, delay_s=0.2), replace(third, delay_s=0.02, at_s=0.6))
    )
    stage = {"trace": {"file": str(tmp_path / "trace.jsonl"), "speed": 2}, "requests": 1}
    journal = block(emulator("--ttft", "5ms", "--tokens", "40").endpoint, stage, [session])
    one, two, three = by_id(journal)
    assert [r.prompt_id for r in (one, two, three)] == ["s.3", "s.2", "s.1"]
    assert two.scheduled_ns - one.done_ns >= 99_000_000
    assert three.scheduled_ns - one.scheduled_ns >= 299_000_000


def test_who_waits_through_a_quiet_time_is_told_when_it_ends(
    emulator: StartEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trace.jsonl").write_text('{"at": 0}\n{"at": 0.6}\n{"at": 0.7}\n')
    monkeypatch.setattr("loadgen.sending.pacing._QUIET_NS", 300_000_000)
    notes: list[str] = []

    class Noted(Silent):
        def advance(self, amount: float = 1, note: str = "") -> None:
            notes.append(note if not amount else "a record")

    stage = {"trace": {"file": str(tmp_path / "trace.jsonl")}, "requests": 2, "warmup": "0s"}
    config = WorkloadConfig.model_validate({"stages": [stage]})
    plan = BlockPlan(
        emulator("--ttft", "5ms").endpoint, config.stages[0], 1, 0, questions(9), "plain", config
    )

    async def main() -> None:
        await run_block(plan, tmp_path / "block.jsonl", Noted(), asyncio.Event())

    run(main())
    assert notes[0] == "1 in flight, the next in 1 s" and notes[1:] == ["a record"] * 2


def test_a_failed_turn_ends_its_session_and_a_duration_ends_them_all(
    emulator: StartEmulator, block: RunBlock
) -> None:
    server = emulator("--ttft", "30ms", "--tokens", "40")
    sessions = [talk("bad", "one", "fault:http-500", "three"), talk("good", "one", "two", "three")]
    journal = block(server.endpoint, {"rate": 50, "arrivals": "constant", "requests": 2}, sessions)
    assert {r.prompt_id: r.failure for r in journal.records} == {
        "bad.3": None, "bad.2": "http_5xx", "good.3": None, "good.2": None, "good.1": None,
    }  # fmt: skip
    timed = block(
        server.endpoint,
        {"concurrency": 1, "duration": "0.2s"},
        [talk("long", *map(str, range(90)))],
    )
    assert 1 < len(timed.records) < 20 and max(r.scheduled_ns for r in timed.records) < 200_000_000


def test_stopped_and_cancelled_sessions_leave_a_whole_journal(
    emulator: StartEmulator, block: RunBlock
) -> None:
    server = emulator("--ttft", "50ms", "--tokens", "40")
    stage = {"rate": 20, "arrivals": "constant", "requests": 6}
    for how in ("stop_at", "cancel_at"):
        journal = block(server.endpoint, stage, SESSIONS, **{how: 3})
        assert journal.end.end == "interrupted"
        counts = Counter(record.id for record in journal.records)
        assert set(counts) >= set(range(6)) and set(counts.values()) == {1}


def test_an_answer_is_as_long_as_its_question_asks(
    emulator: StartEmulator, block: RunBlock
) -> None:
    sessions = [
        Question(f"q{n}", [{"role": "user", "content": "say"}], output_tokens=n) for n in (1, 7, 30)
    ]
    journal = block(
        emulator("--tokens", "500").endpoint, {"concurrency": 1, "requests": 3}, sessions
    )
    assert {r.prompt_id: r.output_tokens for r in journal.records} == {"q1": 1, "q7": 7, "q30": 30}


def test_a_tokenizer_counts_where_the_server_does_not(
    emulator: StartEmulator, tmp_path: Path
) -> None:
    from tests.tiny_model import write_tokenizer

    (tmp_path / "model").mkdir()
    write_tokenizer(tmp_path / "model")
    server = emulator("--no-usage", "--tokens", "2")
    config = WorkloadConfig.model_validate(
        {"stages": [{"concurrency": 1, "requests": 2}], "warmup": "0s"}
    )
    plan = BlockPlan(
        server.endpoint,
        config.stages[0],
        1,
        0,
        questions(2, "é"),
        "plain",
        config,
        tokenizer=tmp_path / "model",
    )
    path = tmp_path / "block.jsonl"
    run(run_mix({path: plan}, Silent(), asyncio.Event()))
    for record in read_journal(path).records:
        assert record.tokens_from == "tokenizer" and record.text == "t0 t1 "
        assert record.output_tokens == 6  # one token a byte
        assert record.input_tokens == 3 + len("user\n" + "\n" + "assistant\n") + len("é 0".encode())


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_mix_is_one_schedule_at_one_time(
    emulator: StartEmulator, tmp_path: Path, workers: int
) -> None:
    server = emulator("--tokens", "1")
    of = {"name": "m", "rate": 100, "duration": "1s", "mix": {"zipf": 1}}
    config = WorkloadConfig.model_validate({"stages": [of], "warmup": "0s", "workers": workers})
    names = ("a", "b", "c")
    plans = {
        tmp_path / f"{name}.jsonl": BlockPlan(
            server.endpoint,
            config.stages[0],
            1,
            0,
            questions(50, name),
            "plain",
            config,
            MixPlace(number, len(names)),
        )
        for number, name in enumerate(names)
    }
    run(run_mix(plans, Silent(), asyncio.Event()))
    journals = [read_journal(path) for path in plans]
    whole = schedule(Stage.model_validate({**of, "mix": None}), 0, 1, 0.0).times_ns.tolist()
    merged = sorted((r.id, r.scheduled_ns) for journal in journals for r in journal.records)
    assert merged == list(enumerate(whole))
    assert len({journal.header.origin_monotonic_ns for journal in journals}) == 1
    assert sum(journal.header.offered_rate for journal in journals) == pytest.approx(100)
    assert [journal.header.planned for journal in journals] == [
        len(journal.records) for journal in journals
    ]


def test_a_zipf_mix_keeps_its_shares_and_a_uniform_one_is_even() -> None:
    for mix, weights in (
        ("uniform", [1, 1, 1, 1]),
        ({"zipf": 1.5}, [n**-1.5 for n in (1, 2, 3, 4)]),
    ):
        stage = Stage.model_validate({"rate": 100, "requests": 20_000, "mix": mix})
        counts = np.array(
            [len(schedule(stage, 1, 1, 0.0, MixPlace(n, 4)).times_ns) for n in range(4)]
        )
        expected = np.array(weights) / sum(weights) * 20_000
        assert counts.sum() == 20_000
        assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_blocks_and_variants_do_not_share_a_prefix_cache() -> None:
    def salt(variant: str, block: int, word: object) -> str | None:
        from foundation.http.endpoint import Endpoint

        config = WorkloadConfig.model_validate(
            {"stages": [{"rate": 1, "requests": 1}], "cache_salt": word}
        )
        return BlockPlan(
            Endpoint(variant, "http://h/v1", "m"), config.stages[0], block, 0, [], "plain", config
        ).cache_salt

    salts = {salt(variant, block, word) for variant in "ab" for block in (1, 2) for word in "xy"}
    assert len(salts) == 8 and None not in salts
    assert all(word.isalnum() and len(word) <= 128 for word in salts if word)  # vLLM refuses others
    assert salt("a", 1, None) is salt("a", 1, False) is None
