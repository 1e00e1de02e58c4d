"""Where the time of requests goes, against stamps that were chosen, and against scipy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foundation.run.engine_record import EngineRequest
from foundation.run.engine_times import ENGINE_RECORD, EngineTimes
from foundation.run.journal import Journal
from foundation.run.records import JournalEnd, RequestRecord
from foundation.run.requests import requests_of
from results.analysis import analyse, read_run
from results.comparison.stored_runs.compare import compare_runs
from results.comparison.waterfall import sentence
from results.decision.verdict import judge
from results.measures.steady_state import StageData, block_of
from results.measures.waterfall import LATENCY_SEGMENTS, Detail, block_segments, waterfall
from results.report.run_comparison import sections
from results.summary import Estimate, StageSummary, Waterfall, WaterfallDifference
from tests.results.synthetic import Goals, inputs, write_prompts
from tests.run_files import (
    MS,
    answer,
    engine_request,
    engine_start,
    header,
    write_block,
    write_engine,
)

INSIDE = ("before_queue", "queued", "prefill", "decode", "unexplained")


@dataclass(frozen=True)
class Times:
    """The segments of a request, in ms, as they were chosen."""

    slip: float = 1.0
    before_queue: float = 4.0
    queued: float = 10.0
    prefill: float = 20.0
    unexplained: float = 2.0
    decode: float = 50.0
    end_of_answer: float = 6.0
    client_lag: float = 0.5

    @property
    def latency(self) -> float:
        return self.slip + sum(getattr(self, key) for key in INSIDE)

    def record(self, number: int, kernel: bool = True, **fields: object) -> RequestRecord:
        """Sent every 100 ms; the first chunk and the last."""
        scheduled = number * 100 * MS
        sent = scheduled + round(self.slip * MS)
        before = self.before_queue + self.queued + self.prefill + self.unexplained
        first, gap = sent + round(before * MS), round(self.decode * MS)
        usual = {
            "text": "ok",
            "sent_ns": sent,
            "done_ns": first + gap + round(self.end_of_answer * MS),
            "client_lag_ns": [0, round(self.client_lag * MS)] if kernel else None,
        }
        return answer(number, f"q{number}", scheduled, [first, gap], **(usual | fields))

    def engine(self, number: int, origin: int, moments: bool = True) -> EngineRequest:
        """Its line in an engine record; the last token leaves with the last chunk."""
        durations = tuple(round(ms * MS) for ms in (self.queued, self.prefill, self.decode))
        first_token = self.slip + self.before_queue + self.queued + self.prefill
        finished = origin + number * 100 * MS + round((first_token + self.decode) * MS)
        return engine_request(
            origin, number, (durations[0], durations[1], durations[2]),
            finished_ns=finished if moments else None,
        )  # fmt: skip

    def metrics(self) -> dict[str, float]:
        return {
            "queue_time_ms": self.queued,
            "time_to_first_token_ms": self.prefill,
            "generation_time_ms": self.decode,
        }


def origin(variant: str, block: int) -> int:
    return (1 + block) * 10**12 + sum(variant.encode())


def write(
    run: Path, variant: str, blocks: Sequence[Sequence[Times]], by: str = "record",
    kernel: bool = True,
) -> None:  # fmt: skip
    """A variant's blocks, timed inside its server `by` a record, traces, metrics or nobody."""
    rows = []
    for number, times in enumerate(blocks, start=1):
        at = origin(variant, number)
        head = header(
            variant=variant, stage="main", block=number, seed=number, origin_monotonic_ns=at,
            clock="kernel" if kernel else "user", offered_rate=len(times) / 10, planned=len(times),
            prompt_style="short",
        )  # fmt: skip
        records = [
            each.record(i, kernel, server_metrics=each.metrics() if by == "metrics" else None)
            for i, each in enumerate(times)
        ]
        end = JournalEnd(end="complete", ended_ns=10**10, window_end_ns=10**10)
        write_block(run, head, records, end)
        rows += [each.engine(i, at, by == "record") for i, each in enumerate(times)]
    if by in ("record", "traces"):
        start = engine_start(source="OTLP" if by == "traces" else "vLLM 0.32.0")
        write_engine(run, variant, start, *rows)


def stage(run: Path, variants: Sequence[str] = ("base",)) -> StageSummary:
    """The judged stage of the last variant; the first is the baseline."""
    write_prompts(run, {f"q{i}": "ok" for i in range(3)})
    summary = analyse(inputs(run, list(variants)))
    judged = summary.variants[-1].at_judged_stage
    assert judged is not None
    return judged


def divided(run: Path) -> Waterfall:
    result = stage(run).waterfall
    assert result is not None
    return result


