"""The command line: each command declares its arguments and calls its file in `dyno/commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dyno.commands import flags
from dyno.terminal import signals, streams
from dyno.terminal.errors import explain, fail
from foundation.errors import BadInput, Exit
from foundation.processes.python_child import import_nothing_from_here
from foundation.secrets import remember_environment

if TYPE_CHECKING:
    from results.summary import Summary, Verdicts

app = typer.Typer(
    name="dyno",
    help="A dynamometer for tuned LLMs: fine-tune, quantize, serve, load, and decide what to ship.",
    epilog="First steps: [bold]dyno demo[/bold] runs the whole pipeline on a small real model; "
    "[bold]dyno run experiment.yaml --dry-run[/bold] checks a file of yours.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


@app.command(
    epilog="Examples:  dyno run experiment.yaml   dyno run experiment.yaml --gate   "
    "dyno run --resume runs/news-topics"
)
def run(
    context: typer.Context,
    experiment: flags.ExperimentFile = None,
    resume: flags.Resume = None,
    gate: flags.Gate = False,
    dry_run: flags.DryRun = False,
    until_decided: flags.UntilDecided = False,
    resolution: flags.Resolution = None,
    max_time: flags.MaxTime = None,
    pilot: flags.Pilot = None,
    out: flags.Out = Path("runs"),
) -> None:
    """Run the whole pipeline: fine-tune, quantize, serve, load, decide."""
    from dyno.commands.dry_run import dry_run_file, dry_run_resumed
    from dyno.commands.run import StoppingRule, resume_run, run_file

    if (experiment is None) == (resume is None):
        raise BadInput(
            "name an experiment file, or a run to go on with: "
            "dyno run experiment.yaml, dyno run --resume RUN"
        )
    if pilot is not None and not dry_run:
        raise BadInput("--pilot goes with --dry-run; a run has its own first blocks for a pilot")
    rule = StoppingRule(decided=until_decided, resolution=resolution, max_time=max_time)
    if resume is not None:
        source = context.get_parameter_source("out")
        if source is not None and source.name != "DEFAULT":
            raise BadInput(
                f"--out: a run that goes on stays where it is, {resume}; leave --out out"
            )
        if dry_run:
            dry_run_resumed(resume, rule, pilot)
        else:
            _finish(*resume_run(resume, rule), gate)
    elif experiment is not None:
        if dry_run:
            dry_run_file(experiment, rule, pilot)
        else:
            _finish(*run_file(experiment, out, rule), gate)


@app.command(epilog="Examples:  dyno demo   dyno demo --out /tmp/runs --gate")
def demo(gate: flags.Gate = False, out: flags.Out = Path("runs")) -> None:
    """Run the example experiment on a small real model, offline. About 15 minutes on 2 cores."""
    from dyno.commands.run import run_demo

    _finish(*run_demo(out), gate)


@app.command(
    epilog="Examples:  dyno finetune experiment.yaml   "
    "dyno finetune runs/news-topics (goes on from its last checkpoint)   "
    "dyno finetune experiment.yaml --launch 'accelerate --multi_gpu --num_processes 4'"
)
def finetune(
    experiment: flags.ExperimentOrRun,
    launch: flags.Launch = None,
    out: flags.Out = Path("runs"),
) -> None:
    """Train the experiment's adapter, nothing else."""
    from dyno.commands.finetune import train_adapter

    train_adapter(experiment, out, launch)


@app.command(
    epilog="Examples:  dyno quantize experiment.yaml --variant int8   "
    "dyno quantize runs/news-topics"
)
def quantize(
    experiment: flags.ExperimentOrRun, variant: flags.Variant = None, out: flags.Out = Path("runs")
) -> None:
    """Merge and quantize the experiment's variants, and print what quantizing lost.

    Trains the adapter first if a variant needs it.
    """
    from dyno.commands.quantize import quantize_variants

    quantize_variants(experiment, out, variant or ())


