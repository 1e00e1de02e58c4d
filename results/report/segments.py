"""Where the time goes, in words: the segments' names and one line a variant."""

from __future__ import annotations

from math import floor, log10

from foundation.format import percent, plain, quantity
from results.measures.waterfall import LABELS
from results.report.table import in_order, stage_of
from results.summary import StageSummary, Summary, VariantSummary, Waterfall

MEANINGS = {
    "slip": "the load generator sent the request after it was due",
    "before_queue": (
        "connecting, HTTP, chat template, tokenizer, and waiting for the engine's next step"
    ),
    "queued": "in the engine's queue",
    "before_first": "all that the client can't tell apart, from sending to the first chunk",
    "prefill": "from the first engine step to the first token",
    "decode": "from the first chunk to the last text",
    "end_of_answer": "from the last text to the end of the stream",
    "client_lag": "from arrival to the client's reading, of the last piece",
    "unexplained": "from the engine's first token to the first chunk at the client",
}
"""What happens in a segment."""

SOURCES = {
    "engine record": "the engine's own record",
    "traces": "the server's traces",
    "response metrics": "the timings in the server's answers",
    "client": "the client alone",
}

NOTHING = "No request of this load has the times that the segments need."
_SMALL = 0.01


def name_of(key: str) -> str:
    """A segment's name."""
    return LABELS.get(key, key.replace("_", " "))


def time_line(waterfall: Waterfall) -> str:
    """The mean of every segment that takes a hundredth of the time, and of the rest together."""
    means = {
        key: segment.mean.value
        for key, segment in waterfall.segments.items()
        if segment.mean.value is not None
    }
    total = waterfall.total.value
    if total is None or total <= 0:
        return waterfall.total.reason or NOTHING
    large = {key: mean for key, mean in means.items() if is_large(waterfall, mean)}
    parts = [_part(name_of(key), mean, total) for key, mean in large.items()]
    if len(large) < len(means):
        rest = sum(mean for key, mean in means.items() if key not in large)
        parts.append(f"the rest {quantity(rest, 'ms')}")
    client = "; the server gave no timings" if waterfall.source == "client" else ""
    return f"{', '.join(parts)}{client}"


def is_large(waterfall: Waterfall, mean: float | None) -> bool:
    """Whether a segment takes a hundredth of the time or more."""
    return abs(mean or 0.0) >= _SMALL * (waterfall.total.value or 0.0)


def milliseconds(value: float) -> str:
    """A time in ms to three digits, and to a microsecond at most: the stamps hold no more."""
    return plain(value, 0 if value == 0 else max(0, min(3, 2 - floor(log10(abs(value))))))


def _part(name: str, mean: float, total: float) -> str:
    return f"{name} {quantity(mean, 'ms')} ({percent(mean / total)})"


def source_note(waterfall: Waterfall) -> str:
    """Who timed the server's inside, and how many of the successful requests are in the sums."""
    return (
        f"timed by {SOURCES[waterfall.source]}; "
        f"{waterfall.n:,} of {waterfall.succeeded:,} successful requests"
    )


def time_lines(summary: Summary) -> list[tuple[str, str]]:
    """Each variant and where its time goes at the judged load; empty where nobody knows."""
    return [
        (variant.variant, time_line(stage.waterfall))
        for variant, stage in judged_stages(summary)
        if stage.waterfall is not None
    ]


def difference_sentences(summary: Summary) -> list[str]:
    """Why each variant's latency differs from the baseline's, at the judged load."""
    return [
        stage.waterfall_difference.sentence
        for _, stage in judged_stages(summary)
        if stage.waterfall_difference is not None
    ]


def judged_stages(summary: Summary) -> list[tuple[VariantSummary, StageSummary]]:
    """The variants that were measured at their judged load, the baseline first."""
    return [
        (variant, stage)
        for variant in in_order(summary)
        if (stage := stage_of(variant)) is not None
    ]
