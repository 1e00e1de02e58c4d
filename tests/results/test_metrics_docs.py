"""docs/metrics.md says what the code says. To update it: python -m tests.results.metrics_table"""

from __future__ import annotations

from tests.results.metrics_table import DOCS, table, with_table, written_table


def test_the_docs_define_every_metric_as_the_code_does() -> None:
    assert written_table(DOCS.read_text(encoding="utf-8")) == table()


def test_the_table_is_all_that_the_generator_writes() -> None:
    text = DOCS.read_text(encoding="utf-8")
    row = next(line for line in table().splitlines() if "latency" in line)
    assert with_table(text.replace(row, "| `other` | s | no metric |")) == text
