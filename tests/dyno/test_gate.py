"""`--gate` on a stored run passes only for a variant that ships; CI fails for everything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.dyno.stored_runs import StoredRun, dyno

SLO = "slo: {latency_p95: 400ms}"
ALONE = StoredRun(sections=SLO)
TWO = replace(ALONE, variants=("a", "b"))
CASES: dict[str, tuple[StoredRun, int, str]] = {
    "a variant ships": (TWO, 0, "gate: open: Ship b"),
    "the baseline is too slow, a variant ships": (
        replace(TWO, latencies={"a": 900.0}),
        0,
        "gate: open: Ship b",
    ),
    "a variant breaks its limit": (replace(TWO, latencies={"b": 900.0}), 1, "(b: DON'T SHIP)"),
    "a variant is not settled": (
        replace(TWO, sections="slo: {error_rate: 0.5%}"),
        2,
        "(b: INCONCLUSIVE)",
    ),
    "a variant passes, and the baseline is better": (
        replace(
            TWO,
            sections=f"{SLO}\nquality: {{min: 50%}}",
            answers={"b": lambda i: "no" if i % 5 == 0 else "yes"},
        ),
        1,
        "shut (exit code 1): Keep a",
    ),
    "both break their limit": (replace(TWO, latency=900.0), 1, "No variant may ship"),
    "the only variant passes": (ALONE, 0, "gate: open: Keep a"),
    "the only variant breaks its limit": (
        replace(ALONE, latency=900.0),
        1,
        "gate: shut (exit code 1)",
    ),
    "a percentile under its floor": (
        replace(ALONE, sections="slo: {latency_p99: 2s}"),
        2,
        "(a: INCONCLUSIVE)",
    ),
    "nothing is asked": (
        replace(TWO, sections=""),
        2,
        "nothing was asked; write slo, quality or budget",
    ),
    "sent late": (replace(ALONE, slip=30.0), 2, "gate: shut (exit code 2)"),
    "another stage sent late": (
        replace(TWO, stages={"main": 10.0, "high": 20.0}, slips={"high": 30.0}),
        2,
        "INVALID: a, high: the load generator sent late",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_gate_and_ci_agree(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, code, says = CASES[case]
    run = made.write(tmp_path / "run")
    got, text, error = dyno(capsys, monkeypatch, "report", str(run), "--gate")
    assert got == code, text + error
    assert says in text.splitlines()[-1], text
    root = ElementTree.parse(run / "junit.xml").getroot()
    of_candidates = list(root)[-1]
    red = of_candidates.findall("testcase/failure") + of_candidates.findall("testcase/error")
    if case == "another stage sent late":  # the baseline's: its suite is red
        red = root.findall("testsuite[@name='a']/testcase/error")
    # A candidate that passes is green, though a better baseline stays: that is the gate's to say.
    assert bool(red) == (code != 0 and case != "a variant passes, and the baseline is better")
