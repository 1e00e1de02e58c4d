"""One objective at a glance: the allowed side of the limit, the value and its interval."""

from __future__ import annotations

from markupsafe import Markup

from foundation.format import interval, quantity
from results.report.figures.frame import span
from results.report.figures.svg import Axis, Drawing
from results.summary import Objective


def gauge(objective: Objective, at_least: bool, width: float = 220) -> Markup:
    """The value of an objective against its limit; empty without a value or a limit.

    `at_least`: the limit is a floor, so the allowed side is on the right.
    """
    value = objective.value
    if value.value is None or objective.limit is None:
        return Markup("")
    ends = [value.value, value.low, value.high, objective.limit]
    low, high = span([v for v in ends if v is not None], pad=0.25)
    x = Axis(
        low if low > 0 or min(v for v in ends if v is not None) < 0 else 0.0, high, 6, width - 6
    )
    drawing = Drawing(width, 22)
    at = x(objective.limit)
    start, end = (at, x.end) if at_least else (x.start, at)
    drawing.rect(start, 7, end - start, 8, "allowed")
    drawing.line(x.start, 11, x.end, 11, "axis")
    drawing.line(at, 2, at, 20, "limit-mark")
    if value.low is not None and value.high is not None:
        drawing.whisker(x.clamp(value.low), x.clamp(value.high), 11, "whisker ink", cap=4)
    drawing.marker(x(value.value), 11, 0, 4, css="mark ink")
    around = interval(value.low, value.high, objective.unit)
    spoken = f"{objective.label}: {quantity(value.value, objective.unit)}"
    spoken += f", {around}" if around else ""
    return drawing.render(f"{spoken}; limit {objective.limit_text}")
