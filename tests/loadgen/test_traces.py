"""Recorded traffic in the shapes people publish it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foundation.errors import BadInput
from loadgen.arrivals import planned_requests, schedule
from loadgen.config import Stage
from loadgen.traces import arrival_seconds

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.4799600,3180,8\n"
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00.509930+00:00,2,6\n"
)
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
5.5,GPT-4,1,2,3,API log
"""
MOONCAKE = """{"timestamp": 1000, "input_length": 6758, "output_length": 500, "hash_ids": [0]}
{"timestamp": 1500, "input_length": 7, "output_length": 5}
"""
OURS = '{"at": 7.5}\n{"at": 7.0}\n'


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "trace"
    file.write_text(text)
    return file


@pytest.mark.parametrize("text", [AZURE, AZURE_2024, BURSTGPT, MOONCAKE, OURS])
def test_each_shape_gives_seconds_from_its_first_arrival(tmp_path: Path, text: str) -> None:
    assert arrival_seconds(written(tmp_path, text)).tolist() == pytest.approx([0.0, 0.5], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns none"),
        ("a,b\n1,2\n", ":1: columns a, b"),
        ("TIMESTAMP\nyesterday\n", ":2: TIMESTAMP: 'yesterday' is no time"),
        ('{"at": 1}\n{"when": 2}\n', ":2: no arrival"),
        ('{"at": 1}\n\n', ":2: no arrival"),
        ("TIMESTAMP,ContextTokens\n", "no arrivals"),
    ],
)
def test_what_is_no_trace_is_named_by_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        arrival_seconds(written(tmp_path, text))


def test_a_missing_trace(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such trace"):
        arrival_seconds(tmp_path / "none.csv")


def stage(file: Path, **fields: Any) -> Stage:
    return Stage.model_validate({"trace": {"file": str(file), "speed": fields.pop("speed", 1)}, **fields})


def test_a_replay_keeps_the_gaps_and_scales_them(tmp_path: Path) -> None:
    file = written(tmp_path, "".join(f'{{"at": {100 + at}}}\n' for at in (0, 1, 3, 4, 8, 9)))
    made = schedule(stage(file, duration="3s", speed=2), 0, 1, 1.0)
    assert made.times_ns.tolist() == [0, 500_000_000, 1_500_000_000, 2_000_000_000]
    assert (made.window_start_ns, made.window_end_ns) == (1_000_000_000, 4_000_000_000)
    counted = schedule(stage(file, requests=2), 0, 1, 2.0)
    assert counted.times_ns.tolist() == [0, 1_000_000_000, 3_000_000_000, 4_000_000_000]
    assert counted.window_end_ns == 8_000_000_000
    assert planned_requests(stage(file, requests=2), 0, 1, 2.0) == 4
    assert stage(file, requests=2).label == "trace-trace"


@pytest.mark.parametrize("asked", [{"requests": 6}, {"duration": "10s"}])
def test_a_recording_that_is_too_short_is_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    file = written(tmp_path, "".join(f'{{"at": {at}}}\n' for at in (0, 1, 3, 4, 8, 9)))
    with pytest.raises(BadInput, match="needs"):
        schedule(stage(file, **asked), 0, 1, 0.0)


def test_a_stage_is_one_thing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either"):
        stage(tmp_path, rate=1, requests=1)
