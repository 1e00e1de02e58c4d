"""Recorded traffic in the shapes people publish it in."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import BadInput
from loadgen.config import Stage, WorkloadConfig
from loadgen.dataset_config import Recording
from loadgen.schedule.arrivals import planned_requests, schedule
from loadgen.schedule.replay import check_replays
from loadgen.schedule.traces import arrival_seconds, read_trace

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:04.4799600,3180,8\n"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
    "2024-05-10 00:00:00.509930+00:00,2,6\n"
)
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
5.5,GPT-4,1,2,3,API log
"""
MOONCAKE = """{"timestamp": 1000, "input_length": 6758, "output_length": 500, "hash_ids": [0]}
{"timestamp": 1500, "input_length": 7, "output_length": 5}
"""
BAILIAN = """{"chat_id": 1, "parent_chat_id": -1, "timestamp": 61.0, "input_length": 21,\
 "output_length": 132, "hash_ids": [1, 2]}
{"chat_id": 2, "parent_chat_id": 1, "timestamp": 61.5, "input_length": 7, "output_length": 5}
"""
OURS = '{"at": 7.0}\n{"at": 7.5}\n'


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "trace"
    file.write_text(text)
    return file


def whole(file: Path) -> Recording:
    return Recording(file=file)


@pytest.mark.parametrize("text", [AZURE, AZURE_2024, BURSTGPT, MOONCAKE, BAILIAN, OURS])
@pytest.mark.parametrize("change", ["", "bom", "crlf", "end", "list or semicolons"])
def test_each_shape_gives_seconds_from_its_first_arrival(
    tmp_path: Path, text: str, change: str
) -> None:
    text = {
        "": text,
        "bom": "\ufeff" + text,
        "crlf": text.replace("\n", "\r\n"),
        "end": text + "\n\n",
    }.get(change) or (
        f"[{','.join(text.splitlines())}]" if text[0] == "{" else text.replace(",", ";")
    )
    assert arrival_seconds(whole(written(tmp_path, text))).tolist() == pytest.approx(
        [0.0, 0.5], abs=1e-6
    )


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
@pytest.mark.parametrize("night", ["2024-03-31", "2024-10-27", "2024-11-03", "2024-03-10"])
def test_a_time_without_a_zone_is_utc(
    tmp_path: Path, zone: str, night: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every five minutes over a night of a clock change, wherever the reader lives."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    times = [
        f"{night} {minute // 60:02d}:{minute % 60:02d}:00.0000000" for minute in range(0, 360, 5)
    ]
    file = written(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{each},30,5\n" for each in times),
    )
    try:
        since = arrival_seconds(whole(file))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert since.tolist() == [300.0 * place for place in range(72)]


def test_a_zone_that_is_written_holds(tmp_path: Path) -> None:
    times = ("2024-03-31T00:30:00Z", "2024-03-31 02:35:00+02:00", "2024-03-31 00:40:00")
    file = written(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{each},30,5\n" for each in times),
    )
    assert arrival_seconds(whole(file)).tolist() == [0.0, 300.0, 600.0]


