"""Faults of the load generator, each from journals that have it and from journals that don't."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.run.records import JournalEnd, JournalHeader, RequestRecord, VariantRecord
from results.analysis import analyse
from results.decision.verdict import judge
from results.summary import Summary
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

SLO = Goals({"latency_p95": "500ms"})


def summary_of(run: Path, goals: Goals = SLO) -> Summary:
    return analyse(inputs(run, ["base"], goals))


def steady(n: int = 400, latency: float = 100, **each: Any) -> list[RequestRecord]:
    return [request(i, f"q{i}", i * 25, latency, latency / 2, **each) for i in range(n)]


def reasons(run: Path, records: list[RequestRecord], **more: Any) -> tuple[str, str]:
    write_journal(run, "base", 1, records, **more)
    validity = summary_of(run).variants[0].stages[0].validity
    return validity.level, " ".join(validity.reasons)


def test_a_clean_run_is_valid_also_without_a_calibration(tmp_path: Path) -> None:
    assert reasons(tmp_path, steady()) == ("VALID", "")
    summary = summary_of(tmp_path)
    assert summary.validity.level == "VALID"
    assert any("dyno calibrate" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"failure": "dropped"}, "INVALID", "arrivals were sent"),
        ({"slip_ms": 60.0}, "INVALID", "sent late"),
        ({"slip_ms": 7.0}, "SUSPECT", "schedule slip p99 is 7.0 ms"),
    ],
)
def test_late_and_missing_sends(
    tmp_path: Path, change: dict[str, Any], level: str, words: str
) -> None:
    """One request in twelve is so."""
    records = steady()
    for i in range(0, len(records), 12):
        records[i] = request(i, f"q{i}", i * 25, 160, **change)
    validity = reasons(tmp_path, records)
    assert validity[0] == level and words in validity[1]


@pytest.mark.parametrize(("planned", "level"), [(400, "VALID"), (399, "SUSPECT"), (320, "INVALID")])
def test_more_records_than_were_planned_are_of_nobody_knows_what(
    tmp_path: Path, planned: int, level: str
) -> None:
    file = write_journal(tmp_path, "base", 1, steady())
    first, *rest = file.read_bytes().splitlines(keepends=True)
    header = msgspec.structs.replace(
        msgspec.json.decode(first, type=JournalHeader), planned=planned
    )
    file.write_bytes(b"".join([msgspec.json.encode(header) + b"\n", *rest]))
    validity = summary_of(tmp_path).variants[0].stages[0].validity
    assert validity.level == level
    more = f"{400 - planned:,} record"
    assert any(more in reason for reason in validity.reasons) == (planned < 400)


def test_a_record_of_no_planned_request_does_not_stand_for_one_that_is_missing(
    tmp_path: Path,
) -> None:
    records = [*steady()[:-1], request(400, "q400", 399 * 25, 100, 50)]
    level, words = reasons(tmp_path, records)
    assert level == "SUSPECT"
    assert "1 record more than requests were planned" in words
    assert "1 planned request left no record" in words


def test_a_single_drop_is_looked_at_only(tmp_path: Path) -> None:
    records = steady()
    records[7] = request(7, "q7", 175, failure="dropped")
    level, words = reasons(tmp_path, records)
    assert level == "SUSPECT" and "1 arrivals were dropped" in words


def test_a_tight_slo_asks_for_a_better_schedule(tmp_path: Path) -> None:
    write_journal(tmp_path, "base", 1, steady(slip_ms=3.0))
    loose, tight = (
        summary_of(tmp_path, Goals({"latency_p95": limit})).validity.level
        for limit in ("500ms", "120ms")
    )
    assert (loose, tight) == ("VALID", "SUSPECT")


def test_counts_that_disagree_with_the_server(tmp_path: Path) -> None:
    records = [msgspec.structs.replace(r, output_tokens=20) for r in steady()]
    level, words = reasons(tmp_path, records)
    assert level == "SUSPECT" and "in 400 of 400 answers" in words


def test_chunks_that_waited_long_to_be_read(tmp_path: Path) -> None:
    records = [
        msgspec.structs.replace(r, client_lag_ns=[30_000_000] * len(r.chunk_ns)) for r in steady()
    ]
    level, words = reasons(tmp_path, records)
    assert level == "SUSPECT" and "client lag" in words


def test_a_load_generator_that_was_away(tmp_path: Path) -> None:
    file = write_journal(tmp_path, "base", 1, steady())
    lines = file.read_bytes().splitlines()
    end = msgspec.structs.replace(
        msgspec.json.decode(lines[-1], type=JournalEnd), loop_stall_max_ns=300_000_000
    )
    file.write_bytes(b"\n".join([*lines[:-1], msgspec.json.encode(end)]) + b"\n")
    assert "away from its work for 300 ms" in " ".join(summary_of(tmp_path).validity.reasons)


@pytest.mark.parametrize(("requests", "level"), [(100.0, "VALID"), (50.0, "SUSPECT")])
def test_a_load_near_the_ceiling_of_this_machine(
    tmp_path: Path, requests: float, level: str
) -> None:
    """40 requests/s are offered."""
    ceiling = {"machine": "m", "events_per_s": 1e5, "requests_per_s": requests, "streams": 1000}
    tmp_path.joinpath("calibration.json").write_bytes(msgspec.json.encode(ceiling))
    assert reasons(tmp_path, steady())[0] == level
    assert not any("dyno calibrate" in note for note in summary_of(tmp_path).notes)


def warming(seconds: int, until: float, rng: random.Random) -> list[RequestRecord]:
    """Latency comes down from 2 s to 0.2 s until the given second, and stays there."""
    times = [i / 20 for i in range(seconds * 20)]
    latencies = [200 + 1800 * max(0.0, 1 - at / until) + rng.uniform(0, 40) for at in times]
    return [
        request(i, f"q{i}", at * 1e3, latency)
        for i, (at, latency) in enumerate(zip(times, latencies, strict=True))
    ]


def test_what_was_not_steady_yet_is_cut(tmp_path: Path) -> None:
    rng = random.Random(1)
    for block in (1, 2):
        write_journal(tmp_path, "base", block, warming(60, 12, rng), window_ms=(0, 60_000))
    stage = summary_of(tmp_path).variants[0].stages[0]
    assert stage.window_s in (2 * 50, 2 * 45)
    assert any("MSER-5" in note for note in stage.notes)
    assert stage.metrics["latency_p95"].value == pytest.approx(230, abs=30)


def test_what_never_settles_is_said(tmp_path: Path) -> None:
    write_journal(tmp_path, "base", 1, warming(60, 58, random.Random(1)), window_ms=(0, 60_000))
    stage = summary_of(tmp_path).variants[0].stages[0]
    assert stage.window_s == 60
    assert stage.validity.level == "SUSPECT" and "no steady state" in " ".join(
        stage.validity.reasons
    )


@pytest.mark.parametrize("seed", range(8))
def test_chance_is_not_cut(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    records = [request(i, f"q{i}", i * 50, rng.uniform(100, 300)) for i in range(1200)]
    write_journal(tmp_path, "base", 1, records, window_ms=(0, 60_000))
    stage = summary_of(tmp_path).variants[0].stages[0]
    assert stage.window_s == 60 and stage.validity.level == "VALID"


def test_nothing_is_decided_on_an_invalid_measurement(tmp_path: Path) -> None:
    write_journal(tmp_path, "base", 1, steady(latency=200, slip_ms=80.0))
    run_inputs = inputs(tmp_path, ["base"], Goals({"latency_p95": "10ms"}))
    (verdict,) = judge(analyse(run_inputs), run_inputs).variants
    assert verdict.decision == "INCONCLUSIVE" and "not valid" in verdict.headline
    (advice,) = verdict.advice
    assert advice.remedy.startswith("Measure again: at a lower rate") and "sent late" in advice.why


def test_a_format_that_the_processor_emulates_is_looked_at_first(tmp_path: Path) -> None:
    doubt = "served in bfloat16, which this processor emulates"
    write_journal(tmp_path, "base", 1, steady())
    record = VariantRecord(
        name="base", what="base", prompt_style="short", dtype="bfloat16", dtype_doubt=doubt
    )
    validity = analyse(inputs(tmp_path, [record], SLO)).variants[0].stages[0].validity
    assert (validity.level, validity.reasons) == ("SUSPECT", [f"SUSPECT: {doubt}"])


def test_a_measurement_that_is_not_one_is_put_right_and_not_slowed_down(tmp_path: Path) -> None:
    for block, offered in ((1, 40.0), (2, 80.0)):
        write_journal(tmp_path, "base", block, steady(), offered_rate=offered)
    run_inputs = inputs(tmp_path, ["base"], SLO)
    (advice,) = judge(analyse(run_inputs), run_inputs).variants[0].advice
    assert advice.remedy == "Measure again: put right first what is named here"
    assert "the blocks were not offered the same load" in advice.why


def test_requests_of_conversations_are_not_held_against_the_rate_of_their_sessions(
    tmp_path: Path,
) -> None:
    """Sessions begin at 10/s, each has four turns, and 40 requests/s arrive."""
    notes = {}
    for name in ("sessions", "single"):
        run = tmp_path / name
        write_prompts(run, {f"q{i}": "a" for i in range(400)})
        if name == "sessions":
            lines = [json.loads(line) for line in (run / "prompts.jsonl").read_text().splitlines()]
            turns = [
                line | ({"after": f"q{i - 1}"} if i % 4 else {}) for i, line in enumerate(lines)
            ]
            (run / "prompts.jsonl").write_text("".join(json.dumps(turn) + "\n" for turn in turns))
        write_journal(run, "base", 1, steady(), offered_rate=10)
        notes[name] = " ".join(summary_of(run).variants[0].stages[0].validity.reasons)
    assert "were offered" in notes["single"]
    assert "were offered" not in notes["sessions"]
