"""The facts of a run, read from its journals with `json` and numpy, without the product's code.

A line counts if it is a record as documented, stands before the end line and is the first
of its id.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Record = dict[str, Any]
SEARCH = re.compile(r"search-\d\d")
"""The stages of a search, whose probes are in no number."""


@dataclass
class Block:
    """The records due inside, before and after one journal's window, and its ends in ns.

    `replicas`: how many servers answered, by the header.
    """

    records: list[Record]
    warm_up: list[Record]
    ramp_down: list[Record]
    since: int
    until: int
    replicas: int = 1

    @property
    def seconds(self) -> float:
        """The length of the window."""
        return (self.until - self.since) / 1e9

    @property
    def completed(self) -> int:
        """The answers that ended well inside the window, whenever they were due."""
        everything = (*self.warm_up, *self.records, *self.ramp_down)
        ended = [record["done_ns"] for record in everything if record["failure"] is None]
        return sum(at is not None and self.since <= at < self.until for at in ended)


@dataclass
class Facts:
    """One variant under one load."""

    blocks: list[Block] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """The records due inside the windows."""
        return [record for block in self.blocks for record in block.records]

    @property
    def planned(self) -> int:
        """The number of requests due inside the windows."""
        return len(self.records)

    @property
    def completed(self) -> int:
        """The answers that ended well inside the windows."""
        return sum(block.completed for block in self.blocks)

    @property
    def seconds(self) -> float:
        """The length of the windows together."""
        return sum(block.seconds for block in self.blocks)

    def hourly(self, dollars: float, accelerators: int) -> float | None:
        """Dollars per answer, where each accelerator of each replica costs so much an hour."""
        paid = sum(
            block.seconds * block.replicas * accelerators * dollars / 3600 for block in self.blocks
        )
        return paid / self.completed if self.completed else None

    @property
    def succeeded(self) -> int:
        """The number of them without a failure."""
        return sum(record["failure"] is None for record in self.records)

    @property
    def failures(self) -> Counter[str]:
        """The number of failures of each class."""
        return Counter(
            record["failure"] for record in self.records if record["failure"] is not None
        )

    @property
    def outside(self) -> tuple[int, int, int]:
        """Requests due before the windows, after them, and the failures among both."""
        before = [record for block in self.blocks for record in block.warm_up]
        after = [record for block in self.blocks for record in block.ramp_down]
        return (
            len(before),
            len(after),
            sum(record["failure"] is not None for record in before + after),
        )

    def answers(self, which: Callable[[Record], bool]) -> int:
        """The number of answers for which `which` is true."""
        return sum(record["failure"] is None and which(record) for record in self.records)

    @property
    def late(self) -> int:
        """Answers that ended after their window."""
        return sum(
            record["failure"] is None and record["done_ns"] >= block.until
            for block in self.blocks
            for record in block.records
        )

    def values(self, metric: str) -> list[float]:
        """The metric in ms of each request that has it."""
        times = [value(record, metric) for record in self.records if record["failure"] is None]
        return [each for each in times if each is not None]

    def statistic(self, metric: str, statistic: str, failed_too: bool) -> float | None:
        """Mean or percentile in ms; with `failed_too`, failures and empty answers take forever."""
        values = self.values(metric)
        if failed_too:
            values = values + [1e18] * (
                self.planned - self.succeeded + self.answers(lambda record: not record["chunk_ns"])
            )
        if not values:
            return None
        return (
            float(np.mean(values))
            if statistic == "mean"
            else float(np.percentile(values, float(statistic[1:])))
        )

    def quality(self, references: dict[str, str]) -> float | None:
        """The mean share of right answers over the prompts with a reference."""
        by_prompt: dict[str, list[float]] = {}
        for record in self.records:
            if record["prompt_id"] in references:
                right = (
                    record["failure"] is None and record["text"] == references[record["prompt_id"]]
                )
                by_prompt.setdefault(record["prompt_id"], []).append(float(right))
        return float(np.mean([np.mean(each) for each in by_prompt.values()])) if by_prompt else None

    def metered(self, input_price: float, output_price: float) -> float | None:
        """Dollars per request, over requests with known tokens."""
        priced = ((input_price, "input_tokens"), (output_price, "output_tokens"))
        costs = [
            sum(price * record[side] for price, side in priced if price)
            for record in self.records
            if all(record[side] is not None for price, side in priced if price)
        ]
        return float(np.mean(costs)) if costs else None


RunFacts = dict[tuple[str, str], Facts]
"""By variant and load."""


def value(record: Record, metric: str) -> float | None:
    """A time of one answer in ms, or None."""
    if not record["chunk_ns"]:
        return None
    due: int = record["scheduled_ns"]
    first, last = int(record["chunk_ns"][0]), sum(record["chunk_ns"])
    if metric == "latency":
        return (last - due) / 1e6
    if metric == "service_latency":
        sent: int | None = record["sent_ns"]
        return None if sent is None else (last - sent) / 1e6
    if metric == "ttft":
        return (first - due) / 1e6
    if metric == "slip":
        return (record["sent_ns"] - due) / 1e6
    if metric == "decode":
        return (last - first) / 1e6
    if metric == "end_of_answer":
        return (record["done_ns"] - last) / 1e6
    if metric == "tpot":
        tokens: int | None = record["output_tokens"]
        return (last - first) / (tokens - 1) / 1e6 if tokens is not None and tokens >= 2 else None
    raise ValueError(metric)


def read_run(run: Path) -> RunFacts:
    """The facts of each variant under each load that has a readable journal."""
    facts: RunFacts = {}
    for file in sorted((run / "load").glob("*/*/block-*.jsonl")):
        if SEARCH.fullmatch(file.parts[-2]):
            continue
        if (block := _block(file)) is not None:
            facts.setdefault((file.parts[-3], file.parts[-2]), Facts()).blocks.append(block)
    return facts


def read_references(run: Path) -> dict[str, str]:
    """The reference answers of `prompts.jsonl` by prompt."""
    prompts = [json.loads(line) for line in (run / "prompts.jsonl").read_text().splitlines()]
    return {
        prompt["id"]: prompt["reference"]
        for prompt in prompts
        if prompt.get("reference") is not None
    }


def _block(file: Path) -> Block | None:
    lines = file.read_bytes().split(b"\n")
    header = _object(lines[0])
    if header is None or "window_start_ns" not in header or len(lines) < 2:
        return None
    records: dict[int, Record] = {}
    end = None
    for line in lines[1:]:
        each = _object(line)
        if each is None:
            continue
        if "ended_ns" in each and "id" not in each:
            end = each
            break
        if is_record(each):
            records.setdefault(each["id"], each)
    start, ends = header["window_start_ns"], [header["window_end_ns"]]
    seen = [
        stamp
        for r in records.values()
        for stamp in (r["scheduled_ns"], r["done_ns"])
        if stamp is not None
    ]
    ends.append(max([*seen, start]) if end is None else end["window_end_ns"])
    until = max(start, min(each for each in ends if each is not None))
    due = [(record["scheduled_ns"], record) for record in records.values()]
    return Block(
        records=[record for at, record in due if start <= at < until],
        warm_up=[record for at, record in due if at < start],
        ramp_down=[record for at, record in due if at >= until],
        since=start,
        until=until,
        replicas=header.get("replicas", 1),
    )


def _object(line: bytes) -> Record | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def is_record(each: Record) -> bool:
    """Whether a line is a record as documented."""
    due = each.get("scheduled_ns")
    return isinstance(each.get("id"), int) and isinstance(due, int) and due >= 0
