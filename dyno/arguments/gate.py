"""The end of a command with `--gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from results.summary import Summary, Verdicts


def finish(summary: Summary, verdicts: Verdicts, gate: bool) -> None:
    """With `--gate`, prints the gate's reason as the last line and exits with its code."""
    if not gate:
        return
    from dyno.terminal.gate import gate_of
    from dyno.terminal.progress import open_console

    outcome = gate_of(summary, verdicts)
    open_console().print(outcome.sentence, soft_wrap=True)
    if outcome.code:
        raise typer.Exit(outcome.code)
