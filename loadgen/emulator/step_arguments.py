"""The command line of an engine with steps."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from foundation.units import parse_count, parse_number, parse_seconds
from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.plant import Oddities, Plant, StepCost

_COUNTS = {
    "--max-num-seqs": "requests in a step",
    "--max-num-batched-tokens": "tokens in a step",
    "--kv-blocks": "blocks of the KV cache; without it there is no limit",
    "--block-size": "tokens in a block",
    "--max-loras": "adapters in a step; without it there is no limit",
}
_STEP_OPTIONS = (
    *(name.removeprefix("--").replace("-", "_") for name in _COUNTS),
    "chunked_prefill", "prefix_cache", "step_noise", "step_drift", "step_cliff",
    "front_per_token", "after_step", "step_truth",
)  # fmt: skip
T = TypeVar("T")


def add_step_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the engine that `--step` makes."""
    steps = parser.add_argument_group("an engine with steps of continuous batching, as in vLLM V1")
    steps.add_argument(
        "--step",
        type=_explained(StepCost.parse),
        metavar="COST",
        help="fixed=8ms,decode=50us,prefill=20us,kv=2ns,pair=0ns: what a step takes, and for each "
        "request that decodes, prompt token, token in its KV cache, and pair of prompt tokens",
    )
    for name, purpose in _COUNTS.items():
        steps.add_argument(name, type=_explained(parse_count), metavar="N", help=purpose)
    steps.add_argument(
        "--chunked-prefill", action=argparse.BooleanOptionalAction, help="prompts come in pieces"
    )
    steps.add_argument(
        "--prefix-cache", action=argparse.BooleanOptionalAction, help="full blocks are kept"
    )
    steps.add_argument(
        "--step-noise",
        type=_explained(parse_number),
        default=0.0,
        metavar="SIGMA",
        help="a lognormal factor of mean 1 on each step's time",
    )
    steps.add_argument(
        "--step-drift",
        type=_explained(Oddities.parse_drift),
        default=(0.0, 600.0),
        metavar="SHARE:PERIOD",
        help="0.1:600s: times move by a share, as a sine",
    )
    steps.add_argument(
        "--step-cliff",
        type=_explained(Oddities.parse_cliff),
        default=(None, 0.0),
        metavar="N:SHARE",
        help="32:0.5: steps of more than 32 requests take half as long again",
    )
    steps.add_argument(
        "--front-per-token",
        type=_explained(parse_seconds),
        default=0.0,
        metavar="TIME",
        help="time before the queue, for each prompt token, beside --front",
    )
    steps.add_argument(
        "--after-step",
        type=_explained(parse_seconds),
        default=0.0,
        metavar="TIME",
        help="time from the end of a step until its tokens are sent",
    )
    steps.add_argument("--step-truth", type=Path, metavar="FILE", help="log each step, as JSON")


def plant_of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> Plant | None:
    """The plant that the arguments describe; None without `--step`. Ends on what does not fit."""
    if args.step is None:
        for name in _STEP_OPTIONS:
            if getattr(args, name) != parser.get_default(name):
                parser.error(f"--{name.replace('_', '-')} goes with --step")
        return None
    if args.lockstep or args.slots or args.tokens_per_chunk != 1:
        parser.error("--step goes without --lockstep, --slots and --tokens-per-chunk")
    named = {
        "max_num_seqs": args.max_num_seqs,
        "max_num_batched_tokens": args.max_num_batched_tokens,
        "kv_blocks": args.kv_blocks,
        "block_size": args.block_size,
        "max_loras": args.max_loras,
        "chunked_prefill": args.chunked_prefill,
        "prefix_caching": args.prefix_cache,
    }
    cliff, cliff_share = args.step_cliff
    drift, drift_period = args.step_drift
    try:
        return Plant(
            args.step,
            BatchLimits(**{name: value for name, value in named.items() if value is not None}),
            Oddities(args.step_noise, drift, drift_period, cliff, cliff_share),
            args.front,
            args.front_per_token,
            args.after_step,
            args.seed,
        )
    except ValueError as problem:
        parser.error(str(problem))


def _explained(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The parser, whose reason argparse shows; that of a ValueError it keeps to itself."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return parsed