@app.command(
    epilog="Examples:  dyno serve experiment.yaml --variant base   "
    "dyno serve runs/news-topics --variant int8"
)
def serve(
    experiment: flags.ExperimentOrRun, variant: flags.Variant = None, out: flags.Out = Path("runs")
) -> None:
    """Start the variants' servers, print a curl line for each, and keep them up until Ctrl-C."""
    from dyno.commands.serve import serve_variants

    serve_variants(experiment, out, variant or ())


@app.command(
    epilog="Example:  dyno profile runs/news-topics --variant int8 --against merged --iterations 64"
)
def profile(
    experiment: flags.ExperimentOrRun,
    variant: flags.ProfiledVariant,
    against: flags.Against = None,
    stage: flags.ProfiledStage = None,
    iterations: flags.Iterations = 64,
    out: flags.Out = Path("runs"),
) -> None:
    """Show where an engine step's time goes, and why two variants differ.

    Each variant gets a server with vLLM's torch profiler and a load of its own, in no judged block.
    """
    from dyno.commands.profile import profile_variants

    profile_variants(experiment, out, variant, against, stage, iterations)


@app.command(
    epilog="Examples, each after dyno load --url http://127.0.0.1:8000/v1 --model M:\n\n"
    "--rate 10 --prompt 'Say hello'\n\n"
    "--concurrency 1 --concurrency 8 --concurrency 64 --duration 60s --data eval.jsonl\n\n"
    "--rate 4 --synthetic --input-tokens lognormal:512:0.4 --output-tokens 128 --cache-hit 50%\n\n"
    "--concurrency 8 --sharegpt ShareGPT.json --turns 4 --think 2s\n\n"
    "--trace conversation_trace.jsonl --speed 2\n\n"
    "--rate 10 --prompt Hi --slo latency_p95=400ms --slo error_rate=0.1% --json\n\n"
    "--rate 1 --prompt Hi --header 'api-key: ${AZURE_KEY}' --extra-body '{\"priority\": 1}' "
    "--ca-file ca.pem\n\n"
    "--rate 4 --prompt Hi --traces 4318\n\n"
    "A load is measured in several blocks, each after a short warm-up, so that dyno compare can "
    "tell two runs apart. HTTP_PROXY, HTTPS_PROXY and NO_PROXY hold."
)
def load(
    url: flags.Url,
    model: flags.Model,
    rate: flags.Rates = None,
    concurrency: flags.Concurrencies = None,
    requests: flags.Requests = None,
    duration: flags.Duration = None,
    blocks: flags.Blocks = None,
    warmup: flags.Warmup = None,
    prompt: flags.Prompt = None,
    data: flags.Data = None,
    ignore: flags.Ignore = None,
    synthetic: flags.Synthetic = False,
    sharegpt: flags.ShareGpt = None,
    trace: flags.Trace = None,
    input_tokens: flags.InputTokens = None,
    output_tokens: flags.OutputTokens = "128",
    ignore_eos: flags.IgnoreEos = False,
    cache_hit: flags.CacheHit = None,
    prefixes: flags.Prefixes = None,
    turns: flags.Turns = None,
    think: flags.Think = None,
    speed: flags.Speed = 1.0,
    offset: flags.Offset = None,
    length: flags.Length = None,
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    timeout: flags.Timeout = None,
    slo: flags.Slo = None,
    tokenizer: flags.Tokenizer = None,
    api: flags.Api = None,
    api_key_env: flags.ApiKeyEnv = None,
    header: flags.Headers = None,
    extra_body: flags.ExtraBody = None,
    ca_file: flags.CaFile = None,
    insecure: flags.Insecure = False,
    traces: flags.Traces = None,
    as_json: flags.Json = False,
    name: flags.Name = "load",
    out: flags.Out = Path("runs"),
) -> None:
    """Load a URL that is already serving, and report the measurement."""
    from dyno.commands.load import LoadShape, PromptSource, Target, load_url

    target = Target(
        url=url,
        model=model,
        api=api,
        api_key_env=api_key_env,
        headers=header or (),
        extra_body=extra_body,
        ca_file=ca_file,
        insecure=insecure,
        traces=traces,
    )
    source = PromptSource(
        prompt=prompt,
        data=data,
        ignore=ignore or (),
        synthetic=synthetic,
        sharegpt=sharegpt,
        trace=trace,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_hit=cache_hit,
        prefixes=prefixes,
        turns=turns,
        offset=offset,
        length=length,
    )
    shape = LoadShape(
        rates=rate or (),
        concurrencies=concurrency or (),
        requests=requests,
        duration=duration,
        blocks=blocks,
        warmup=warmup,
        think=think,
        speed=speed,
        timeout=timeout,
        seed=seed,
        temperature=temperature,
        ignore_eos=ignore_eos,
        slo=slo or (),
        tokenizer=tokenizer,
    )
    load_url(target, source, shape, name, out, as_json=as_json)


