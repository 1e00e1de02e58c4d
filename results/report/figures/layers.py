"""How quantization error builds up from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from foundation.format import percent
from results.report.figures.frame import AxisLabel, span, x_axis, y_axis
from results.report.figures.svg import Axis, Drawing, dash, shorten, spread_labels, variant_class


@dataclass(frozen=True)
class LayerError:
    """One variant's relative error after each layer, the first layer first."""

    name: str
    slot: int
    errors: Sequence[float]


def error_by_layer(variants: Sequence[LayerError], width: float = 1000) -> Markup:
    """A curve for each variant, with its name and last error at its end."""
    left, right, top, bottom = 56.0, width - 190.0, 34.0, 264.0
    drawing = Drawing(width, bottom + 46)
    x = Axis(1.0, max(2.0, *(float(len(v.errors)) for v in variants)), left, right)
    y = Axis(*span([error for v in variants for error in v.errors], low=0.0), bottom, top)
    x_axis(drawing, x, top, bottom, AxisLabel("Layer", ticks=8))
    y_axis(drawing, y, left, right, AxisLabel("Relative error of the layer's output", "share"))
    ends = []
    for variant in variants:
        trace = [(x(float(layer)), y(error)) for layer, error in enumerate(variant.errors, start=1)]
        last = f"{percent(variant.errors[-1])} after the last layer"
        drawing.path(
            trace,
            f"curve {variant_class(variant.slot)}",
            f"{variant.name}: {last}",
            dash(variant.slot),
        )
        drawing.marker(*trace[-1], variant.slot, 4.5, f"{variant.name}: {last}")
        ends.append(trace[-1][1])
    for variant, at in zip(variants, spread_labels(ends, 15.0), strict=True):
        label = f"{shorten(variant.name, 110)} {percent(variant.errors[-1])}"
        drawing.text(right + 12, at + 4, label, "name", title=variant.name)
    spoken = "; ".join(f"{v.name}: {percent(v.errors[-1])} after the last layer" for v in variants)
    return drawing.render("Relative error by layer, by variant", spoken)
