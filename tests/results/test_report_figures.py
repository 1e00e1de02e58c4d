"""Figures: the numbers are where they belong, and every drawing is well-formed."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as Tree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from results.report.figures import bars, loss, spread, tradeoff
from results.report.figures.frame import AxisLabel, span, x_axis
from results.report.figures.gauge import gauge
from results.report.figures.svg import Axis, Drawing, shorten, spread_labels
from results.summary import Decomposition, Difference, Estimate, Objective

NONE = Estimate(value=None, reason="too few requests")


def around(value: float, half: float = 1.0) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=50)


def drawn(figure: Markup) -> Tree.Element:
    return Tree.fromstring(str(figure))


def texts(figure: Markup) -> list[str]:
    return ["".join(element.itertext()) for element in drawn(figure).iter("text")]


def sample(name: str, values: list[float], failed: int = 0, slot: int = 0) -> spread.LatencySample:
    return spread.LatencySample(name, slot, np.array(values), failed, around(200), around(400))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_within_the_axis_and_evenly_spaced(low: float, width: float) -> None:
    axis = Axis(low, low + width, 0, 100)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0], rtol=1e-3)


def test_a_log_axis_has_decades_equally_far_apart() -> None:
    axis = Axis(1, 1000, 0, 300, log=True)
    assert [axis(x) for x in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert {1, 10, 100, 1000} <= set(axis.ticks())


def test_text_in_a_drawing_is_escaped() -> None:
    drawing = Drawing(10, 10)
    drawing.text(0, 0, "<b>&", title='"><script>')
    drawing.line(0, 0, 1, 1, "x", title="</title><script>")
    figure = drawing.render('a "quoted" <label>')
    assert "<script>" not in figure and "<b>" not in figure
    assert drawn(figure).get("aria-label") == 'a "quoted" <label>'


def test_long_names_are_cut_and_labels_pushed_apart() -> None:
    assert shorten("short", 100) == "short"
    one, two = (shorten(f"{'x' * 80}-{i}", 100) for i in (1, 2))
    assert "…" in one and len(one) < 20 and one != two
    placed = sorted(spread_labels([5, 5, 6, 100], 10))
    assert all(b - a >= 10 for a, b in pairwise(placed))


def test_the_cumulative_curve_ends_at_the_share_that_was_answered() -> None:
    figure = drawn(spread.cumulative([sample("half", [100.0] * 10, failed=10)], None, "Latency"))
    curve = next(p for p in figure.iter("path") if "curve" in p.get("class", ""))
    heights = [float(point.split()[1]) for point in curve.get("d", "")[1:].split("L")]
    grid = sorted(
        float(line.get("y1", 0))
        for line in figure.iter("line")
        if line.get("class") == "grid" and line.get("y1") == line.get("y2")
    )
    assert min(heights) == pytest.approx(
        (grid[0] + grid[-1]) / 2, abs=0.2
    )  # half-way between 0 % and 100 %


def test_the_limit_is_drawn_at_its_place_and_named() -> None:
    limit = spread.LimitLine(400.0, 95.0, "SLO p95 ≤ 400 ms")
    figure = spread.rows([sample("a", list(np.linspace(100, 800, 200)))], limit, "Latency")
    axis = spread.time_axis([sample("a", list(np.linspace(100, 800, 200)))], limit, 118.0, 396.0)
    line = next(e for e in drawn(figure).iter("line") if e.get("class") == "limit")
    assert float(line.get("x1", 0)) == pytest.approx(axis(400.0), abs=0.1)
    assert "SLO p95 ≤ 400 ms" in texts(figure)


@pytest.mark.parametrize("values", [[], [5.0], [5.0, 5.0], [0.0, 0.0], [1.0, 1e6]])
def test_odd_samples_can_be_drawn(values: list[float]) -> None:
    for figure in (
        spread.rows([sample("a", values)], None, "L"),
        spread.cumulative([sample("a", values)], None, "L"),
    ):
        assert drawn(figure).tag == "svg" and "nan" not in figure


def test_the_allowed_region_is_where_limit_and_floor_allow() -> None:
    points = [
        tradeoff.Point("in", 0, around(0.9, 0.02), around(200, 10), around(1.0, 0.1)),
        tradeoff.Point("out", 1, around(0.5, 0.02), around(800, 10), around(4.0, 0.1)),
    ]
    figure = drawn(
        tradeoff.quality_latency_cost(
            points, "Latency p95", "cost", spread.LimitLine(400.0, 95.0, "SLO"), 0.8
        )
    )
    allowed = next(e for e in figure.iter("rect") if e.get("class") == "allowed")
    x, y, width, height = (float(allowed.get(k, 0)) for k in ("x", "y", "width", "height"))
    inside = next(e for e in figure.iter("circle"))
    assert (
        x < float(inside.get("cx", 0)) < x + width and y < float(inside.get("cy", 0)) < y + height
    )
    square = next(e for e in figure.iter("rect") if "mark" in e.get("class", ""))
    assert float(square.get("x", 0)) > x + width and float(square.get("y", 0)) > y + height
    assert float(square.get("width", 0)) / 1.76 > float(
        inside.get("r", 0)
    )  # the dearer one is larger


def test_names_in_the_scatter_do_not_cover_one_another() -> None:
    points = [
        tradeoff.Point(
            f"variant-{i}", i, around(0.8 + i / 1000, 0.001), around(300 + i, 1), around(1, 0)
        )
        for i in range(6)
    ]
    figure = drawn(tradeoff.quality_latency_cost(points, "Latency p95", "cost", None, None))
    names = [
        (float(t.get("x", 0)), float(t.get("y", 0)))
        for t in figure.iter("text")
        if "name" in t.get("class", "")
    ]
    assert len(names) == 6
    assert all(
        abs(a[0] - b[0]) > 60 or abs(a[1] - b[1]) > 12
        for i, a in enumerate(names)
        for b in names[:i]
    )


def test_a_missing_value_draws_no_marker_and_gives_the_reason() -> None:
    point = tradeoff.Point("a", 0, NONE, around(5), NONE)
    assert not list(
        drawn(tradeoff.quality_latency_cost([point], "L", "c", None, None)).iter("circle")
    )
    row = bars.ScoreRow("a", 0, NONE, None)
    assert "too few requests" in texts(bars.scores("general", [row], None))


def test_decomposition_prints_a_residual_only_where_there_is_one() -> None:
    ten, twenty, thirty = around(10), around(20), around(30)
    exact = Decomposition(
        latency=around(60),
        prefill_and_queueing=ten,
        verbosity=twenty,
        speed_per_token=thirty,
        residual=0.0,
    )
    off = Decomposition(
        latency=around(65),
        prefill_and_queueing=ten,
        verbosity=twenty,
        speed_per_token=thirty,
        residual=5.0,
    )
    assert "residual" not in texts(bars.decomposition([("a", 1, exact)]))
    labels = texts(bars.decomposition([("a", 1, off)]))
    assert "residual" in labels and {"+65.0", "+10.0", "+20.0", "+30.0", "+5.0"} <= set(labels)


def test_tokens_are_stacked_and_their_difference_stated() -> None:
    change = Difference(absolute=around(50, 2), relative=around(0.5, 0.02))
    figure = bars.tokens(
        [
            bars.TokenRow("base", 0, around(60), around(40), around(100), None),
            bars.TokenRow("tuned", 1, around(60), around(90), around(150), change),
        ]
    )
    assert {"60.0", "40.0", "90.0", "100", "150", "baseline", "+50.0"} <= set(texts(figure))
    widths = [float(e.get("width", 0)) for e in drawn(figure).iter("rect")]
    assert widths[0] / widths[1] == pytest.approx(60 / 40, rel=0.01)


def objective(value: Estimate, limit: float | None) -> Objective:
    return Objective(
        kind="slo", metric="latency_p95", label="latency p95", unit="ms", value=value, limit=limit,
        limit_text="400ms", margin=0.1, outcome="holds", sentence="",
    )  # fmt: skip


def test_the_gauge_shades_the_allowed_side() -> None:
    below = drawn(gauge(objective(around(300), 400.0), at_least=False))
    above = drawn(gauge(objective(around(300), 200.0), at_least=True))
    for figure, left in ((below, True), (above, False)):
        mark = next(
            float(e.get("x1", 0)) for e in figure.iter("line") if e.get("class") == "limit-mark"
        )
        shaded = next(float(e.get("x", 0)) for e in figure.iter("rect"))
        assert (shaded < mark - 1) == left
    assert gauge(objective(NONE, 400.0), at_least=False) == ""
    assert gauge(objective(around(300), None), at_least=False) == ""


def test_the_loss_curve_names_its_last_values() -> None:
    figure = loss.loss_curve(loss.Training("finetune", [1, 2, 3], [2.0, 1.0, 0.5], [3], [0.75]))
    assert {"training 0.500", "held-out 0.750"} <= set(texts(figure))


def test_values_below_a_narrow_axis_do_not_overlap() -> None:
    """From 7 ms to 0.9 s a log axis has 1, 2 and 5 of each decade: too many for 90 units."""
    drawing, axis = Drawing(200, 100), Axis(7.0, 900.0, 20.0, 110.0, log=True)
    x_axis(drawing, axis, 10, 60, AxisLabel("TTFT", "ms"))
    ticks = [e for e in drawn(drawing.render("axis")).iter("text") if e.get("class") == "tick"]
    assert 2 <= len(ticks) < len(axis.ticks())
    edges = [(float(e.get("x", "")), len(e.text or "") * 3.6) for e in ticks]
    assert all(x + half < next_x - next_half for (x, half), (next_x, next_half) in pairwise(edges))


def test_a_span_has_six_per_cent_of_air_on_either_side() -> None:
    assert span([3.0, 13.0]) == pytest.approx((2.4, 13.6))
    assert span([3.0, 13.0], low=0.0) == pytest.approx((0.0, 13.6))


def test_an_axis_of_scores_ends_at_100_per_cent() -> None:
    """With padding the axis would go from 35 % to 110 %; the 100 % reference is its right end."""
    rows = [bars.ScoreRow("a", 0, Estimate(value=0.5, low=0.45, high=0.55, n=9), None)]
    lines = list(drawn(bars.scores("quality", rows, 1.0)).iter("line"))
    [reference] = [e for e in lines if e.get("class") == "reference"]
    [axis] = [e for e in lines if e.get("class") == "axis"]
    assert reference.get("x1") == axis.get("x2")


@pytest.mark.parametrize("slot", range(7))
def test_markers_of_all_variants_are_about_equally_large(slot: int) -> None:
    drawing = Drawing(200, 200)
    drawing.marker(100, 100, slot, 50)
    [shape] = list(drawn(drawing.render("marker")))
    if shape.tag == "circle":
        area = np.pi * float(shape.get("r", "")) ** 2
    elif shape.tag == "rect":
        area = float(shape.get("width", "")) * float(shape.get("height", ""))
    else:
        corners = np.array(
            [point.split() for point in re.split("[ML]", shape.get("d", "").rstrip("Z"))[1:]], float
        )
        x, y = corners.T
        area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert area == pytest.approx(np.pi * 50**2, rel=0.25)


def test_each_variant_has_a_curve_over_the_loads_at_which_its_latency_is_known() -> None:
    known = tradeoff.LoadCurve("a", 0, [1.0, 2.0, 4.0], [around(100), NONE, around(200)])
    unknown = tradeoff.LoadCurve("b", 1, [1.0], [NONE])
    figure = drawn(tradeoff.latency_by_load([known, unknown], "requests/s", "latency p95", None))
    [curve] = [e for e in figure.iter("path") if (e.get("class") or "").startswith("curve")]
    assert len(re.findall(r"[ML]", curve.get("d", ""))) == 2