@app.command(
    epilog="Examples:  dyno baseline HuggingFaceTB/SmolLM2-135M-Instruct "
    "--prompt 'Explain quantum computing in simple terms'\n\n"
    "dyno baseline http://127.0.0.1:8000/v1 --model M --prompt Hi --requests 200\n\n"
    "The requests go out one at a time, in several blocks, so that dyno compare can tell two runs "
    "apart."
)
def baseline(
    model_or_url: flags.ModelOrUrl,
    prompt: flags.BaselinePrompt,
    requests: flags.BaselineRequests = 20,
    blocks: flags.Blocks = None,
    output_tokens: flags.BaselineTokens = 128,
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    timeout: flags.Timeout = None,
    model: flags.ModelAtUrl = None,
    api: flags.Api = None,
    api_key_env: flags.KeyAtUrl = None,
    header: flags.Headers = None,
    extra_body: flags.ExtraBody = None,
    ca_file: flags.CaFile = None,
    insecure: flags.Insecure = False,
    as_json: flags.Json = False,
    name: flags.Name = "baseline",
    out: flags.Out = Path("runs"),
) -> None:
    """Measure before you tune anything: tokens, latency, TTFT, tokens/s, kept as a run."""
    from dyno.commands.baseline import BaselineRequests, Target, measure_baseline

    target = Target(
        url=model_or_url,
        model=model,
        api=api,
        api_key_env=api_key_env,
        headers=header or (),
        extra_body=extra_body,
        ca_file=ca_file,
        insecure=insecure,
    )
    baseline_requests = BaselineRequests(
        prompt=prompt,
        requests=requests,
        blocks=blocks,
        output_tokens=output_tokens,
        temperature=temperature,
        seed=seed,
        timeout=timeout,
    )
    measure_baseline(target, baseline_requests, name, out, as_json=as_json)


