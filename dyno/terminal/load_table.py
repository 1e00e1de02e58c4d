"""A table of every load of a run."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from foundation.format import capital, scale
from results.report.table import in_order
from results.summary import StageSummary, Summary

# Enough to see where latency leaves the floor and throughput stops growing.
_COLUMNS = (
    "latency_p50",
    "latency_p95",
    "ttft_p50",
    "ttft_p95",
    "requests_per_s",
    "output_tokens_per_s",
    "error_rate",
)


def load_table(summary: Summary) -> Table | None:
    """A row for each load and variant, the judged load marked; None for a single load."""
    stages = [(variant, stage) for variant in in_order(summary) for stage in variant.stages]
    if len({stage.stage for _, stage in stages}) < 2:
        return None
    several = len(summary.variants) > 1
    table = Table(
        header_style="bold", title="every load (* the one that is judged)", title_justify="left"
    )
    table.add_column("load")
    if several:
        table.add_column("variant")
    units = {}
    for key in _COLUMNS:
        units[key] = scale([_value(stage, key) for _, stage in stages], summary.metrics[key].unit)
        table.add_column(
            f"{capital(summary.metrics[key].label)}, {units[key].unit}",
            justify="right",
            overflow="fold",
        )
    for variant, stage in stages:
        mark = " *" if stage.stage == variant.judged_stage else ""
        names = [Text(stage.stage + mark), *([Text(variant.variant)] if several else [])]
        table.add_row(*names, *(units[key](_value(stage, key)) for key in _COLUMNS))
    return table


def _value(stage: StageSummary, key: str) -> float | None:
    return stage.metrics[key].value if key in stage.metrics else None
