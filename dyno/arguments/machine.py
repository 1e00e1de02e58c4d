"""The commands that look at this machine."""

from __future__ import annotations

import typer

machine = typer.Typer()


@machine.command(
    epilog="Example:  dyno calibrate (once on each machine; later runs know how many processes a "
    "load needs)"
)
def calibrate() -> None:
    """Measure this machine's load generator: its ceiling and timestamp error. Takes a minute."""
    from dyno.commands.calibrate import calibrate_here

    calibrate_here()


@machine.command(epilog="Example:  dyno doctor")
def doctor() -> None:
    """Show the hardware, the features that work here, and how to get the rest."""
    from dyno.commands.doctor import examine

    examine()
