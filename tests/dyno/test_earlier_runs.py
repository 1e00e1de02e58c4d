"""A run directory that version 0.1.0 wrote is still read, and its numbers are the ones of then.

The figures below were written down from what 0.1.0 printed for `tests/data/run-0.1`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.dyno.stored_runs import dyno

STORED = Path(__file__).resolve().parent.parent / "data" / "run-0.1"
STAGE = "rate-0.4-of-merged"
DECISIONS = {"tuned": "DON'T SHIP", "merged": "SHIP", "int8": "SHIP"}
# Milliseconds, tokens, requests/s, shares and dollars.
METRICS = {
    "tuned": {
        "latency_p50": 4188.961, "latency_p90": 5878.813, "ttft_p50": 2851.943,
        "ttft_p90": 4395.149, "tpot_p50": 712.564, "requests_per_s": 0.66925, "goodput": 0.46011,
        "output_tokens_mean": 2.91346, "slo_attainment": 0.10577, "error_rate": 0.0,
        "slip_p90": 1.20148,
    },
    "merged": {
        "latency_p50": 187.1303, "latency_p90": 311.6109, "ttft_p50": 150.26995,
        "ttft_p90": 204.6061, "tpot_p50": 17.45968, "requests_per_s": 4.47558, "goodput": 4.35010,
        "output_tokens_mean": 2.90385, "slo_attainment": 1.0, "error_rate": 0.0,
        "slip_p90": 0.71904,
    },
    "int8": {
        "latency_p50": 141.6116, "latency_p90": 222.0397, "ttft_p50": 111.1782,
        "ttft_p90": 165.3572, "tpot_p50": 14.90044, "requests_per_s": 4.55924, "goodput": 4.35010,
        "output_tokens_mean": 2.91346, "slo_attainment": 1.0, "error_rate": 0.0,
        "slip_p90": 0.58242, "cache_hit_share": 0.3,
    },
}  # fmt: skip
# As printed.
SENTENCES = (
    "All 6 objectives hold; the tightest: quality is 84.6 % and keeps its limit (at least 75.0 %); "
    "at least 77.6 % with 95 % confidence",
    "Latency p90 is 5.88 s and breaks its limit (2.00 s); at least 4.28 s with 95 % confidence; "
    "1 more objective fails",
    "cost per month is \\$59.11 and keeps its limit (\\$500 a month); "
    "at most \\$61.02 with 95 % confidence (holds)",
    "4.55 requests/s offered, 4 blocks a variant, 23.9 s of steady load each. "
    "312 requests over 3 variants, 0 failed.",
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "news-topics"))


def test_the_report_has_the_numbers_of_then(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, printed, error = dyno(capsys, monkeypatch, "report", str(run))
    assert code == 0, printed + error
    summary = json.loads((run / "summary.json").read_text())
    variants = {variant["variant"]: variant for variant in summary["variants"]}
    assert list(variants) == ["tuned", "merged", "int8"]
    for name, figures in METRICS.items():
        (stage,) = variants[name]["stages"]
        assert (stage["stage"], stage["planned"], stage["succeeded"]) == (STAGE, 104, 104)
        assert {metric: stage["metrics"][metric]["value"] for metric in figures} == pytest.approx(
            figures, rel=1e-4
        )
        assert variants[name]["metrics"]["quality"]["value"] == pytest.approx(88 / 104)
        assert variants[name]["probes"]["general"]["value"] == pytest.approx(3 / 20)
    verdicts = json.loads((run / "verdict.json").read_text())
    assert {
        verdict["variant"]: verdict["decision"] for verdict in verdicts["variants"]
    } == DECISIONS
    assert verdicts["recommended"] == "int8"
    text = (run / "report.md").read_text()
    assert [sentence for sentence in SENTENCES if sentence not in text] == []


def test_the_plan_has_the_numbers_of_then(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, printed, error = dyno(capsys, monkeypatch, "plan", str(run))
    assert code == 0, printed + error
    plan = json.loads((run / "plan.json").read_text())
    assert (plan["peak_rate"], plan["headroom"], plan["spare"]) == (20.0, 0.2, 1)
    rows = [
        (row["variant"], row["rate_per_replica"], row["replicas"], row["cost_per_month"])
        for row in plan["variants"]
    ]
    # 20 requests/s and 20 % over 4.55 a replica are 6 replicas; 7 of 73 dollars with the spare.
    assert rows == [
        ("tuned", None, None, None),
        ("merged", 4.55, 7, pytest.approx(511)),
        ("int8", 4.55, 7, pytest.approx(511)),
    ]


def test_two_copies_are_compared(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy answers every third request of int8 wrongly."""
    after = Path(shutil.copytree(run, tmp_path / "after"))
    for journal in (after / "load" / "int8" / STAGE).iterdir():
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        for line in lines[1:-1:3]:
            line["text"] = "none"
        journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, printed, error = dyno(
        capsys, monkeypatch, "compare", "--gate", "--json", str(run), str(after)
    )
    assert code == 1, printed + error
    comparison = json.loads(printed)
    changes = {(change["variant"], change["metric"]): change for change in comparison["changes"]}
    assert [key for key, change in changes.items() if change["outcome"] == "worse"] == [
        ("int8", "quality")
    ]
    worse = changes["int8", "quality"]
    # Counted by hand: 88 of 104 answers are right, and 58 of those are not among the changed.
    assert worse["before"]["value"] == pytest.approx(88 / 104)
    assert worse["after"]["value"] == pytest.approx(58 / 104)
    assert comparison["environment"] == comparison["settings"] == comparison["missing"] == []
    assert changes["merged", "latency_p50"]["before"]["value"] == pytest.approx(187.1303, rel=1e-4)
