"""`dyno calibrate`: how far this machine's load generator can be trusted."""

from __future__ import annotations

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
    title = f"Streamed events, one core of {calibration.machine}, {calibration.receiver} receiver"
    table = _table("events/s", title)
    for heading in ("p50 error, µs", "p99 error, µs", "read together", "core busy", "held"):
        table.add_column(heading, justify="right")
    for level in calibration.events:
        table.add_row(
            f"{level.sent:,.0f}",
            f"{level.error_p50_us:,.0f}",
            f"{level.error_p99_us:,.0f}",
            f"{level.coalesced:.1%}",
            f"{level.busy:.0%}",
            _yes_or_no(level.held),
        )
    return table


def _requests(calibration: Calibration) -> Table:
    """A row for each rate of requests."""
    table = _table("requests/s", "Requests on a constant schedule")
    for heading in ("p99 slip, ms", "sent", "core busy", "held"):
        table.add_column(heading, justify="right")
    for level in calibration.requests:
        table.add_row(
            f"{level.asked:,.0f}",
            f"{level.slip_p99_ms:.2f}",
            f"{level.achieved:.1%}",
            f"{level.busy:.0%}",
            _yes_or_no(level.held),
        )
    return table


def _streams(calibration: Calibration) -> Table:
    """A row for each number of open streams."""
    table = _table("open streams", "Streams with an event a second")
    for heading in ("p50 error, µs", "p99 error, µs", "core busy", "held"):
        table.add_column(heading, justify="right")
    for level in calibration.open:
        table.add_row(
            f"{level.streams:,}",
            f"{level.error_p50_us:,.0f}",
            f"{level.error_p99_us:,.0f}",
            f"{level.busy:.0%}",
            _yes_or_no(level.held),
        )
    return table


def _table(first_column: str, title: str) -> Table:
    return Table(first_column, title=title, title_justify="left")


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
