"""Writes the table of metrics in docs/metrics.md: python -m tests.results.metrics_table"""

from __future__ import annotations

import re
from pathlib import Path

from results.metrics import METRICS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- the metrics of the code -->\n", "<!-- end -->\n"


def written_table(text: str) -> str:
    """The table as a text of the docs holds it."""
    return text.partition(BEGIN)[2].partition(END)[0]


def with_table(text: str) -> str:
    """A text of the docs with the table of the code in the place of its own."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


def table() -> str:
    """One row a metric; those that differ only in their statistic share one."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for key, metric in METRICS.items():
        stat = key.rpartition("_")[2]
        pattern = rf"\b{re.escape(stat)}\b"
        definition = (
            re.sub(pattern, "STAT", metric.definition)
            if re.fullmatch(r"mean|p[\d.]+", stat)
            else metric.definition
        )
        name = key.removesuffix(stat) + "STAT" if definition != metric.definition else key
        rows.setdefault((name, metric.unit, definition), []).append(stat)
    lines = ["| key | unit | definition |", "|---|---|---|"]
    for (name, unit, definition), stats in rows.items():
        label = name.replace("STAT", "{" + ",".join(stats) + "}") if "STAT" in name else name
        lines.append(
            f"| `{label}` | {unit} | {definition.replace('STAT over', 'over').replace('|', '')} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCS.write_text(with_table(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
