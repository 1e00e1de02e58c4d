"""Runs of variants with replicas: every rate, cost and model is that of one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from foundation.run.journal import Journal, read_journal
from foundation.run.records import JournalEnd, VariantRecord
from results.analysis import analyse
from results.capacity.model.engine_model import EngineModel
from results.capacity.model.models_of_run import engine_models
from results.capacity.model.replica_journals import replica_journals
from results.capacity.plan.capacity_plan import VariantCapacity
from results.capacity.plan.modelled_rates import modelled_rate
from results.capacity.plan.plan import plan_capacity
from results.capacity.simulation.replicas import Replicas
from results.config import Price
from results.summary import Summary
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts
from tests.results.synthetic_engine import (
    TRUE,
    Job,
    engine_lines,
    engine_start,
    ns,
    record_of,
    serve,
)
from tests.results.test_modelled_rates import demand, model
from tests.run_files import header, write_block, write_engine

PRICE = {"price": {"accelerator_hour": "$3.60", "accelerators": 2}, "requests_per_month": "1M"}
"""A replica has 2 accelerators at $3.60 an hour: $0.002 a second."""


def loaded(run: Path, replicas: int, stages: dict[str, tuple[float, float]]) -> Summary:
    """Two blocks of 100 requests a stage, at a rate (requests/s) with a latency (ms)."""
    write_prompts(run, {f"q{i}": "ok" for i in range(100)})
    for stage, (rate, latency) in stages.items():
        for block in (1, 2):
            records = [
                request(i, f"q{i}", i * 1000 / rate, latency + i % 7, 20, output_tokens=4)
                for i in range(100)
            ]
            write_journal(
                run,
                "base",
                block,
                records,
                stage=stage,
                offered_rate=rate,
                window_ms=(0, 100_000 / rate),
                replicas=replicas,
            )
    goals = Goals({"latency_p95": "200ms"}, budget=PRICE, plan={"peak_rate": "100/s"})
    return analyse(inputs(run, ["base"], goals))


def planned(run: Path, replicas: int, stages: dict[str, tuple[float, float]]) -> VariantCapacity:
    summary = loaded(run, replicas, stages)
    goals = Goals({"latency_p95": "200ms"}, budget=PRICE, plan={"peak_rate": "100/s"})
    return plan_capacity(summary, inputs(run, ["base"], goals)).variants[0]


def test_two_replicas_cost_as_much_as_two(tmp_path: Path) -> None:
    """10 requests/s of two replicas at $0.002 a second each: $0.0004 a request.

    99.x of 100 requests end in their window, so the cost is about 1 % above that.
    """
    one = loaded(tmp_path / "1", 1, {"main": (10, 50)}).variants[0].metrics
    two = loaded(tmp_path / "2", 2, {"main": (10, 50)}).variants[0].metrics
    assert one["cost_per_request"].value == pytest.approx(0.0002, rel=0.02)
    assert two["cost_per_request"].value == pytest.approx(0.0004, rel=0.02)
    for key in ("cost_per_request", "cost_per_million_output_tokens", "cost_per_month"):
        for end in ("value", "low", "high"):
            pair = getattr(one[key], end), getattr(two[key], end)
            assert pair[1] == pytest.approx(2 * pair[0]), (key, end)


def test_a_variant_with_twice_the_replicas_costs_twice_the_baseline(tmp_path: Path) -> None:
    """The same load on one replica and on two: 100 % more, in every pair of blocks."""
    loaded(tmp_path, 1, {"main": (10, 50)})
    for block in (1, 2):
        records = [
            request(i, f"q{i}", i * 100, 50 + i % 7, 20, output_tokens=4) for i in range(100)
        ]
        write_journal(tmp_path, "two", block, records, offered_rate=10, replicas=2)
    summary = analyse(inputs(tmp_path, ["base", "two"], Goals(budget=PRICE)))
    change = summary.variants[1].differences["cost_per_request"].relative
    assert change.value == pytest.approx(1.0)
    assert change.low == pytest.approx(1.0) and change.high == pytest.approx(1.0)


def test_what_two_replicas_hold_is_twice_what_one_does(tmp_path: Path) -> None:
    """5, 10 and 20 requests/s on two: one holds 5 and breaks at 10. 100 / (5 x 0.8) = 25, and a
    spare: 26 replicas of 2 accelerators at $3.60 an hour, 730 hours.
    """
    stages = {"main": (5.0, 100.0), "ten": (10.0, 150.0), "twenty": (20.0, 400.0)}
    plan = planned(tmp_path, 2, stages)
    assert (plan.rate_per_replica, plan.lower_bound, plan.replicas) == (5, False, 26)
    assert plan.cost_per_month == pytest.approx(26 * 2 * 3.60 * 730)
    assert plan.rate.high == 10 and "one replica holds 5 requests/s" in plan.sentence
    assert [point.rate for point in plan.points] == [2.5, 5, 10]
    alone = planned(tmp_path / "one", 1, stages)
    assert (alone.rate_per_replica, alone.replicas) == (10, 14)
    assert plan.merits is not None and plan.merits.requests_per_accelerator.low == 2.5
    goodput = [plan.points[1].metrics["goodput"].value, alone.points[1].metrics["goodput"].value]
    assert goodput[0] == pytest.approx(goodput[1] / 2)


def test_blocks_of_other_numbers_of_replicas_are_not_one_load(tmp_path: Path) -> None:
    loaded(tmp_path, 1, {"main": (10, 50)})
    records = [request(i, f"q{i}", i * 100, 50, 20) for i in range(100)]
    write_journal(tmp_path, "base", 2, records, offered_rate=10, replicas=2)
    [stage] = analyse(inputs(tmp_path, ["base"])).variants[0].stages
    assert stage.validity.level == "INVALID" and "replicas 1, 2" in str(stage.validity.reasons)
    assert stage.held is None


def mean_latency(rate: float, replicas: int, seed: int = 5) -> float:
    """Lindley's recursion, s: requests of 0.1 s, every n-th arrival at one of n replicas."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / (rate * replicas), (50_000, replicas)).sum(axis=1)
    wait, total = 0.0, 0.0
    for gap in gaps.tolist():
        wait = max(0.0, wait + 0.1 - gap)
        total += wait
    return total / len(gaps) + 0.1