@app.command(
    epilog="Examples:  dyno search experiment.yaml --max-rate 50   "
    "dyno search runs/news-topics (goes on where it was cut off)\n\n"
    "dyno search --url http://127.0.0.1:8000/v1 --model M --prompt Hi --slo ttft_p95=500ms "
    "--max-rate 50\n\n"
    "Exit code 2: an interval is wider than it should be; 3: no rate keeps the SLO."
)
def search(
    experiment: flags.ExperimentOrRunToSearch = None,
    url: flags.UrlToSearch = None,
    model: flags.ModelAtUrl = None,
    max_rate: flags.MaxRate = None,
    max_time: flags.MaxSearchTime = None,
    slo: flags.Slo = None,
    prompt: flags.Prompt = None,
    data: flags.Data = None,
    synthetic: flags.Synthetic = False,
    input_tokens: flags.InputTokens = None,
    output_tokens: flags.OutputTokens = "128",
    api_key_env: flags.KeyAtUrl = None,
    name: flags.Name = "search",
    out: flags.Out = Path("runs"),
) -> None:
    """Search for the highest rate that keeps the SLO: one that holds and one that fails."""
    from dyno.commands.search import PromptSource, SearchFlags, Target, search_file, search_url

    search_flags = SearchFlags(max_rate=max_rate, max_time=max_time)
    if (experiment is None) == (url is None):
        raise BadInput("name an experiment file or a run, or write --url")
    if experiment is not None:
        if slo or model or prompt or data or synthetic:
            raise BadInput(
                "--slo, --model and the flags about prompts go with --url; an experiment has its "
                "own sections"
            )
        code = search_file(experiment, out, search_flags)
    elif url is not None:
        if model is None:
            raise BadInput("with --url, write --model: the name its server knows the model by")
        target = Target(url=url, model=model, api_key_env=api_key_env)
        source = PromptSource(
            prompt=prompt,
            data=data,
            synthetic=synthetic,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        code = search_url(target, source, slo or (), search_flags, name, out)
    if code:
        raise typer.Exit(code)


@app.command(
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


@app.command(epilog="Examples:  dyno report runs/news-topics   dyno report runs/news-topics --gate")
def report(run: flags.RunFolder, gate: flags.Gate = False) -> None:
    """Make the summary, verdict and report again from a run's journals; measure nothing."""
    from dyno.commands.report import rebuild

    _finish(*rebuild(run), gate)


@app.command(
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


@app.command(
    epilog="Example:  dyno calibrate (once on each machine; later runs know how many processes a "
    "load needs)"
)
def calibrate() -> None:
    """Measure this machine's load generator: its ceiling and timestamp error. Takes a minute."""
    from dyno.commands.calibrate import calibrate_here

    calibrate_here()


@app.command(
    epilog="Examples:  dyno calibrate-model runs/news-topics --variant int8   "
    "dyno calibrate-model --url http://127.0.0.1:8000/v1 --model M --max-time 60s"
)
def calibrate_model(
    experiment: flags.ModelledFile = None,
    variant: flags.Variant = None,
    url: flags.ModelledUrl = None,
    model: flags.ModelAtUrl = None,
    tokenizer: flags.Tokenizer = None,
    api: flags.Api = None,
    api_key_env: flags.KeyAtUrl = None,
    max_time: flags.ModelTime = "3m",
    name: flags.Name = "model",
    out: flags.Out = Path("runs"),
) -> None:
    """Measure what an engine step takes, so that plans hold at loads that were not measured.

    Each load is the one that tells most of what is still unknown; no verdict depends on any.
    """
    from dyno.commands.calibrate_model import Target, calibrate_run, calibrate_url

    if url is not None and experiment is None:
        target = Target(url=url, model=model, api=api, api_key_env=api_key_env)
        calibrate_url(target, tokenizer, max_time, name, out)
    elif experiment is not None and url is None:
        calibrate_run(experiment, variant or (), max_time, out)
    else:
        raise BadInput(
            "name an experiment or a run, or the URL of a server: dyno calibrate-model RUN, "
            "dyno calibrate-model --url http://HOST/v1 --model M"
        )


@app.command(epilog="Example:  dyno doctor")
def doctor() -> None:
    """Show the hardware, the features that work here, and how to get the rest."""
    from dyno.commands.doctor import examine

    examine()


def _finish(summary: Summary, verdicts: Verdicts, gate: bool) -> None:
    """With `--gate`, prints the gate's reason as the last line and exits with its code."""
    if not gate:
        return
    from dyno.terminal.gate import gate_of
    from dyno.terminal.progress import open_console

    outcome = gate_of(summary, verdicts)
    open_console().print(outcome.sentence, soft_wrap=True)
    if outcome.code:
        raise typer.Exit(outcome.code)


if __name__ == "__main__":
    main()
