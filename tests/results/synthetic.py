"""Hand-made journals: a test chooses every stamp of a run, so every number has a known value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foundation.run.records import JournalEnd, Prompt, RequestRecord, VariantRecord
from results.config import BudgetConfig, PlanConfig, QualityConfig, Slo
from results.inputs import RunInputs
from tests.run_files import MS, answer, append_prompts, header, write_block


def request(
    id: int,
    prompt_id: str,
    scheduled_ms: float,
    latency_ms: float = 0.0,
    ttft_ms: float | None = None,
    output_tokens: int = 2,
    input_tokens: int = 10,
    text: str = "ok",
    slip_ms: float = 0.0,
    failure: str | None = None,
) -> RequestRecord:
    """A request with a token a chunk, evenly spaced. With a `failure` nothing comes back."""
    at = round(scheduled_ms * MS)
    sent = at + round(slip_ms * MS)
    if failure is not None:
        done = at + round(latency_ms * MS)
        return RequestRecord(
            id=id, prompt_id=prompt_id, scheduled_ns=at, sent_ns=sent, done_ns=done, failure=failure
        )
    first = at + round((latency_ms if ttft_ms is None else ttft_ms) * MS)
    last = at + round(latency_ms * MS)
    stamps = [first + (last - first) * i // max(output_tokens - 1, 1) for i in range(output_tokens)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    return answer(
        id,
        prompt_id,
        at,
        stamps[:1] + gaps,
        sent_ns=sent,
        done_ns=last,
        input_tokens=input_tokens,
        text=text if output_tokens else "",
    )


def write_journal(
    run: Path,
    variant: str,
    block: int,
    records: Sequence[RequestRecord],
    stage: str = "main",
    window_ms: tuple[float, float] = (0, 10_000),
    offered_rate: float | None = None,
    concurrency: int | None = None,
    seed: int | None = None,
    end: str | None = "complete",
    began_ns: int = 0,
    ended_ns: int = 0,
    replicas: int = 1,
) -> Path:
    """One block under `run`. `end` None: a journal that was cut off.

    An open loop that names no `offered_rate` offers that of its records.
    """
    if offered_rate is None and concurrency is None:
        inside = sum(window_ms[0] <= record.scheduled_ns / MS < window_ms[1] for record in records)
        offered_rate = max(inside, 1) / (window_ms[1] - window_ms[0]) * 1e3
    head = header(
        variant=variant,
        stage=stage,
        block=block,
        seed=block if seed is None else seed,
        transport="test",
        origin_unix_ns=began_ns,
        model=variant,
        prompt_style="short",
        arrivals="constant",
        offered_rate=offered_rate,
        concurrency=concurrency,
        planned=len(records),
        window_start_ns=round(window_ms[0] * MS),
        window_end_ns=None if concurrency else round(window_ms[1] * MS),
        replicas=replicas,
        router="round robin" if replicas > 1 else None,
    )
    ended = (
        JournalEnd(end=end, ended_ns=ended_ns, window_end_ns=round(window_ms[1] * MS))
        if end
        else None
    )
    return write_block(run, head, records, ended)


def write_prompts(run: Path, references: Mapping[str, str], group: str = "eval") -> None:
    """Adds a prompt for each reference answer; its text is its id."""
    append_prompts(
        run,
        (
            Prompt(
                id=id,
                set=group,
                messages={"short": [{"role": "user", "content": id}]},
                reference=reference,
            )
            for id, reference in references.items()
        ),
    )


@dataclass
class Goals:
    """The questions of a run, as an experiment file would put them."""

    slo: dict[str, str] = field(default_factory=dict)
    quality: dict[str, object] = field(default_factory=dict)
    budget: dict[str, object] | None = None
    plan: dict[str, object] | None = None


def inputs(
    run: Path, variants: Sequence[str | VariantRecord], goals: Goals | None = None
) -> RunInputs:
    """The first variant is the baseline, and "main" the judged stage."""
    goals = goals or Goals()
    records = [
        v if isinstance(v, VariantRecord) else VariantRecord(name=v, what=v, prompt_style="short")
        for v in variants
    ]
    return RunInputs(
        name="synthetic",
        baseline=records[0].name,
        judged_stage="main",
        variants=records,
        slo=Slo(goals.slo),
        quality=QualityConfig.model_validate(goals.quality),
        budget=BudgetConfig.model_validate(goals.budget) if goals.budget else None,
        plan=PlanConfig.model_validate(goals.plan) if goals.plan else None,
        run=run,
    )