def test_a_model_holds_more_on_each_replica_that_gets_every_second_request() -> None:
    """Arrivals in turns are more even than by chance: one of two holds more than one alone."""
    of_two = modelled_rate(model(), demand(), {"latency_mean": 150.0}, Replicas(2))
    assert of_two.rate.value and mean_latency(5.0, 1) == pytest.approx(0.15, rel=0.03)
    assert mean_latency(of_two.rate.value, 2) == pytest.approx(0.15, rel=0.03)
    assert of_two.rate.value > 1.15 * 5.0
    assert of_two.curve is not None and max(of_two.curve.rates) < 10
    goodput = of_two.curve.metrics["goodput"].value[0]
    assert goodput is not None and goodput <= of_two.curve.rates[0] * 1.1


RATE = 40.0


def two_engines(run: Path, router: str, with_records: bool, seconds: float = 10.0) -> EngineModel:
    """Every second request of 40 a second goes to the other engine; both are of one speed."""
    rng, origin = np.random.default_rng(1), 10**12
    arrivals = np.cumsum(rng.exponential(1 / RATE, round(RATE * seconds)))
    jobs = [Job(float(at), int(rng.integers(10, 300)), int(rng.integers(2, 60))) for at in arrivals]
    records = {}
    for replica in (0, 1):
        own = jobs[replica::2]
        steps = serve(own, TRUE, 0.03, replica + 1)
        written = engine_lines(own, steps, origin)
        keys = {
            f"{origin:016x}{i:016x}": f"{origin:016x}{2 * i + replica:016x}" for i in range(999)
        }
        renumbered = [
            msgspec.structs.replace(line, key=keys[line.key]) if hasattr(line, "key") else line
            for line in written
        ]
        if with_records:
            write_engine(run, f"v.replica-{replica + 1}", engine_start(), *renumbered)
        for place, job in enumerate(own):
            number = 2 * place + replica
            record = record_of(number, job, 0.2e-3, rng)
            known = replica + 1 if router == "round robin" else None
            records[number] = msgspec.structs.replace(record, replica=known)
    last = max(job.tokens[-1] for job in jobs)
    head = header(
        stage="main", clock="kernel", origin_monotonic_ns=origin, origin_unix_ns=origin,
        offered_rate=RATE, planned=len(jobs), window_end_ns=ns(seconds), replicas=2, router=router,
    )  # fmt: skip
    end = JournalEnd(end="complete", ended_ns=ns(last + 1), window_end_ns=ns(seconds))
    write_block(run, head, [records[i] for i in range(len(jobs))], end)
    fitted = engine_models(replace(inputs(run, ["v"]), judged_stage="main"))["v"]
    assert isinstance(fitted, EngineModel), fitted
    return fitted


