"""Every metric of a run, one record each: what it is, which way is better, and where it appears.

Whoever lists metrics filters these records: the table, the headline, `slo`, the A/A noise, the
comparison of two runs, `summary.json` and docs/metrics.md. Their order is the order of the table.
`measures.stage_metrics` computes the values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from results.summary import Metric

Better = Literal["lower", "higher"]
Kind = Literal["time", "tokens", "rate", "share", "score", "cost", "other"]
Of = Literal["request", "chunk", "failures as infinite"]
Place = Literal["table", "headline", "slo", "noise", "compared", "always compared"]

FLOORS = {50.0: 20, 90.0: 100, 95.0: 200, 99.0: 1_000, 99.9: 10_000}
"""The fewest requests that a percentile is stated for, by q."""
QUANTILES = tuple(FLOORS)
STATISTICS = ("mean", *(f"p{q:g}" for q in QUANTILES))


@dataclass(frozen=True)
class MetricRecord:
    """One metric.

    `kind`: "time" is in ms, "tokens" of a request, "rate" per second of the steady windows, "share"
    a counted share of the requests, "score" from 0 to 1 by prompt, "cost" in dollars. `family` is
    what the metric is a `statistic` of: "latency" for latency_p95. A metric that is no statistic is
    its own family. `of`: each value of a time or number of tokens is of a request that succeeded,
    of a chunk or token, or of a request whose failure counts as infinite. `places`: "compared"
    between two runs where one of them has it, "always compared" even where neither has.
    """

    key: str
    label: str
    unit: str
    definition: str
    better: Better
    kind: Kind
    family: str
    statistic: str = ""
    of: Of | None = None
    places: frozenset[Place] = frozenset()

    @property
    def q(self) -> float:
        """The percentile, 0 to 100. Raises ValueError for a mean and for what is no statistic."""
        return float(self.statistic.removeprefix("p"))


_OVER = "over successful requests of the steady window"
_ANSWERS = "of all requests of the window that succeeded"
_INSIDE = "that succeeded inside the steady window, over its length"
_PER_WINDOW = "over the length of the steady window"
_COUNTED = "of the tokens of all requests of the blocks, warm-up included"
_COST = (
    "metered: input tokens x their price + output tokens x theirs; "
    "self-hosted: replicas x accelerators x price per hour / (3600 x requests/s held)"
)


def _metric(
    key: str, label: str, unit: str, definition: str, kind: Kind, *places: Place, up: bool = False
) -> Iterator[MetricRecord]:
    """A metric that is no statistic of others. `up`: higher is better."""
    better: Better = "higher" if up else "lower"
    yield MetricRecord(key, label, unit, definition, better, kind, key, places=frozenset(places))


def _time(
    family: str,
    label: str,
    definition: str,
    of: Of = "request",
    **places: str,
) -> Iterator[MetricRecord]:
    """Mean and percentiles of a time. `places`: the statistics in each place ("p50 p95", "all")."""
    for statistic in STATISTICS:
        yield MetricRecord(
            f"{family}_{statistic}",
            f"{label} {statistic}",
            "ms",
            f"{statistic} {_OVER} of {definition}",
            "lower",
            "time",
            family,
            statistic,
            of,
            _places(statistic, places),
        )


def _places(statistic: str, places: dict[str, str]) -> frozenset[Place]:
    known: tuple[Place, ...] = ("table", "headline", "slo", "noise", "compared", "always compared")
    named = {key.replace("_", " "): text.split() for key, text in places.items()}
    return frozenset(p for p in known if {statistic, "all"} & set(named.get(p, ())))


def _adjusted(family: str, label: str, definition: str) -> Iterator[MetricRecord]:
    for q in QUANTILES:
        yield MetricRecord(
            f"adjusted_{family}_p{q:g}",
            f"{label} p{q:g}, adjusted",
            "ms",
            f"p{q:g} over all requests of the steady window of {definition}; "
            "a failure counts as infinite",
            "lower",
            "time",
            f"adjusted_{family}",
            f"p{q:g}",
            "failures as infinite",
        )


def _tokens(family: str, **places: str) -> Iterator[MetricRecord]:
    label = family.replace("_", " ")
    for statistic in ("mean", "p50", "p95"):
        yield MetricRecord(
            f"{family}_{statistic}",
            f"{label} {statistic}",
            "tokens",
            f"{statistic} over successful requests of the window of {label} per request",
            "lower",
            "tokens",
            family,
            statistic,
            "request",
            _places(statistic, places),
        )


_LATENCY = "last chunk - scheduled time"
_TTFT = "first chunk - scheduled time"


def _scores() -> Iterator[MetricRecord]:
    yield from _metric(
        "quality", "quality", "share", "mean score of the prompts; a failed request scores 0",
        "score", "table", "headline", up=True,
    )  # fmt: skip
    yield from _metric(
        "consistency", "consistency", "share",
        "pairs of answers to one prompt that are the same, normalised; mean of the prompts",
        "score", up=True,
    )  # fmt: skip


def _times() -> Iterator[MetricRecord]:
    yield from _time(
        "latency", "latency", _LATENCY, slo="all", table="p50 p95", headline="p50 p95",
        noise="mean p50 p95", compared="p95", always_compared="p50",
    )  # fmt: skip
    yield from _time("service_latency", "service latency", "last chunk - sent", slo="all")
    yield from _time(
        "ttft", "TTFT", _TTFT, slo="all", table="p50 p95", noise="mean p50 p95", compared="p50 p95"
    )
    yield from _time("service_ttft", "service TTFT", "first chunk - sent", slo="all")
    yield from _time(
        "tpot", "TPOT",
        "(last chunk - first chunk) / (output tokens - 1), of answers with two tokens or more",
        slo="all", table="p50 p95", noise="mean", compared="mean",
    )  # fmt: skip
    yield from _time(
        "wait", "wait before the queue", "moment in the engine's queue - sent", slo="all"
    )
    yield from _time(
        "queue", "time in queue", "first step - moment in the engine's queue", slo="all"
    )
    yield from _time("prefill", "prefill", "first token in the engine - first step", slo="all")
    yield from _time("slip", "schedule slip", "sent - scheduled time")
    yield from _time(
        "itl", "ITL",
        "gaps between successive tokens; tokens that share a chunk have gap 0 after its first",
        "chunk", slo="all",
    )  # fmt: skip
    yield from _time("icl", "ICL", "gaps between successive chunks", "chunk")
    yield from _time(
        "client_lag", "client lag", "event-loop read time - kernel receive stamp, per chunk",
        "chunk",
    )  # fmt: skip
    yield from _adjusted("latency", "latency", _LATENCY)
    yield from _adjusted("ttft", "TTFT", _TTFT)


def _rates() -> Iterator[MetricRecord]:
    yield from _metric(
        "requests_per_s", "throughput", "requests/s", f"requests {_INSIDE}",
        "rate", "table", "slo", "noise", "always compared", up=True,
    )  # fmt: skip
    yield from _metric(
        "output_tokens_per_s", "output throughput", "tokens/s",
        f"output tokens of requests {_INSIDE}", "rate", "table", "slo", up=True,
    )  # fmt: skip
    yield from _metric(
        "total_tokens_per_s", "total throughput", "tokens/s",
        f"input and output tokens of requests {_INSIDE}", "rate", "slo", up=True,
    )  # fmt: skip
    yield from _metric(
        "sessions_per_s", "sessions", "sessions/s",
        "sessions that began inside the steady window, over its length", "rate", up=True,
    )  # fmt: skip
    yield from _metric(
        "goodput", "goodput", "requests/s", (
            f"requests that kept the limits on times of the SLO, {_PER_WINDOW}"
        ),
        "rate", "slo", up=True,
    )  # fmt: skip
    yield from _metric(
        "achieved_rate", "achieved rate", "requests/s", f"requests sent, {_PER_WINDOW}",
        "rate", up=True,
    )  # fmt: skip


def _tokens_and_cache() -> Iterator[MetricRecord]:
    yield from _tokens("input_tokens", table="mean", compared="mean")
    yield from _tokens("output_tokens", table="mean", compared="mean")
    yield from _tokens("total_tokens", table="mean", headline="mean")
    yield from _metric(
        "cache_hit_share", "prefix cache hits", "share",
        f"input tokens that the server's prefix cache answered, {_COUNTED}",
        "other", "table", up=True,
    )  # fmt: skip
    yield from _metric(
        "intended_cache_hit_share", "prefix cache hits intended", "share",
        f"input tokens shared with earlier prompts by intent, {_COUNTED}",
        "other", "table", up=True,
    )  # fmt: skip


def _costs() -> Iterator[MetricRecord]:
    yield from _metric("cost_per_request", "cost per request", "$", _COST, "cost")
    yield from _metric(
        "cost_per_1000", "cost per 1,000 requests", "$", "1,000 x cost per request",
        "cost", "table", "headline",
    )  # fmt: skip
    yield from _metric(
        "cost_per_success", "cost per success", "$",
        "cost of all requests, failed tries too, over those that succeeded", "cost",
    )  # fmt: skip
    yield from _metric(
        "cost_per_correct", "cost per correct answer", "$", "cost per request / quality",
        "cost", "table",
    )  # fmt: skip
    yield from _metric(
        "cost_per_million_output_tokens", "cost per million output tokens", "$",
        "cost of the requests over their output tokens, x 1,000,000", "cost",
    )  # fmt: skip
    yield from _metric(
        "cost_per_month", "cost per month", "$", "cost per request x requests per month",
        "cost", "table",
    )  # fmt: skip


_USED = "energy of GPUs and processors in the steady windows"


def _energy() -> Iterator[MetricRecord]:
    yield from _metric(
        "energy_per_request", "energy per request", "J",
        f"{_USED} over the requests that ended well in them", "other", "table",
    )  # fmt: skip
    yield from _metric(
        "energy_per_output_token", "energy per output token", "J",
        f"{_USED} over the output tokens of requests that ended well in them", "other",
    )  # fmt: skip
    yield from _metric(
        "energy_per_correct", "energy per correct answer", "J", "energy per request / quality",
        "other", "table",
    )  # fmt: skip
    yield from _metric(
        "energy_above_idle", "energy per request above idle", "J",
        "energy per request less the idle power over the same time", "other",
    )  # fmt: skip
    yield from _metric(
        "idle_power", "idle power", "W",
        "energy of GPUs and processors over the time in which no server of the run had a request",
        "other",
    )  # fmt: skip


def _speculative() -> Iterator[MetricRecord]:
    yield from _metric(
        "spec_acceptance", "drafted tokens accepted", "share",
        "accepted tokens of speculative decoding over drafted ones, in the steady windows",
        "other", "table", up=True,
    )  # fmt: skip
    yield from _metric(
        "spec_accepted_length", "tokens per speculative step", "tokens",
        "1 + accepted tokens over drafts of speculative decoding, in the steady windows",
        "other", "table", up=True,
    )  # fmt: skip


def _shares() -> Iterator[MetricRecord]:
    yield from _metric(
        "error_rate", "error rate", "share", "requests that failed, of all in the window",
        "share", "table", "slo", "always compared",
    )  # fmt: skip
    yield from _metric(
        "empty_rate", "empty answers", "share",
        f"answers without text, and without a tool call, {_ANSWERS}", "share", "slo",
    )  # fmt: skip
    yield from _metric(
        "length_share", "answers cut short", "share",
        f"answers that ended at the token limit (finish_reason length), {_ANSWERS}",
        "share", "slo",
    )  # fmt: skip
    yield from _metric(
        "slo_attainment", "SLO attainment", "share",
        "requests that kept the limits on times of the SLO, of all in the window", "share", up=True,
    )  # fmt: skip


def _others() -> Iterator[MetricRecord]:
    yield from _metric(
        "in_flight", "in flight", "requests",
        "requests under way, averaged over the steady window", "other",
    )  # fmt: skip
    yield from _metric(
        "little_ratio", "Little's law", "ratio",
        "mean in flight over achieved rate x mean time in flight; 1 in a steady state",
        "other", up=True,
    )  # fmt: skip
    yield from _metric(
        "coalesced", "chunks read together", "share",
        "chunks that bear the arrival stamp of the one before, of all that have one before",
        "other",
    )  # fmt: skip
    yield from _metric(
        "size_bytes", "model size", "bytes", "bytes of the weight files", "other", "table"
    )


_GROUPS = (
    _scores,
    _times,
    _rates,
    _tokens_and_cache,
    _costs,
    _energy,
    _speculative,
    _shares,
    _others,
)
RECORDS = {record.key: record for group in _GROUPS for record in group()}
METRICS = {
    key: Metric(record.label, record.unit, record.definition, record.better)
    for key, record in RECORDS.items()
}
"""The records as `summary.json` holds them."""


def label_of(metric: str) -> str:
    """A metric as a person says it; its key where a newer tunedyno named it."""
    return RECORDS[metric].label if metric in RECORDS else metric


def keys(place: Place, *kinds: Kind) -> tuple[str, ...]:
    """The metrics of a place in the order of the table, of the `kinds` that are named."""
    return tuple(
        key
        for key, record in RECORDS.items()
        if place in record.places and (not kinds or record.kind in kinds)
    )


SLO_METRICS = keys("slo")
"""What `slo` can name."""


def families(of: Of, kind: Kind = "time") -> tuple[str, ...]:
    """The families of one kind whose values are `of` the same."""
    records = RECORDS.values()
    return tuple(dict.fromkeys(r.family for r in records if r.of == of and r.kind == kind))
