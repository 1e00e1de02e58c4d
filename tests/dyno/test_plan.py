"""`dyno plan` of stored runs: its options, its answers, and what it refuses."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console

from dyno.experiment.loading import load_experiment
from dyno.pipeline.audit import audit_stage, audited
from dyno.pipeline.capacity import busiest_rates, with_traffic
from dyno.pipeline.decide import run_inputs
from dyno.terminal.capacity import show_capacity
from foundation.errors import BadInput
from foundation.run.layout import RunDirectory
from loadgen.config import WorkloadConfig
from results.capacity.plan.capacity_plan import Audit
from results.config import PlanConfig
from results.summary import Estimate, Validity
from tests.dyno.stored_runs import StoredRun, dyno
from tests.results.drawn_plan import drawn_plan

SECTIONS = (
    "slo: {latency_p95: 300ms}\nbudget: {price: {accelerator_hour: $2}}\n"
    "plan: {peak_rate: 100, spare: 0, headroom: 50%}"
)
Plan = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a` answers in 200 ms and holds 10 and 20 requests/s; `b` takes 400 ms and holds neither."""
    run = StoredRun(
        variants=("a", "b"),
        stages={"main": 10.0, "fast": 20.0},
        blocks=3,
        requests=100,
        latencies={"b": 400.0},
        sections=SECTIONS,
    )
    return run.write(tmp_path_factory.mktemp("planned") / "run")


@pytest.fixture
def plan(
    stored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Plan]:
    """`dyno plan` of the stored run; the experiment is put back as it was."""
    written = (stored / "experiment.yaml").read_text()
    yield lambda *options: dyno(capsys, monkeypatch, "plan", str(stored), *options)
    (stored / "experiment.yaml").write_text(written)


def of(stored: Path, name: str) -> dict[str, object]:
    variants = json.loads((stored / "plan.json").read_text())["variants"]
    return next(each for each in variants if each["variant"] == name)


def test_all_variants_stand_side_by_side_and_one_is_recommended(plan: Plan, stored: Path) -> None:
    """100 / (20 x 0.5) = 10 replicas of $2 x 730."""
    code, printed, _ = plan()
    assert code == 0
    assert "a: 10 replicas (10 accelerators) for 100 requests/s, $14,600 a month" in printed
    assert of(stored, "a")["cost_per_month"] == 14_600
    assert of(stored, "b")["replicas"] is None
    code, printed, _ = plan("--json")
    assert json.loads(printed) == json.loads((stored / "plan.json").read_text())


def test_options_take_the_place_of_the_sections_keys(plan: Plan, stored: Path) -> None:
    assert plan("--peak-rate", "40/s")[0] == 0
    assert of(stored, "a")["replicas"] == 4
    assert plan("--headroom", "0", "--spare", "2", "--burst", "1.5")[0] == 0
    assert of(stored, "a")["replicas"] == 10  # 150 / 20 = 7.5, and two spare


def test_questions_are_answered_beside_the_plan(plan: Plan, stored: Path) -> None:
    code, printed, _ = plan(
        "--what-if", "rate*2", "--what-if", "replicas=4", "--what-if", "slo.latency_p95=100ms",
        "--what-if", "output_tokens*2", "--what-if", "price*0.5, headroom=0",
    )  # fmt: skip
    assert code == 0
    answers = json.loads((stored / "plan.json").read_text())["what_if"]
    rows = [answer["variants"][0] for answer in answers]
    assert rows[0]["peak"]["replicas"] == 20
    assert (rows[1]["peak"]["replicas"], rows[1]["holds"]) == (4, "unsettled")
    assert rows[2]["peak"] is None
    assert "is held within the SLO" in rows[2]["reason"]
    assert rows[3]["peak"] is None
    assert "the run measured other requests than these" in rows[3]["reason"]
    assert (rows[4]["peak"]["replicas"], rows[4]["peak"]["cost_per_hour"]) == (5, 5)
    assert "what if rate*2" in printed


def test_a_plan_from_nothing_is_refused(plan: Plan, stored: Path) -> None:
    file = stored / "experiment.yaml"
    written = file.read_text()
    for slo, words in (
        ("{latency_p95: 1ms}", "none of the measured rates (10, 20 requests/s) is held"),
        ("{}", "the experiment names no slo"),
    ):
        file.write_text(written.replace("{latency_p95: 300ms}", slo))
        code, _, error = plan()
        assert (code, words in error) == (3, True), error
        assert of(stored, "a")["replicas"] is None


