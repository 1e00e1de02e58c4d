"""`dyno calibrate`: how far this machine's load generator can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from dyno.terminal.progress import open_console, progress_for
from loadgen.calibration import Calibration, calibrate, save
from loadgen.event_loop import run
from loadgen.sending.workers_needed import calibration_file

BUSY_LOAD_AVERAGE = 0.5


def calibrate_here() -> None:
    """Climbs the ladders of loads, prints the results and keeps them for this machine."""
    console = open_console()
    with progress_for(console) as progress:
        calibration = run(calibrate(progress))
    for table in (_events(calibration), _requests(calibration), _streams(calibration)):
        console.print(table)
    console.print(_ceilings(calibration), highlight=False)
    if calibration.load_average > BUSY_LOAD_AVERAGE:
        console.print(
            f"note: the machine was busy (load average {calibration.load_average:.1f}), "
            "which makes all of this worse"
        )
    save(calibration, calibration_file())
    console.print(
        f"kept in {calibration_file()}; runs are held against it", highlight=False, soft_wrap=True
    )


def _events(calibration: Calibration) -> Table:
    """A row for each rate of streamed events."""
    levels = calibration.events
    return _ladder(
        f"Streamed events, one core of {calibration.machine}, {calibration.receiver} receiver",
        {
            "events/s": [f"{level.sent:,.0f}" for level in levels],
            "p50 error, µs": [f"{level.error_p50_us:,.0f}" for level in levels],
            "p99 error, µs": [f"{level.error_p99_us:,.0f}" for level in levels],
            "read together": [f"{level.coalesced:.1%}" for level in levels],
            "core busy": [f"{level.busy:.0%}" for level in levels],
            "held": [_yes_or_no(level.held) for level in levels],
        },
    )


def _requests(calibration: Calibration) -> Table:
    """A row for each rate of requests."""
    levels = calibration.requests
    return _ladder(
        "Requests on a constant schedule",
        {
            "requests/s": [f"{level.asked:,.0f}" for level in levels],
            "p99 slip, ms": [f"{level.slip_p99_ms:.2f}" for level in levels],
            "sent": [f"{level.achieved:.1%}" for level in levels],
            "core busy": [f"{level.busy:.0%}" for level in levels],
            "held": [_yes_or_no(level.held) for level in levels],
        },
    )


def _streams(calibration: Calibration) -> Table:
    """A row for each number of open streams."""
    levels = calibration.open
    return _ladder(
        "Streams with an event a second",
        {
            "open streams": [f"{level.streams:,}" for level in levels],
            "p50 error, µs": [f"{level.error_p50_us:,.0f}" for level in levels],
            "p99 error, µs": [f"{level.error_p99_us:,.0f}" for level in levels],
            "core busy": [f"{level.busy:.0%}" for level in levels],
            "held": [_yes_or_no(level.held) for level in levels],
        },
    )


def _ladder(title: str, columns: Mapping[str, Sequence[str]]) -> Table:
    """The texts of each column by its heading; the first names the load."""
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(columns):
        table.add_column(heading, justify="right" if place else "left")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _ceilings(calibration: Calibration) -> str:
    """The highest loads that one core held; "at least" if the ladder ended first."""
    bound = {True: "at least ", False: ""}
    return (
        f"good for {bound[calibration.events_lower_bound]}{calibration.events_per_s:,.0f} events/s,"
        f" {bound[calibration.requests_lower_bound]}{calibration.requests_per_s:,.0f} requests/s"
        f" and {bound[calibration.streams_lower_bound]}{calibration.streams:,} open streams"
        " on one core"
    )
