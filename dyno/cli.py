"""The commands. Each one reads its arguments, calls the room that does the work, and prints what came of it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dyno.commands import flags
from dyno.terminal import signals, streams
from foundation.errors import DynoError, Exit, refused_by_system
from foundation.printable import printable
from foundation.processes.python_child import import_nothing_from_here
from foundation.secrets import hide_keys, remember_environment

if TYPE_CHECKING:
    from dyno.experiment.schema import Experiment
    from foundation.run.layout import RunDirectory
    from results.summary import Summary, Verdicts

app = typer.Typer(
    name="dyno",
    help="A dynamometer for tuned LLMs: fine-tune, quantize, serve, load, and decide what to ship.",
    epilog="First steps: [bold]dyno demo[/bold] runs the whole ring on a small real model; "
    "[bold]dyno run experiment.yaml --dry-run[/bold] checks a file of yours.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ExperimentOrRun = Annotated[
    Path,
    typer.Argument(
        metavar="EXPERIMENT.YAML|RUN",
        help="The experiment file, or a run directory whose adapters and checkpoints are then used.",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run directory, such as runs/news-topics.", show_default=False
    ),
]
Out = Annotated[Path, typer.Option("--out", help="The folder that run directories are made in.")]
Gate = Annotated[
    bool,
    typer.Option(
        "--gate",
        help="Exit 0 only where a variant is to ship, 1 where none is, 2 where that is not settled.",
    ),
]
Variant = Annotated[
    list[str] | None,
    typer.Option("--variant", help="Only these variants (repeatable).", show_default=False),
]


def main() -> None:
    """The entry point: exit codes of `foundation.errors.Exit`, one clear line for an error.

    1 and 2 are verdicts, so no fault and no broken pipe may end a command with them.
    """
    import_nothing_from_here()
    remember_environment()
    streams.steady()
    signals.end_as_ctrl_c()
    debug = "--debug" in sys.argv
    try:
        code = app(
            args=[a for a in sys.argv[1:] if a != "--debug"],
            prog_name="dyno",
            standalone_mode=False,
        )
    except SystemExit as left:  # a library's own way out, such as typer's where a pipe broke
        code = _explain(left.__context__ or left, debug) if left.code else Exit.DONE
    except BaseException as error:
        code = _explain(error, debug)
    if words := streams.lost():
        _fail(words)
    sys.exit(int(code or 0))


def _explain(error: BaseException, debug: bool) -> int:
    """Say what went wrong, in one line; the exit code for it."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return Exit.INTERRUPTED
    if isinstance(
        error, BaseExceptionGroup
    ):  # several tasks failed at once: the first that ended them all
        return _explain(error.exceptions[0], debug)
    if callable(
        show := getattr(error, "show", None)
    ):  # click's words for a wrong option or argument
        vars(error).update(message=printable(hide_keys(str(getattr(error, "message", "")))))
        show()
        return Exit.BAD_INPUT
    known = refused_by_system(error) if isinstance(error, OSError | RuntimeError) else error
    if isinstance(known, DynoError):
        _fail(str(known), getattr(known, "detail", ""), error if debug else None)
        return known.exit_code
    words = f"{type(error).__name__}: {error} (this is a fault of dyno; --debug shows where)"
    _fail(words, "", error if debug else None)
    return Exit.SYSTEM_FAILED


def _fail(message: str, detail: str = "", shown: BaseException | None = None) -> None:
    """An error on standard error: its line, what a log says of it, and with `--debug` the traceback."""
    from dyno.terminal.progress import SafeConsole

    console = SafeConsole(stderr=True)
    console.print("error:", style="bold red", end=" ")
    console.print(hide_keys(" ".join(message.splitlines())), soft_wrap=True)
    if detail:
        console.print(hide_keys(detail.rstrip()), style="dim", soft_wrap=True)
    if shown is not None:  # plain, since a key that a frame around it folds is not found
        console.print(hide_keys("".join(traceback.format_exception(shown))), soft_wrap=True)