def test_without_a_price_there_is_no_cost_and_the_plan_says_so(plan: Plan, stored: Path) -> None:
    file = stored / "experiment.yaml"
    file.write_text(file.read_text().replace("budget: {price: {accelerator_hour: $2}}\n", ""))
    code, printed, _ = plan()
    assert code == 0
    assert "no cost: the experiment names no price" in printed
    assert of(stored, "a")["cost_per_month"] is None


def test_a_catalogue_scales_and_its_mistakes_are_named(
    plan: Plan, stored: Path, tmp_path: Path
) -> None:
    file = tmp_path / "accelerators.yaml"
    text = (Path(__file__).parents[2] / "examples" / "accelerators.yaml").read_text()
    file.write_text(text)
    code, printed, _ = plan("--catalogue", str(file))
    assert code == 0
    assert "estimates for hardware that was not measured" in printed
    scaled = json.loads((stored / "plan.json").read_text())["scaled"]
    assert {row["accelerator"] for row in scaled} == {"L40S", "H200", "A100"}
    assert of(stored, "a")["cost_per_month"] == 10 * 2.5 * 730
    file.write_text(text.replace("price_hour: $1.00", "pric_hour: $1.00"))
    code, _, error = plan("--catalogue", str(file))
    assert code == 3
    assert "unknown key (did you mean 'price_hour'?)" in error
    assert f"{file}:7:" in error
    assert plan("--catalogue", str(tmp_path / "none.yaml"))[0] == 3


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('{"at": 5}\n{"at": 1}\n', "sort the lines by time"),
        ('{"at": 5}\n{"at": 5}\n', "all arrivals come at one moment"),
        ("", "no arrivals"),
        (
            '{"at": 1, "output_tokens": 5}\n{"at": 5, "output_tokens": 0}\n',
            ":2: zero input or output",
        ),
    ],
)
def test_a_trace_without_a_rate_is_refused(
    plan: Plan, tmp_path: Path, lines: str, words: str
) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text(lines)
    code, _, error = plan("--trace", str(file))
    assert (code, words in error) == (3, True), error


def test_a_trace_is_planned_part_by_part(plan: Plan, stored: Path, tmp_path: Path) -> None:
    """A request a second for 24 minutes, ten in the sixth: 10 / (20 x 0.5) = 1 replica."""
    times = [*range(1440), *(300 + i / 9 for i in range(540))]
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(f'{{"at": {at}}}\n' for at in sorted(times)))
    code, printed, error = plan("--trace", str(file), "--startup", "30s")
    assert code == 0, error
    written = json.loads((stored / "plan.json").read_text())
    assert written["peak_rate"] == pytest.approx(10, rel=0.05)
    assert written["mean_rate"] == pytest.approx(1980 / 1439)
    parts = of(stored, "a")["day"]["parts"]
    assert len(parts) == 24
    assert "replica-hours" in printed


def test_the_busiest_minute_counts() -> None:
    """120 arrivals in the last minute of the first part, one every minute else."""
    times = np.sort(np.concatenate([np.arange(0, 7200, 60.0), np.linspace(3500, 3559, 119)]))
    first, second = busiest_rates(times, 7200, 2)
    assert first == pytest.approx(2.0)
    assert second == pytest.approx(1 / 60)


def test_a_peak_below_the_traces_own_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text("".join(f'{{"at": {at}}}\n' for at in range(600)))
    with pytest.raises(BadInput, match=r"peak_rate: 0\.5 is below"):
        with_traffic(PlanConfig.model_validate({"trace": file, "peak_rate": 0.5}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--peak-rate", "0"), "--peak-rate: write a rate above zero"),
        (("--burst", "0.5"), "--burst: "),
        (("--what-if", "speed*2"), "'speed' can't be changed"),
        (("--mean-rate", "500"), "--peak-rate: below the mean_rate"),
    ],
)
def test_wrong_options_are_named(plan: Plan, options: tuple[str, ...], words: str) -> None:
    code, _, error = plan(*options)
    assert (code, words in error) == (3, True), error


