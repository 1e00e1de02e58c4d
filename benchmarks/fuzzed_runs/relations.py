"""What must follow where a run is changed in a known way. The reference is the run before it.

Each relation takes a decided run and a folder for changed copies, and yields faults.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzed_runs.files import Json, read_json
from benchmarks.fuzzed_runs.shares import journals
from dyno.experiment.loading import load_experiment
from dyno.pipeline.decide import decide
from foundation.progress import Silent
from foundation.run.layout import RunDirectory

OUTPUTS = ("summary.json", "verdict.json", "plan.json", "report.md", "report.html", "junit.xml")
NEAR = 1e-9
Relation = Callable[[Path, Path, np.random.Generator], Iterator[str]]


def copied(run: Path, to: Path) -> Path:
    """A copy of what was measured, without what was concluded."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns(*OUTPUTS, "requests.parquet"))
    return to


def decided(run: Path) -> Path:
    """Decides a run."""
    decide(RunDirectory(run), load_experiment(run / "experiment.yaml"), Silent())
    return run


def outputs(run: Path) -> dict[str, bytes]:
    """The bytes of every conclusion."""
    return {name: (run / name).read_bytes() for name in OUTPUTS if (run / name).is_file()}


def again(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """A report that is made again has the same bytes."""
    before = outputs(run)
    decided(run)
    after = outputs(run)
    yield from (
        f"{name} is another the second time" for name in before if after[name] != before[name]
    )


def lines_shuffled(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """The order of a journal's records changes nothing."""
    changed = copied(run, folder / "shuffled")
    for place, (header, *records, end) in journals(run):
        order = rng.permutation(len(records))
        _write(changed / place, [header, *(records[i] for i in order), end])
    yield from _same_bytes(run, decided(changed), OUTPUTS)


def searches_dropped(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """The probes of a search change no summary and no verdict."""
    changed = copied(run, folder / "unsearched")
    for probe in changed.glob("load/*/search-*"):
        shutil.rmtree(probe)
    (changed / "search.json").unlink(missing_ok=True)
    yield from _same_bytes(run, decided(changed), ("summary.json", "verdict.json"))


def variants_reordered(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """The order of the variants changes no number and no decision."""
    changed = copied(run, folder / "reordered")
    experiment = _json(changed / "experiment.yaml")
    order = rng.permutation(len(experiment["variants"]))
    experiment["variants"] = [experiment["variants"][i] for i in order]
    records = _json(changed / "variants.json")
    _write_json(changed / "experiment.yaml", experiment)
    _write_json(changed / "variants.json", [records[i] for i in order])
    decided(changed)
    yield from same(_by_variant(run), _by_variant(changed), "")
    ours, theirs = (read_json(each / "verdict.json")["recommended"] for each in (run, changed))
    if ours != theirs:
        yield f"recommends {ours}, and {theirs} where the variants stand in another order"


def blocks_renumbered(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """Blocks of all variants with other numbers: the same metrics and differences."""
    changed = copied(run, folder / "renumbered")
    whole = list(journals(run))
    count = max((header["block"] for _, (header, *_) in whole), default=0)
    number = [0, *(rng.permutation(count) + 1).tolist()]
    for place, _ in whole:
        (changed / place).unlink()
    for place, (header, *rest) in whole:
        to = number[header["block"]]
        _write(changed / place.with_name(f"block-{to:02d}.jsonl"), [header | {"block": to}, *rest])
    decided(changed)
    before, after = (numbers_of(read_json(each / "summary.json")) for each in (run, changed))
    yield from same(before, after, "", near=1e-6)


def twice_as_slow(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """All times twice as long: each time is doubled and each rate halved."""
    changed = copied(run, folder / "slower")
    for place, (header, *records, end) in journals(run):
        if header["window_start_ns"] != 0 and header["window_end_ns"] is None:
            return
        if end["window_end_ns"] >= 19 * 10**9:  # longer ones are cut to what is steady
            return
        head = header | {
            key: None if header[key] is None else header[key] * 2
            for key in ("window_start_ns", "window_end_ns")
        }
        if header["offered_rate"] is not None:
            head["offered_rate"] = header["offered_rate"] / 2
        _write(
            changed / place,
            [
                head,
                *map(_slower, records),
                end | {key: end[key] * 2 for key in ("ended_ns", "window_end_ns")},
            ],
        )
    decided(changed)
    summary, slower = (read_json(each / "summary.json") for each in (run, changed))
    units = {key: metric["unit"] for key, metric in summary["metrics"].items()}
    for ours, theirs in zip(summary["variants"], slower["variants"], strict=True):
        for stage, other in zip(ours["stages"], theirs["stages"], strict=True):
            for key, estimate in stage["metrics"].items():
                factor = {"ms": 2.0, "requests/s": 0.5, "tokens/s": 0.5, "sessions/s": 0.5}.get(
                    units.get(key, ""), 1.0
                )
                if key in ("goodput", "slo_attainment"):  # limits stay as they are
                    continue
                where = f"{ours['variant']}, {stage['stage']}, {key}"
                yield from same(_times(estimate, factor), other["metrics"][key], where)


def three_times_as_dear(run: Path, folder: Path, rng: np.random.Generator) -> Iterator[str]:
    """All prices, budgets and costs of tuning times three: the same verdicts, costs times three."""
    experiment = _json(run / "experiment.yaml")
    if "budget" not in experiment:
        return
    budget = experiment["budget"]
    for section in (budget, budget["price"]):
        for key, amount in section.items():
            if isinstance(amount, str) and amount.startswith("$"):
                section[key] = f"${float(amount[1:]) * 3!r}"
    changed = copied(run, folder / "dearer")
    _write_json(changed / "experiment.yaml", experiment)
    try:
        decided(changed)
    except Exception as error:
        yield f"three times as dear: {error}"
        return
    summary, dearer = (read_json(each / "summary.json") for each in (run, changed))
    for ours, theirs in zip(summary["variants"], dearer["variants"], strict=True):
        for key, estimate in ours["metrics"].items():
            factor = 3.0 if summary["metrics"].get(key, {}).get("unit") == "$" else 1.0
            yield from same(
                _times(estimate, factor), theirs["metrics"][key], f"{ours['variant']}, {key}"
            )
    verdicts, other = (read_json(each / "verdict.json") for each in (run, changed))
    for key in ("recommended",):
        if verdicts[key] != other[key]:
            yield f"{key} {verdicts[key]}, and {other[key]} in another currency"
    outcomes, others = (
        {v["variant"]: [o["outcome"] for o in v["objectives"]] for v in each["variants"]}
        for each in (verdicts, other)
    )
    if outcomes != others:
        yield f"outcomes {outcomes}, and {others} in another currency"
    if (run / "plan.json").is_file():
        plans = [read_json(each / "plan.json") for each in (run, changed)]
        yield from _dearer_plan(*plans)


def _dearer_plan(plan: Json, dearer: Json) -> Iterator[str]:
    if plan["recommended"] != dearer["recommended"]:
        yield f"plans {plan['recommended']}, and {dearer['recommended']} in another currency"
    for ours, theirs in zip(plan["variants"], dearer["variants"], strict=True):
        if ours["replicas"] != theirs["replicas"]:
            yield f"{ours['variant']}: {ours['replicas']} replicas, and {theirs['replicas']}"
        costs = [each["cost_per_month"] for each in (ours, theirs)]
        yield from same(
            None if costs[0] is None else costs[0] * 3, costs[1], f"{ours['variant']}, a month"
        )


def same(ours: Any, theirs: Any, where: str, near: float = NEAR) -> Iterator[str]:
    """Where two JSON values differ by more than the order of additions makes."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in {*ours, *theirs}:
            yield from same(ours.get(key), theirs.get(key), f"{where}.{key}".strip("."), near)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            yield from same(one, two, f"{where}[{i}]", near)
    elif isinstance(ours, float | int) and isinstance(theirs, float | int):
        if abs(ours - theirs) > near * max(abs(ours), abs(theirs), 1e-6):
            yield f"{where}: {ours}, then {theirs}"
    elif ours != theirs:
        yield f"{where}: {ours}, then {theirs}"


def _same_bytes(run: Path, changed: Path, names: tuple[str, ...]) -> Iterator[str]:
    before, after = outputs(run), outputs(changed)
    for name in names:
        if before.get(name) != after.get(name):
            detail = ""
            if name.endswith(".json") and name in before and name in after:
                pair = (json.loads(before[name]), json.loads(after[name]))
                detail = "; ".join(list(same(*pair, ""))[:3])
            yield f"{name} of {changed.name} is another: {detail}"


def _by_variant(run: Path) -> Json:
    """What a summary and the verdicts say of each variant, by name."""
    summary, verdicts = read_json(run / "summary.json"), read_json(run / "verdict.json")
    of = {v["variant"]: v for v in summary["variants"]}
    said = {
        v["variant"]: {key: v[key] for key in ("decision", "objectives", "headline")}
        for v in verdicts["variants"]
    }
    plan = {}
    if (run / "plan.json").is_file():
        plan = {v["variant"]: v for v in read_json(run / "plan.json")["variants"]}
    return {"summary": of, "verdict": said, "plan": plan}


def numbers_of(summary: Json) -> Json:
    """Metrics and differences that name no block."""
    return {
        variant["variant"]: {
            "metrics": variant["metrics"],
            "differences": variant["differences"],
        }
        | {
            stage["stage"]: {
                "metrics": stage["metrics"],
                "differences": {
                    key: {name: each[name] for name in ("absolute", "relative", "p", "differs")}
                    for key, each in stage["differences"].items()
                },
                "judged": stage["judged"],
                "held": stage["held"],
            }
            for stage in variant["stages"]
        }
        for variant in summary["variants"]
    }


def _times(estimate: Json, factor: float) -> Json:
    scaled = {
        key: None if estimate[key] is None else estimate[key] * factor
        for key in ("value", "low", "high")
    }
    return {**estimate, **scaled}


def _slower(record: Json) -> Json:
    """A record with all its stamps twice as far."""
    slow = {
        key: None if record[key] is None else record[key] * 2
        for key in ("scheduled_ns", "sent_ns", "done_ns")
    }
    slow |= {key: [each * 2 for each in record[key]] for key in ("chunk_ns", "client_lag_ns")}
    if record["server_metrics"] is not None:
        slow["server_metrics"] = {k: v * 2 for k, v in record["server_metrics"].items()}
    return record | slow


def _json(file: Path) -> Any:
    return json.loads(file.read_text())


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content))


def _write(file: Path, lines: list[Json]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


RELATIONS: tuple[Relation, ...] = (
    again,
    lines_shuffled,
    searches_dropped,
    variants_reordered,
    blocks_renumbered,
    twice_as_slow,
    three_times_as_dear,
)
