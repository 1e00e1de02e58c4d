"""Random experiments: loads, objectives and prices around the values of a random run."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.fuzzed_runs.draws import RandomRun

SHARES = ("error_rate", "empty_rate", "length_share")


def write_experiment(run: RandomRun, typical: list[float]) -> None:
    """Writes the experiment, with limits near the drawn values so that all outcomes occur."""
    stages = [
        {"name": load.name, "requests": load.n, "warmup": "0s"}
        | ({"rate": load.rate} if load.rate is not None else {"concurrency": load.concurrency})
        for load in run.loads
    ]
    for stage in stages:
        if "rate" in stage and run.chance(0.05):
            stage |= {"bursts": {"on": "1s", "off": "1s"}}
    experiment: dict[str, Any] = {
        "name": "fuzzed",
        "model": "m",
        "data": {"prompt": "hi"},
        "variants": [
            {"name": name, "url": "http://127.0.0.1:1/v1", "model": "m"} for name in run.variants
        ],
        "baseline": "base",
        "workload": {"stages": stages, "blocks": run.blocks},
        "slo": _slo(run, typical),
        "quality": _quality(run),
    }
    if budget := _budget(run):
        experiment["budget"] = budget
    if run.chance(0.5):
        experiment["plan"] = {
            "peak_rate": run.pick(1.5, 30, 1000),
            "headroom": run.pick("0%", "20%", "99%"),
            "spare": run.pick(0, 1, 3),
        }
    if run.chance(0.2):
        experiment["until_decided"] = {"looks": 5}
    (run.folder / "experiment.yaml").write_text(json.dumps(experiment, indent=1))  # JSON is YAML
    kinds = {"base": "url", "tuned": run.pick("adapter", "merged", "url"), "int8": "quantized"}
    records = [
        {
            "name": name,
            "what": name,
            "prompt_style": "plain",
            "size_bytes": run.pick(None, 10**9),
            "kind": kinds[name],
        }
        for name in run.variants
    ]
    (run.folder / "variants.json").write_text(json.dumps(records))
    (run.folder / "environment.json").write_text(
        json.dumps({"hardware": {}, "versions": {}, "models": {}, "seeds": {}})
    )


def _slo(run: RandomRun, typical: list[float]) -> dict[str, str]:
    slo: dict[str, str] = {}
    for metric in ("latency", "ttft", "service_latency", "tpot", "itl"):
        if run.chance(0.3):
            statistic = run.pick("mean", "p50", "p90", "p95", "p99")
            near = (
                run.pick(*typical)
                * (
                    run.pick(1.2, 2.0, 4.0)
                    if run.calm
                    else run.pick(0.3, 0.7, 0.97, 1.0, 1.03, 1.5, 4.0)
                )
                * (0.02 if metric in ("tpot", "itl") else 1)
            )
            limit = f"{round(max(near, 0.01), run.pick(0, 1, 2, 3)) or 0.01:g}ms"
            slo[f"{metric}_{statistic}"] = run.pick(limit, limit, limit, "1.1x", "+5%", "2x")
    for metric in SHARES:
        if run.chance(0.25):
            slo[metric] = run.pick("0.1%", "1%", "3%", "25%", "0.5")
    timed = any(metric not in SHARES for metric in slo)
    for metric in ("goodput", "requests_per_s", "output_tokens_per_s"):
        if run.chance(0.2) and (timed or metric != "goodput"):
            slo[metric] = run.pick("0.5/s", "3/s", "60/min", "0.02k/s", "0.8x", "-5%", "1.2x")
    return slo


def _quality(run: RandomRun) -> dict[str, Any]:
    if run.chance(0.4):
        return {}
    experiment: dict[str, Any] = {"scorer": "exact_match"}
    if run.chance(0.6):
        experiment["min"] = run.pick("50%", "79.95%", "0.9", "100%", "0%")
    if run.chance(0.5):
        experiment["max_drop"] = run.pick("0%", "1%", "5%", "33.3%")
    return experiment


def _budget(run: RandomRun) -> dict[str, Any]:
    if run.chance(0.4):
        return {}
    price = run.pick(
        {"accelerator_hour": "$2.5"},
        {"accelerator_hour": "$0.07", "accelerators": 8},
        {"output_per_million": "$163"},
        {"input_per_million": "$1.2", "output_per_million": "$3.05"},
        {"input_per_token": "$0.0000001", "accelerator_hour": "$1"},
    )
    experiment: dict[str, Any] = {"price": price}
    if run.chance(0.7):
        experiment |= {"requests_per_month": run.pick("1k", "1M", "1000M")}
        if run.chance(0.8):
            experiment["per_month"] = run.pick(
                "$1.50", "$0.51", "$2", "$999.99", "$5000", "$123456"
            )
    if run.chance(0.5):
        experiment["max_increase"] = run.pick("0%", "15.5%", "20%", "200%")
    if run.chance(0.3):
        experiment["tuning"] = "$50"
    return experiment