@app.command(
    epilog="Examples:  dyno run experiment.yaml   dyno run experiment.yaml --gate   dyno run --resume runs/news-topics"
)
def run(
    context: typer.Context,
    experiment: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EXPERIMENT.YAML]", help="The experiment file.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN", help="Go on with a run that was cut off."),
    ] = None,
    gate: Gate = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the stages, start nothing.")
    ] = False,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Add blocks until every verdict is settled.")
    ] = False,
    resolution: Annotated[
        str | None,
        typer.Option(
            "--resolution",
            metavar="CHANGE",
            help="Plan the blocks so that this change of p95 shows, such as 3%.",
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            "--max-time",
            help="With --until-decided or --resolution: how long to load at most (30m).",
        ),
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option("--pilot", metavar="RUN", help="With --dry-run: plan from an earlier run."),
    ] = None,
    out: Out = Path("runs"),
) -> None:
    """The whole ring: fine-tune, quantize, serve, load, decide."""
    from dyno.experiment.loading import load_experiment
    from foundation.errors import BadInput
    from foundation.run.layout import existing_run

    if (experiment is None) == (resume is None):
        raise BadInput(
            "name an experiment file, or a run to go on with: dyno run experiment.yaml, dyno run --resume RUN"
        )
    if pilot is not None and not dry_run:
        raise BadInput("--pilot goes with --dry-run; a run has its own first blocks for a pilot")
    if resume is not None:
        given = context.get_parameter_source("out")
        if given is not None and given.name != "DEFAULT":
            raise BadInput(
                f"--out: a run that goes on stays where it is, {resume}; leave --out out"
            )
        directory = existing_run(resume)
        kept = load_experiment(directory.experiment).measured_until(
            until_decided, resolution, max_time
        )
        where = directory.path.resolve()
        if dry_run:
            from dyno.commands.dry_run import show_dry_run

            show_dry_run(kept, where, pilot, directory)
            return
        _ring(kept, where, directory, gate)
        return
    assert experiment is not None
    loaded = load_experiment(experiment).measured_until(until_decided, resolution, max_time)
    if dry_run:
        from dyno.commands.dry_run import show_dry_run

        show_dry_run(loaded, experiment.resolve().parent, pilot)
        return
    _ring(loaded, experiment.resolve().parent, out, gate, file=experiment)


@app.command(epilog="Examples:  dyno demo   dyno demo --out /tmp/runs --gate")
def demo(gate: Gate = False, out: Out = Path("runs")) -> None:
    """The example experiment on a small real model, on a laptop CPU, offline. About 15 minutes on 2 cores."""
    from dyno.experiment.examples import example
    from dyno.experiment.loading import load_experiment

    file = example("news-topics")
    _ring(load_experiment(file), file.resolve().parent, out, gate, file=file)


@app.command(
    epilog="Examples:  dyno finetune experiment.yaml   dyno finetune runs/news-topics (goes on from its last checkpoint)   "
    "dyno finetune experiment.yaml --launch 'accelerate --multi_gpu --num_processes 4'"
)
def finetune(
    experiment: ExperimentOrRun,
    launch: Annotated[
        str | None,
        typer.Option(
            "--launch",
            help="accelerate and its options: train in several processes.",
            show_default=False,
        ),
    ] = None,
    out: Out = Path("runs"),
) -> None:
    """Train the experiment's adapter, nothing else."""
    from dyno.pipeline.begin import begin_stage
    from dyno.pipeline.training import make_adapter
    from foundation.errors import BadInput

    def work(prepared: Any, directory: RunDirectory, progress: Any) -> None:
        if (adapter := make_adapter(prepared, directory, progress, launch_with=launch)) is None:
            raise BadInput(f"{experiment}: there is no section finetune")
        progress.log(f"adapter: {adapter}")

    _stage(experiment, out, [begin_stage, work])


