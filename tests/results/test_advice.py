"""Advice is a plan: its lines make a valid experiment, and the largest expected effect is first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from dyno.experiment.schema import Experiment
from foundation.run.records import PLAIN, VariantRecord
from results.analysis import analyse
from results.decision.verdict import judge
from results.summary import Advice, VariantVerdict
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

EXPERIMENT = """
name: pasted
model: org/model
data: {train: train.jsonl, eval: eval.jsonl}
prompts: {short: "{input}"}
finetune: {prompt: short}
variants: [{name: base}, {name: tuned, prompt: short, adapter: finetune}]
baseline: base
workload: {stages: [{rate: 10, requests: 90}], blocks: 4}
"""


def pasted(change: str) -> dict[str, Any]:
    """The experiment with an advice's lines: variants are added, everything else is replaced."""

    def merged(old: Any, new: Any) -> Any:
        if isinstance(old, dict) and isinstance(new, dict):
            return old | {key: merged(old.get(key), value) for key, value in new.items()}
        return new

    lines = yaml.safe_load(change)
    experiment = yaml.safe_load(EXPERIMENT)
    lines["variants"] = experiment["variants"] + lines.get("variants", [])
    return merged(experiment, lines)


def verdicts_on(
    run: Path, kind: str, asked: Goals, style: str = "short", weight_bits: int | None = None
) -> VariantVerdict:
    """A tuned variant that is worse than its baseline in latency, tokens, score and failures."""
    write_prompts(run, {f"q{i}": "yes" for i in range(90)})
    for block in range(1, 5):
        for variant, slow, right in (("base", 1.0, 80), ("tuned", 4.0, 40)):
            records = [
                request(i, f"q{i}", 100 * i, 100 * slow * (1 + i % 7 / 100), 60 * slow,
                    output_tokens=round(5 * slow), text="yes" if i < right else "no",
                    failure="http_5xx" if slow > 1 and i % 13 == 0 else None)
                for i in range(90)
            ]  # fmt: skip
            write_journal(run, variant, block, records)
    tuned = VariantRecord(
        name="tuned",
        what=kind,
        prompt_style=style,
        kind=kind,  # type: ignore[arg-type]
        weight_bits=weight_bits,
    )
    asked_of = inputs(run, ["base", tuned], asked)
    return judge(analyse(asked_of), asked_of).variants[1]


ASKED = {
    "latency": Goals({"latency_p90": "150ms"}),
    "first token": Goals({"ttft_p90": "80ms"}),
    "speed per token": Goals({"tpot_p90": "1ms"}),
    "failures": Goals({"error_rate": "1%"}),
    "quality": Goals({}, {"min": "80%"}),
    "quality lost": Goals({}, {"max_drop": "1%"}),
    "token prices": Goals({}, {}, {"price": {"output_per_token": "$0.001"}, "max_increase": "10%"}),
    "hourly price": Goals(
        {},
        {},
        {"price": {"accelerator_hour": "$2"}, "per_month": "$1", "requests_per_month": "100M"},
    ),
    "not settled": Goals({"error_rate": "9%"}),
}


@pytest.mark.parametrize("kind", ["model", "adapter", "merged", "quantized", "url"])
@pytest.mark.parametrize("asked", ASKED)
def test_what_is_to_be_pasted_is_valid_and_every_figure_has_a_source(
    tmp_path: Path, kind: str, asked: str
) -> None:
    verdict = verdicts_on(tmp_path, kind, ASKED[asked], style=PLAIN if kind == "model" else "short")
    assert verdict.decision != "SHIP"
    assert verdict.advice or kind in ("model", "url")  # of which nothing was tuned here
    for advice in verdict.advice:
        assert all((advice.remedy, advice.why, advice.effect, advice.source))
        if advice.change is not None:
            Experiment.model_validate(pasted(advice.change))


def remedies(verdict: VariantVerdict) -> list[str]:
    return [advice.remedy.split(":")[0] for advice in verdict.advice]


def test_each_binding_objective_has_its_own_remedies(tmp_path: Path) -> None:
    slow = remedies(verdicts_on(tmp_path / "a", "adapter", ASKED["latency"]))
    for remedy in (
        "Merge",
        "Quantize",
        "Limit the answer",
        "Prune layers",
        "Distil",
        "Tune the engine",
        "Shorten the prompt",
    ):
        assert any(found.startswith(remedy) for found in slow), remedy
    assert "Find out why requests fail with http_5xx" in remedies(
        verdicts_on(tmp_path / "b", "adapter", ASKED["failures"])
    )
    lost = remedies(verdicts_on(tmp_path / "c", "quantized", ASKED["quality lost"]))
    assert lost[:2] == ["Quantize less", "Tune more gently"]
    assert remedies(verdicts_on(tmp_path / "d", "merged", ASKED["not settled"]))[:2] == [
        "Keep base, the baseline, for now",
        "Measure longer",
    ]


