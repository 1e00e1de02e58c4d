"""What the beginning of a window leaves out: times and rates, and nothing that is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.run.journal import read_journals
from foundation.run.records import RequestRecord
from results.analysis import analyse
from results.decision.verdict import judge
from results.measures.window import Settling, settling_of
from results.summary import StageSummary, Summary
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

SECONDS, RATE = 60, 5
SLOW = 50  # the first 10 s of each block take 3 s, the rest 0.2 s: MSER-5 cuts them


def block(number: int, failing: int = 0, wrong: int = 0) -> list[RequestRecord]:
    """300 requests with a prompt each; of the slow ones the first `failing` fail, `wrong` err."""
    records = []
    for i in range(SECONDS * RATE):
        latency = (3000 if i < SLOW else 200) + (7 * i + number) % 20
        text, tokens = ("no", 9) if i < wrong else ("yes", 3)
        failure = "http_5xx" if i < failing else None
        records.append(
            request(
                i,
                f"q{i}",
                i * 1000 / RATE,
                latency,
                latency / 2,
                tokens,
                text=text,
                failure=failure,
            )
        )
    return records


def written(run: Path, goals: Goals, **each: int) -> Summary:
    for number in (1, 2):
        write_journal(
            run,
            "base",
            number,
            block(number, **each),
            window_ms=(0, SECONDS * 1000),
            offered_rate=RATE,
        )
    write_prompts(run, {f"q{i}": "yes" for i in range(SECONDS * RATE)})
    return analyse(inputs(run, ["base"], goals))


def main(summary: Summary) -> StageSummary:
    return summary.variants[0].stages[0]


def test_failures_of_the_beginning_are_failures(tmp_path: Path) -> None:
    goals = Goals({"error_rate": "5%", "latency_p95": "4s"})
    stage = main(written(tmp_path, goals, failing=24))
    assert stage.window_s < 2 * SECONDS
    assert (stage.planned, stage.succeeded, stage.failures) == (600, 552, {"http_5xx": 48})
    rate = stage.metrics["error_rate"]
    assert (rate.value, rate.n) == (pytest.approx(0.08), 600)  # 24 of 300, twice
    summary = analyse(inputs(tmp_path, ["base"], goals))
    assert judge(summary, inputs(tmp_path, ["base"], goals)).variants[0].decision == "DON'T SHIP"


def test_times_are_of_the_steady_part(tmp_path: Path) -> None:
    stage = main(written(tmp_path, Goals()))
    cut_s = SECONDS - stage.window_s / 2
    assert cut_s in (10, 15, 20)
    latency = stage.metrics["latency_mean"]
    assert latency.n == 600 - 2 * RATE * cut_s
    assert latency.value == pytest.approx(209.5, abs=1)
    assert stage.metrics["requests_per_s"].value == pytest.approx(RATE, rel=0.02)


def test_quality_tokens_and_attainment_are_of_the_whole_window(tmp_path: Path) -> None:
    summary = written(tmp_path, Goals({"latency_p95": "1s"}), wrong=30)
    quality, stage = summary.variants[0].metrics["quality"], main(summary)
    assert (quality.value, quality.n) == (pytest.approx(0.9), 300)
    assert stage.metrics["output_tokens_mean"].value == pytest.approx(
        3.6
    )  # (30 x 9 + 270 x 3) / 300
    assert stage.metrics["slo_attainment"].value == pytest.approx(
        250 / 300
    )  # the 50 slow ones of each block missed it
    assert stage.metrics["slo_attainment"].n == 600


def test_a_probe_is_never_cut(tmp_path: Path) -> None:
    """Four at a time, the first 40 slow and right, the next 20 wrong: 380 of 400 are right."""
    goals = Goals(
        quality={"probes": [{"name": "facts", "data": "facts.jsonl", "scorer": "exact_match"}]}
    )
    records = [
        request(
            i,
            f"f{i}",
            1000 * (i // 4) if i < 40 else 10_000 + 200 * (i - 40),
            950 if i < 40 else 150,
            50,
            text=text,
        )
        for i in range(400)
        for text in ["B" if 40 <= i < 60 else "A"]
    ]
    write_journal(tmp_path, "base", 1, block(1), window_ms=(0, SECONDS * 1000), offered_rate=RATE)
    probe = {"offered_rate": None, "concurrency": 4, "window_ms": (0, 82_100)}
    write_journal(tmp_path, "base", 1, records, stage="probe-facts", **probe)
    write_prompts(tmp_path, {f"f{i}": "A" for i in range(400)}, "facts")
    scores = analyse(inputs(tmp_path, ["base"], goals)).variants[0].probes["facts"]
    assert (scores.value, scores.n) == (pytest.approx(0.95), 400)


def test_each_exclusion_says_how_many_and_of_what(tmp_path: Path) -> None:
    records = [request(i, "q", i * 100, 250, 50) for i in range(100)]
    records[3] = request(3, "q", 300, 10, failure="connect")
    write_journal(tmp_path, "base", 1, records, window_ms=(2000, 9000))
    (left_out, late) = main(analyse(inputs(tmp_path, ["base"]))).notes
    assert left_out == (
        "left out of every number: 20 requests of the warm-up and 10 requests that came after "
        "the windows (ramp-down); "
        "1 of them failed"
    )
    assert (
        late == "2 answers ended after the windows: counted in everything but throughput"
    )  # those of 8.8 s and 8.9 s


def test_the_cut_says_what_it_leaves_in(tmp_path: Path) -> None:
    stage = main(written(tmp_path, Goals()))
    gone = 600 - (stage.metrics["latency_mean"].n)
    (note,) = [note for note in stage.notes if "MSER-5" in note]
    assert (
        f"their {gone} requests are left out of times and rates, and count in everything else"
        in note
    )


def test_without_a_cut_nothing_is_said(tmp_path: Path) -> None:
    write_journal(tmp_path, "base", 1, [request(i, "q", i * 100, 50, 20) for i in range(100)])
    assert main(analyse(inputs(tmp_path, ["base"]))).notes == []


def test_a_closed_loop_settles_by_the_requests_that_end_in_each_second(tmp_path: Path) -> None:
    """Two a second for 15 s of warm-up, then ten a second for 65 s: the cut lies at 15 s."""
    ends = [i * 500 for i in range(1, 30)] + [15_000 + i * 100 for i in range(650)]
    records = [request(i, f"q{i}", end - 50, 50) for i, end in enumerate(ends)]
    file = write_journal(tmp_path, "base", 1, records, concurrency=4, window_ms=(0, 80_000))
    settling = settling_of(read_journals(file.parent)[0])
    assert settling.settled
    assert settling.cut_ns == 15_000_000_000


def test_a_closed_loop_of_an_even_pace_has_nothing_cut(tmp_path: Path) -> None:
    records = [request(i, f"q{i}", i * 100, 50) for i in range(800)]
    file = write_journal(tmp_path, "base", 1, records, concurrency=4, window_ms=(0, 80_000))
    assert settling_of(read_journals(file.parent)[0]) == Settling()


@pytest.mark.parametrize(("window_s", "cut_s"), [(39, 0), (40, 10)])
def test_a_window_of_40_s_is_the_first_that_is_looked_at(
    tmp_path: Path, window_s: int, cut_s: int
) -> None:
    ends = [i * 500 for i in range(1, 20)] + [10_000 + i * 100 for i in range((window_s - 10) * 10)]
    records = [request(i, f"q{i}", end - 50, 50) for i, end in enumerate(ends)]
    file = write_journal(
        tmp_path, "base", 1, records, concurrency=4, window_ms=(0, window_s * 1000)
    )
    assert settling_of(read_journals(file.parent)[0]) == Settling(cut_s * 1_000_000_000)
