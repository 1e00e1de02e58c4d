"""Where the time goes: bars add up, a bridge leads from one latency to the other, words say it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as Tree

import pytest
from markupsafe import Markup
from msgspec.structs import replace

from results.report import write
from results.report.figures.waterfall import Bridge, bridge, key_of, stacks
from results.report.segments import difference_sentences, milliseconds, time_line, time_lines
from results.report.time_spent import time_spent
from results.summary import (
    Estimate,
    Segment,
    StageSummary,
    Summary,
    Waterfall,
    WaterfallDifference,
)
from tests.results.drawn_run import STAGE
from tests.results.report_run import PROVENANCE, make_run, measured_of

MEANS = {
    "slip": 1.0, "before_queue": 20.0, "queued": 9.0, "prefill": 60.0,
    "decode": 100.0, "end_of_answer": 8.0, "client_lag": 1.0, "unexplained": 1.0,
}  # fmt: skip
EVIL = "<b>x</b>|`y`"


def around(value: float, half: float = 2.0) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=50)


def waterfall(means: dict[str, float] = MEANS, source: str = "engine record") -> Waterfall:
    total = sum(means.values())
    return Waterfall(
        source=source,
        n=48,
        succeeded=50,
        latency=around(total - 9.0),
        total=around(total),
        segments={
            key: Segment(
                mean=around(mean), share=around(mean / total, 0.01),
                p50=around(0.9 * mean), p95=around(2 * mean),
            )
            for key, mean in means.items()
        },
    )  # fmt: skip


def difference(changes: dict[str, float], residual: float = 0.0) -> WaterfallDifference:
    return WaterfallDifference(
        latency=around(sum(changes.values()) + residual),
        segments={key: around(change) for key, change in changes.items()},
        residual=residual,
        sentence="int8 is 50 ms faster: decode 40 ± 2 ms, prefill 10 ± 2 ms.",
    )


def elements(figure: Markup, tag: str, css: str) -> list[Tree.Element]:
    tree = Tree.fromstring(str(figure))
    return [e for e in tree.iter(tag) if css in (e.get("class") or "").split()]


def texts(figure: Markup) -> list[str]:
    return ["".join(e.itertext()) for e in Tree.fromstring(str(figure)).iter("text")]


def edges(bar: Tree.Element) -> tuple[float, float]:
    start = float(bar.get("x", ""))
    return start, start + float(bar.get("width", ""))


def test_the_segments_of_a_bar_join_and_are_as_wide_as_their_means() -> None:
    bars = elements(stacks([("base", waterfall())]), "rect", "segment")
    assert len(bars) == len(MEANS)
    for bar, after in pairwise(bars):
        assert edges(bar)[1] == pytest.approx(edges(after)[0], abs=0.2)
    scale = (edges(bars[-1])[1] - edges(bars[0])[0]) / sum(MEANS.values())
    for bar, mean in zip(bars, MEANS.values(), strict=True):
        assert edges(bar)[1] - edges(bar)[0] == pytest.approx(scale * mean, abs=0.2)


def test_a_bar_without_room_for_words_has_them_beside_it() -> None:
    small = waterfall({key: mean / 50 for key, mean in MEANS.items()})
    written = texts(stacks([("base", waterfall()), ("int8", small)]))
    assert "decode" in written and "100 ms · 50.0 %" in written
    assert "before the queue 0.400 ms, prefill 1.20 ms, decode 2.00 ms" in written


def test_a_screen_reader_hears_every_segment() -> None:
    spoken = Tree.fromstring(str(stacks([("base", waterfall())]))).get("aria-description", "")
    assert spoken.startswith("base: sent late 1.00 ms, before the queue 20.0 ms, queued 9.00 ms")
    assert "in the engine's queue" in Markup(key_of(list(MEANS))).unescape()


def steps_of(figure: Markup) -> tuple[list[tuple[float, float]], float, float]:
    """The edges of each step, and the places of the two latencies' marks (circle, square)."""
    bars = [*elements(figure, "rect", "segment"), *elements(figure, "rect", "rest")]
    [base] = elements(figure, "circle", "mark")
    [own] = elements(figure, "rect", "mark")
    return [edges(bar) for bar in bars], float(base.get("cx", "")), sum(edges(own)) / 2


def test_a_bridge_leads_in_steps_from_one_latency_to_the_other() -> None:
    """prefill 10 ms less, decode 45 ms less, before the queue 4 ms more, 1 ms left over."""
    changes = {"before_queue": 4.0, "prefill": -10.0, "decode": -45.0}
    figure = bridge(Bridge("int8", "base", (1, 0), 200.0, difference(changes, 1.0)))
    (before, prefill, decode, rest), base, own = steps_of(figure)
    assert before[0] == pytest.approx(base, abs=0.2)
    assert prefill[1] == pytest.approx(before[1], abs=0.2)
    assert decode[1] == pytest.approx(prefill[0], abs=0.2)
    assert rest[0] == pytest.approx(decode[0], abs=0.2)
    assert rest[1] == pytest.approx(own, abs=0.6)
    one = (base - own) / 50
    assert decode[1] - decode[0] == pytest.approx(45 * one, abs=0.3)
    assert {"200 ms", "150 ms", "−50.0", "+4.00", "−47.0 to −43.0", "residual"} <= set(
        texts(figure)
    )


