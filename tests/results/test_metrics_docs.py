"""docs/metrics.md says what the code says. To write it anew: python -m tests.results.test_metrics_docs"""

from __future__ import annotations

import re
from pathlib import Path

from results.measures.metrics import METRICS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- the metrics of the code -->\n", "<!-- end -->\n"


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
        shown = name.replace("STAT", "{" + ",".join(stats) + "}") if "STAT" in name else name
        lines.append(
            f"| `{shown}` | {unit} | {definition.replace('STAT over', 'over').replace('|', '')} |"
        )
    return "\n".join(lines) + "\n"


def test_the_docs_define_every_metric_as_the_code_does() -> None:
    written = DOCS.read_text().partition(BEGIN)[2].partition(END)[0]
    assert written == table()


if __name__ == "__main__":
    before, _, rest = DOCS.read_text().partition(BEGIN)
    DOCS.write_text(before + BEGIN + table() + END + rest.partition(END)[2])
