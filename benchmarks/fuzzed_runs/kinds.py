"""What newer runs have: replicas, several machines, own settings, days and searches.

They are drawn by a generator of their own and written into a run that is there already.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.fuzzed_runs.draws import RandomRun
from benchmarks.fuzzed_runs.files import Json

SECOND = 1_000_000_000
ROUTERS = ("round robin", "vllm-router")


def add_kinds(run: RandomRun) -> None:
    """Adds the newer kinds, each to some runs. `run`: the folder and a generator."""
    experiment = json.loads((run.folder / "experiment.yaml").read_text())
    records = json.loads((run.folder / "variants.json").read_text())
    if run.chance(0.6):
        _replicas(run, experiment)
    if run.chance(0.25):
        _machines(run)
    for record, variant in zip(records, experiment["variants"], strict=True):
        if run.chance(0.4):
            record["accelerators"] = run.pick(None, 1, 2, 8)
        if run.chance(0.15):
            variant["sampling"] = {"max_tokens": run.pick(1, 16)}
        if run.chance(0.3):
            seqs = run.pick(16, 64)
            record["settings"] = {"serve.engine.max-num-seqs": str(seqs)}
            _serve(variant, engine={"max-num-seqs": seqs})
    if "plan" in experiment:
        _traffic(run, experiment)
        if run.chance(0.3) and (search := _search(run, experiment)):
            (run.folder / "search.json").write_text(json.dumps(search))
    (run.folder / "experiment.yaml").write_text(json.dumps(experiment, indent=1))
    (run.folder / "variants.json").write_text(json.dumps(records))


def _serve(variant: Json, **keys: Any) -> None:
    """Lets dyno serve the variant, with these keys."""
    for key in ("url", "model"):
        variant.pop(key, None)
    variant["serve"] = {**variant.get("serve", {}), **keys}


def _replicas(run: RandomRun, experiment: Json) -> None:
    same, router = run.pick(1, 2, 3), run.pick(*ROUTERS)
    for variant in experiment["variants"]:
        count = same if run.chance(0.6) else run.pick(1, 2, 3, 8)
        if count == 1:
            continue
        name = variant["name"]
        if router == "round robin" and run.chance(0.5):
            variant["url"] = [f"http://127.0.0.1:{n}/v1" for n in range(1, count + 1)]
        else:
            _serve(variant, replicas=count, router=router.replace(" ", "-"))
        odd = run.chance(0.04)  # one block of another number of replicas
        blocks: list[int] = []

        def told(
            header: Json, count: int = count, odd: bool = odd, blocks: list[int] = blocks
        ) -> Json:
            blocks.append(header["block"])
            own = count + 1 if odd and len(blocks) == 1 else count
            return header | {"replicas": own, "router": router}

        def served(record: Json, count: int = count) -> Json:
            by_turn = record["id"] % count + 1
            return record | ({"replica": by_turn} if router == "round robin" else {})

        edit_journals(run, name, told, served)


def _machines(run: RandomRun) -> None:
    """All blocks sent by several machines, whose clocks may lie apart, or nobody knows."""
    count, bound = run.pick(2, 3, 8), run.pick(0, 1000, 40_000_000, None)

    def told(header: Json) -> Json:
        return header | {"machines": count, "workers": count * 2, "clock_bound_ns": bound}

    edit_journals(run, "*", told, lambda record: record)


def _traffic(run: RandomRun, experiment: Json) -> None:
    plan = experiment["plan"]
    peak = float(plan["peak_rate"])
    if run.chance(0.3):
        plan["burst"] = run.pick(1, 1.5, 3)
    if run.chance(0.3):
        plan["startup"] = run.pick("0s", "90s", "1h", "30h")
    kind = run.pick("none", "mean", "day", "trace")
    if kind == "mean":
        plan["mean_rate"] = run.pick(0.3, 1.0) * peak
    if kind == "day":
        parts = run.pick(24, 25, 48)
        plan["day"] = [round(float(run.rng.random()) * peak, 3) for _ in range(parts)]
        plan["day"][0] = 0
        if run.chance(0.5):
            del plan["peak_rate"]
        if run.chance(0.3):
            plan["day_hours"] = run.pick(1, 12.5, 168)
    if kind == "trace":
        times = sorted(float(t) for t in run.rng.uniform(0, run.pick(30, 7200, 90000), 300))
        (run.folder / "traffic.jsonl").write_text(
            "".join(json.dumps({"at": at}) + "\n" for at in times)
        )
        plan["trace"] = "traffic.jsonl"
        del plan["peak_rate"]


def _search(run: RandomRun, experiment: Json) -> Json | None:
    """The record of a search, with a journal for each probe; None where nothing is limited."""
    slo = {
        key: limit
        for key, limit in experiment["slo"].items()
        if limit.endswith("ms") or key in ("error_rate", "empty_rate", "length_share")
    }
    if not slo or slo.keys() != experiment["slo"].keys():
        return None
    variants = []
    for variant in experiment["variants"]:
        replicas = run.pick(1, 1, 2, 3)
        holds = run.pick(None, 0.5, 4.25, 20.0)
        fails = run.pick(None, 1.3 * (holds or 1.0))
        rates = sorted({rate for rate in (holds, fails) if rate}) or [1.0]
        probes = [
            _probe(run, variant["name"], number, rate, slo)
            for number, rate in enumerate(rates, start=1)
        ]
        variants.append(
            {
                "variant": variant["name"],
                "holds": holds,
                "fails": fails,
                "resolved": holds is not None and fails is not None,
                "sentence": "as drawn",
                "prior_low": None,
                "prior_high": None,
                "identity": "",
                "probes": probes,
                "replicas": replicas,
            }
        )
    return {
        "schema_version": 1,
        "name": experiment["name"],
        "slo": slo,
        "max_rate": 1000.0,
        "confidence": 0.95,
        "notes": [],
        "variants": variants,
    }


def _probe(run: RandomRun, variant: str, number: int, rate: float, slo: Json) -> Json:
    """A probe's record. Its journal is the copy of a block, at another rate."""
    stage = f"search-{number:02d}"
    blocks = sorted((run.folder / "load" / variant).glob("rate-*/block-*.jsonl"))
    if blocks and (lines := blocks[0].read_text().splitlines()):
        try:
            header = json.loads(lines[0]) | {"stage": stage, "offered_rate": rate, "block": 1}
        except ValueError:
            header = {}
        file = run.folder / "load" / variant / stage / "block-01.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in (json.dumps(header), *lines[1:])))
    share = {
        "allowed": 0.05,
        "over": 1,
        "requests": 100,
        "effective_requests": 50.0,
        "low": 0.001,
        "high": 0.08,
    }
    return {
        "stage": stage,
        "rate": rate,
        "requests": 100,
        "shows": "unsettled",
        "shares": dict.fromkeys(slo, share),
        "overloaded": None,
        "doubt": None,
    }


def edit_journals(
    run: RandomRun, variant: str, told: Callable[[Json], Json], record: Callable[[Json], Json]
) -> None:
    """Changes the header and the records of a variant's journals; lines that are none stay."""
    for file in sorted((run.folder / "load").glob(f"{variant}/*/block-*.jsonl")):
        lines = file.read_text(errors="surrogateescape").split("\n")
        edited = [
            _edited(line, told if number == 0 else record) for number, line in enumerate(lines)
        ]
        file.write_text("\n".join(edited), errors="surrogateescape")


def _edited(line: str, edit: Callable[[Json], Json]) -> str:
    try:
        each = json.loads(line)
    except ValueError:
        return line
    if not isinstance(each, dict) or not ("id" in each or "window_start_ns" in each):
        return line
    return json.dumps(edit(each))