@app.command(
    epilog="Examples:  dyno quantize experiment.yaml --variant int8   dyno quantize runs/news-topics"
)
def quantize(experiment: ExperimentOrRun, variant: Variant = None, out: Out = Path("runs")) -> None:
    """Merge and quantize the experiment's variants, the adapter trained first where one is needed; tell what it lost."""
    from dyno.pipeline.begin import begin_stage
    from dyno.pipeline.checkpoints import make_checkpoints
    from dyno.pipeline.training import make_adapter

    def work(prepared: Any, directory: RunDirectory, progress: Any) -> None:
        make_adapter(prepared, directory, progress, variant or ())
        for name, model in make_checkpoints(
            prepared, directory, progress, variant or (), recovery=True
        ).items():
            progress.log(f"{name}: {model.path} ({model.size_bytes() / 1e6:.0f} MB)")

    _stage(experiment, out, [begin_stage, work], variant or ())


@app.command(
    epilog="Examples:  dyno serve experiment.yaml --variant base   dyno serve runs/news-topics --variant int8"
)
def serve(experiment: ExperimentOrRun, variant: Variant = None, out: Out = Path("runs")) -> None:
    """Start the variants' servers, print a curl line for each, and keep them up until Ctrl-C."""
    from dyno.commands.serve import keep_up
    from dyno.pipeline.begin import begin_stage
    from dyno.pipeline.checkpoints import make_checkpoints
    from dyno.pipeline.training import make_adapter

    def work(prepared: Any, directory: RunDirectory, progress: Any) -> None:
        make_adapter(prepared, directory, progress, variant or ())
        make_checkpoints(prepared, directory, progress, variant or ())
        keep_up(prepared, directory, progress, variant or ())

    _stage(experiment, out, [begin_stage, work], variant or ())


@app.command(
    epilog="Examples, each after dyno load --url http://127.0.0.1:8000/v1 --model M:\n\n"
    "--rate 10 --prompt 'Say hello'\n\n--concurrency 1 --concurrency 8 --concurrency 64 --duration 60s --data eval.jsonl\n\n"
    "--rate 4 --synthetic --input-tokens lognormal:512:0.4 --output-tokens 128 --cache-hit 50%\n\n"
    "--concurrency 8 --sharegpt ShareGPT.json --turns 4 --think 2s\n\n--trace conversation_trace.jsonl --speed 2\n\n"
    "--rate 10 --prompt Hi --slo latency_p95=400ms --slo error_rate=0.1% --json\n\n"
    "--rate 1 --prompt Hi --header 'api-key: ${AZURE_KEY}' --extra-body '{\"priority\": 1}' --ca-file ca.pem\n\n"
    "A load is measured in several blocks, each after a short warm-up, so that dyno compare can tell two runs apart. "
    "HTTP_PROXY, HTTPS_PROXY and NO_PROXY hold."
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
    as_json: flags.Json = False,
    name: flags.Name = "load",
    out: Out = Path("runs"),
) -> None:
    """Load a URL that is already serving, and report what was measured."""
    from dyno.commands.load import Asked, Load, Target, load_experiment_for, plan_in_words

    made = load_experiment_for(
        Target(
            url=url, model=model, api=api, api_key_env=api_key_env, headers=header or (), extra_body=extra_body,
            ca_file=ca_file, insecure=insecure,
        ),
        Asked(
            prompt=prompt, data=data, synthetic=synthetic, sharegpt=sharegpt, trace=trace, input_tokens=input_tokens,
            output_tokens=output_tokens, cache_hit=cache_hit, prefixes=prefixes, turns=turns, offset=offset,
            length=length, ignore=ignore or (),
        ),
        Load(
            rates=rate or (), concurrencies=concurrency or (), requests=requests, duration=duration, blocks=blocks,
            warmup=warmup, think=think, speed=speed, timeout=timeout, seed=seed, temperature=temperature,
            ignore_eos=ignore_eos, slo=slo or (), tokenizer=tokenizer,
        ),
        name,
    )  # fmt: skip
    _ring(made, Path.cwd(), out, gate=False, as_json=as_json, first=plan_in_words(made))


