"""The engine models of a run's variants: from its engine records, else from its journals alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from foundation.run.engine_record import EngineLimits
from foundation.run.engine_records import EngineRecords, LeftOut, read_engine_records
from foundation.run.engine_steps import ServerRecord, read_server_records
from foundation.run.journal import Journal, Prompts, read_journals, read_prompts
from foundation.run.layout import RunDirectory, is_search_stage
from results.capacity.demand.demand import Demand
from results.capacity.demand.demand_of_journals import demand_of
from results.capacity.model.engine_model import EngineModel, Scheduler
from results.capacity.model.front_end import FrontEndFit, recorded_front_end, stamped_front_end
from results.capacity.model.observed_limits import ClosedLoop, observed_seqs
from results.capacity.model.recorded_steps import BlockSpan, recorded_steps
from results.capacity.model.replica_journals import replica_journals, requests_by_server
from results.capacity.model.stamped_steps import stamped_steps
from results.capacity.model.step_fit import StepFit, fit_steps
from results.capacity.model.steps import Steps
from results.capacity.model.transfer import FittedModel, in_structures
from results.inputs import RunInputs
from results.measures.doubt import some
from results.measures.stage_journals import journals_of

_NO_CACHE = (
    "the server does not say what its prefix cache knew: every prompt counts as computed whole, so "
    "a prompt token may take longer than the model says"
)
_NO_LIMITS = (
    "the limits of the scheduler are not known: every request is taken to start with the next step"
)


def engine_models(inputs: RunInputs, *, searched: bool = True) -> dict[str, EngineModel | str]:
    """The model of each variant by name; a str says why there is none.

    A variant whose own load leaves open what another's shows is modelled in that one's structure,
    if both are of one model. `searched`: whether the probes of a search count, too.
    Raises BadInput for files of a newer tunedyno.
    """
    records = _records(inputs.run)
    journals = {each.name: _journals(inputs, each.name, searched) for each in inputs.variants}
    fits = {
        name: _fitted(
            own,
            [_span(block) for other in journals if other != name for block in journals[other]],
            records,
        )
        for name, own in journals.items()
    }
    return in_structures(fits, inputs.variants)


def model_of_loads(run: Path, variant: str) -> EngineModel | str:
    """The model of a variant from its loads under `model/` alone; a str says why there is none."""
    fit = _fitted(_model_loads(run, variant), [], _records(run))
    return fit if isinstance(fit, str) else fit.model


@dataclass(frozen=True)
class _Records:
    """The engine records of a run: steps by server, and times of requests."""

    servers: Sequence[ServerRecord]
    times: EngineRecords
    damage: str | None


def _records(run: Path) -> _Records:
    folder, left_out = RunDirectory(run).engine, LeftOut()
    servers = [
        record
        for file in sorted(folder.glob("*.jsonl"))
        for record in read_server_records(file, left_out)
        if len(record.steps)
    ]
    return _Records(servers, read_engine_records(folder), left_out.note())


def demand_of_run(
    inputs: RunInputs, variant: str | None = None, prompts: Prompts | None = None
) -> Demand:
    """The requests of the judged stage as one variant (None: the baseline) had them.

    They arrive when they were due, block after block. A request without a count of tokens, since it
    failed, has the median of the others. `prompts`: the run's, where they are read. Raises BadInput
    without requests or counts.
    """
    name = variant or inputs.baseline
    folder = inputs.run / "load" / name / inputs.judged_stage
    journals = list(journals_of(folder)[0].values()) if folder.is_dir() else []
    return demand_of(journals, prompts or read_prompts(inputs.run), folder)


def _journals(inputs: RunInputs, variant: str, searched: bool) -> list[Journal]:
    """The blocks of all stages, probes and model loads of a variant that have requests."""
    folder = inputs.run / "load" / variant
    stages = sorted(
        path
        for path in folder.glob("*")
        if path.is_dir() and (searched or not is_search_stage(path.name))
    )
    journals = (journal for stage in stages for journal in journals_of(stage)[0].values())
    loads = _model_loads(inputs.run, variant)
    return [*(journal for journal in journals if len(journal.requests)), *loads]


def _model_loads(run: Path, variant: str) -> list[Journal]:
    """The loads that measured a variant's step times, and have requests."""
    journals, _ = read_journals(RunDirectory(run).model / variant)
    return [journal for journal in journals if len(journal.requests)]


def _fitted(
    journals: Sequence[Journal],
    others: Sequence[BlockSpan],
    records: _Records,
) -> FittedModel | str:
    """The model of the variant with these blocks; `others`: those of all other variants."""
    if not journals:
        return "nothing was measured"
    fit = _recorded_model(journals, records.servers, records.times)
    if isinstance(fit, str):
        stamped = _stamped_model([block for block in journals if not _is_shared(block, others)])
        fit = f"{fit}; {stamped}" if isinstance(stamped, str) else stamped
    if isinstance(fit, FittedModel) and records.damage is not None:
        model = replace(fit.model, notes=(*fit.model.notes, records.damage))
        fit = replace(fit, model=model)
    return fit


