"""The commands that take stored runs, and measure nothing but an audit."""

from __future__ import annotations

from pathlib import Path

import typer

from dyno.arguments.gate import finish
from dyno.commands import flags
from foundation.errors import BadInput

runs = typer.Typer()


@runs.command(
    epilog="Examples, each after dyno plan runs/news-topics:\n\n"
    "--peak-rate 120 --headroom 30% --spare 2\n\n"
    "--trace conversation_trace.jsonl --startup 90s --catalogue accelerators.yaml\n\n"
    "--what-if 'output_tokens*0.5' --what-if 'rate*10, slo.ttft_p95=300ms'\n\n"
    "--audit (starts servers, and loads one)\n\n"
    "What is left out comes from the section plan of the run's experiment.yaml."
)
def plan(
    run: flags.RunFolder,
    peak_rate: flags.PeakRate = None,
    mean_rate: flags.MeanRate = None,
    trace: flags.PlannedTrace = None,
    headroom: flags.Headroom = None,
    spare: flags.Spare = None,
    burst: flags.Burst = None,
    startup: flags.Startup = None,
    catalogue: flags.CatalogueFile = None,
    what_if: flags.WhatIfs = None,
    audit: flags.AuditPlan = False,
    as_json: flags.PlanJson = False,
) -> None:
    """Plan how much hardware the traffic needs with each variant, from a stored run."""
    from dyno.commands.plan import audit_plan, show_plan

    options = {
        "peak_rate": peak_rate,
        "mean_rate": mean_rate,
        "trace": trace,
        "headroom": headroom,
        "spare": spare,
        "burst": burst,
        "startup": startup,
        "catalogue": catalogue,
    }
    written = {name: value for name, value in options.items() if value is not None}
    if audit:
        audit_plan(run, written)
    show_plan(run, written, what_if or (), as_json=as_json)


@runs.command(
    epilog="Examples:  dyno report runs/news-topics   dyno report runs/news-topics --gate"
)
def report(run: flags.RunFolder, gate: flags.Gate = False) -> None:
    """Make the summary, verdict and report again from a run's journals; measure nothing."""
    from dyno.commands.report import rebuild

    finish(*rebuild(run), gate)


@runs.command(
    epilog="Examples:  dyno merge part1 part2 part3   dyno merge results --out runs --json\n\n"
    "Each host sends a part of a load with dyno load --share K/N --start-at TIME. The parts stay "
    "as they are; the merge is a run like any other."
)
def merge(
    parts: flags.Parts,
    partial: flags.Partial = False,
    as_json: flags.Json = False,
    out: flags.Out = Path("runs"),
) -> None:
    """Put the parts of one load that several hosts sent together, and report the measurement."""
    from dyno.commands.merge import merge_load

    merge_load(parts, out, partial=partial, as_json=as_json)


@runs.command(
    epilog="Examples:  dyno compare runs/monday runs/tuesday --gate   "
    "dyno compare runs/baseline runs/a runs/b"
)
def compare(
    runs: flags.Runs,
    markdown: flags.Markdown = False,
    as_json: flags.ComparisonJson = False,
    junit: flags.JUnit = None,
    margin: flags.Margin = None,
    gate: flags.ComparisonGate = False,
) -> None:
    """Compare stored runs: two for what got worse or better, more for all variants side by side."""
    from dyno.commands.compare import compare_two, show_side_by_side

    if len(runs) != 2:
        if markdown or as_json or junit or margin or gate:
            raise BadInput(
                "--markdown, --json, --junit, --margin and --gate go with two runs: "
                "dyno compare BEFORE AFTER"
            )
        show_side_by_side(runs)
        return
    if markdown and as_json:
        raise BadInput("--markdown or --json, not both")
    code = compare_two(
        runs[0], runs[1], margin, junit, "markdown" if markdown else "json" if as_json else "table"
    )
    if gate and code:
        raise typer.Exit(code)
