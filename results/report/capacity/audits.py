"""The loads that a plan named, as a table: planned beside measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from results.capacity.plan.capacity_plan import Audit
from results.metrics import RECORDS
from results.report.figures.audit import AuditRow, planned_and_measured
from results.summary import Estimate

_NOT_MEASURED = Estimate(value=None, reason="not measured")


@dataclass(frozen=True)
class AuditLine:
    """A metric with its drawing; by heading, a value and what it lies between."""

    label: str
    plot: Markup
    cells: Mapping[str, tuple[str, str]]


def audit_lines(audit: Audit, slots: Mapping[str, int]) -> list[AuditLine]:
    """A line for each metric that was expected; none where nothing was measured yet."""
    if audit.measured is None:
        return []
    slot = slots.get(audit.variant, 0)
    return [
        _line(
            audit.variant,
            slot,
            AuditRow(
                RECORDS[key].label,
                RECORDS[key].unit,
                expected,
                audit.measured.get(key, _NOT_MEASURED),
            ),
        )
        for key, expected in audit.expected.items()
        if key in RECORDS
    ]


def _line(name: str, slot: int, row: AuditRow) -> AuditLine:
    cells = {"Planned": row.texts(row.planned), "Measured": row.texts(row.measured)}
    return AuditLine(row.label, planned_and_measured(name, slot, row), cells)