@pytest.mark.parametrize(
    ("router", "with_records"),
    [("round robin", True), ("vllm-router", True), ("round robin", False)],
)
def test_the_model_of_an_engine_is_found_behind_a_router(
    tmp_path: Path, router: str, with_records: bool
) -> None:
    """As from one engine: its steps, the time around it, and the rate that each of them had."""
    found = two_engines(tmp_path, router, with_records)
    load = np.array([1, 4, 50, 700, 0])
    assert found.source == ("engine record" if with_records else "kernel stamps")
    assert found.steps.coefficients @ load == pytest.approx(float(TRUE @ load), rel=0.04)
    assert found.fitted.rate == pytest.approx(RATE / 2, rel=0.15)
    assert found.front.per_request < 6e-3


def test_stamps_behind_a_router_are_of_no_engine_that_is_known(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="vllm-router chose the replica of each request"):
        two_engines(tmp_path, "vllm-router", with_records=False, seconds=1.0)


def test_a_replicas_journal_has_its_share_of_the_load(tmp_path: Path) -> None:
    records = [request(i, "q", i * 100, 50, 20) for i in range(10)]
    records = [msgspec.structs.replace(r, replica=r.id % 2 + 1) for r in records]
    file = write_journal(tmp_path, "v", 1, records, concurrency=7, replicas=2)
    whole = read_journal(file)
    assert isinstance(whole, Journal)
    parts = replica_journals(whole)
    assert not isinstance(parts, str)
    assert [part.requests.id.tolist() for part in parts] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    assert [(p.header.concurrency, p.header.replicas, p.header.router) for p in parts] == [
        (3, 1, None),
        (3, 1, None),
    ]


def test_each_variant_pays_for_the_accelerators_of_its_own_servers(tmp_path: Path) -> None:
    """One server of 4 accelerators against 2 of one, each at 10 requests/s and $3.60 an hour.

    $0.004 and $0.002 a second: $0.0004 and $0.0002 a request. One holds 10 requests/s, of the other
    each server 5: 100 / (10 x 0.8) = 12.5, so 14 x 4 accelerators; 26 x 1.
    """
    write_prompts(tmp_path, {f"q{i}": "ok" for i in range(100)})
    for variant, replicas in (("deep", 1), ("wide", 2)):
        for block in (1, 2):
            records = [
                request(i, f"q{i}", i * 100, 50 + i % 7, 20, output_tokens=4) for i in range(100)
            ]
            write_journal(tmp_path, variant, block, records, offered_rate=10, replicas=replicas)
    variants = [
        VariantRecord(name="deep", what="", prompt_style="short", accelerators=4),
        VariantRecord(name="wide", what="", prompt_style="short", accelerators=1),
    ]
    price: dict[str, object] = {"price": {"accelerator_hour": "$3.60"}}
    goals = Goals({"latency_p95": "200ms"}, budget=price, plan={"peak_rate": "100/s"})
    asked = inputs(tmp_path, variants, goals)
    summary = analyse(asked)
    costs = [each.metrics["cost_per_request"].value for each in summary.variants]
    assert costs == [pytest.approx(0.0004, rel=0.02), pytest.approx(0.0002, rel=0.02)]
    change = summary.variants[1].differences["cost_per_request"].relative
    assert change.value == pytest.approx(-0.5)
    plan = plan_capacity(summary, asked)
    peaks = [each.peak for each in plan.variants]
    assert [(p.replicas, p.accelerators) for p in peaks if p] == [(14, 56), (26, 26)]
    assert [each.cost_per_month for each in plan.variants] == [
        pytest.approx(56 * 3.60 * 730),
        pytest.approx(26 * 3.60 * 730),
    ]
    assert plan.recommended == "wide"
    written = Price.model_validate({"accelerator_hour": "$1", "accelerators": 8})
    assert (written.accelerators_of(4), written.accelerators_of(None)) == (8, 8)
    left_out = Price.model_validate({"accelerator_hour": "$1"})
    assert (left_out.accelerators_of(4), left_out.accelerators_of(None)) == (4, 1)
