"""The commands that take an experiment: run it all, or one of its stages."""

from __future__ import annotations

from pathlib import Path

import typer

from dyno.arguments.gate import finish
from dyno.commands import flags
from foundation.errors import BadInput

experiments = typer.Typer()


@experiments.command(
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
    no_live: flags.NoLive = False,
    out: flags.Out = Path("runs"),
) -> None:
    """Run the whole pipeline: fine-tune, quantize, serve, load, decide."""
    from dyno.commands.dry_run import dry_run_file, dry_run_resumed
    from dyno.commands.run import RunOutput, StoppingRule, resume_run, run_file

    if experiment is not None and resume is not None:
        raise BadInput(
            f"--resume goes on with the experiment of {resume} as it is there; leave {experiment} "
            "out, or edit the run's experiment.yaml"
        )
    if experiment is None and resume is None:
        raise BadInput(
            "name an experiment file, or a run to go on with: "
            "dyno run experiment.yaml, dyno run --resume RUN"
        )
    if pilot is not None and not dry_run:
        raise BadInput("--pilot goes with --dry-run; a run has its own first blocks for a pilot")
    rule = StoppingRule(decided=until_decided, resolution=resolution, max_time=max_time)
    output = RunOutput(live=not no_live)
    if resume is not None:
        source = context.get_parameter_source("out")
        if source is not None and source.name != "DEFAULT":
            raise BadInput(
                f"--out: a run that goes on stays where it is, {resume}; leave --out out"
            )
        if dry_run:
            dry_run_resumed(resume, rule, pilot)
        else:
            finish(*resume_run(resume, rule, output), gate)
    elif experiment is not None:
        if dry_run:
            dry_run_file(experiment, rule, pilot)
        else:
            finish(*run_file(experiment, out, rule, output), gate)


@experiments.command(
    epilog="Examples:  dyno improve runs/news-topics --dry-run   "
    "dyno improve experiment.yaml --rounds 3 --max-time 1h"
)
def improve(
    experiment: flags.ExperimentOrRun,
    rounds: flags.Rounds = 3,
    max_time: flags.ImproveTime = "1h",
    dry_run: flags.ImproveDryRun = False,
    no_live: flags.NoLive = False,
    out: flags.Out = Path("runs"),
) -> None:
    """Try remedies on what does not ship, measure them, and go on until a variant ships.

    The exit code is the outcome: 0 a variant ships, 1 reconsider, 2 not settled.
    """
    from dyno.commands.improve import improve as improve_run
    from dyno.commands.improve import improve_limits, show_first_round

    limits = improve_limits(rounds, max_time)
    if dry_run:
        show_first_round(experiment)
    elif code := improve_run(experiment, out, limits, live=not no_live):
        raise typer.Exit(code)


@experiments.command(
    epilog="Examples:  dyno demo --quick   dyno demo   dyno demo --out /tmp/runs --gate"
)
def demo(
    quick: flags.Quick = False,
    gate: flags.Gate = False,
    no_live: flags.NoLive = False,
    out: flags.Out = Path("runs"),
) -> None:
    """Run an example on a small real model: fine-tune, quantize, serve, load, decide.

    It needs 2 CPU cores, no model hub, and a package index the first time.
    """
    from dyno.commands.run import RunOutput, run_demo

    finish(*run_demo(out, quick=quick, output=RunOutput(live=not no_live)), gate)


@experiments.command(
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


@experiments.command(
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


@experiments.command(
    epilog="Examples:  dyno serve experiment.yaml --variant base   "
    "dyno serve runs/news-topics --variant int8"
)
def serve(
    experiment: flags.ExperimentOrRun, variant: flags.Variant = None, out: flags.Out = Path("runs")
) -> None:
    """Start the variants' servers, print a curl line for each, and keep them up until Ctrl-C."""
    from dyno.commands.serve import serve_variants

    serve_variants(experiment, out, variant or ())


@experiments.command(
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