@app.command(
    epilog="Examples:  dyno baseline HuggingFaceTB/SmolLM2-135M-Instruct --prompt 'Explain quantum computing in simple terms'\n\n"
    "dyno baseline http://127.0.0.1:8000/v1 --model M --prompt Hi --requests 200\n\n"
    "The requests go out one at a time, in several blocks, so that dyno compare can tell two runs apart."
)
def baseline(
    model_or_url: Annotated[
        str,
        typer.Argument(
            help="A model to serve (bundled:, folder or hub id), or the URL of an API, up to /v1."
        ),
    ],
    prompt: Annotated[str, typer.Option(help="What to ask.")],
    requests: Annotated[
        int, typer.Option(help="How many times to ask, all blocks together; p95 needs 200.")
    ] = 20,
    blocks: flags.Blocks = None,
    output_tokens: Annotated[int, typer.Option(help="The most tokens an answer may have.")] = 128,
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    timeout: flags.Timeout = None,
    model: Annotated[
        str | None, typer.Option(help="With a URL: the name its server knows the model by.")
    ] = None,
    api: flags.Api = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="With a URL: the environment variable that holds the key.")
    ] = None,
    header: flags.Headers = None,
    extra_body: flags.ExtraBody = None,
    ca_file: flags.CaFile = None,
    insecure: flags.Insecure = False,
    as_json: flags.Json = False,
    name: flags.Name = "baseline",
    out: Out = Path("runs"),
) -> None:
    """The measurement to take before tuning anything: tokens, latency, TTFT, tokens/s, kept as a run to compare with."""
    from dyno.commands.load import Questions, baseline_experiment, model_or_target, plan_in_words

    asked = model_or_target(
        model_or_url, model=model, api=api, api_key_env=api_key_env, headers=header or (), extra_body=extra_body,
        ca_file=ca_file, insecure=insecure,
    )  # fmt: skip
    questions = Questions(
        prompt=prompt, requests=requests, blocks=blocks, output_tokens=output_tokens, temperature=temperature, seed=seed,
        timeout=timeout,
    )  # fmt: skip
    made = baseline_experiment(asked, questions, name)
    _ring(
        made, Path.cwd(), out, gate=False, excerpt=True, as_json=as_json, first=plan_in_words(made)
    )


@app.command(epilog="Example:  dyno plan runs/news-topics --peak-rate 120")
def plan(
    run: RunFolder,
    peak_rate: Annotated[
        str | None, typer.Option(help="The peak to plan for, requests/s (such as 120 or 600/min).")
    ] = None,
    headroom: Annotated[str, typer.Option(help="The share of each replica kept free.")] = "20%",
    spare: Annotated[int, typer.Option(help="Replicas beyond the need.")] = 1,
) -> None:
    """How much hardware the peak needs with each variant, from what was measured."""
    from dyno.commands.report import show_plan

    show_plan(run, peak_rate, headroom, spare)


@app.command(epilog="Examples:  dyno report runs/news-topics   dyno report runs/news-topics --gate")
def report(run: RunFolder, gate: Gate = False) -> None:
    """Make the summary, verdict and report again from a run's journals; nothing is measured."""
    from dyno.commands.report import rebuild

    _finish(*rebuild(run), gate)


@app.command(
    epilog="Examples:  dyno compare runs/monday runs/tuesday --gate   dyno compare runs/baseline runs/a runs/b"
)
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories.", show_default=False)
    ],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="With two runs: print Markdown, for a pull request.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With two runs: print JSON.")] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="With two runs: write JUnit XML.")
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(
            "--margin",
            help="With two runs: the largest change that counts as none (5%).",
            show_default=False,
        ),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="With two runs: exit 0 only where all is compared and nothing worse; 1 worse, 2 unsettled, 3 nothing compared.",
        ),
    ] = False,
) -> None:
    """Stored runs: of two, what got worse or better; of more, every variant side by side. Nothing is measured."""
    from dyno.commands.compare import compare_two, show_side_by_side
    from foundation.errors import BadInput

    if len(runs) != 2:
        if markdown or as_json or junit or margin or gate:
            raise BadInput(
                "--markdown, --json, --junit, --margin and --gate go with two runs: dyno compare BEFORE AFTER"
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
    epilog="Example:  dyno calibrate (once on each machine; later runs know how many processes a load needs)"
)
def calibrate() -> None:
    """What this machine's load generator can measure: its ceiling and timestamp error, against the emulator. Takes a minute."""
    from dyno.commands.calibrate import calibrate_here

    calibrate_here()


