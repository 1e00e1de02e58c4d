"""Journals made by hand: every stamp of a run is chosen by the test, so every number of its analysis is known beforehand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from foundation.run.records import (
    SCHEMA_VERSION,
    JournalEnd,
    JournalHeader,
    Prompt,
    RequestRecord,
    VariantRecord,
)
from results.config import BudgetConfig, PlanConfig, QualityConfig, Slo
from results.inputs import RunInputs
from tests.run_files import write_block

MS = 1_000_000


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
    """A request whose tokens come one a chunk, evenly between first and last. With a `failure` nothing came back."""
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
    return RequestRecord(
        id=id,
        prompt_id=prompt_id,
        scheduled_ns=at,
        sent_ns=sent,
        chunk_ns=stamps[:1] + gaps,
        chunk_tokens=[1] * output_tokens,
        done_ns=last,
        status=200,
        finish_reason="stop",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        tokens_from="server",
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
) -> Path:
    """One block under `run`. `end` None: a journal that was cut off.

    An open loop that names no `offered_rate` offers that of its records.
    """
    if offered_rate is None and concurrency is None:
        inside = sum(window_ms[0] <= record.scheduled_ns / MS < window_ms[1] for record in records)
        offered_rate = max(inside, 1) / (window_ms[1] - window_ms[0]) * 1e3
    header = JournalHeader(
        schema_version=SCHEMA_VERSION,
        variant=variant,
        stage=stage,
        block=block,
        seed=block if seed is None else seed,
        transport="test",
        clock="user",
        origin_monotonic_ns=0,
        origin_unix_ns=began_ns,
        model=variant,
        prompt_style="short",
        api="chat",
        arrivals="constant",
        offered_rate=offered_rate,
        concurrency=concurrency,
        planned=len(records),
        window_start_ns=round(window_ms[0] * MS),
        window_end_ns=None if concurrency else round(window_ms[1] * MS),
    )
    ended = (
        JournalEnd(end=end, ended_ns=ended_ns, window_end_ns=round(window_ms[1] * MS))
        if end
        else None
    )
    return write_block(run, header, records, ended)


def write_prompts(run: Path, references: Mapping[str, str], group: str = "eval") -> None:
    prompts = [
        Prompt(
            id=id,
            set=group,
            messages={"short": [{"role": "user", "content": id}]},
            reference=reference,
        )
        for id, reference in references.items()
    ]
    run.mkdir(parents=True, exist_ok=True)
    with (run / "prompts.jsonl").open("ab") as file:
        file.writelines(msgspec.json.encode(prompt) + b"\n" for prompt in prompts)


@dataclass
class Asked:
    """The questions of a run, as an experiment file would put them."""

    slo: dict[str, str] = field(default_factory=dict)
    quality: dict[str, object] = field(default_factory=dict)
    budget: dict[str, object] | None = None
    plan: dict[str, object] | None = None


def inputs(
    run: Path, variants: Sequence[str | VariantRecord], asked: Asked | None = None
) -> RunInputs:
    """The first variant is the baseline, and "main" the judged stage."""
    asked = asked or Asked()
    records = [
        v if isinstance(v, VariantRecord) else VariantRecord(name=v, what=v, prompt_style="short")
        for v in variants
    ]
    return RunInputs(
        name="synthetic",
        baseline=records[0].name,
        judged_stage="main",
        variants=records,
        slo=Slo(asked.slo),
        quality=QualityConfig.model_validate(asked.quality),
        budget=BudgetConfig.model_validate(asked.budget) if asked.budget else None,
        plan=PlanConfig.model_validate(asked.plan) if asked.plan else None,
        run=run,
    )
