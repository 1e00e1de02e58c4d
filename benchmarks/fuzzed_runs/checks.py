"""What was concluded and said of a run, held against its facts. Each check yields what is wrong, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.fuzzed_runs.facts import Facts, read_references, read_run
from benchmarks.fuzzed_runs.sentences import Claim, claim

Json = dict[str, Any]
NEAR = 1e-6
"""Floats that were added up in another order differ by less."""
RATES = ("goodput", "requests_per_s", "output_tokens_per_s", "total_tokens_per_s")
SHARES = re.compile(
    r"\.(quality|consistency|error_rate|empty_rate|length_share|slo_attainment|cache_hit_share)$"
)
ROUNDED = 6e-3
"""A number of three digits is off by less than this share."""


def check(run: Path) -> list[str]:
    """Everything that is wrong with the outputs of a run directory."""
    summary, verdicts = (_read(run / f"{name}.json") for name in ("summary", "verdict"))
    plan = _read(run / "plan.json") if (run / "plan.json").exists() else None
    facts, asked = read_run(run), json.loads((run / "experiment.yaml").read_text())
    variants = {v["variant"]: v for v in summary["variants"]}
    judged = {v["variant"]: v for v in verdicts["variants"]}
    wrong = [
        *_estimates(summary, "summary"),
        *_counts(summary, facts),
        *_values(run, summary, facts, asked),
    ]
    for name, verdict in judged.items():
        at = facts.get((name, variants[name]["judged_stage"]), Facts())
        wrong += [f"{name}: {each}" for each in _objectives(verdict, at, asked)]
        wrong += [f"{name}: {each}" for each in _headline(verdict, variants[name])]
        wrong += [f"{name}: {each}" for each in _reasons(verdict, at)]
        wrong += [f"{name}: {each}" for each in _advice(verdict, variants[name], judged, at)]
    wrong += _overall(verdicts)
    if plan is not None:
        wrong += _plan(plan, summary, facts, asked)
    return wrong


def _read(file: Path) -> Json:
    def refuse(constant: str) -> float:
        raise ValueError(f"{file.name} holds {constant}")

    found: Json = json.loads(file.read_text(), parse_constant=refuse)
    return found


def _estimates(node: Any, where: str) -> Iterator[str]:
    """Every value lies in its interval, every share between none and all."""
    if isinstance(node, list):
        for i, each in enumerate(node):
            yield from _estimates(each, f"{where}[{i}]")
    if not isinstance(node, dict):
        return
    if {"value", "low", "high", "n"} <= node.keys() and node["value"] is not None:
        low, value, high = (
            node["value"] if node[key] is None else node[key] for key in ("low", "value", "high")
        )
        slack = NEAR * max(abs(low), abs(value), abs(high))
        if not low - slack <= value <= high + slack:
            yield f"{where}: {value} is not within {low} to {high}"
        is_share = SHARES.search(where) and ".differences" not in where
        if is_share and not (0 <= value <= 1 and low >= -NEAR and high <= 1 + NEAR):
            yield f"{where}: {low}, {value}, {high} is no share"
    for key, each in node.items():
        yield from _estimates(each, f"{where}.{key}")


def _counts(summary: Json, facts: dict[tuple[str, str], Facts]) -> Iterator[str]:
    for variant in summary["variants"]:
        for stage in variant["stages"]:
            where, at = (
                f"{variant['variant']}, {stage['stage']}",
                facts[variant["variant"], stage["stage"]],
            )
            said = {key: stage[key] for key in ("planned", "succeeded", "failures")}
            true = {"planned": at.planned, "succeeded": at.succeeded, "failures": dict(at.failures)}
            if said != true:
                yield f"{where}: counts {said}, and the journals have {true}"
            yield from (f"{where}: {each}" for each in _notes(stage["notes"], at))


def _notes(notes: list[str], at: Facts) -> Iterator[str]:
    for note in notes:
        if found := re.match(r"(?:all )?(\d+)(?: of (\d+))? requests failed \((.*)\)", note):
            failed, of = int(found[1]), int(found[2] or found[1])
            classes = {
                name: int(count)
                for name, count in (each.rsplit(" ", 1) for each in found[3].split(", "))
            }
            if (failed, of, classes) != (at.planned - at.succeeded, at.planned, dict(at.failures)):
                yield f"false: {note}"
        if (found := re.match(r"(\w+), the first of (\d+): ", note)) and at.failures[
            found[1]
        ] != int(found[2]):
            yield f"false: {note}"
        if note.startswith("left out of every number: "):
            parts = (
                r"(\d+) requests? of the warm-up",
                r"(\d+) requests? that came after",
                r"(\d+) of them failed",
            )
            said = tuple(int(part[1]) if (part := re.search(each, note)) else 0 for each in parts)
            if said != at.outside:
                yield f"{at.outside} lie outside: {note}"
        for words, count in _answers(at).items():
            if (found := re.match(rf"(\d+) answers? {words}", note)) and int(found[1]) != count:
                yield f"{count}, not {note}"


def _answers(at: Facts) -> dict[str, int]:
    """What may be said of answers, and of how many it is true."""
    return {
        "(?:were|was) empty": at.answers(lambda record: not record["text"]),
        "cut at the token limit": at.answers(lambda record: record["finish_reason"] == "length"),
        "ended by a content filter": at.answers(
            lambda record: record["finish_reason"] == "content_filter"
        ),
        "ended after the windows": at.late,
    }


def _values(
    run: Path, summary: Json, facts: dict[tuple[str, str], Facts], asked: Json
) -> Iterator[str]:
    """Times, tokens, quality and metered cost, computed again."""
    references, price = read_references(run), (asked.get("budget") or {}).get("price", {})
    for variant in summary["variants"]:
        for stage in variant["stages"]:
            at = facts[variant["variant"], stage["stage"]]
            for key in ("latency", "service_latency", "ttft", "tpot"):
                for statistic in ("mean", "p50", "p95"):
                    said, true = (
                        stage["metrics"][f"{key}_{statistic}"]["value"],
                        at.statistic(key, statistic, False),
                    )
                    if said is not None and (
                        true is None or abs(said - true) > NEAR * max(abs(true), 1e-3)
                    ):
                        yield (
                            f"{variant['variant']}, {stage['stage']}: {key} {statistic} is "
                            f"{true}, not {said}"
                        )
        at = facts.get((variant["variant"], variant["judged_stage"]), Facts())
        said, true = variant["metrics"]["quality"]["value"], at.quality(references)
        if said is not None and (true is None or abs(said - true) > NEAR):
            yield f"{variant['variant']}: quality is {true}, not {said}"
        said, true = variant["metrics"]["cost_per_request"]["value"], at.metered(*_prices(price))
        if (
            said is not None
            and any(_prices(price))
            and (true is None or abs(said - true) > NEAR * true)
        ):
            yield f"{variant['variant']}: cost per request is {true}, not {said}"


def _prices(price: Json) -> tuple[float, float]:
    def each(side: str) -> float:
        token, million = (
            float(price.get(f"{side}_per_{unit}", "$0").lstrip("$"))
            for unit in ("token", "million")
        )
        return token + million / 1e6

    return each("input"), each("output")


def _is_floor(objective: Json) -> bool:
    return objective["kind"] == "quality" or objective["metric"] in RATES


def _beyond(objective: Json, value: float) -> float:
    """How far a value is on the wrong side of the limit."""
    floor = _is_floor(objective)
    return float(objective["limit"] - value if floor else value - objective["limit"])


def _objectives(verdict: Json, at: Facts, asked: Json) -> Iterator[str]:
    for objective in verdict["objectives"]:
        value, limit, outcome, label = (
            objective["value"]["value"],
            objective["limit"],
            objective["outcome"],
            objective["label"],
        )
        if outcome != "unsettled":
            if value is None or limit is None:
                yield f"{label} {outcome} without a value"
                continue
            if (_beyond(objective, value) > 0) == (outcome == "holds"):
                yield f"{label} {outcome}, and its value {value} says the opposite of {limit}"
            yield from _own_value(objective, at, asked)
        try:
            said = claim(objective["sentence"])
        except ValueError as error:
            yield str(error)
            continue
        yield from (f"{each}: {objective['sentence']}" for each in _claim(said, objective))
        yield from (f"{each}: {objective['sentence']}" for each in _more(objective))


def _own_value(objective: Json, at: Facts, asked: Json) -> Iterator[str]:
    """An SLO in ms is concluded as the journals have it: without failures where it holds, with them where it fails."""
    metric, _, statistic = objective["metric"].rpartition("_")
    if metric not in ("latency", "service_latency", "ttft") or not asked["slo"][
        objective["metric"]
    ].endswith("ms"):
        return
    fails = objective["outcome"] == "fails"
    own = at.statistic(metric, statistic, fails)
    if own is None or (
        (_beyond(objective, own) > NEAR * own) != fails
        and abs(_beyond(objective, own)) > NEAR * own
    ):
        yield (
            f"{objective['label']} {objective['outcome']} at {objective['limit']}, "
            f"and is {own} by the journals"
        )


def _claim(said: Claim | None, objective: Json) -> Iterator[str]:
    value, limit, outcome = objective["value"]["value"], objective["limit"], objective["outcome"]
    if said is None:
        if outcome != "unsettled":
            yield "can't be judged, and was"
        return
    floor = _is_floor(objective)
    ends = [
        end for end in (objective["value"]["low"], objective["value"]["high"]) if end is not None
    ]
    if (
        value is None
        or not _like(said.value, value)
        or said.limit is None
        or not _like(said.limit, limit)
    ):
        yield f"another value or limit than {value} and {limit}"
    elif (said.value > said.limit) - (said.value < said.limit) != (value > limit) - (
        value < limit
    ) and abs(value - limit) > 1e-12:
        yield "value and limit are not shown in the order that they have"
    elif outcome == "unsettled":
        if said.verb != "open" or not all(
            any(_like(bound, end) for end in ends) for bound in said.bounds
        ):
            yield f"the data allow {ends}"
        elif len(said.bounds) == 2 and not said.bounds[0] <= said.limit <= said.bounds[1]:
            yield "the limit is not within what the data allow"
    else:
        keeps = outcome == "holds"
        edge = "at most" if keeps != floor else "at least"
        if said.verb != ("keeps" if keeps else "breaks") or said.edge != edge:
            yield f"it {outcome}"
        [bound] = said.bounds
        if not any(_like(bound, end) for end in ends):
            yield f"the bounds are {ends}"
        if (bound > said.limit if keeps != floor else bound < said.limit) and not abs(
            bound - said.limit
        ) <= 1e-12:
            yield "the bound is shown on the wrong side of the limit"


def _more(objective: Json) -> Iterator[str]:
    """What is said to settle it is what was worked out, and near its limit is near."""
    text, more, value = objective["sentence"], objective["more"], objective["value"]
    hopeless = "even 20 times as much data would hardly settle it" in text
    if hopeless != (more is not None and more["total"] is None) or (
        more is not None and objective["outcome"] != "unsettled"
    ):
        yield f"what would settle it is {more}"
    if hopeless:
        off = abs(value["value"] - objective["limit"])
        ends = [
            abs(end - value["value"]) for end in (value["low"], value["high"]) if end is not None
        ]
        if not any(end > 2 * off for end in ends):
            yield "it is not near its limit"
    if (
        found := re.search(r"about ([\d,]+) (prompts instead|requests)", text)
    ) and more is not None:
        said, total = int(found[1].replace(",", "")), more["total"]
        if said < total or (found[2].startswith("prompts") and said != total):
            yield f"what would settle it is {more}"


def _like(said: float, value: float) -> bool:
    """Per cent over ten have no decimals."""
    return abs(said - value) <= max(
        ROUNDED * abs(value), 6e-3 if 0.09 < abs(value) < 10 else 6e-4 if abs(value) < 0.1 else 0.0
    )


def _headline(verdict: Json, variant: Json) -> Iterator[str]:
    outcomes, text = (
        [objective["outcome"] for objective in verdict["objectives"]],
        verdict["headline"],
    )
    stage = next((s for s in variant["stages"] if s["stage"] == variant["judged_stage"]), None)
    invalid = stage is None or stage["validity"]["level"] == "INVALID"
    fails, opens = outcomes.count("fails"), outcomes.count("unsettled")
    decision = (
        "INCONCLUSIVE"
        if invalid or not outcomes
        else "DON'T SHIP"
        if fails
        else "INCONCLUSIVE"
        if opens
        else "SHIP"
    )
    if verdict["decision"] != decision or not text.startswith(decision):
        yield f"{verdict['decision']}, where it is {decision}: {text}"
    if (found := re.search(r"all (\d+) objectives hold", text)) and (
        int(found[1]) != len(outcomes) or fails or opens
    ):
        yield f"false: {text}"
    if (found := re.search(r"; (\d+) more objectives? fails?$", text)) and int(
        found[1]
    ) != fails - 1:
        yield f"false: {text}"
    if "the tightest" in text:
        margins = [o["margin"] for o in verdict["objectives"] if o["margin"] is not None]
        tight = next((o["margin"] for o in verdict["objectives"] if o["sentence"] in text), None)
        if tight is None or tight > min(margins) + NEAR:
            yield f"another is tighter: {text}"


def _reasons(verdict: Json, at: Facts) -> Iterator[str]:
    has_rate = any(objective["metric"] == "error_rate" for objective in verdict["objectives"])
    for reason in verdict["reasons"]:
        if found := re.match(
            r"([\d,]+) of ([\d,]+) requests failed, and the slo names no error_rate", reason
        ):
            failed, of = (int(each.replace(",", "")) for each in found.groups())
            if (failed, of) != (at.planned - at.succeeded, at.planned) or has_rate:
                yield f"false: {reason}"


def _advice(verdict: Json, variant: Json, judged: dict[str, Json], at: Facts) -> Iterator[str]:
    stage = next((s for s in variant["stages"] if s["stage"] == variant["judged_stage"]), None)
    for advice in verdict["advice"]:
        text = f"{advice['remedy']}. {advice['why']} {advice['effect']}"
        taken = re.match(r"(?:Keep|Take) ([\w-]+?)(?:, the baseline| instead)", text)
        if taken and judged[taken[1]]["decision"] != "SHIP":
            yield f"{taken[1]} does not pass: {text}"
        if found := re.search(r"fail with (\w+)\. (\d+) of (\d+) failures", text):
            most = at.failures.most_common(1)[0][1]
            if (at.failures[found[1]], sum(at.failures.values())) != (
                int(found[2]),
                int(found[3]),
            ) or int(found[2]) != most:
                yield f"false: {text}"
        if "does not keep up" in text and not (
            stage is not None and stage["held"] is False and _slows(at)
        ):
            yield f"its latency does not rise: {text}"
        refused = (
            bool(at.failures)
            and set(at.failures) <= {"http_4xx", "malformed"}
            and verdict["binding"] == "error rate"
        )
        if (
            refused
            and stage is not None
            and stage["held"]
            and "Serve it with more replicas" in text
        ):
            yield f"requests were refused, not late: {text}"
        if "server's log" in text and re.search(
            "fail with (malformed|http_4xx|dropped|cancelled)", text
        ):
            yield f"the server is blamed: {text}"
        if advice["remedy"].startswith("Measure longer") and not all(
            o["outcome"] != "fails" for o in verdict["objectives"]
        ):
            yield f"an objective fails, more data or not: {text}"


def _slows(at: Facts) -> bool:
    """Whether answers of the second half of the blocks take longer than those of the first, on the whole."""
    rise = 0.0
    for block in at.blocks:
        took = [
            r["done_ns"] - r["scheduled_ns"]
            for r in sorted(block.records, key=lambda r: r["scheduled_ns"])
            if r["done_ns"]
        ]
        half = len(took) // 2
        rise += sum(took[-half:]) - sum(took[:half]) if half else 0.0
    return rise > 0


def _overall(verdicts: Json) -> Iterator[str]:
    text, base = verdicts["headline"], verdicts["baseline"]
    ships = {v["variant"] for v in verdicts["variants"] if v["decision"] == "SHIP"}
    others = {v["variant"] for v in verdicts["variants"]} - {base}
    asked = {v["variant"] for v in verdicts["variants"] if v["objectives"]}
    opens = {v["variant"] for v in verdicts["variants"] if v["decision"] == "INCONCLUSIVE"} & asked
    chosen = verdicts["recommended"]
    also = re.search(r"(?:\(|; )([\w ,-]+) would pass too", text)
    named = set(re.split(r", | and ", also[1])) if also else set()
    if (chosen is None) != (not ships) or (chosen is not None and chosen not in ships):
        yield f"recommends {chosen}, and {ships} may ship"
    if chosen is not None and named != ships - {chosen}:
        yield f"{ships - {chosen}} would pass too: {text}"
    if "no other variant is shown to" in text and (ships != {base} or not others):
        yield f"false: {text}"
    if (found := re.search(r"not settled: (.*)\.$", text)) and set(found[1].split(", ")) != opens:
        yield f"{opens} are not settled: {text}"
    if text.startswith("No variant may ship") and ships:
        yield f"{ships} may ship: {text}"
    fails = {v["variant"] for v in verdicts["variants"] if v["decision"] == "DON'T SHIP"}
    broken = re.match(r"No variant may ship: (.+?) breaks? an objective\.$", text)
    if broken and (opens or set(re.split(r", | and ", broken[1])) != fails):
        yield f"{fails} break an objective, {opens} are open: {text}"
    if text.startswith(("Ship", "Keep")) and not re.match(
        rf"(Ship|Keep) {re.escape(str(chosen))}: it meets every objective", text
    ):
        yield f"false: {text}"


def _plan(
    plan: Json, summary: Json, facts: dict[tuple[str, str], Facts], asked: Json
) -> Iterator[str]:
    rates = {stage["name"]: stage.get("rate") for stage in asked["workload"]["stages"]}
    for variant in plan["variants"]:
        rate, text = variant["rate_per_replica"], f"{variant['variant']}: {variant['sentence']}"
        stages = next(
            v["stages"] for v in summary["variants"] if v["variant"] == variant["variant"]
        )
        if rate is None:
            if variant["replicas"] is not None or variant["cost_per_month"] is not None:
                yield f"replicas without a rate: {text}"
            continue
        at = [s for s in stages if s["offered_rate"] == rate]
        if (
            not at
            or rates[at[0]["stage"]] is None
            or at[0]["held"] is not True
            or at[0]["validity"]["level"] == "INVALID"
        ):
            yield f"no stage held that rate: {text}"
        if any(
            "bursts" in stage
            for stage in asked["workload"]["stages"]
            if stage["name"] in {s["stage"] for s in at}
        ):
            yield f"bursts are no rate: {text}"
        if (
            variant["replicas"]
            != ceil(round(plan["peak_rate"] / (rate * (1 - plan["headroom"])), 9)) + plan["spare"]
        ):
            yield f"another number of replicas: {text}"
        if (
            not (found := re.search(r"need ([\d,]+) replicas?", text))
            or int(found[1].replace(",", "")) != variant["replicas"]
        ):
            yield f"another number of replicas is said: {text}"
        if ("at least" in text.partition(";")[0]) != variant["lower_bound"]:
            yield f"at least: {text}"
        broken = re.search(r"at ([\d.]+) requests/s it breaks the SLO", text)
        if broken and not any(s["offered_rate"] == float(broken[1]) and _breaks(s) for s in stages):
            yield f"it does not break it: {text}"


def _breaks(stage: Json) -> bool:
    """Whether some SLO's value is beyond its limit."""
    values = [(j["value"]["value"], j["limit"]) for j in stage["judged"].values()]
    return any(value is not None and limit is not None and value > limit for value, limit in values)
