"""Run directories of chosen truth: `dyno compare` and `dyno report` have known results on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dyno.cli import main
from foundation.processes.python_child import SAFE
from foundation.run.records import JournalEnd, Prompt, RequestRecord, VariantRecord
from tests.run_files import MS, answer, append_prompts, header, write_block

RATE = 10.0
PROMPTS = 60


def questions(n: int = PROMPTS) -> list[Prompt]:
    return [
        Prompt(
            f"q{i:03d}",
            "eval",
            {"plain": [{"role": "user", "content": f"Is {i} a number?"}]},
            "yes",
        )
        for i in range(n)
    ]


def dyno(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """The entry point in this process: exit code, what it printed, and its error."""
    monkeypatch.setattr(sys, "argv", ["dyno", *arguments])
    # A command takes the current folder out of the imports of its process, which is the tests'.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(SAFE, "1")
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@dataclass(frozen=True)
class StoredRun:
    """A run: its load, its server's answers and its experiment. Latencies are lognormal.

    `fails(i)`, `says(i)` and `delay(i)` give the i-th request of all blocks: whether it fails, its
    answer, and the delay of its first token in ms. `latencies`, `answers` and `slips` override
    these for a variant or stage. `gap`: seconds of each block without arrivals. `pace` replaces the
    rate. `load`, `variant` and `workload`: further keys of the stages, the variants and their
    section; `sections`: further lines of `experiment.yaml`.
    """

    seed: int = 1
    variants: Sequence[str] = ("a",)
    stages: Mapping[str, float] = field(default_factory=lambda: {"main": RATE})
    blocks: int = 8
    requests: int = 50
    latency: float = 200.0
    spread: float = 0.05
    tokens: int | None = 11
    fails: Callable[[int], bool] = lambda i: False
    says: Callable[[int], str] = lambda i: "yes"
    delay: Callable[[int], float] = lambda i: 0.0
    latencies: Mapping[str, float] = field(default_factory=dict)
    answers: Mapping[str, Callable[[int], str]] = field(default_factory=dict)
    slips: Mapping[str, float] = field(default_factory=dict)
    slip: float = 0.0
    gap: float = 0.0
    stall: float = 0.0
    prompts: Sequence[Prompt] = field(default_factory=questions)
    head: Mapping[str, Any] = field(default_factory=dict)
    pace: str = ""
    load: str = ", arrivals: constant"
    variant: str = ""
    workload: str = ""
    sections: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

    def write(self, run: Path) -> Path:
        """The run directory, its folder named as `run` says."""
        run.mkdir(parents=True)
        (run / "environment.json").write_text(json.dumps(self.environment))
        records = [
            VariantRecord(name=name, what="served elsewhere", prompt_style="plain", kind="url")
            for name in self.variants
        ]
        (run / "variants.json").write_bytes(msgspec.json.encode(records))
        append_prompts(run, self.prompts)
        (run / "experiment.yaml").write_text(self._experiment())
        rng, at = np.random.default_rng(self.seed), 1_790_000_000 * 10**9
        for stage, rate in self.stages.items():
            for block in range(1, self.blocks + 1):
                for variant in self.variants:
                    self._write_block(run, variant, stage, block, rate, at, rng)
                    at += int(self.requests / rate * 2e9) + 10**9
        return run

    def _experiment(self) -> str:
        stages = ", ".join(
            f"{{name: {name}, {self.pace or f'rate: {rate}'}, requests: {self.requests}, "
            f"warmup: 0s{self.load}}}"
            for name, rate in self.stages.items()
        )
        variants = ", ".join(
            f"{{name: {name}, url: 'http://127.0.0.1:1/v1', model: m{self.variant}}}"
            for name in self.variants
        )
        return (
            f"name: made\nmodel: m\ndata: {{eval: questions.jsonl}}\nvariants: [{variants}]\n"
            f"baseline: {self.variants[0]}\n"
            f"workload: {{stages: [{stages}], blocks: {self.blocks}{self.workload}}}\n"
            f"{self.sections}\n"
        )

    def _write_block(
        self,
        run: Path,
        variant: str,
        stage: str,
        block: int,
        rate: float,
        at: int,
        rng: np.random.Generator,
    ) -> None:
        window = int(self.requests / rate * 1e9)
        head = header(
            variant=variant,
            stage=stage,
            block=block,
            seed=block,
            origin_monotonic_ns=at - 10**18,
            origin_unix_ns=at,
            arrivals="constant",
            offered_rate=rate,
            planned=self.requests,
            window_end_ns=window,
            **self.head,
        )
        latency, says = (
            self.latencies.get(variant, self.latency),
            self.answers.get(variant, self.says),
        )
        here = replace(self, latency=latency, says=says, slip=self.slips.get(stage, self.slip))
        records = [here._request(i, block, rate, rng) for i in range(self.requests)]
        last = max(window, *(record.done_ns or 0 for record in records)) + MS
        end = JournalEnd(
            end="complete",
            ended_ns=last,
            window_end_ns=window,
            loop_stall_max_ns=int(self.stall * MS),
        )
        write_block(run, head, records, end)

    def _request(self, i: int, block: int, rate: float, rng: np.random.Generator) -> RequestRecord:
        number = (block - 1) * self.requests + i
        scheduled = int((i / rate + self.gap * (i > 20)) * 1e9)
        latency, late = self.latency * exp(self.spread * rng.standard_normal()), self.delay(number)
        prompt, sent = self.prompts[number % len(self.prompts)].id, scheduled + int(self.slip * MS)
        if self.fails(number):
            return RequestRecord(
                id=i, prompt_id=prompt, scheduled_ns=scheduled, sent_ns=sent, done_ns=sent + MS,
                status=503, failure="http_5xx"
            )  # fmt: skip
        chunks = self.tokens or 11
        first, last = (
            scheduled + int((latency / 2 + late) * MS),
            scheduled + int((latency + late) * MS),
        )
        gaps = [(last - first) // (chunks - 1)] * (chunks - 1)
        counts = {"input_tokens": 9}
        if self.tokens is None:
            counts = {"input_tokens": None, "output_tokens": None, "tokens_from": None}
        return answer(
            i,
            prompt,
            scheduled,
            [first, *gaps],
            sent_ns=sent,
            done_ns=first + sum(gaps) + 1000,
            text=self.says(number),
            **counts,
        )