@app.command(epilog="Example:  dyno doctor")
def doctor() -> None:
    """What is installed, which accelerator there is, which features work here, and how to get the rest."""
    from dyno.commands.doctor import examine

    examine()


def _stage(experiment: Path, out: Path, steps: list[Any], only: Iterable[str] = ()) -> None:
    """Prepare an experiment and take some of the ring's steps in a new run directory, or in the run that `experiment` is.

    `only`: the variants that the steps are for.
    """
    from dyno.artifacts.resume import taken_up
    from dyno.experiment.loading import load_experiment
    from dyno.pipeline.prepare import prepare
    from dyno.terminal.progress import open_console, progress_for
    from foundation.errors import BadInput
    from foundation.files.scratch import own_temporary_files
    from foundation.run.layout import existing_run, held_run
    from foundation.section import nearest

    begun = existing_run(experiment) if experiment.is_dir() else None
    file = begun.experiment if begun else experiment
    loaded = load_experiment(file)
    names = [each.name for each in loaded.variants]
    for name in only:
        if name not in names:
            raise BadInput(f"--variant: {name!r} is no variant{nearest(name, names)}")
    with (
        own_temporary_files(),
        progress_for(open_console()) as progress,
        held_run(begun or out) as folder,
    ):
        prepared = prepare(loaded, file.resolve().parent, progress)
        directory = folder(loaded.name)
        prepared = taken_up(prepared, directory)
        for step in steps:
            step(prepared, directory, progress)


def _ring(
    experiment: Experiment,
    where: Path,
    at: RunDirectory | Path,
    gate: bool,
    *,
    excerpt: bool = False,
    as_json: bool = False,
    first: str = "",
    file: Path | None = None,
) -> None:
    """Run the ring, then show it. `at`: the run to go on with, or the folder in which one is made once everything was checked.

    `file`: the experiment's, for a new run. `as_json`: standard output gets the results as JSON, and everything for people goes
    to standard error. `first` is said first.
    """
    from dyno.artifacts.record import edited, source_of
    from dyno.pipeline.measure import Interrupted
    from dyno.pipeline.prepare import prepare
    from dyno.pipeline.run import run_pipeline
    from dyno.terminal.loads_table import results_json
    from dyno.terminal.progress import open_console, progress_for
    from dyno.terminal.results import outage, show_results
    from foundation.errors import SystemFailed
    from foundation.files.scratch import own_temporary_files
    from foundation.run.layout import RunDirectory, held_run
    from loadgen.sending.descriptors import allow_connections

    console = open_console(stderr=as_json)
    with own_temporary_files(), progress_for(console) as progress, held_run(at) as folder:
        if first:
            progress.log(first)
        if isinstance(at, RunDirectory) and (note := edited(at, experiment)):
            progress.log(f"warning: {note}")
        prepared = prepare(experiment, where, progress)
        allow_connections(prepared.experiment.workload, len(experiment.variants))
        directory = folder(experiment.name)
        try:
            summary, verdicts = run_pipeline(
                prepared, directory, progress, source_of(file) if file else None
            )
        except (Interrupted, KeyboardInterrupt):
            progress.log(f"interrupted; go on with: dyno run --resume {directory.path}")
            raise KeyboardInterrupt from None
        except (SystemFailed, OSError):
            if directory.experiment.exists():
                progress.log(
                    f"what is whole is kept; go on with: dyno run --resume {directory.path}"
                )
            raise
    if as_json:
        streams.put(results_json(directory, summary, verdicts))
    else:
        show_results(console, directory, summary, verdicts, excerpt=excerpt)
    if words := outage(summary):
        raise SystemFailed(words)
    _finish(summary, verdicts, gate)


def _finish(summary: Summary, verdicts: Verdicts, gate: bool) -> None:
    """With `--gate`, the exit code is the verdict, with its reason as the last line."""
    if not gate:
        return
    from dyno.commands.gate import gate_of
    from dyno.terminal.progress import open_console

    found = gate_of(summary, verdicts)
    open_console().print(found.sentence, soft_wrap=True)
    if found.code:
        raise typer.Exit(found.code)


if __name__ == "__main__":
    main()