def test_lengths_may_be_written_as_decimals_and_a_failed_answer_is_asked_for_one_token(
    tmp_path: Path,
) -> None:
    [arrival] = read_trace(
        written(tmp_path, "Timestamp,Request tokens,Response tokens\n5,30.0,0.0\n")
    )
    assert (arrival.first.input_tokens, arrival.first.output_tokens) == (30, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no arrivals; write"),
        ("a,b\n1,2\n", ":1: columns a, b"),
        ("TIMESTAMP\nyesterday\n", ":2: TIMESTAMP: 'yesterday' is no time"),
        ('{"at": 1}\n{"when": 2}\n', ":2: no arrival"),
        ('{"at": 1}\n\n{"at": 2}\n', ":2: empty line"),
        ("TIMESTAMP,ContextTokens\n", "no arrivals"),
        ('{"at": NaN}\n', ":1: at: 'nan' is no time"),
        ('{"at": 0}\n{"at": Infinity}\n', ":2: at: 'inf' is no time"),
        ('{"at": 1e999}\n', ":1: at: '1e999' is no time"),
        ('{"at": -1}\n', ":1: at: '-1' is no time"),
        ('{"at": true}\n', ":1: at: 'True' is no time"),
        ('{"at": "5"}\n{"at": "x"}\n', ":2: at: 'x' is no time"),
        ('{"at": 1700000000000}\n', ":1: at: '1700000000000' is no time that can be replayed"),
        (f'{{"timestamp": 1{"0" * 400}}}\n', ":1: timestamp: '1000000"),
        ('{"at": 2}\n{"at": 1.5}\n', ":2: a time 0.5 s before that of line 1; sort the lines"),
        (
            "Timestamp,Request tokens,Response tokens\n5,1,1\nnan,1,1\n",
            ":3: Timestamp: 'nan' is no time",
        ),
        (
            "Timestamp,Request tokens,Response tokens\n5,1,1\n-6,1,1\n",
            ":3: Timestamp: '-6' is no time",
        ),
        (
            "Timestamp,Request tokens,Response tokens\n5,1,1\n1_0,1,1\n",
            ":3: Timestamp: '1_0' is no time",
        ),
        (
            "Timestamp,Request tokens,Response tokens\n5,1,1\n4,1,1\n",
            ":3: a time 1 s before that of line 2",
        ),
        ("Timestamp,Request tokens,Response tokens\n5,1,1,1\n", ":2: not the 3 columns"),
        ("Timestamp,Request tokens,Response tokens\n5,1\n", ":2: not the 3 columns"),
        ('Timestamp,Request tokens,Response tokens\n5,"1,1\n', "not CSV"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2024,1,1\n", ":2: TIMESTAMP: '2024' is no time"),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-02-30 10:00,1,1\n",
            ":2: TIMESTAMP: .* is no time",
        ),
        (
            "Timestamp,Request tokens,Response tokens\n5,-30,1\n",
            ":2: Request tokens: '-30' is no number",
        ),
        (
            "Timestamp,Request tokens,Response tokens\n5,3.5,1\n",
            ":2: Request tokens: '3.5' is no number",
        ),
        ('{"at": 0, "input_tokens": NaN}\n', ":1: input_tokens: 'nan' is no number"),
        ('{"at": 0, "input_tokens": true}\n', ":1: input_tokens: 'True' is no number"),
        ('{"at": 0, "output_tokens": 1e15}\n', ":1: output_tokens: .* is no number"),
        ('{"at": 0, "hash_ids": [-1]}\n', ":1: hash_ids"),
        ('{"at": 0, "hash_ids": [true]}\n', ":1: hash_ids"),
        ('{"at": 0, "text_input": ""}\n', ":1: text_input: write a text"),
        ('{"at": 0, "text_input": "\\ud800"}\n', ":1: half a character"),
        (
            '{"session_id": "a", "delay": 3, "input_length": 3}\n',
            ":1: a session's first line needs its time",
        ),
        ('{"session_id": [], "timestamp": 3}\n', ":1: session_id: write"),
        (
            '{"session_id": "a", "timestamp": 3}\n{"session_id": "a", "delay": 3}\n'
            '{"session_id": "a", "timestamp": 1}\n',
            ":3: a time 0.002 s before that of line 1",
        ),
        ("[" * 100_000, ":1: nested too deep"),
        ('{"at":' + "[" * 100_000, ":1: nested too deep"),
        ('{"at": 1, "at": 2}\n', ":1: the key 'at' stands twice"),
    ],
)
def test_what_is_no_trace_is_named_by_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        arrival_seconds(whole(written(tmp_path, text)))