def test_a_segment_whose_change_is_not_known_says_why() -> None:
    of = difference({"decode": -5.0})
    reason = "one pair of blocks has no interval"
    unknown = {"prefill": Estimate(value=None, reason=reason), **of.segments}
    figure = bridge(Bridge("int8", "base", (1, 0), 200.0, replace(of, segments=unknown)))
    assert reason in texts(figure) and "—" in texts(figure)


def test_one_line_says_where_the_time_goes() -> None:
    """Of 200 ms, what takes under 2 ms is the rest: 1 + 1 + 1 ms."""
    assert time_line(waterfall()) == (
        "before the queue 20.0 ms (10.0 %), queued 9.00 ms (4.5 %), prefill 60.0 ms (30.0 %), "
        "decode 100 ms (50.0 %), end of answer 8.00 ms (4.0 %), the rest 3.00 ms"
    )
    client = waterfall({"before_first": 50.0, "decode": 150.0}, "client")
    assert time_line(client).endswith("decode 150 ms (75.0 %); the server gave no timings")
    nothing = replace(waterfall(), total=Estimate(value=None, reason="no request has them all"))
    assert time_line(nothing) == "no request has them all"


def with_times(summary: Summary, sentence: str) -> Summary:
    """The summary of a run, with the same waterfall for all and a difference for all but one."""

    def of(stage: StageSummary, is_base: bool) -> StageSummary:
        changes = replace(difference({"decode": -45.0}), sentence=sentence)
        return replace(
            stage,
            metrics=stage.metrics | {"latency_mean": around(191.0)},
            waterfall=waterfall(),
            waterfall_difference=None if is_base else changes,
        )

    variants = [
        replace(v, stages=[of(s, v.variant == summary.baseline) for s in v.stages])
        for v in summary.variants
    ]
    return replace(summary, variants=variants)


def test_page_and_markdown_show_it_and_escape_it(tmp_path: Path) -> None:
    summary, verdicts, plan = make_run(tmp_path)
    assert time_lines(summary) == [] and difference_sentences(summary) == []
    bare = time_spent(summary, {})
    assert bare.plot is None and bare.absent.startswith("No request of this load has the times")
    timed = with_times(summary, EVIL)
    html, markdown, _ = write(
        tmp_path, timed, verdicts, plan, PROVENANCE, measured_of(tmp_path, timed)
    )
    page, text = html.read_text(), markdown.read_text()
    assert len(page) < 600_000 and "<b>x</b>" not in page + text
    section = page.partition('<section id="time"')[2].partition("</section>")[0]
    assert "<li>Timed by the engine&#39;s own record; 48 of 50 successful requests</li>" in section
    assert section.count("<tbody>") == len(timed.variants) and "98.0 to 102" in section
    why = page.partition('<section id="why"')[2].partition("</section>")[0]
    assert why.count("&lt;b&gt;x&lt;/b&gt;") == len(timed.variants) - 1
    assert "- int8: before the queue 20.0 ms (10.0 %), queued 9.00 ms" in text


def test_a_load_that_no_verdict_judges_is_folded(tmp_path: Path) -> None:
    summary = with_times(make_run(tmp_path)[0], "It is slower.")
    other = time_spent(summary, {v.variant: i for i, v in enumerate(summary.variants)}, STAGE)
    assert other.stage == STAGE and len(other.explained) == len(summary.variants) - 1
    assert time_spent(summary, {}, "rate-99").plot is None


def test_a_number_that_is_missing_has_its_reason(tmp_path: Path) -> None:
    summary = make_run(tmp_path)[0]
    reason = "p95 needs at least 200 requests, there are 50"
    segment = replace(waterfall().segments["decode"], p95=Estimate(value=None, reason=reason))
    few = replace(waterfall(), segments={"decode": segment, "prefill": segment})
    base = replace(
        summary.variants[0], stages=[replace(summary.variants[0].stages[0], waterfall=few)]
    )
    spent = time_spent(replace(summary, variants=[base, *summary.variants[1:]]), {"base": 0})
    assert spent.notes[1] == "P95 needs at least 200 requests, there are 50"
    assert spent.variants[0].lines[0].cells[3] == ("—", "")
    assert spent.absent.startswith("base-short, int8, merged, nf4, tuned: No request of this load")


def test_a_time_has_three_digits_and_no_more_than_a_microsecond() -> None:
    texts = [milliseconds(value) for value in (0.0, -0.0004, 0.0127, 1.274, 98.04, -1466.7)]
    assert texts == ["0", "0.000", "0.013", "1.27", "98.0", "−1,467"]
