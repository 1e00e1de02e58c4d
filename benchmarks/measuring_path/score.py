"""What a run's stamps are worth: the tool's arrivals beside the emulator's writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """One run. Errors are arrival minus write, in µs.

    `rate`: events/s that the emulator sent while all streams ran. `cpu_us`: CPU time an event;
    `system_us`: its part in the kernel, None if the tool's account does not separate it.
    `first`: mean error of the first events, which is TTFT's. `lost`: streams without a record.
    `emulator_us`: the emulator's CPU time an event. `note`: what the tool's record leaves out.
    """

    tool: str
    streams: int
    asked_rate: float
    rate: float
    events: int
    cpu_us: float
    system_us: float
    emulator_us: float
    first: float
    p50: float
    p99: float
    p999: float
    lost: int
    peak_mb: float
    note: str = ""

    @property
    def cpu_ms_a_request(self) -> float:
        """CPU time a request in ms."""
        return self.cpu_us * self.events / self.streams / 1e3


def errors_us(
    truth: dict[str, dict[str, Any]], arrivals: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Arrival minus write of every recorded event. A tool may record a closing event as well."""
    parts = [
        arrivals[prompt][: len(row["event_ns"])] - np.array(row["event_ns"], float)
        for prompt, row in truth.items()
        if prompt in arrivals
    ]
    off = np.concatenate(parts) / 1e3
    return off[~np.isnan(off)]


def from_promptest(
    truth: dict[str, dict[str, Any]], arrivals: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Arrivals from an unknown origin, shifted so that the fastest event has no delay.

    No earlier origin is possible. The true delay of that event is missing from every error.
    """
    least_ns = float(errors_us(truth, arrivals).min()) * 1e3
    return {prompt: stamps - least_ns for prompt, stamps in arrivals.items()}


def firsts_us(
    truth: dict[str, dict[str, Any]], arrivals: dict[str, NDArray[np.float64]]
) -> list[float]:
    """Arrival less write of the first event of each stream on record."""
    return [
        (arrivals[prompt][0] - row["event_ns"][0]) / 1e3
        for prompt, row in truth.items()
        if prompt in arrivals
    ]


def span_ns(truth: dict[str, dict[str, Any]]) -> tuple[int, int]:
    """First and last write of an event."""
    return min(row["event_ns"][0] for row in truth.values()), max(
        row["event_ns"][-1] for row in truth.values()
    )


def rate_of(truth: dict[str, dict[str, Any]]) -> float:
    """Events/s while all streams ran: from the last first event to the first last event."""
    start, end = (
        choose(row["event_ns"][i] for row in truth.values()) for choose, i in ((max, 0), (min, -1))
    )
    inside = sum(start <= at < end for row in truth.values() for at in row["event_ns"])
    return inside / (end - start) * 1e9 if end > start else 0.0


def table(scores: Sequence[Score]) -> str:
    """Markdown: the median run of each tool and load, and the best p99, as other work only adds.

    Below it, what the tools' records leave out.
    """
    head = (
        "streams",
        "events/s (sent)",
        "tool",
        "CPU µs/event (in the kernel)",
        "CPU ms/request",
        "TTFT error µs (mean)",
        "error p50 µs",
        "p99 µs (best)",
        "p99.9 µs",
        "peak MB",
    )
    rows = [head, ("---",) * len(head)]
    for streams, asked, tool in dict.fromkeys((s.streams, s.asked_rate, s.tool) for s in scores):
        runs = [s for s in scores if (s.streams, s.asked_rate, s.tool) == (streams, asked, tool)]
        lost = sum(run.lost for run in runs)

        def middle(name: str, runs: Sequence[Score] = runs) -> float:
            return float(np.median([getattr(run, name) for run in runs]))

        rows.append(
            (
                str(streams),
                f"{asked:,.0f} ({middle('rate'):,.0f})",
                tool + (f" ({lost} lost)" if lost else ""),
                f"{middle('cpu_us'):.1f} ({middle('system_us'):.1f})",
                f"{middle('cpu_ms_a_request'):.2f}",
                f"{middle('first'):,.0f}",
                f"{middle('p50'):,.0f}",
                f"{middle('p99'):,.0f} ({min(run.p99 for run in runs):,.0f})",
                f"{middle('p999'):,.0f}",
                f"{middle('peak_mb'):.0f}",
            )
        )
    notes = dict.fromkeys(f"\n{score.tool}: {score.note}." for score in scores if score.note)
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), *notes])
