"""Short loads before the measurement: warm-up, prompt lengths, and relative rates."""

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
    """Warms the variants up, and corrects prompt lengths by their servers' token counts."""
    await load.run(warm_up_blocks(prepared, names, out), "to warm up")
    for _ in range(prompt_lengths.ROUNDS):
        corrections = {
            name: correction
            for name in names
            if (correction := prompt_lengths.measured_correction(prepared, name, out.warm_up(name)))
        }
        if not corrections:
            break
        prepared = prompt_lengths.with_corrected_lengths(prepared, corrections, load.progress)
        keep_prompts(prepared, out)
        await load.run(
            warm_up_blocks(prepared, list(corrections), out), "to check the lengths of prompts"
        )
    return prepared


async def at_measured_rates(
    prepared: Prepared, names: Sequence[str], out: RunDirectory, load: BlockRunner
) -> Prepared:
    """Replaces relative rates by measured ones. Their variants are all up in the first round."""
    experiment = prepared.experiment
    if not (variants := relative_rates.reference_variants(experiment)):
        return prepared
    artifact = prepared.graph.rates
    rates = None
    if is_done(out.rates, artifact):
        rates = relative_rates.read_rates(out.rates, experiment)
    if rates is None:
        highest = {name: await _highest_throughput(prepared, name, out, load) for name in variants}
        rates = relative_rates.stage_rates(highest, experiment)
        relative_rates.write_rates(rates, out.rates)
        mark(out.rates, artifact)
    for label, rate in rates.items():
        load.progress.log(f"{label}: {rate.sentence}")
    return replace(prepared, experiment=relative_rates.at_rates(experiment, rates))


async def _highest_throughput(
    prepared: Prepared, name: str, out: RunDirectory, load: BlockRunner
) -> relative_rates.Throughput:
    """The highest throughput of a variant in short closed loops.

    Raises SystemFailed if too few requests succeed.
    """
    style = styles_of(prepared)[name]
    questions = questions_in(prepared.prompts, "eval", style)
    variant = variants_named(prepared, [name])[name]
    workload = prepared.experiment.workload_of(variant)
    identity = prepared.graph.closed_loops(variant).identity
    loops: list[relative_rates.Throughput] = []
    while (
        concurrency := relative_rates.next_concurrency(loops, workload.max_in_flight)
    ) is not None:
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
            rate = relative_rates.throughput(_ends(journal), concurrency)
            loops.append(relative_rates.Throughput(requests_per_s=rate, concurrency=concurrency))
        except ValueError as error:
            if not loops:
                raise relative_rates.not_measurable(name, f"{error}; see {journal}") from None
            break
    return relative_rates.highest(loops)


def _ends(journal: Path) -> NDArray[np.float64]:
    """The ends of the requests that succeeded, in ns from the journal's origin."""
    contents = read_journal(journal)
    if not isinstance(contents, Journal):
        return np.empty(0)
    ends: NDArray[np.float64] = contents.requests.done_ns[contents.requests.ok]
    return np.asarray(ends[~np.isnan(ends)])
