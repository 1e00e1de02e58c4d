"""Journals in, a decision out: metrics, statistics, quality, cost, comparison, verdict, capacity, report.

In: a run directory with journals (`records` is their schema). Out: summary.json, verdict.json, plan.json, report.html, report.md.
Everything but `journal`, `analysis` and `report` is a pure function over arrays and frozen records.
Start at `records`, then `metrics` (what every number is), then `verdict` (what is made of them).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from results.inputs import RunInputs

if TYPE_CHECKING:
    from results.analysis import analyse
    from results.capacity import plan_capacity
    from results.parquet import write_parquet
    from results.planner import Planned, forecast, plan_blocks
    from results.runs import compare_runs
    from results.verdict import judge

__all__ = [
    "Planned",
    "RunInputs",
    "analyse",
    "compare_runs",
    "forecast",
    "judge",
    "plan_blocks",
    "plan_capacity",
    "write_parquet",
]

_HOMES = {
    "Planned": "planner",
    "analyse": "analysis",
    "compare_runs": "runs",
    "forecast": "planner",
    "judge": "verdict",
    "plan_blocks": "planner",
    "plan_capacity": "capacity",
    "write_parquet": "parquet",
}


def __getattr__(name: str) -> Any:
    """numpy and scipy are loaded when the first function is asked for: loadgen and serve come here for `records` alone."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