def test_eight_bits_are_advised_for_four_alone(tmp_path: Path) -> None:
    """A run made before bits were recorded gets the advice that is less whatever it has."""

    def less(bits: int | None) -> Advice:
        run = tmp_path / str(bits)
        return verdicts_on(run, "quantized", ASKED["quality lost"], weight_bits=bits).advice[0]

    assert "w8a8-int8" in (less(4).change or "")
    assert "quantize" not in (less(8).change or "")
    assert "quantize" not in (less(None).change or "")
    assert msgspec.to_builtins(less(8))["source"]


def failing(
    run: Path, failure: str, share: int, took_ms: float, asked: Goals, growing: float = 0.0
) -> VariantVerdict:
    """A `share` of the requests fails with this class after so long.

    `growing`: ms by which each answer takes longer than the one before.
    """
    for block in range(1, 5):
        records = [
            msgspec.structs.replace(
                request(i, "q", 100 * i, took_ms, failure=failure), error="said so"
            )
            if i % share == 0
            else request(i, "q", 100 * i, 50 + growing * i)
            for i in range(90)
        ]
        write_journal(run, "base", block, records)
    asked_of = inputs(run, ["base"], asked)
    return judge(analyse(asked_of), asked_of).variants[0]


ERRORS = Goals({"error_rate": "1%"})


def test_requests_refused_at_once_are_no_reason_for_more_hardware(tmp_path: Path) -> None:
    verdict = failing(tmp_path, "http_4xx", 5, 3, ERRORS)
    assert remedies(verdict) == ["Find out why requests fail with http_4xx"]
    assert "said so" in verdict.advice[0].why


def test_a_server_that_falls_behind_needs_more_of_it(tmp_path: Path) -> None:
    verdict = failing(tmp_path, "timeout_first", 5, 3000, ERRORS, growing=40)
    assert "Serve it with more replicas" in remedies(verdict)
    why = next(a.why for a in verdict.advice if a.remedy.startswith("Serve"))
    assert "does not keep up: its queue grows" in why


def test_an_answer_that_was_read_wrongly_is_not_the_servers_fault(tmp_path: Path) -> None:
    verdict = failing(tmp_path, "malformed", 2, 3, ERRORS)
    assert len(verdict.advice) == 1
    assert (
        "server's log" not in verdict.advice[0].effect
        and "reads it wrongly" in verdict.advice[0].effect
    )


def test_what_more_data_can_not_settle_is_not_told_to_be_measured_longer(tmp_path: Path) -> None:
    """Too many failures for a p95, a value on its limit, answers without references."""
    half = failing(tmp_path / "a", "http_5xx", 2, 3, Goals({"latency_p90": "300ms"}))
    assert remedies(half) == ["Find out why requests fail with http_5xx"]
    on = failing(tmp_path / "b", "reset", 1000, 3, Goals({"latency_p50": "50ms"}))
    assert on.decision == "SHIP" or "Measure longer" not in remedies(on)
    unscored = failing(tmp_path / "c", "reset", 1000, 3, Goals({}, {"min": "50%"}))
    assert "Give the prompts that are asked a reference each" in remedies(unscored)
    assert "Measure longer" not in remedies(unscored)


def test_measuring_longer_names_the_blocks_that_settle_it(tmp_path: Path) -> None:
    for block in range(1, 5):
        write_journal(
            tmp_path,
            "base",
            block,
            [request(i, "q", 100 * i, 50 + 10 * block + i) for i in range(90)],
        )
    asked_of = inputs(tmp_path, ["base"], Goals({"latency_mean": "130ms"}))
    verdict = judge(analyse(asked_of), asked_of).variants[0]
    [objective] = verdict.objectives
    assert (
        objective.more is not None
        and objective.more.unit == "blocks"
        and objective.more.total is not None
    )
    assert verdict.advice[0].remedy == "Measure longer"
    assert verdict.advice[0].change == f"workload:\n  blocks: {objective.more.total}"
    assert f"about {objective.more.total - 4} more blocks" in objective.sentence