def means(result: Waterfall) -> dict[str, float | None]:
    return {key: each.mean.value for key, each in result.segments.items()}


def test_a_record_gives_every_segment(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times(), Times(queued=30.0)], [Times(), Times(slip=3.0)]])
    result = divided(tmp_path)
    assert (result.source, result.n, result.succeeded, result.notes) == ("engine record", 4, 4, [])
    assert means(result) == pytest.approx(
        {
            "slip": 1.5, "before_queue": 4.0, "queued": 15.0, "prefill": 20.0, "decode": 50.0,
            "end_of_answer": 6.0, "client_lag": 0.5, "unexplained": 2.0,
        }
    )  # fmt: skip
    assert list(result.segments)[:5] == ["slip", "before_queue", "queued", "prefill", "decode"]
    assert result.latency.value == pytest.approx(92.5)
    assert result.total.value == pytest.approx(99.0)
    assert result.segments["queued"].share.value == pytest.approx(15 / 99)
    shares = [each.share.value for each in result.segments.values()]
    assert sum(share for share in shares if share is not None) == pytest.approx(1)


def test_a_share_lies_between_0_and_1(tmp_path: Path) -> None:
    """One late request of six: t over the blocks alone would allow less than nothing."""
    write(tmp_path, "base", [[Times(slip=0.0)] * 2, [Times(slip=0.0)] * 2,
                             [Times(slip=40.0), Times(slip=0.0)]])  # fmt: skip
    share = divided(tmp_path).segments["slip"].share
    assert share.low == 0 and share.value == pytest.approx(40 / 595) and share.high is not None


@pytest.mark.parametrize(("by", "source"), [("traces", "traces"), ("metrics", "response metrics")])
def test_durations_leave_nothing_unexplained(tmp_path: Path, by: str, source: str) -> None:
    write(tmp_path, "base", [[Times()] * 2, [Times()] * 2], by)
    result = divided(tmp_path)
    assert result.source == source
    assert means(result) == pytest.approx(
        {
            "slip": 1.0, "before_queue": 6.0, "queued": 10.0, "prefill": 20.0, "decode": 50.0,
            "end_of_answer": 6.0, "client_lag": 0.5, "unexplained": 0.0,
        }
    )  # fmt: skip
    assert "the way back of the first token" in result.notes[0]


def test_without_the_server_the_client_sees_its_own_segments(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 2, [Times()] * 2], "nobody", kernel=False)
    result = divided(tmp_path)
    assert result.source == "client"
    assert means(result) == {
        "slip": 1.0, "before_first": 36.0, "decode": 50.0, "end_of_answer": 6.0,
        "client_lag": None,
    }  # fmt: skip
    assert result.total.value == pytest.approx(93.0)
    assert "the client sees" in result.notes[0]
    assert result.notes[1].startswith("client lag is not in it")
    assert "kernel" in str(result.segments["client_lag"].p95.reason)


def test_answers_without_times_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 5, [Times()] * 5])
    file = tmp_path / "engine" / "base.jsonl"
    rows = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(rows[:-3]))
    result = divided(tmp_path)
    assert (result.n, result.succeeded) == (7, 10)
    assert result.notes == [
        "3 of 10 answers have no such times inside the server; they are left out"
    ]
    file.write_bytes(b"".join(rows[:3]))
    assert divided(tmp_path).source == "client"


def test_negative_segments_are_kept_and_said(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times(), Times(unexplained=-5.0)], [Times()] * 2])
    result = divided(tmp_path)
    assert result.segments["unexplained"].mean.value == pytest.approx((3 * 2 - 5) / 4)
    assert result.notes == [
        "unexplained is below zero in 1 request, down to −5.00 ms: the last token waited that long "
        "on its way out of the engine, and time before the queue is as much too long; or a clock "
        "was set"
    ]


def test_times_that_contradict_the_client_are_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times(), Times(before_queue=-9.0)], [Times()] * 3])
    result = divided(tmp_path)
    assert (result.n, result.succeeded) == (4, 5)
    assert any("from before the request was sent" in note for note in result.notes)


def test_intervals_are_student_s_over_the_blocks(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    queued = random.uniform(5, 30, (4, 6)).round(3)
    write(tmp_path, "base", [[Times(queued=float(ms)) for ms in block] for block in queued])
    estimate = divided(tmp_path).segments["queued"].mean
    low, high = stats.t.interval(
        0.95, 3, queued.mean(), stats.sem([block.mean() for block in queued])
    )
    assert [estimate.value, estimate.low, estimate.high] == pytest.approx(
        [queued.mean(), low, high]
    )


def test_percentiles_keep_their_floors(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 15, [Times(prefill=40.0)] * 10])
    prefill = divided(tmp_path).segments["prefill"]
    assert prefill.p50.value == 20.0
    assert prefill.p95.value is None
    assert prefill.p95.reason == "p95 needs at least 200 requests, there are 25"


