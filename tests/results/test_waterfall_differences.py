"""The difference of two variants' or two runs' latency by segment, against chosen stamps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from results.analysis import read_run
from results.comparison.stored_runs.compare import compare_runs
from results.comparison.waterfall import sentence
from results.report.run_comparison import sections
from results.summary import Estimate, WaterfallDifference
from tests.results.synthetic import inputs, write_prompts
from tests.results.timed_requests import Times, stage, write


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
