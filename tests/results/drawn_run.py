"""A run directory that is drawn: prompts, journals and a training log, for the report's tests.

Nothing here comes from the product but the records' schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from foundation.run.records import JournalEnd, JournalHeader, Prompt, RequestRecord
from tests.run_files import write_block

STAGE = "rate-2.5"
BLOCKS = 8
REQUESTS = 40
LABELS = ("earn", "acq", "crude", "trade", "money-fx", "interest", "ship", "grain")


@dataclass(frozen=True)
class Made:
    """One variant as it is drawn: median latency in ms, its spread, mean tokens, accuracy and cost."""

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
    Made("base", "base model", "long", 269e6, 700, 0.32, 0.40, 412, 6.1, 0.58, 0.0121, 0.004),
    Made("base-short", "base model", "short", 269e6, 930, 0.35, 0.15, 152, 31.0, 0.22, 0.0132),
    Made(
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
    Made("merged", "merged", "short", 269e6, 205, 0.30, 0.62, 152, 2.7, 0.868, 0.0049),
    Made("int8", "merged, W8A8 INT8", "short", 141e6, 162, 0.28, 0.62, 152, 2.7, 0.872, 0.0042),
    Made(
        "nf4", "merged, bitsandbytes NF4", "short", 117e6, 318, 0.30, 0.60, 152, 2.7, 0.824, 0.0068
    ),
)

Drawn = dict[str, list[list[RequestRecord]]]
"""By variant, the requests of each block."""


def draw_run(run: Path, bench: tuple[Made, ...], seed: int) -> Drawn:
    """Write prompts, journals and a training log under `run`."""
    rng = np.random.default_rng(seed)
    prompts = _prompts(rng)
    (run / "prompts.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, prompts)) + b"\n")
    at = 1_790_000_000 * 10**9
    drawn: Drawn = {made.name: [] for made in bench}
    for block in range(1, BLOCKS + 1):
        for made in bench if block % 2 else bench[::-1]:
            records = _records(made, prompts, block, rng)
            at += _write(run, made, block, at, records) + 2 * 10**9
            drawn[made.name].append(records)
    _training(run, rng)
    return drawn


def _prompts(rng: np.random.Generator) -> list[Prompt]:
    words = [
        "company", "said", "quarter", "oil", "prices", "bank", "rate", "wheat", "shares", "tonnes",
        "dollar", "board", "trade", "vessels",
    ]  # fmt: skip
    found = []
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
        found.append(
            Prompt(
                id=f"eval-{i:04d}", set="eval", messages=styles, reference=LABELS[i % len(LABELS)]
            )
        )
    return found


def _records(
    made: Made, prompts: list[Prompt], block: int, rng: np.random.Generator
) -> list[RequestRecord]:
    records, due = [], 0.0
    for i in range(REQUESTS):
        due += rng.exponential(0.4)
        prompt = prompts[(block * REQUESTS + i) % len(prompts)]
        latency = made.latency * rng.lognormal(0, made.spread) * (1 + 0.012 * block)
        scheduled = int(due * 1e9)
        if rng.random() < made.failures:
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
        tokens = max(2, int(rng.poisson(made.tokens_out)))
        first = latency * made.ttft_share
        gaps = [int(1e6 * (latency - first) / (tokens - 1))] * (tokens - 1)
        chunks = [scheduled + int(first * 1e6), *gaps]
        right = rng.random() < made.accuracy
        wrong = LABELS[int(rng.integers(len(LABELS)))]
        records.append(
            RequestRecord(
                id=i,
                prompt_id=prompt.id,
                scheduled_ns=scheduled,
                sent_ns=scheduled + 200_000,
                chunk_ns=chunks,
                chunk_tokens=[1] * tokens,
                done_ns=sum(chunks),
                status=200,
                finish_reason="stop",
                input_tokens=made.tokens_in + i % 9,
                output_tokens=tokens,
                tokens_from="server",
                text=str(prompt.reference)
                if right
                else f"The topic is {wrong}."
                if made.tokens_out > 20
                else wrong,
            )
        )
    return records


def _write(run: Path, made: Made, block: int, at: int, records: list[RequestRecord]) -> int:
    """The journal of a block; returns how long it took in ns."""
    end = max(sum(r.chunk_ns) or r.done_ns or 0 for r in records) + 10**8
    header = JournalHeader(
        schema_version=1,
        variant=made.name,
        stage=STAGE,
        block=block,
        seed=block,
        transport="aiohttp",
        clock="user",
        origin_monotonic_ns=at - 10**18,
        origin_unix_ns=at,
        model=made.name,
        prompt_style=made.style,
        api="chat",
        arrivals="poisson",
        offered_rate=2.5,
        concurrency=None,
        planned=REQUESTS,
        window_start_ns=0,
        window_end_ns=end,
    )
    complete = JournalEnd(end="complete", ended_ns=end, window_end_ns=end)
    write_block(run, header, sorted(records, key=lambda r: r.done_ns or 0), complete)
    return end


def _training(run: Path, rng: np.random.Generator) -> None:
    folder = run / "adapters" / "finetune"
    folder.mkdir(parents=True)
    lines = [
        {
            "step": s,
            "loss": float(0.25 + 2.4 * np.exp(-s / 25) + rng.normal(0, 0.05)),
            "epoch": s / 125,
        }
        for s in range(1, 251, 3)
    ]
    lines += [{"step": 125, "heldout_loss": 0.41}, {"step": 250, "heldout_loss": 0.36}]
    (folder / "training.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + b"\n")
