"""The command line: the commands of `dyno/arguments` in one program, and how it ends."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from dyno.arguments.experiments import experiments
from dyno.arguments.machine import machine
from dyno.arguments.runs import runs
from dyno.arguments.servers import servers
from dyno.terminal import signals, streams
from dyno.terminal.errors import explain, fail
from foundation.errors import Exit
from foundation.processes.python_child import import_nothing_from_here
from foundation.secrets import remember_environment

app = typer.Typer(
    name="dyno",
    help="A dynamometer for tuned LLMs: fine-tune, quantize, serve, load, and decide what to ship.",
    epilog="First steps: [bold]dyno demo --quick[/bold] goes the whole way on a small real model; "
    "[bold]dyno run experiment.yaml --dry-run[/bold] checks a file of yours.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (experiments, servers, runs, machine):
    app.add_typer(commands)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"tunedyno {metadata.version('tunedyno')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Takes the options that belong to no command."""


def main() -> None:
    """Runs a command; ends with a code of `foundation.errors.Exit`, and one line for an error.

    1 and 2 are verdicts, so no fault and no broken pipe may end a command with them.
    """
    import_nothing_from_here()
    remember_environment()
    streams.make_safe()
    signals.end_as_ctrl_c()
    debug = "--debug" in sys.argv
    try:
        code = app(
            args=[a for a in sys.argv[1:] if a != "--debug"],
            prog_name="dyno",
            standalone_mode=False,
        )
    except SystemExit as end:  # a library's own way out, such as typer's when a pipe broke
        code = explain(end.__context__ or end, debug=debug) if end.code else Exit.DONE
    except BaseException as error:
        code = explain(error, debug=debug)
    if problem := streams.output_problem():
        fail(problem)
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