def audit_of(expected: dict[str, Estimate]) -> Audit:
    return Audit(
        variant="a",
        rate=25.0,
        expected_outcome="holds",
        expected=expected,
        source="measured",
        sentence="",
        limits={"latency_p95": 300.0},
    )


def test_an_audit_is_as_long_as_its_percentile_needs() -> None:
    """A p99 needs 1,000 requests, five times the 200 of p95; arrivals are those of the run."""
    workload = WorkloadConfig.model_validate(
        {
            "stages": [{"rate": 5, "requests": 9, "arrivals": "gamma", "burstiness": 4}],
            "blocks": 5,
        }
    )
    known = Estimate(value=100)
    stage = audit_stage(workload, audit_of({"latency_p95": known}))
    assert (stage.rate, stage.requests, stage.burstiness) == (25.0, 50, 4)
    assert audit_stage(workload, audit_of({"latency_p99": known})).requests == 250
    closed = WorkloadConfig.model_validate({"stages": [{"concurrency": 4, "requests": 9}]})
    assert audit_stage(closed, audit_of({"latency_mean": known})).arrivals == "poisson"


def test_an_audits_journals_stand_beside_what_was_expected(
    plan: Plan, stored: Path, tmp_path: Path
) -> None:
    """An audit at 25 requests/s takes 400 ms instead of 200 to 300: the plan counts it."""
    folder = tmp_path / "audits" / "1"
    taken = StoredRun(stages={"audit": 25.0}, blocks=3, requests=100, latency=400.0, seed=7)
    taken.write(folder)
    experiment = load_experiment(stored / "experiment.yaml")
    inputs = run_inputs(RunDirectory(stored), experiment)
    expected = {"latency_p95": Estimate(value=250, low=200, high=300)}
    audit = audited(audit_of(expected), RunDirectory(folder), inputs, {"latency_p95": 300.0})
    assert (audit.outcome, audit.inside) == ("fails", {"latency_p95": False})
    assert "not as planned" in audit.sentence
    file = stored / "plan.json"
    file.write_bytes(msgspec.json.encode({"audits": [audit]}))
    assert plan()[0] == 0
    assert of(stored, "a")["rate"]["high"] == 25.0
    assert plan()[0] == 0
    kept = json.loads(file.read_text())["audits"]
    assert [each["outcome"] for each in kept] == ["fails", None]
    assert plan("--what-if", "slo.latency_p95=500ms")[0] == 0
    other = json.loads(file.read_text())["what_if"][0]["variants"][0]
    assert other["rate"]["high"] is None
    file.write_text("{")
    code, _, error = plan()
    assert (code, "it holds the audits of this run" in error) == (3, True)
    file.unlink()


def test_the_terminal_says_what_bears_on_the_recommended_variant_and_counts_the_rest() -> None:
    drawn = drawn_plan()
    best = drawn.recommended
    assert best is not None and len(drawn.variants) == 5
    named = [replace(v, notes=[f"of {v.variant} alone", "of all"]) for v in drawn.variants]
    bounded = [replace(v, lower_bound=v.variant == best, contradiction=None) for v in named]
    validity = Validity(
        level="SUSPECT", reasons=[f"{v.variant}, rate-4: SUSPECT: late" for v in drawn.variants]
    )
    shown = io.StringIO()
    plan = replace(drawn, variants=bounded, validity=validity, notes=["of the plan"])
    show_capacity(Console(file=shown, width=140), plan, Path("runs/x/plan.json"))
    printed = shown.getvalue()
    for line in ("of the plan", "of all", f"{best}: of {best} alone", f"{best}, rate-4: SUSPECT"):
        assert printed.count(f"  {line}") + printed.count(f": {line}") == 1, printed
    others = [v.variant for v in drawn.variants if v.variant != best]
    assert not any(f"of {name} alone" in printed or f"{name}, rate" in printed for name in others)
    assert "8 more of variants that are not recommended" in printed
    assert "all of it: runs/x/plan.json" in printed
    assert f"≥: more may be held, by {best}: no rate is known to break the SLO." in printed


def test_what_is_planned_for_is_said_in_the_numbers_that_were_written(plan: Plan) -> None:
    assert "For a peak of 100 requests/s, with 50 % of every replica kept free" in plan()[1]
