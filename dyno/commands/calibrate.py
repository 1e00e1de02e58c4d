"""`dyno calibrate`: how far this machine's load generator can be trusted."""

from __future__ import annotations

from rich.table import Table

from dyno.terminal.progress import open_console, progress_for
from loadgen.calibration import calibrate, save
from loadgen.event_loop import run
from loadgen.sending.workers_needed import calibration_file


def calibrate_here() -> None:
    """Climb the ladders, print them, and keep them for this machine."""
    console = open_console()
    with progress_for(console) as progress:
        found = run(calibrate(progress))
    events = Table(
        "events/s",
        title=f"Streamed events, one core of {found.machine}, {found.receiver} receiver",
        title_justify="left",
    )
    for heading in ("p50 error, µs", "p99 error, µs", "read together", "core busy", "held"):
        events.add_column(heading, justify="right")
    for level in found.events:
        errors = f"{level.error_p50_us:,.0f}", f"{level.error_p99_us:,.0f}"
        events.add_row(
            f"{level.sent:,.0f}",
            *errors,
            f"{level.coalesced:.1%}",
            f"{level.busy:.0%}",
            "yes" if level.held else "no",
        )
    requests = Table("requests/s", title="Requests on a constant schedule", title_justify="left")
    for heading in ("p99 slip, ms", "sent", "core busy", "held"):
        requests.add_column(heading, justify="right")
    for each in found.requests:
        held = "yes" if each.held else "no"
        requests.add_row(
            f"{each.asked:,.0f}",
            f"{each.slip_p99_ms:.2f}",
            f"{each.achieved:.1%}",
            f"{each.busy:.0%}",
            held,
        )
    console.print(events)
    streams = Table("open streams", title="Streams with an event a second", title_justify="left")
    for heading in ("p50 error, µs", "p99 error, µs", "core busy", "held"):
        streams.add_column(heading, justify="right")
    for one in found.open:
        errors = f"{one.error_p50_us:,.0f}", f"{one.error_p99_us:,.0f}"
        streams.add_row(f"{one.streams:,}", *errors, f"{one.busy:.0%}", "yes" if one.held else "no")
    console.print(requests)
    console.print(streams)
    more = {True: "at least ", False: ""}
    console.print(
        f"good for {more[found.events_lower_bound]}{found.events_per_s:,.0f} events/s, "
        f"{more[found.requests_lower_bound]}{found.requests_per_s:,.0f} requests/s and "
        f"{more[found.streams_lower_bound]}{found.streams:,} open streams on one core",
        highlight=False,
    )
    if found.load_average > 0.5:
        console.print(
            f"note: the machine was busy (load average {found.load_average:.1f}), which makes all of this worse"
        )
    save(found, calibration_file())
    console.print(
        f"kept in {calibration_file()}; runs are held against it", highlight=False, soft_wrap=True
    )
