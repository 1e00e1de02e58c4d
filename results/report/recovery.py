"""What quantizing lost: a table, warnings, and the error by layer.

The numbers come from the run's `checkpoints/VARIANT/recovery.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from foundation.format import ABSENT, percent, quantity, significant
from foundation.run.journal import Damage
from foundation.run.json_files import read_json
from foundation.run.records import VariantRecord
from foundation.run.recovery import ENOUGH, FILE, Recovery
from results.report.figures.layers import LayerError, error_by_layer
from results.report.table import estimate_of, in_order
from results.summary import Summary, VariantSummary

COLUMNS = (
    "Recovery (95 % interval)",
    "Under load",
    "Greedy answers right",
    "Perplexity",
    "KL divergence, nats/token",
    "Top-1 agreement",
    "Size",
    "Bytes a weight",
)


@dataclass(frozen=True)
class RecoveryRow:
    """One checkpoint's cells, in the order of `COLUMNS`."""

    variant: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class RecoverySection:
    """The table, the warnings by variant, and the error by layer."""

    columns: tuple[str, ...]
    rows: list[RecoveryRow]
    warnings: list[tuple[str, str]]
    plot: Markup | None


def section(run: Path, summary: Summary, slots: dict[str, int]) -> RecoverySection | None:
    """The section of a run, None where no checkpoint has a recovery report.

    A report that can't be read is among the warnings.
    """
    contents = {
        v.variant: read_json(run, f"checkpoints/{v.variant}/{FILE}", Recovery)
        for v in in_order(summary)
    }
    reports = {name: each for name, each in contents.items() if isinstance(each, Recovery)}
    warnings = [(name, str(each)) for name, each in contents.items() if isinstance(each, Damage)]
    if not reports and not warnings:
        return None
    unquantized = _unquantized(run)
    variants = {v.variant: v for v in summary.variants}
    rows = []
    for name, report in reports.items():
        under_load = _under_load(variants[name], variants.get(unquantized.get(name) or ""))
        rows.append(RecoveryRow(name, _cells(report, under_load)))
        warnings += [(name, text) for text in _warnings(report, under_load)]
    errors = [LayerError(name, slots[name], each.layer_error) for name, each in reports.items()]
    return RecoverySection(COLUMNS, rows, warnings, error_by_layer(errors) if errors else None)


def _unquantized(run: Path) -> dict[str, str | None]:
    """By variant, the one that differs from it only in not being quantized."""
    records = read_json(run, "variants.json", list[VariantRecord])
    return (
        {record.name: record.unquantized for record in records} if isinstance(records, list) else {}
    )


def _under_load(variant: VariantSummary, unquantized: VariantSummary | None) -> float | None:
    """The variant's score over the unquantized one's; None where either was not measured."""
    scores = [estimate_of(v, "quality")[0] if v else None for v in (variant, unquantized)]
    values = [score.value if score else None for score in scores]
    return values[0] / values[1] if values[0] is not None and values[1] else None


def _cells(recovery: Recovery, under_load: float | None) -> tuple[str, ...]:
    share, text = recovery.recovery, recovery.all_text
    interval = (
        ""
        if share.low is None or share.high is None
        else f" ({percent(share.low)} to {percent(share.high)})"
    )
    exact, sizes, weight = recovery.exact_answers, recovery.bytes, recovery.bytes_per_weight
    return (
        percent(share.value) + interval,
        ABSENT if under_load is None else percent(under_load),
        ABSENT
        if exact is None
        else f"{percent(exact.unquantized)} → {percent(exact.quantized)} of {recovery.texts}",
        f"{significant(text.perplexity.unquantized)} → {significant(text.perplexity.quantized)}",
        significant(text.kl_divergence),
        percent(text.top1_agreement),
        f"{quantity(sizes.unquantized, 'bytes')} → {quantity(sizes.quantized, 'bytes')}",
        f"{significant(weight.unquantized)} → {significant(weight.quantized)}",
    )


def _warnings(recovery: Recovery, under_load: float | None) -> list[str]:
    warnings = [recovery.warning] if recovery.warning else []
    if under_load is not None and under_load < ENOUGH:
        warnings.append(
            f"under load it keeps {percent(under_load)} of the unquantized variant's score, "
            f"under {round(ENOUGH * 100)} %"
        )
    return warnings
