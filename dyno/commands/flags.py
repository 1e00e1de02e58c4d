"""Arguments and options of the commands, with the text that --help prints for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str,
    typer.Option(
        help="An OpenAI-compatible API, up to /v1, or its whole endpoint; http, https or http+unix."
    ),
]
Model = Annotated[str, typer.Option(help="The name the server knows the model by.")]
Rates = Annotated[
    list[str] | None,
    typer.Option(
        "--rate", help="Open loop: requests/s, Poisson arrivals. Repeatable: each is measured."
    ),
]
Concurrencies = Annotated[
    list[int] | None,
    typer.Option(
        "--concurrency", help="Closed loop: requests kept in flight. Repeatable: each is measured."
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(
        help="Requests (or sessions) measured at each load, all blocks together; 500 if left out. "
        "Warm-up comes on top."
    ),
]
Duration = Annotated[
    str | None,
    typer.Option(
        help="Instead of --requests: how long each load is measured, all blocks together, "
        "such as 60s."
    ),
]
Blocks = Annotated[
    int | None,
    typer.Option(
        help="Into how many blocks a measurement is divided; two runs are compared by their "
        "blocks. 5, or fewer if one would be too short; a trace is replayed once in each.",
        show_default=False,
    ),
]
Warmup = Annotated[
    str | None,
    typer.Option(help="At the start of each block, sent and not counted; 1s if left out."),
]
Prompt = Annotated[str | None, typer.Option(help="One prompt, repeated.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Prompts from JSON, CSV or Parquet; answers in it, if any, are references."),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", help="With --data: a key of its lines or messages to leave out. Repeatable."
    ),
]
Synthetic = Annotated[
    bool, typer.Option("--synthetic", help="Prompts of random words, exactly as long as asked.")
]
ShareGpt = Annotated[
    Path | None, typer.Option(help="Sessions out of ShareGPT JSON, or JSON lines of messages.")
]
Trace = Annotated[
    Path | None,
    typer.Option(
        help="Prompts as long as recorded, at the recorded times unless --rate or --concurrency "
        "says otherwise."
    ),
]
InputTokens = Annotated[
    str | None,
    typer.Option(
        help="With --synthetic: 512, uniform:256:768, normal:512:64 or lognormal:512:0.4."
    ),
]
OutputTokens = Annotated[
    str,
    typer.Option(
        help="The most tokens an answer may have; with --synthetic its exact length, or a "
        "distribution."
    ),
]
CacheHit = Annotated[
    str | None,
    typer.Option(help="With --synthetic: the share of input that a prefix cache should hold."),
]
Prefixes = Annotated[
    int | None, typer.Option(help="With --cache-hit: how many different prefixes.")
]
Turns = Annotated[
    str | None,
    typer.Option(help="Turns of a session: as --input-tokens, or ShareGPT's first ones."),
]
Think = Annotated[
    str | None, typer.Option(help="How long a user waits after an answer, such as 2s.")
]
Speed = Annotated[float, typer.Option(help="With --trace: 2 is twice as fast as recorded.")]
Offset = Annotated[
    str | None, typer.Option(help="With --trace: how much of its beginning to skip, such as 10m.")
]
Length = Annotated[
    str | None, typer.Option(help="With --trace: how much of it to replay, such as 5m.")
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos", help="Answers go on to --output-tokens (vLLM, SGLang, llama.cpp)."
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Seeds arrivals and prompts; sent with every request.")
]
Temperature = Annotated[float | None, typer.Option(help="Sent with every request; 0 if left out.")]
Timeout = Annotated[
    str | None,
    typer.Option(help="An answer that takes longer has failed; 300s, and 60s to its first token."),
]
Slo = Annotated[
    list[str] | None,
    typer.Option(
        "--slo", metavar="METRIC=LIMIT", help="An objective: latency_p95=400ms. Repeatable."
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="A further header; ${KEY} is the environment's KEY. Repeatable.",
    ),
]
ExtraBody = Annotated[
    str | None,
    typer.Option(metavar="JSON", help="Further fields of every request, as a JSON object."),
]
CaFile = Annotated[
    Path | None, typer.Option(help="The certificates (PEM) that sign the server's own.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Do not check the server's certificate.")
]
Traces = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        help="Take the server's traces (OTLP) on this port of 127.0.0.1, such as 4318, and say "
        "where in the server the time goes. Prints what the server needs.",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="The model whose tokenizer counts tokens, a folder or hub id; --model's if it is here."
    ),
]
Machines = Annotated[
    str | None,
    typer.Option(
        help="Load from the nodes of a Ray cluster: auto (the one on this machine), HOST:PORT or "
        "ray://HOST:10001."
    ),
]
Api = Annotated[
    str | None, typer.Option(help="chat or completions; what the URL ends in, else chat.")
]
ApiKeyEnv = Annotated[
    str | None, typer.Option(help="The environment variable that holds the API key.")
]
Share = Annotated[
    str | None,
    typer.Option(
        "--share",
        metavar="K/N",
        envvar="DYNO_SHARE",
        help="Send every N-th arrival from the K-th (from 1), beside N-1 other hosts; "
        "dyno merge puts the parts together.",
    ),
]
StartAt = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="With --share: when all hosts begin, such as 2026-12-01T10:00:00Z.",
    ),
]
Gap = Annotated[
    str | None,
    typer.Option(
        help="With --share: the time between two blocks, in which answers come in; 10s if left "
        "out.",
    ),
]
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
        "--max-time", help="How long all rounds take at most; the block under way is measured."
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
        help="A model to serve (bundled:, folder or hub id), or the URL of an API, up to /v1."
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
    str | None, typer.Option(help="The share of each replica kept free; 20% if left out.")
]
Spare = Annotated[int | None, typer.Option(help="Replicas beyond those needed; 1 if left out.")]
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
        "2 unsettled, 3 nothing compared.",
    ),
]