def _recorded_model(
    journals: Sequence[Journal], servers: Sequence[ServerRecord], times: EngineRecords
) -> FittedModel | str:
    spans = [_span(journal) for journal in journals]
    parts: list[Steps] = []
    reason = "the engine record has no steps"
    limits: EngineLimits | None = None
    for server in servers:
        origins = set(np.unique(server.requests.origin).tolist())
        steps = recorded_steps(server, [span for span in spans if span.origin_ns in origins])
        if isinstance(steps, Steps):
            parts.append(steps)
            limits = server.limits
        elif origins & {span.origin_ns for span in spans}:
            reason = steps
    if not parts:
        return reason
    steps = Steps.joined(parts)
    fit = fit_steps(steps)
    if isinstance(fit, str):
        return f"in the engine record, {fit}"
    timed = [
        requests
        for journal in journals
        for requests in requests_by_server(times.timed(journal), servers)
    ]
    has_moments = any(not np.isnan(requests.wait).all() for requests in timed)
    front = recorded_front_end(timed) if has_moments else stamped_front_end(timed, fit.steps)
    return _assembled(fit, front, steps, limits, "engine record")


def _stamped_model(journals: Sequence[Journal]) -> FittedModel | str:
    if not journals:
        return "other variants had requests at the same time"
    parts_of = [replica_journals(journal) for journal in journals]
    if all(isinstance(parts, str) for parts in parts_of):
        return str(parts_of[0])
    journals = [part for parts in parts_of if not isinstance(parts, str) for part in parts]
    blocks = [stamped_steps(journal, _rate(journal)) for journal in journals]
    parts = [block for block in blocks if isinstance(block, Steps)]
    if not parts:
        return next(block for block in blocks if isinstance(block, str))
    steps = Steps.joined(parts)
    fit = fit_steps(steps)
    if isinstance(fit, str):
        return f"in the stamps of arrivals, {fit}"
    front = stamped_front_end([journal.requests for journal in journals], fit.steps)
    limits = EngineLimits(max_num_seqs=observed_seqs(_closed_loops(journals, blocks)))
    fit = replace(fit, notes=(*fit.notes, *_cache_notes(journals)))
    return _assembled(fit, front, steps, limits, "kernel stamps")


def _closed_loops(
    journals: Sequence[Journal], blocks: Sequence[Steps | str]
) -> Iterator[ClosedLoop]:
    """The blocks of closed loops that show steps."""
    for journal, block in zip(journals, blocks, strict=True):
        if isinstance(block, Steps) and journal.header.concurrency:
            yield ClosedLoop(journal.header.concurrency, block)


def _assembled(
    fit: StepFit,
    front: FrontEndFit,
    steps: Steps,
    limits: EngineLimits | None,
    source: Literal["engine record", "kernel stamps"],
) -> FittedModel:
    model = EngineModel(
        steps=fit.steps,
        front=front.front,
        scheduler=_scheduler(limits or EngineLimits()),
        fitted=fit.fitted,
        source=source,
        draws=fit.draws,
        residual=fit.residual,
        notes=(*fit.notes, *front.notes, *_limit_notes(limits, source), *_left_out_notes(steps)),
    )
    return FittedModel(model, steps)


def _limit_notes(limits: EngineLimits | None, source: str) -> list[str]:
    if limits is None or limits.max_num_seqs is None:
        return [_NO_LIMITS]
    if source == "engine record":
        return []
    seqs = limits.max_num_seqs
    return [f"its steps had {seqs} requests while more were in flight: max_num_seqs is taken so"]


def _cache_notes(journals: Sequence[Journal]) -> list[str]:
    """Says so where prompts share a beginning, and no answer says what the cache knew of it."""
    shares = any((journal.requests.shared_tokens > 0).any() for journal in journals)
    is_told = any((journal.requests.cached_tokens >= 0).any() for journal in journals)
    return [_NO_CACHE] if shares and not is_told else []


def _left_out_notes(steps: Steps) -> list[str]:
    return [
        f"left out: {some(count, 'step')} {reason}"
        for reason, count in steps.left_out.items()
        if count
    ]


def _scheduler(limits: EngineLimits) -> Scheduler:
    """vLLM's own choice stands where its record does not say."""
    usual = Scheduler()
    return Scheduler(
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        kv_blocks=limits.kv_blocks,
        block_size=limits.block_size or usual.block_size,
        chunked_prefill=limits.chunked_prefill is not False,
        prefix_caching=limits.prefix_caching is True,
        max_loras=limits.max_loras,
    )


def _span(journal: Journal) -> BlockSpan:
    """From the block's origin to the last thing in it."""
    requests = journal.requests
    moments = np.concatenate([requests.done_ns, requests.last_ns, requests.sent_ns, [0.0]])
    origin_ns = journal.header.origin_monotonic_ns
    return BlockSpan(origin_ns, origin_ns + int(np.nanmax(moments)), _rate(journal))


def _is_shared(journal: Journal, others: Sequence[BlockSpan]) -> bool:
    """Whether other variants, maybe of the same server, had requests meanwhile."""
    own = _span(journal)
    return any(other.origin_ns < own.end_ns and own.origin_ns < other.end_ns for other in others)


def _rate(journal: Journal) -> float:
    """Requests/s of one replica that were due, from the first to the last; 0 for fewer than two."""
    due = journal.requests.scheduled_ns
    seconds = float(np.ptp(due)) / 1e9 if len(due) else 0.0
    return (len(due) - 1) / seconds / journal.header.replicas if seconds else 0.0