stamp = st.integers(0, 10**9)


@given(
    rows=st.lists(st.tuples(*[stamp] * 8), min_size=1, max_size=5),
    detail=st.sampled_from(list(Detail)),
)
def test_segments_add_up_to_a_microsecond(rows: list[tuple[int, ...]], detail: Detail) -> None:
    records = [Times(*(ns / MS for ns in row)).record(i) for i, row in enumerate(rows)]
    ns = np.array(rows, dtype=np.float64)
    engine = EngineTimes(
        queued=ns[:, 2],
        prefill=ns[:, 3],
        decode=ns[:, 5],
        finished=np.arange(len(rows)) * 100 * MS + ns[:, [0, 1, 2, 3, 5]].sum(axis=1),
        source=np.full(len(rows), ENGINE_RECORD, np.int8),
    )
    requests = replace(requests_of(records), engine=engine)
    end = JournalEnd(end="complete", ended_ns=10**10, window_end_ns=10**10)
    parts = block_segments(block_of(Journal(header(), requests, end)), detail)
    latency = ns[:, :6].sum(axis=1)
    until_last = [place for place, key in enumerate(parts.keys) if key in LATENCY_SEGMENTS]
    assert len(parts) == len(rows)
    for sums, whole in (
        (parts.values[:, until_last].sum(axis=1), latency),
        (parts.latency, latency),
        (parts.values.sum(axis=1), ns.sum(axis=1)),
        (parts.total, ns.sum(axis=1)),
    ):
        assert np.abs(sums * MS - whole).max() < 1000
    if detail is Detail.MOMENTS:
        chosen = ns[:, [0, 1, 2, 3, 5, 6, 7, 4]]
        assert np.abs(parts.values * MS - chosen).max() < 1000


def difference(run: Path) -> WaterfallDifference:
    judged = stage(run, ["base", "int8"])
    result = judged.waterfall_difference
    assert result is not None
    assert result.latency == judged.differences["latency_mean"].absolute
    parts = [each.value for each in result.segments.values()]
    assert sum(part for part in parts if part is not None) + result.residual == pytest.approx(
        result.latency.value
    )
    return result


def test_the_difference_is_by_segment_over_the_pairs(tmp_path: Path) -> None:
    decode, base_decode = [50.0, 53.0, 49.0, 51.0], [110.0, 117.0, 111.0, 113.0]
    write(tmp_path, "base", [[Times(decode=ms, prefill=39.0 + i % 2)] * 3
                             for i, ms in enumerate(base_decode)])  # fmt: skip
    write(tmp_path, "int8", [[Times(decode=ms)] * 3 for ms in decode])
    result = difference(tmp_path)
    changes = np.subtract(decode, base_decode)
    low, high = stats.t.interval(0.95, 3, changes.mean(), stats.sem(changes))
    part = result.segments["decode"]
    assert [part.value, part.low, part.high] == pytest.approx([changes.mean(), low, high])
    assert result.segments["queued"].value == pytest.approx(0)
    assert result.residual == pytest.approx(0, abs=1e-9)
    assert result.sentence == (
        "int8 is 81.5 ms faster than base: decode 62 ± 3 ms, prefill 19.5 ± 0.9 ms; "
        "the rest is within noise"
    )
    assert result.notes == []


def test_what_one_of_the_two_lacks_is_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 3] * 3, "nobody")
    write(tmp_path, "int8", [[Times(queued=30.0)] * 3] * 3)
    result = difference(tmp_path)
    assert result.segments["before_first"].value == pytest.approx(20.0)
    assert list(result.segments) == ["slip", "before_first", "decode"]
    assert result.notes == [
        "base is known in less detail, so both are divided by what the client sees"
    ]


def test_the_residual_is_of_answers_without_times(tmp_path: Path) -> None:
    write(tmp_path, "base", [[Times()] * 4] * 2)
    write(tmp_path, "int8", [[Times()] * 3 + [Times(decode=90.0)]] * 2)
    file = tmp_path / "engine" / "int8.jsonl"
    rows = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*rows[:4], *rows[5:8]]))
    result = difference(tmp_path)
    assert result.latency.value == pytest.approx(10.0)
    assert result.residual == pytest.approx(10.0)
    assert result.notes == [
        "10.0 ms of the difference is in no segment: some answers have no times inside the server"
    ]


