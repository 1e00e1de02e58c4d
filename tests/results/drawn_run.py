"""A run directory that is drawn: prompts, journals and a training log, for the report's tests.

Nothing here comes from the product but the records' schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.run.records import JournalEnd, Prompt, RequestRecord
from tests.run_files import answer, append_prompts, header, lines, write_block

STAGE = "rate-2.5"
BLOCKS = 8
REQUESTS = 40
LABELS = ("earn", "acq", "crude", "trade", "money-fx", "interest", "ship", "grain")


@dataclass(frozen=True)
class RandomVariant:
    """A random variant: median latency in ms, its spread, mean tokens, accuracy and cost."""

    name: str
    what: str
    style: str
    size: float
    latency: float
    spread: float
    ttft_share: float
    tokens_in: int
    tokens_out: float
    accuracy: float
    cost: float
    failures: float = 0.0


BENCH = (
    RandomVariant(
        "base", "base model", "long", 269e6, 700, 0.32, 0.40, 412, 6.1, 0.58, 0.0121, 0.004
    ),
    RandomVariant(
        "base-short", "base model", "short", 269e6, 930, 0.35, 0.15, 152, 31.0, 0.22, 0.0132
    ),
    RandomVariant(
        "tuned",
        "base + LoRA adapter",
        "short",
        271e6,
        860,
        0.42,
        0.45,
        152,
        2.7,
        0.868,
        0.0119,
        0.02,
    ),
    RandomVariant("merged", "merged", "short", 269e6, 205, 0.30, 0.62, 152, 2.7, 0.868, 0.0049),
    RandomVariant(
        "int8", "merged, W8A8 INT8", "short", 141e6, 162, 0.28, 0.62, 152, 2.7, 0.872, 0.0042
    ),
    RandomVariant(
        "nf4", "merged, bitsandbytes NF4", "short", 117e6, 318, 0.30, 0.60, 152, 2.7, 0.824, 0.0068
    ),
)

Drawn = dict[str, list[list[RequestRecord]]]
"""By variant, the requests of each block."""


def draw_run(run: Path, bench: tuple[RandomVariant, ...], seed: int) -> Drawn:
    """Write prompts, journals and a training log under `run`."""
    rng = np.random.default_rng(seed)
    prompts = _prompts(rng)
    append_prompts(run, prompts)
    at = 1_790_000_000 * 10**9
    drawn: Drawn = {variant.name: [] for variant in bench}
    for block in range(1, BLOCKS + 1):
        for variant in bench if block % 2 else bench[::-1]:
            records = _records(variant, prompts, block, rng)
            at += _write(run, variant, block, at, records) + 2 * 10**9
            drawn[variant.name].append(records)
    _training(run, rng)
    return drawn


def _prompts(rng: np.random.Generator) -> list[Prompt]:
    words = [
        "company", "said", "quarter", "oil", "prices", "bank", "rate", "wheat", "shares", "tonnes",
        "dollar", "board", "trade", "vessels",
    ]  # fmt: skip
    prompts = []
    for i in range(120):
        story = " ".join(rng.choice(words, size=int(rng.integers(30, 90))))
        styles = {
            "short": [{"role": "user", "content": f"Topic of this news story:\n\n{story}"}],
            "long": [
                {
                    "role": "user",
                    "content": (
                        f"You sort news wire stories. {'Rules and examples. ' * 12}\n\n"
                        f"Story: {story}\nLabel:"
                    ),
                }
            ],
        }
        prompts.append(
            Prompt(
                id=f"eval-{i:04d}", set="eval", messages=styles, reference=LABELS[i % len(LABELS)]
            )
        )
    return prompts


def _records(
    variant: RandomVariant, prompts: list[Prompt], block: int, rng: np.random.Generator
) -> list[RequestRecord]:
    records, due = [], 0.0
    for i in range(REQUESTS):
        due += rng.exponential(0.4)
        prompt = prompts[(block * REQUESTS + i) % len(prompts)]
        latency = variant.latency * rng.lognormal(0, variant.spread) * (1 + 0.012 * block)
        scheduled = int(due * 1e9)
        if rng.random() < variant.failures:
            records.append(
                RequestRecord(
                    id=i,
                    prompt_id=prompt.id,
                    scheduled_ns=scheduled,
                    sent_ns=scheduled,
                    done_ns=scheduled + 10**9,
                    failure="reset",
                )
            )
            continue
        tokens = max(2, int(rng.poisson(variant.tokens_out)))
        first = latency * variant.ttft_share
        gaps = [int(1e6 * (latency - first) / (tokens - 1))] * (tokens - 1)
        chunks = [scheduled + int(first * 1e6), *gaps]
        right = rng.random() < variant.accuracy
        wrong = LABELS[int(rng.integers(len(LABELS)))]
        records.append(
            answer(
                i,
                prompt.id,
                scheduled,
                chunks,
                sent_ns=scheduled + 200_000,
                input_tokens=variant.tokens_in + i % 9,
                text=str(prompt.reference)
                if right
                else f"The topic is {wrong}."
                if variant.tokens_out > 20
                else wrong,
            )
        )
    return records


def _write(
    run: Path, variant: RandomVariant, block: int, at: int, records: list[RequestRecord]
) -> int:
    """The journal of a block; returns how long it took in ns."""
    end = max(sum(r.chunk_ns) or r.done_ns or 0 for r in records) + 10**8
    head = header(
        variant=variant.name,
        stage=STAGE,
        block=block,
        seed=block,
        transport="aiohttp",
        origin_monotonic_ns=at - 10**18,
        origin_unix_ns=at,
        model=variant.name,
        prompt_style=variant.style,
        offered_rate=2.5,
        planned=REQUESTS,
        window_end_ns=end,
    )
    complete = JournalEnd(end="complete", ended_ns=end, window_end_ns=end)
    write_block(run, head, sorted(records, key=lambda r: r.done_ns or 0), complete)
    return end


def _training(run: Path, rng: np.random.Generator) -> None:
    folder = run / "adapters" / "finetune"
    folder.mkdir(parents=True)
    steps = [
        {
            "step": s,
            "loss": float(0.25 + 2.4 * np.exp(-s / 25) + rng.normal(0, 0.05)),
            "epoch": s / 125,
        }
        for s in range(1, 251, 3)
    ]
    steps += [{"step": 125, "heldout_loss": 0.41}, {"step": 250, "heldout_loss": 0.36}]
    (folder / "training.jsonl").write_bytes(lines(*steps))
