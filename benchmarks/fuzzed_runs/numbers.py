"""Checks of a summary: intervals, counts, notes and values against the journals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fuzzed_runs.facts import Facts, RunFacts, read_references
from benchmarks.fuzzed_runs.files import NEAR, Json

MICROSECOND_MS = 1e-3
SHARES = re.compile(
    r"\.(quality|consistency|error_rate|empty_rate|length_share|slo_attainment|cache_hit_share)$"
)


def check_summary(run: Path, summary: Json, facts: RunFacts, experiment: Json) -> Iterator[str]:
    """Faults in the numbers and notes of `summary.json`."""
    yield from _estimates(summary, "summary")
    yield from _counts(summary, facts)
    yield from _values(run, summary, facts, experiment)
    for variant in summary["variants"]:
        for stage in variant["stages"]:
            at = facts[variant["variant"], stage["stage"]]
            where = f"{variant['variant']}, {stage['stage']}"
            yield from (f"{where}: {each}" for each in _segments(stage, at))


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


def _counts(summary: Json, facts: RunFacts) -> Iterator[str]:
    for variant in summary["variants"]:
        for stage in variant["stages"]:
            where, at = (
                f"{variant['variant']}, {stage['stage']}",
                facts[variant["variant"], stage["stage"]],
            )
            reported = {key: stage[key] for key in ("planned", "succeeded", "failures")}
            actual = {
                "planned": at.planned,
                "succeeded": at.succeeded,
                "failures": dict(at.failures),
            }
            if reported != actual:
                yield f"{where}: counts {reported}, and the journals have {actual}"
            yield from (f"{where}: {each}" for each in _notes(stage["notes"], at))


def _notes(notes: list[str], at: Facts) -> Iterator[str]:
    for note in notes:
        if match := re.match(r"(?:all )?(\d+)(?: of (\d+))? requests failed \((.*)\)", note):
            failed, of = int(match[1]), int(match[2] or match[1])
            classes = {
                name: int(count)
                for name, count in (each.rsplit(" ", 1) for each in match[3].split(", "))
            }
            if (failed, of, classes) != (at.planned - at.succeeded, at.planned, dict(at.failures)):
                yield f"false: {note}"
        if (match := re.match(r"(\w+), the first of (\d+): ", note)) and at.failures[
            match[1]
        ] != int(match[2]):
            yield f"false: {note}"
        if note.startswith("left out of every number: "):
            parts = (
                r"(\d+) requests? of the warm-up",
                r"(\d+) requests? that came after",
                r"(\d+) of them failed",
            )
            reported = tuple(
                int(part[1]) if (part := re.search(each, note)) else 0 for each in parts
            )
            if reported != at.outside:
                yield f"{at.outside} lie outside: {note}"
        for words, count in _answers(at).items():
            if (match := re.match(rf"(\d+) answers? {words}", note)) and int(match[1]) != count:
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


def _values(run: Path, summary: Json, facts: RunFacts, experiment: Json) -> Iterator[str]:
    """Times, tokens, quality and metered cost, computed again."""
    references, price = read_references(run), (experiment.get("budget") or {}).get("price", {})
    for variant in summary["variants"]:
        for stage in variant["stages"]:
            at = facts[variant["variant"], stage["stage"]]
            for key in ("latency", "service_latency", "ttft", "tpot"):
                for statistic in ("mean", "p50", "p95"):
                    reported, actual = (
                        stage["metrics"][f"{key}_{statistic}"]["value"],
                        at.statistic(key, statistic, False),
                    )
                    if reported is not None and (
                        actual is None or abs(reported - actual) > NEAR * max(abs(actual), 1e-3)
                    ):
                        yield (
                            f"{variant['variant']}, {stage['stage']}: {key} {statistic} is "
                            f"{actual}, not {reported}"
                        )
        at = facts.get((variant["variant"], variant["judged_stage"]), Facts())
        reported, actual = variant["metrics"]["quality"]["value"], at.quality(references)
        if reported is not None and (actual is None or abs(reported - actual) > NEAR):
            yield f"{variant['variant']}: quality is {actual}, not {reported}"
        reported, actual = (
            variant["metrics"]["cost_per_request"]["value"],
            at.metered(*_prices(price)),
        )
        if (
            reported is not None
            and any(_prices(price))
            and (actual is None or abs(reported - actual) > NEAR * actual)
        ):
            yield f"{variant['variant']}: cost per request is {actual}, not {reported}"


def _segments(stage: Json, at: Facts) -> Iterator[str]:
    """Segments of the time add up; those that the client stamps are the journals'."""
    if (waterfall := stage["waterfall"]) is None:
        if values := at.values("latency"):
            yield f"{len(values)} answers took time, and no segment has it"
        return
    means = {key: each["mean"]["value"] for key, each in waterfall["segments"].items()}
    after_text = (means.pop("end_of_answer"), means.pop("client_lag"))
    latency, total = (waterfall[key]["value"] for key in ("latency", "total"))
    if abs(sum(means.values()) - latency) > MICROSECOND_MS:
        yield f"the segments add up to {sum(means.values())}, not to the latency, {latency}"
    if abs(latency + sum(after_text) - total) > MICROSECOND_MS:
        yield f"the segments add up to {latency + sum(after_text)}, not to the total, {total}"
    if waterfall["n"] == len(at.values("latency")):
        for key in ("slip", "decode", "latency", "end_of_answer"):
            reported = {**means, "latency": latency, "end_of_answer": after_text[0]}[key]
            actual = at.statistic(key, "mean", False)
            if actual is None or abs(reported - actual) > MICROSECOND_MS:
                yield f"{key} is {actual}, not {reported}"
    if (change := stage["waterfall_difference"]) is not None:
        parts = [each["value"] for each in change["segments"].values()]
        whole = stage["differences"]["latency_mean"]["absolute"]["value"]
        if abs(sum(parts) + change["residual"] - whole) > MICROSECOND_MS:
            yield f"the segments' differences and the residual are not the latency's, {whole}"


def _prices(price: Json) -> tuple[float, float]:
    def each(side: str) -> float:
        token, million = (
            float(price.get(f"{side}_per_{unit}", "$0").lstrip("$"))
            for unit in ("token", "million")
        )
        return token + million / 1e6

    return each("input"), each("output")
