"""The figures of capacity: each value is where it belongs, and what is not known is not drawn."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as Tree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from results.report.figures import audit, cost_by_traffic, day, front, investment, rate_curve
from results.report.figures.frame import band, hatched
from results.report.figures.spread import LimitLine
from results.report.figures.svg import Axis, Drawing
from results.summary import Estimate

EVIL = "<script>alert(1)</script>\"'&"
NONE = Estimate(value=None, reason="not measured")


def around(value: float, half: float = 1.0) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=50)


def drawn(figure: Markup) -> Tree.Element:
    assert not re.search(r"[\"MLHV ](nan|inf|-inf)\b", str(figure)), "a place that is no number"
    return Tree.fromstring(str(figure))


def of_class(figure: Markup, css: str) -> list[Tree.Element]:
    return [e for e in drawn(figure).iter() if css in (e.get("class") or "").split()]


def texts(figure: Markup) -> list[str]:
    """The texts without their hover text."""
    return [
        "".join([element.text or "", *(child.tail or "" for child in element)])
        for element in drawn(figure).iter("text")
    ]


def number_in(element: Tree.Element, name: str) -> float:
    return float(element.get(name, "nan"))


def corners(path: Tree.Element) -> list[tuple[float, float]]:
    pairs = re.split("[ML]", path.get("d", "").rstrip("Z"))[1:]
    return [(float(x), float(y)) for x, y in (pair.split() for pair in pairs)]


def assert_close(places: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    np.testing.assert_allclose(places, expected, atol=0.06)


def modelled(rates: list[float], values: list[float], half: float = 5.0) -> rate_curve.Modelled:
    at, line = np.array(rates), np.array(values)
    return rate_curve.Modelled(at, line, line - half, line + half)


def latency_pane(
    measured: list[tuple[float, Estimate]], model: rate_curve.Modelled | None = None
) -> rate_curve.RatePane:
    points = [rate_curve.MeasuredPoint(rate, estimate) for rate, estimate in measured]
    limit = LimitLine(500.0, 95.0, "SLO p95 ≤ 500 ms")
    return rate_curve.RatePane("Latency p95", "ms", points, model, limit)


def test_a_measured_rate_stands_at_its_rate_and_latency() -> None:
    """The axis goes from 0 to 1.04 x 20 = 20.8 requests/s over 424 units from 62."""
    pane = latency_pane([(10.0, around(250, 20)), (20.0, around(400, 20))])
    figure = rate_curve.rate_curve(rate_curve.VariantRates("a", 0, [pane]))
    circles = of_class(figure, "mark")
    assert [number_in(c, "cx") for c in circles] == pytest.approx(
        [62 + 424 * 10 / 20.8, 62 + 424 * 20 / 20.8], abs=0.06
    )
    # 0 lies at 222, and the axis ends at 52 with 1.25 x 500 x 1.06 = 662.5 ms.
    assert [number_in(c, "cy") for c in circles] == pytest.approx(
        [222 - 170 * 250 / 662.5, 222 - 170 * 400 / 662.5], abs=0.06
    )
    [limit] = of_class(figure, "limit")
    assert number_in(limit, "y1") == pytest.approx(222 - 170 * 500 / 662.5, abs=0.06)


def test_the_held_range_is_shaded_from_end_to_end_and_beyond_the_model_is_hatched() -> None:
    model = modelled([0.0, 10.0, 20.0], [100.0, 200.0, 400.0])
    curve = rate_curve.VariantRates(
        "a", 0, [latency_pane([], model)], rate_curve.HeldRange(12.0, 15.0), reach=20.0
    )
    figure = rate_curve.rate_curve(curve)
    x = Axis(0.0, 1.15 * 20 * 1.04, 62.0, 486.0)
    [held] = of_class(figure, "held")
    assert number_in(held, "x") == pytest.approx(x(12.0), abs=0.06)
    assert number_in(held, "width") == pytest.approx(x(15.0) - x(12.0), abs=0.11)
    [unknown] = of_class(figure, "unknown")
    assert number_in(unknown, "x") == pytest.approx(x(20.0), abs=0.06)
    assert number_in(unknown, "x") + number_in(unknown, "width") == pytest.approx(486.0, abs=0.11)
    assert {"not known", "holds 12.0 to 15.0 requests/s"} <= set(texts(figure))
    [line] = of_class(figure, "curve")
    assert [px for px, _ in corners(line)] == pytest.approx([x(0), x(10), x(20)], abs=0.06)


def test_a_latency_far_beyond_the_limit_stands_at_the_top_with_its_value() -> None:
    figure = rate_curve.rate_curve(
        rate_curve.VariantRates("a", 0, [latency_pane([(5.0, around(400)), (9.0, around(90_000))])])
    )
    assert [number_in(c, "cy") for c in of_class(figure, "mark")][1] == 52.0
    assert "↑ 90.0 s" in texts(figure)


def test_where_the_model_has_no_answer_line_and_band_are_broken() -> None:
    nan = float("nan")
    model = modelled([1.0, 2.0, 3.0, 4.0, 5.0], [10.0, 20.0, nan, 40.0, 50.0])
    curve = rate_curve.VariantRates("a", 0, [latency_pane([], model)], reach=5.0)
    figure = rate_curve.rate_curve(curve)
    assert [len(corners(line)) for line in of_class(figure, "curve")] == [2, 2]
    assert [len(corners(area)) for area in of_class(figure, "band")] == [4, 4]


def test_a_measured_load_in_the_hatched_part_is_known_but_not_to_the_model() -> None:
    model = modelled([1.0, 2.0], [100.0, 200.0])
    pane = latency_pane([(8.0, around(400, 20))], model)
    curve = rate_curve.VariantRates("a", 0, [pane], rate_curve.HeldRange(1.5, 3.0), reach=2.0)
    figure = rate_curve.rate_curve(curve)
    assert "not known to the model" in texts(figure) and "not known" not in texts(figure)
    classes = [e.get("class") for e in drawn(figure).iter() if e.get("class")]
    assert classes.index("hatch") < classes.index("held")  # the range is seen over it


def test_a_point_that_does_not_count_is_pale_and_says_why() -> None:
    point = rate_curve.MeasuredPoint(3.0, around(200), "its arrivals are sessions")
    pane = rate_curve.RatePane("Latency p95", "ms", [point])
    figure = rate_curve.rate_curve(rate_curve.VariantRates("a", 0, [pane]))
    [mark] = of_class(figure, "mark")
    assert "pale" in mark.get("class", "") and "sessions" in "".join(mark.itertext())
    assert not of_class(figure, "unknown") and not of_class(figure, "held")


numbers = st.floats(0.01, 1e7) | st.just(float("nan")) | st.just(float("inf"))


@given(
    st.lists(st.tuples(st.floats(0.0, 1e6), numbers, numbers, numbers), max_size=6),
    st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0, 1e9)), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_any_model_and_any_measurement_can_be_drawn(
    model: list[tuple[float, float, float, float]], points: list[tuple[float, float]]
) -> None:
    columns = np.array(sorted(model), float).reshape(-1, 4).T
    measured = [rate_curve.MeasuredPoint(rate, around(value)) for rate, value in points]
    panes = [
        rate_curve.RatePane(EVIL, unit, measured, rate_curve.Modelled(*columns), is_rate=is_rate)
        for unit, is_rate in (("ms", False), ("requests/s", True))
    ]
    held = rate_curve.HeldRange(1.0, None)
    figure = rate_curve.rate_curve(rate_curve.VariantRates(EVIL, 3, panes, held, 4.0))
    assert "<script>" not in figure and len(of_class(figure, "mark")) == 2 * len(points)


def cost_curve(name: str, slot: int, price: float) -> cost_by_traffic.CostCurve:
    traffic = np.array([1.0, 2.0, 4.0, 8.0])
    cost = price * traffic
    return cost_by_traffic.CostCurve(name, slot, traffic, cost, 0.8 * cost, 1.2 * cost)


def test_costs_and_break_even_points_stand_at_their_traffic() -> None:
    """From 0 to 1.06 x 8 requests/s over 780 units from 70; from 0 to 1.06 x 960 $ over 310."""
    curves = [cost_curve("a", 0, 100.0), cost_curve("b", 1, 90.0)]
    changes = [cost_by_traffic.CheapestFrom("b", 0, 4.0, 360.0)]
    figure = cost_by_traffic.cost_by_traffic(curves, changes, peak=6.0)
    x, y = Axis(0.0, 8.48, 70.0, 850.0), Axis(0.0, 1017.6, 344.0, 34.0)
    line = of_class(figure, "curve")[0]
    assert_close(corners(line), [(x(t), y(100 * t)) for t in (1.0, 2.0, 4.0, 8.0)])
    [mark] = of_class(figure, "mark")
    assert (number_in(mark, "cx"), number_in(mark, "cy")) == pytest.approx(
        (x(4.0), y(360.0)), abs=0.06
    )
    [peak] = of_class(figure, "limit")
    assert number_in(peak, "x1") == pytest.approx(x(6.0), abs=0.06)
    assert {"from 4.00 requests/s", "peak 6.00 requests/s", "a", "b"} <= set(texts(figure))


def test_a_cost_that_is_not_known_breaks_the_line_and_a_wide_range_is_a_log_axis() -> None:
    traffic = np.array([1.0, 10.0, 100.0, 1000.0])
    cost = np.array([10.0, np.nan, 1000.0, 10_000.0])
    curve = cost_by_traffic.CostCurve(EVIL, 0, traffic, cost, cost / 2, cost * 2)
    figure = cost_by_traffic.cost_by_traffic([curve], [], peak=10.0)
    assert [len(corners(line)) for line in of_class(figure, "curve")] == [1, 2]
    assert sum("(log scale)" in text for text in texts(figure)) == 2


def a_day() -> day.Day:
    start = np.arange(24.0)
    traffic = np.where(start < 12, 10.0, 40.0)
    replicas = np.where(start < 12, 2.0, 6.0)
    return day.Day("int8", 1, start, 24.0, traffic, replicas, replicas - 1, replicas, 6.0)


def test_replicas_are_steps_that_rise_when_the_traffic_does() -> None:
    """Hours lie from 56 to 850; replicas from 0 at 354 to 6 x 1.08 at 184."""
    figure = day.replicas_over_day(a_day())
    traffic, replicas = of_class(figure, "curve")
    x, y = Axis(0.0, 24.0, 56.0, 850.0), Axis(0.0, 6.48, 354.0, 184.0)
    steps = corners(replicas)
    assert_close(steps[:2], [(x(0), y(2)), (x(1), y(2))])
    assert steps[-1] == pytest.approx((x(24), y(6)), abs=0.06)
    rise = [px for (px, py), (_, then) in pairwise(steps) if then < py]
    assert rise == pytest.approx([x(12)], abs=0.06)
    assert corners(traffic)[0][1] > corners(traffic)[-1][1]
    [fixed] = of_class(figure, "limit")
    assert number_in(fixed, "y1") == pytest.approx(y(6), abs=0.06)
    assert {"00:00", "12:00", "24:00", "6 all the time"} <= set(texts(figure))


def test_an_hour_without_a_number_of_replicas_has_no_step() -> None:
    spans = np.arange(4.0)
    count = np.array([1.0, np.nan, 2.0, 2.0])
    of = day.Day(EVIL, 0, spans, 4.0, np.array([0.0, 5.0, 9.0, 9.0]), count, count, count)
    figure = day.replicas_over_day(of)
    assert [len(corners(line)) for line in of_class(figure, "curve")] == [8, 2, 4]
    assert "Hours" in texts(figure)
    brief = day.Day("a", 0, spans / 10, 0.4, count, count, count, count)
    assert {"Minutes", "15", "20"} <= set(texts(day.replicas_over_day(brief)))
    nothing = np.full(4, np.nan)
    empty = day.Day("a", 0, spans, 4.0, nothing, nothing, nothing, nothing)
    assert not of_class(day.replicas_over_day(empty), "curve")


def test_a_beaten_variant_is_pale_and_the_front_goes_through_the_others() -> None:
    points = [
        front.FrontPoint("cheap", 0, around(0.8, 0.02), around(300), around(10)),
        front.FrontPoint("good", 1, around(0.9, 0.02), around(400), around(20)),
        front.FrontPoint("beaten", 2, around(0.7, 0.02), around(500), around(30), "cheap"),
        front.FrontPoint("unknown", 3, NONE, around(500), around(30)),
    ]
    labels = front.FrontLabels("Latency p95", "Cost", LimitLine(450.0, 95.0, "SLO"), 0.75)
    figure = front.pareto_front(points, labels)
    pale = of_class(figure, "pale")
    assert {"beaten: beaten by cheap"} == {
        "".join(e.itertext()) for e in pale if "mark" in e.get("class", "")
    }
    names = texts(figure)
    assert names.count("good") == 2 and "unknown" not in names
    steps = of_class(figure, "front")
    assert len(steps) == 2
    marks = [e for e in of_class(figure, "mark") if e.tag == "circle"]
    assert (number_in(marks[0], "cx"), number_in(marks[0], "cy")) == corners(steps[0])[1]


def test_planned_and_measured_stand_on_one_scale() -> None:
    """The axis goes from zero at 1 to 1.04 x 260 at 530."""
    row = audit.AuditRow("latency p95", "ms", around(200, 20), around(250, 10))
    figure = audit.planned_and_measured("int8", 0, row)
    x = Axis(0.0, 1.04 * 260, 1.0, 530.0)
    [planned] = of_class(figure, "band")
    assert number_in(planned, "x") == pytest.approx(x(180), abs=0.06)
    assert number_in(planned, "width") == pytest.approx(x(220) - x(180), abs=0.11)
    [measured] = of_class(figure, "mark")
    assert number_in(measured, "cx") == pytest.approx(x(250), abs=0.06)
    assert row.texts(row.planned) == ("200 ms", "180 to 220 ms")
    assert row.texts(row.measured) == ("250 ms", "240 to 260 ms")


def test_an_audit_without_a_model_says_at_most_and_one_without_a_measurement_says_why() -> None:
    rows = [
        audit.AuditRow(EVIL, "ms", Estimate(value=None, high=500.0), around(250)),
        audit.AuditRow("TTFT p95", "ms", around(100), NONE),
    ]
    figures = [audit.planned_and_measured(EVIL, 0, row) for row in rows]
    assert rows[0].texts(rows[0].planned)[1] == "at most 500 ms"
    assert rows[1].texts(rows[1].measured)[1] == "not measured"
    assert [len(of_class(figure, "mark")) for figure in figures] == [1, 0]
    assert all("<script>" not in figure for figure in figures)


def test_dollars_rise_from_the_cost_and_cross_zero_after_the_months() -> None:
    """$300 once, $100 a month: even after 3 months; the axis ends 1.5 times 4 months later."""
    months = Estimate(value=3.0, low=2.5, high=4.0)
    paid = investment.Payback("int8", 1, 300.0, around(100, 25), months)
    figure = investment.cumulative_dollars([paid])
    x = Axis(0.0, 6.0, 70.0, 850.0)
    [zero] = of_class(figure, "zero")
    [line] = of_class(figure, "curve")
    (x0, y0), (x1, y1) = corners(line)
    assert (x0, x1) == (70.0, 850.0)
    assert y0 + (y1 - y0) * 3 / 6 == pytest.approx(number_in(zero, "y1"), abs=0.11)
    [mark] = of_class(figure, "mark")
    middle = number_in(mark, "x") + number_in(mark, "width") / 2
    assert middle == pytest.approx(x(3.0), abs=0.11)
    assert "3.0 months" in texts(figure)


def test_what_never_pays_falls_and_has_no_month() -> None:
    never = investment.Payback(EVIL, 0, 300.0, around(-50, 10), NONE)
    figure = investment.cumulative_dollars([never, investment.Payback("b", 1, 1.0, NONE, NONE)])
    [line] = of_class(figure, "curve")
    (_, start), (_, end) = corners(line)
    assert end > start and not of_class(figure, "mark")
    assert "not measured" in str(drawn(figure).get("aria-description"))


@given(st.lists(st.floats(-1e9, 1e9) | st.just(float("nan")), min_size=1, max_size=8))
def test_a_band_has_no_corner_that_is_not_a_number(values: list[float]) -> None:
    drawing, at = Drawing(100, 100), np.arange(float(len(values)))
    band(drawing, Axis(0, 9, 0, 100), Axis(-1e9, 1e9, 100, 0), at, (np.array(values),) * 2, "band")
    drawn(drawing.render("band"))


@given(st.floats(0, 90), st.floats(0, 90), st.floats(0, 200), st.floats(0, 200))
def test_hatching_stays_in_its_box(left: float, top: float, wide: float, tall: float) -> None:
    drawing = Drawing(400, 400)
    hatched(drawing, (left, top, left + wide, top + tall), "not known")
    for path in of_class(drawing.render("hatch"), "hatch"):
        for x, y in corners(path):
            assert left - 0.06 <= x <= left + wide + 0.06
            assert top - 0.06 <= y <= top + tall + 0.06
