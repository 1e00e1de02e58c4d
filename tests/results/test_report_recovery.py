"""The section on what quantizing lost, from a run's `recovery.json` files."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from foundation.run.records import VariantRecord
from results.report import recovery
from results.report.page import html
from results.summary import Summary
from tests.results.drawn_run import BENCH
from tests.results.report_run import PROVENANCE, make_run, measured_of

SLOTS = {bench_variant.name: slot for slot, bench_variant in enumerate(BENCH)}
MERGED, INT8, NF4 = (next(m for m in BENCH if m.name == name) for name in ("merged", "int8", "nf4"))


WARNING = "recovery is low on 60 held-out tokens"


def recovery_section(share: float, layers: list[float]) -> dict[str, object]:
    both = {"unquantized": 12.5, "quantized": 12.75}
    text = {
        "tokens": 2000,
        "perplexity": both,
        "kl_divergence": 0.0123,
        "top1_agreement": 0.95,
        "probability": both,
    }
    return {
        "schema_version": 1, "texts": 20, "recovery": {"value": share, "low": share - 0.02,
            "high": share + 0.02},
        "all_text": text, "answers": {**text, "tokens": 60},
        "exact_answers": {"unquantized": 0.9, "quantized": 0.85},
        "layer_error": layers, "bytes": {"unquantized": 269e6, "quantized": 141e6},
        "bytes_per_weight": {"unquantized": 2.0, "quantized": 1.05},
        "warning": WARNING if share < 0.99 else None,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, str, str]:
    folder = tmp_path_factory.mktemp("run")
    summary, verdicts, plan = make_run(folder)
    without = html(folder, summary, verdicts, plan, PROVENANCE, measured_of(folder, summary))
    for name, share in ((INT8.name, 0.996), (NF4.name, 0.942)):
        checkpoint = folder / "checkpoints" / name
        checkpoint.mkdir(parents=True)
        (checkpoint / "recovery.json").write_text(
            json.dumps(recovery_section(share, [0.01, 0.02, 0.05]))
        )
    records = [
        VariantRecord(name=m.name, what=m.what, prompt_style=m.style)
        for m in BENCH
        if m not in (INT8, NF4)
    ]
    records += [
        VariantRecord(name=m.name, what=m.what, prompt_style=m.style, unquantized=MERGED.name)
        for m in (INT8, NF4)
    ]
    (folder / "variants.json").write_bytes(msgspec.json.encode(records))
    return (
        folder,
        summary,
        without,
        html(folder, summary, verdicts, plan, PROVENANCE, measured_of(folder, summary)),
    )


def test_the_section_is_there_only_where_something_was_measured(
    run: tuple[Path, Summary, str, str],
) -> None:
    _, _, without, page = run
    assert 'id="recovery"' not in without
    assert 'id="recovery"' in page
    assert 'href="#recovery"' in page
    assert "Relative error by layer" in page


def test_a_row_tells_both_models_numbers(run: tuple[Path, Summary, str, str]) -> None:
    section = recovery.section(run[0], run[1], SLOTS)
    assert section is not None
    assert [row.variant for row in section.rows] == [INT8.name, NF4.name]
    row = dict(zip(section.columns, section.rows[0].cells, strict=True))
    assert row["Recovery (95 % interval)"] == "99.60 % (97.6 % to 101.6 %)"
    assert row["Perplexity"] == "12.5 → 12.8"
    assert row["Greedy answers right"] == "90.0 % → 85.0 % of 20"
    assert row["Size"] == "269 MB → 141 MB"
    assert row["Bytes a weight"] == "2.00 → 1.05"


def test_under_99_per_cent_there_is_a_warning_on_text_and_under_load(
    run: tuple[Path, Summary, str, str],
) -> None:
    folder, summary, _, _ = run
    section = recovery.section(folder, summary, SLOTS)
    assert section is not None
    quality = {v.variant: v.metrics["quality"].value or 0.0 for v in summary.variants}
    kept = {name: quality[name] / quality[MERGED.name] for name in (INT8.name, NF4.name)}
    expected = [NF4.name] + [name for name, share in kept.items() if share < 0.99]
    assert sorted(name for name, _ in section.warnings) == sorted(expected)
    assert (NF4.name, WARNING) in section.warnings


def test_without_the_unquantized_variant_nothing_is_said_of_the_load(
    run: tuple[Path, Summary, str, str], tmp_path: Path
) -> None:
    (tmp_path / "checkpoints" / INT8.name).mkdir(parents=True)
    (tmp_path / "checkpoints" / INT8.name / "recovery.json").write_text(
        json.dumps(recovery_section(1.01, [0.1]))
    )
    section = recovery.section(tmp_path, run[1], SLOTS)
    assert section is not None
    assert dict(zip(section.columns, section.rows[0].cells, strict=True))["Under load"] == "—"
    assert section.warnings == []