def test_a_missing_trace_and_one_that_is_no_utf_8(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        arrival_seconds(whole(tmp_path / "none.csv"))
    (tmp_path / "utf-16").write_bytes(AZURE.encode("utf-16"))
    with pytest.raises(BadInput, match=r"UTF-16 text, by its first bytes; save the file as UTF-8$"):
        arrival_seconds(whole(tmp_path / "utf-16"))


SESSIONS = """{"session_id": "a", "timestamp": 0, "input_length": 40, "output_length": 6}
{"session_id": "a", "delay": 300, "input_length": 20, "output_length": 6}
{"session_id": 7, "timestamp": 500, "text_input": "Hello", "output_length": 6}
{"timestamp": 600, "input_length": 9, "output_length": 6}
{"session_id": 7, "timestamp": 900, "delay": 100, "input_length": 20, "output_length": 6}
"""


def test_lines_of_one_session_are_its_turns(tmp_path: Path) -> None:
    first, second, alone = read_trace(written(tmp_path, SESSIONS))
    assert [arrival.at for arrival in (first, second, alone)] == [0.0, 0.5, 0.6]
    assert [turn.line for turn in (*first.turns, *second.turns, *alone.turns)] == [1, 2, 3, 5, 4]
    assert [(turn.at, turn.delay) for turn in (*first.then, *second.then)] == [
        (None, 0.3),
        (0.9, 0.1),
    ]
    assert second.first.text == "Hello"


def test_a_part_of_a_recording_begins_at_its_offset(tmp_path: Path) -> None:
    file = written(tmp_path, "".join(f'{{"at": {100 + at}}}\n' for at in (0, 1, 3, 4, 8, 9)))
    part = Recording.model_validate({"file": str(file), "offset": "2s", "length": "5s"})
    assert arrival_seconds(part).tolist() == [1.0, 2.0]
    timetable = schedule(stage(file, requests=2, offset="2s", length="5s", warmup="0s"), 0, 1, 1.0)
    assert timetable.times_ns.tolist() == [1_000_000_000, 2_000_000_000]
    assert timetable.window_end_ns == 5_000_000_000  # the part's end: what comes after it is known
    beyond = stage(file, requests=2, offset="7s", length="5s", warmup="0s")
    with pytest.raises(BadInput, match=r"2 arrivals; .* needs 3"):
        schedule(beyond, 0, 1, 0.0)
    with pytest.raises(
        BadInput, match="no arrival in the 1s from 6s on; the recording is 9 s long"
    ):
        arrival_seconds(
            Recording.model_validate({"file": str(file), "offset": "6s", "length": "1s"})
        )


def test_arrivals_at_one_moment_make_no_window(tmp_path: Path) -> None:
    file = written(tmp_path, '{"at": 3}\n' * 6)
    with pytest.raises(BadInput, match="4 arrivals at one moment"):
        schedule(stage(file, requests=3), 0, 1, 0.0)


def load(file: Path, **fields: Any) -> WorkloadConfig:
    trace = {"file": str(file), "speed": fields.pop("speed", 1)}
    stages = [{"trace": trace, "requests": 3, "warmup": "0s"}]
    return WorkloadConfig.model_validate({"stages": stages, **fields})


@pytest.mark.parametrize(
    ("times", "speed", "words"),
    [
        ([0, 1, 2, 3], 1, None),
        (
            [0, 29, 58, 70],
            1,
            "after the first request nothing is sent for 29 s, and 2 more times for up to 29 s",
        ),
        ([0, 29, 58, 70], 4, None),
        ([0, 1, 2, 50], 1, "after 3 requests nothing is sent for 48 s;"),
    ],
)
def test_a_quiet_time_is_said_before_it_is_waited_for(
    tmp_path: Path, times: list[int], speed: float, words: str | None
) -> None:
    file = written(tmp_path, "".join(f'{{"at": {at}}}\n' for at in times))
    heard: list[str] = []
    check_replays(load(file, speed=speed), heard.append)
    assert len(heard) == (words is not None)
    assert words is None or words in heard[0]


def test_a_quiet_beginning_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, "".join(f'{{"at": {at}}}\n' for at in (0, 40, 41, 42, 43)))
    heard: list[str] = []
    trace = {"file": str(file), "offset": "5s"}
    check_replays(
        WorkloadConfig.model_validate(
            {"stages": [{"trace": trace, "requests": 3, "warmup": "0s"}]}
        ),
        heard.append,
    )
    assert "nothing is sent for the first 35 s;" in heard[0]


def test_sessions_are_replayed_only_where_they_are_asked(tmp_path: Path) -> None:
    file = written(tmp_path, SESSIONS)
    with pytest.raises(
        BadInput, match=r":2: a further turn of a session.*write dataset: \{trace: trace\} too"
    ):
        check_replays(load(file), print)


def test_times_and_lengths_are_of_one_part(tmp_path: Path) -> None:
    stages = [{"trace": {"file": "a.csv", "offset": "1m"}, "requests": 3}]
    with pytest.raises(ValueError, match="other parts of one recording"):
        WorkloadConfig.model_validate({"stages": stages, "dataset": {"trace": "a.csv"}})
    part = {"file": "a.csv", "offset": "1m"}
    workload = WorkloadConfig.model_validate({"stages": stages, "dataset": {"trace": part}})
    assert (
        workload.dataset is not None
        and workload.dataset.trace is not None
        and workload.dataset.trace.offset == 60.0
    )
    assert WorkloadConfig.model_validate(workload.model_dump(mode="json")) == workload


def stage(file: Path, **fields: Any) -> Stage:
    trace = {"file": str(file)} | {
        key: fields.pop(key) for key in ("speed", "offset", "length") if key in fields
    }
    return Stage.model_validate({"trace": trace, **fields})


def test_a_replay_keeps_the_gaps_and_scales_them(tmp_path: Path) -> None:
    file = written(tmp_path, "".join(f'{{"at": {100 + at}}}\n' for at in (0, 1, 3, 4, 8, 9)))
    timetable = schedule(stage(file, duration="3s", speed=2), 0, 1, 1.0)
    assert timetable.times_ns.tolist() == [0, 500_000_000, 1_500_000_000, 2_000_000_000]
    assert (timetable.window_start_ns, timetable.window_end_ns) == (1_000_000_000, 4_000_000_000)
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
