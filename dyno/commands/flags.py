"""Arguments and options of the commands, with the text that --help prints for each.

Those of a load on a served URL are in `load_flags`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    bool,
    typer.Option("--json", help="Print the results as JSON, and nothing else, on standard output."),
]
Name = Annotated[str, typer.Option(help="The run's name.")]

ExperimentOrRun = Annotated[
    Path,
    typer.Argument(
        metavar="EXPERIMENT.YAML|RUN",
        help="The experiment file, or a run directory, whose adapters and checkpoints are used.",
        show_default=False,
    ),
]
ExperimentOrRunToSearch = Annotated[
    Path | None,
    typer.Argument(
        metavar="[EXPERIMENT.YAML|RUN]",
        help="The experiment file, or a run to search in or go on with.",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run directory, such as runs/news-topics.", show_default=False
    ),
]
Out = Annotated[Path, typer.Option("--out", help="The folder for run directories.")]
Gate = Annotated[
    bool,
    typer.Option(
        "--gate",
        help="Exit 0 only if a variant is to ship, 1 if none is, 2 if that is not settled.",
    ),
]
Variant = Annotated[
    list[str] | None,
    typer.Option("--variant", help="Only these variants (repeatable).", show_default=False),
]
ProfiledVariant = Annotated[
    str, typer.Option("--variant", help="The variant to profile.", show_default=False)
]
Against = Annotated[
    str | None,
    typer.Option(help="Another variant, profiled too: the table shows the difference to it."),
]
ProfiledStage = Annotated[
    str | None, typer.Option("--stage", help="The stage whose load to use; the judged one.")
]
Iterations = Annotated[int, typer.Option(help="How many engine steps to trace.", min=1, max=2000)]
ExperimentFile = Annotated[
    Path | None,
    typer.Argument(metavar="[EXPERIMENT.YAML]", help="The experiment file.", show_default=False),
]
Resume = Annotated[
    Path | None,
    typer.Option("--resume", metavar="RUN", help="Go on with a run that was cut off."),
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        help="The shortest way to a verdict: three variants, an adapter from 128 examples, "
        "fewer requests.",
    ),
]
NoLive = Annotated[
    bool,
    typer.Option("--no-live", help="Print plain lines on a terminal too, not one live screen."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the stages, start nothing.")
]
UntilDecided = Annotated[
    bool, typer.Option("--until-decided", help="Add blocks until every verdict is settled.")
]
Resolution = Annotated[
    str | None,
    typer.Option(
        "--resolution",
        metavar="CHANGE",
        help="Plan the blocks so that this change of p95 shows, such as 3%.",
    ),
]
MaxTime = Annotated[
    str | None,
    typer.Option(
        "--max-time",
        help="With --until-decided or --resolution: how long to load at most (30m).",
    ),
]
Rounds = Annotated[int, typer.Option(help="How many rounds of remedies at most.")]
ImproveTime = Annotated[
    str,
    typer.Option(
        "--max-time",
        help="How long all rounds take at most; the block under way is measured to its end.",
    ),
]
ImproveDryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, show the first round, start nothing.")
]
ModelledFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[EXPERIMENT.YAML|RUN]",
        help="The experiment file, or a run directory, whose adapters and checkpoints are used.",
        show_default=False,
    ),
]
ModelledUrl = Annotated[
    str | None,
    typer.Option("--url", help="Instead: an OpenAI-compatible API, up to /v1, over plain http."),
]
ModelTime = Annotated[
    str, typer.Option("--max-time", help="How long the loads of one variant take in all, at most.")
]
Pilot = Annotated[
    Path | None,
    typer.Option("--pilot", metavar="RUN", help="With --dry-run: plan from an earlier run."),
]
Launch = Annotated[
    str | None,
    typer.Option(
        "--launch",
        help="accelerate and its options: train in several processes.",
        show_default=False,
    ),
]
ModelOrUrl = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_URL",
        help="A model to serve (bundled:, folder or hub id), or the URL of an API, up to /v1.",
    ),
]
BaselinePrompt = Annotated[str, typer.Option(help="The prompt.")]
BaselineRequests = Annotated[
    int, typer.Option(help="How many requests to send, all blocks together; p95 needs 200.")
]
BaselineTokens = Annotated[int, typer.Option(help="The most tokens an answer may have.")]
ModelAtUrl = Annotated[
    str | None, typer.Option(help="With a URL: the name its server knows the model by.")
]
KeyAtUrl = Annotated[
    str | None, typer.Option(help="With a URL: the environment variable that holds the key.")
]
PeakRate = Annotated[
    str | None,
    typer.Option(help="The peak to plan for, requests/s (such as 120 or 600/min)."),
]
MeanRate = Annotated[
    str | None, typer.Option(help="The mean rate, requests/s: what a month's traffic is.")
]
PlannedTrace = Annotated[
    Path | None,
    typer.Option("--trace", help="Recorded traffic to plan for, in place of --peak-rate."),
]
Headroom = Annotated[
    str | None, typer.Option(help="The share of each replica kept free; the experiment's or 20%.")
]
Spare = Annotated[
    int | None, typer.Option(help="Replicas beyond those needed; the experiment's or 1.")
]
Burst = Annotated[
    str | None, typer.Option(help="The traffic of a moment over its minute's rate, such as 1.5.")
]
Startup = Annotated[
    str | None, typer.Option(help="How long a new replica takes until it serves, such as 90s.")
]
CatalogueFile = Annotated[
    Path | None,
    typer.Option("--catalogue", help="YAML with accelerators and their prices."),
]
WhatIfs = Annotated[
    list[str] | None,
    typer.Option(
        "--what-if",
        metavar="CHANGE",
        help="Plan again with output_tokens*0.5, rate*10, prompt=short, slo.ttft_p95=300ms or "
        "replicas=3. Repeatable: a table each; with commas, changes in one.",
    ),
]
AuditPlan = Annotated[
    bool,
    typer.Option(
        "--audit",
        help="Measure the load that the plan names but has not measured, and keep both figures.",
    ),
]
PlanJson = Annotated[
    bool, typer.Option("--json", help="Print plan.json, and nothing else, on standard output.")
]
UrlToSearch = Annotated[
    str | None,
    typer.Option(
        "--url", help="Instead of an experiment: an API that is already serving, up to /v1."
    ),
]
MaxRate = Annotated[
    str | None,
    typer.Option(help="The highest rate to try, requests/s; the experiment's own if left out."),
]
MaxSearchTime = Annotated[
    str | None,
    typer.Option("--max-time", help="How long to load a variant at most; 15m if left out."),
]
Parts = Annotated[
    list[Path],
    typer.Argument(
        metavar="PART...",
        help="The directories of all parts, or folders that hold them.",
        show_default=False,
    ),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial", help="Accept missing parts: the run is INVALID, and says what is lost."
    ),
]
Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Run directories.", show_default=False)
]
Markdown = Annotated[
    bool, typer.Option("--markdown", help="With two runs: print Markdown, for a pull request.")
]
ComparisonJson = Annotated[bool, typer.Option("--json", help="With two runs: print JSON.")]
JUnit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="With two runs: write JUnit XML.")
]
Margin = Annotated[
    str | None,
    typer.Option(
        "--margin",
        help="With two runs: the largest change that counts as none (5%).",
        show_default=False,
    ),
]
ComparisonGate = Annotated[
    bool,
    typer.Option(
        "--gate",
        help="With two runs: exit 0 only if all is compared and nothing is worse; 1 worse, "
        "2 unsettled or INVALID, 3 nothing to compare.",
    ),
]
