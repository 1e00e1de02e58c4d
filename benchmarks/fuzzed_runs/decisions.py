"""Checks of decisions: headlines, reasons, advice and the recommendation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.fuzzed_runs.facts import Facts
from benchmarks.fuzzed_runs.files import NEAR, Json


def check_decision(
    verdict: Json, variant: Json, judged: dict[str, Json], at: Facts
) -> Iterator[str]:
    """Faults in the decision, reasons and advice of one variant."""
    yield from _headline(verdict, variant)
    yield from _reasons(verdict, at)
    yield from _advice(verdict, variant, judged, at)


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
    if (match := re.search(r"all (\d+) objectives hold", text)) and (
        int(match[1]) != len(outcomes) or fails or opens
    ):
        yield f"false: {text}"
    if (match := re.search(r"; (\d+) more objectives? fails?$", text)) and int(
        match[1]
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
        if match := re.match(
            r"([\d,]+) of ([\d,]+) requests failed, and the slo names no error_rate", reason
        ):
            failed, of = (int(each.replace(",", "")) for each in match.groups())
            if (failed, of) != (at.planned - at.succeeded, at.planned) or has_rate:
                yield f"false: {reason}"


def _advice(verdict: Json, variant: Json, judged: dict[str, Json], at: Facts) -> Iterator[str]:
    stage = next((s for s in variant["stages"] if s["stage"] == variant["judged_stage"]), None)
    for advice in verdict["advice"]:
        text = f"{advice['remedy']}. {advice['why']} {advice['effect']}"
        choice = re.match(r"(?:Keep|Take) ([\w-]+?)(?:, the baseline| instead)", text)
        if choice and judged[choice[1]]["decision"] != "SHIP":
            yield f"{choice[1]} does not pass: {text}"
        if match := re.search(r"fail with (\w+)\. (\d+) of (\d+) failures", text):
            most = at.failures.most_common(1)[0][1]
            if (at.failures[match[1]], sum(at.failures.values())) != (
                int(match[2]),
                int(match[3]),
            ) or int(match[2]) != most:
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
    """True if answers of the blocks' second halves take longer than those of the first."""
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


def check_recommendation(verdicts: Json) -> Iterator[str]:
    """Faults in the recommended variant and the headline of `verdict.json`."""
    text, base = verdicts["headline"], verdicts["baseline"]
    ships = {v["variant"] for v in verdicts["variants"] if v["decision"] == "SHIP"}
    others = {v["variant"] for v in verdicts["variants"]} - {base}
    judgeable = {v["variant"] for v in verdicts["variants"] if v["objectives"]}
    opens = {
        v["variant"] for v in verdicts["variants"] if v["decision"] == "INCONCLUSIVE"
    } & judgeable
    chosen = verdicts["recommended"]
    also = re.search(r"(?:\(|; )([\w ,-]+) would pass too", text)
    named = set(re.split(r", | and ", also[1])) if also else set()
    if (chosen is None) != (not ships) or (chosen is not None and chosen not in ships):
        yield f"recommends {chosen}, and {ships} may ship"
    if chosen is not None and named != ships - {chosen}:
        yield f"{ships - {chosen}} would pass too: {text}"
    if "no other variant is shown to" in text and (ships != {base} or not others):
        yield f"false: {text}"
    if (match := re.search(r"not settled: (.*)\.$", text)) and set(match[1].split(", ")) != opens:
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
