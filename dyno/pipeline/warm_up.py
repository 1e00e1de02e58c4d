"""Short loads before any that count: warm-up, prompt lengths, and rates that others are relative to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dyno.artifacts.resume import keep_prompts
from dyno.artifacts.stored import is_done, mark
from dyno.pipeline import prompt_lengths, relative_rates
from dyno.pipeline.block_runner import BlockRunner
from dyno.pipeline.blocks import LoadBlock, questions_in, styles_of, variants_named, warm_up_blocks
from dyno.pipeline.prepared import Prepared
from foundation.run.journal import Journal, read_journal
from foundation.run.layout import RunDirectory
from loadgen.config import Stage


async def warmed_up(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, load: BlockRunner
) -> Prepared:
    """Ask every variant a few questions, and make prompts of their own for those whose server counts tokens otherwise."""
    await load.run(warm_up_blocks(prepared, names, out), "to warm up")
    for _ in range(prompt_lengths.ROUNDS):
        found = {
            name: each
            for name in names
            if (each := prompt_lengths.correction(prepared, name, out.warm_up(name)))
        }
        if not found:
            break
        prepared = prompt_lengths.reworded(prepared, found, load.progress)
        keep_prompts(prepared, out)
        await load.run(
            warm_up_blocks(prepared, list(found), out), "to check the lengths of prompts"
        )
    return prepared


async def at_measured_rates(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, load: BlockRunner
) -> Prepared:
    """Replace relative rates by what the variants that they refer to hold. All of these are up in the first round."""
    experiment = prepared.experiment
    if not (variants := relative_rates.unmeasured(experiment)):
        return prepared
    artifact = prepared.graph.rates
    measured = (
        relative_rates.read_rates(out.rates, experiment) if is_done(out.rates, artifact) else None
    )
    if measured is None:
        held = {name: await _most_held(prepared, name, out, load) for name in variants}
        measured = relative_rates.measured_from(held, experiment)
        relative_rates.write_rates(measured, out.rates)
        mark(out.rates, artifact)
    for label, rate in measured.items():
        load.progress.log(f"{label}: {rate.sentence}")
    return replace(prepared, experiment=relative_rates.at_rates(experiment, measured))


async def _most_held(
    prepared: Prepared, name: str, out: RunDirectory, load: BlockRunner
) -> relative_rates.Held:
    """The highest throughput of a variant in short closed loops. Raises SystemFailed where it answers too little."""
    style = styles_of(prepared)[name]
    questions = questions_in(prepared.prompts, "eval", style)
    workload = prepared.experiment.workload
    identity = prepared.graph.loops(variants_named(prepared, [name])[name]).identity
    loops: list[relative_rates.Held] = []
    while (concurrency := relative_rates.goes_on(loops, workload.max_in_flight)) is not None:
        requests = relative_rates.WAVES * concurrency
        stage = Stage.model_validate(
            {"name": "rate", "concurrency": concurrency, "requests": requests, "warmup": "0s"}
        )
        journal = out.closed_loop(name, concurrency)
        block = LoadBlock(name, style, stage, 1, questions, workload, journal, identity=identity)
        await load.run([block], f"{name}, {concurrency} in flight")
        if name in load.hosting.failed:
            raise load.hosting.failed[name]
        try:
            held = relative_rates.throughput(_ends(journal), concurrency)
            loops.append(relative_rates.Held(requests_per_s=held, concurrency=concurrency))
        except ValueError as error:
            if not loops:
                raise relative_rates.failed(name, f"{error}; see {journal}") from None
            break
    return relative_rates.highest(loops)


def _ends(journal: Path) -> NDArray[np.float64]:
    """When the requests that succeeded ended, ns from the journal's origin."""
    read = read_journal(journal)
    if not isinstance(read, Journal):
        return np.empty(0)
    ends: NDArray[np.float64] = read.requests.done_ns[read.requests.ok]
    return np.asarray(ends[~np.isnan(ends)])