def test_two_runs_are_compared_by_blocks_that_are_no_pairs(tmp_path: Path) -> None:
    before, after = [50.0, 53.0, 49.0], [60.0, 68.0, 61.0, 63.0]
    for name, decodes in (("before", before), ("after", after)):
        write(tmp_path / name, "base", [[Times(decode=ms)] * 3 for ms in decodes])
        write_prompts(tmp_path / name, {f"q{i}": "ok" for i in range(3)})
    runs = [
        read_run(replace(inputs(tmp_path / name, ["base"]), name=name))
        for name in ("before", "after")
    ]
    comparison = compare_runs(*runs)
    (only,) = comparison.waterfalls
    decode = only.difference.segments["decode"]
    welch = stats.ttest_ind(after, before, equal_var=False).confidence_interval()
    assert (only.variant, only.stage) == ("base", "main")
    assert decode.value == pytest.approx(np.mean(after) - np.mean(before))
    assert [decode.low, decode.high] == pytest.approx([welch.low, welch.high])
    latency = only.difference.latency
    assert [latency.low, latency.high] == pytest.approx([welch.low, welch.high])
    assert only.difference.residual == pytest.approx(0, abs=1e-9)
    words = "base, main: after is 12.3 ms slower than before: decode 12 ± 6 ms; the rest is within"
    assert ("Where the time went", [f"{words} noise"]) in sections(comparison)


def change(value: float, error: float) -> Estimate:
    return Estimate(value=value, low=value - error, high=value + error, n=4)


@pytest.mark.parametrize(
    ("latency", "segments", "words"),
    [
        (
            change(-50, 6),
            {"decode": change(-61, 5), "queued": change(11.2, 0.4), "slip": change(0.1, 1)},
            "int8 is 50.0 ms faster than merged: decode 61 ± 5 ms; queued 11.2 ± 0.4 ms slower; "
            "the rest is within noise",
        ),
        (
            change(-50, 6),
            {"decode": change(-61, 5), "queued": change(-0.4, 0.1), "slip": change(0.1, 1)},
            "int8 is 50.0 ms faster than merged: decode 61 ± 5 ms; "
            "the rest is under 1 % of it or within noise",
        ),
        (
            change(2, 6),
            {"decode": change(-9, 5), "queued": change(11, 1)},
            "int8 and merged do not differ in mean latency beyond noise: queued 11 ± 1 ms more, "
            "decode 9 ± 5 ms less",
        ),
        (change(2, 6), {"decode": change(1, 5)}, "int8 and merged do not differ in mean latency "
         "beyond noise"),
        (change(9, 6), {"decode": change(4, 5)}, "int8 is 9.00 ms slower than merged; no segment "
         "alone differs beyond noise"),
        (
            Estimate(value=9, n=1, reason="an interval needs at least two pairs of blocks"),
            {"decode": Estimate(value=9, n=1)},
            "int8 is 9.00 ms slower than merged, without an interval: an interval needs at least "
            "two pairs of blocks",
        ),
    ],
)  # fmt: skip
def test_the_sentence_names_what_is_shown(
    latency: Estimate, segments: dict[str, Estimate], words: str
) -> None:
    assert sentence(("int8", "merged"), latency, segments) == words


@pytest.mark.parametrize(
    ("by", "queued", "metric", "limit", "decision"),
    [
        ("record", 10.0, "queue_p95", "11ms", "SHIP"),
        ("record", 0.0, "queue_p95", "1ms", "SHIP"),
        ("record", 10.0, "queue_p95", "9ms", "DON'T SHIP"),
        ("metrics", 10.0, "prefill_p95", "21ms", "SHIP"),
        ("record", 10.0, "wait_p95", "5ms", "SHIP"),
        ("metrics", 10.0, "wait_p95", "5ms", "INCONCLUSIVE"),
        ("nobody", 10.0, "queue_p95", "11ms", "INCONCLUSIVE"),
    ],
)
def test_an_objective_inside_the_server(
    tmp_path: Path, by: str, queued: float, metric: str, limit: str, decision: str
) -> None:
    times = [Times(queued=queued)] * 100
    write(tmp_path, "base", [times, times], by)
    write_prompts(tmp_path, {f"q{i}": "ok" for i in range(100)})
    of = inputs(tmp_path, ["base"], Goals(slo={metric: limit}))
    (verdict,) = judge(analyse(of), of).variants
    assert verdict.decision == decision
    (objective,) = verdict.objectives
    if decision == "INCONCLUSIVE":
        assert objective.value.value is None
        assert "answers have" in objective.sentence
    if decision == "DON'T SHIP":
        advice = {each.remedy: each.why for each in verdict.advice}
        assert "10.0 ms pass in the server's queue" in advice["Serve it with more replicas"]


def test_a_stage_without_answers_has_no_waterfall() -> None:
    assert waterfall(StageData("main", 1.0, None, [])) is None
