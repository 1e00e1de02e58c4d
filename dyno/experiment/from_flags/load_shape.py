"""How `dyno load` loads: its rates or concurrencies, in stages and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno.experiment.from_flags.values import check_counts, parsed, seconds_of
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from foundation.path_fields import resolved
from foundation.units import format_seconds, parse_rate
from loadgen.config import Recording
from loadgen.schedule.traces import arrival_seconds, recorded_seconds

REQUESTS = 500

# So many blocks tell how much a measurement differs from itself: what two runs are compared by.
BLOCKS = 5

# A block holds at least so many waves of a closed loop, arrivals of an open one, and seconds.
WAVES = 2

ARRIVALS = 10

BLOCK_S = 5.0


@dataclass(frozen=True, kw_only=True)
class LoadShape:
    """How `dyno load` loads: one stage for each of `rates` or `concurrencies`, or one that replays a trace at `speed`.

    `requests` or `duration` (500 requests where neither is given) are of a whole stage, divided among its blocks.
    """

    rates: Sequence[str] = ()
    concurrencies: Sequence[int] = ()
    requests: int | None = None
    duration: str | None = None
    blocks: int | None = None
    warmup: str | None = None
    think: str | None = None
    speed: float = 1.0
    timeout: str | None = None
    seed: int | None = None
    temperature: float | None = None
    ignore_eos: bool = False
    slo: Sequence[str] = ()
    tokenizer: str | None = None

    def check(self, trace: Recording | None) -> None:
        """Raises BadInput for what does not go together, or measures nothing."""
        check_counts({"--requests": self.requests, "--blocks": self.blocks})
        check_counts({"--concurrency": min(self.concurrencies, default=None)})
        if self.rates and self.concurrencies:
            raise BadInput(
                "write --rate (open loop, requests/s) or --concurrency (closed loop), not both"
            )
        if trace is None and not self.rates and not self.concurrencies:
            raise BadInput("write --rate (open loop, requests/s) or --concurrency (closed loop)")
        loads = [parsed("--rate", parse_rate, rate) for rate in self.rates] or list(
            self.concurrencies
        )
        if twice := [load for load in loads if loads.count(load) > 1]:
            raise BadInput(
                f"--{'rate' if self.rates else 'concurrency'}: {twice[0]:g} is there twice; each load is measured once"
            )
        if self.requests is not None and self.duration is not None:
            raise BadInput("write --requests or --duration, not both")
        if self.blocks and self.requests and self.blocks > self.requests:
            raise BadInput(
                f"--blocks: {self.blocks} blocks need {self.blocks} requests, and --requests says {self.requests}"
            )
        if self.duration is not None and seconds_of("--duration", self.duration) == 0:
            raise BadInput(f"--duration: {self.duration} measures nothing; write such as 60s")

    def stages(self, trace: Recording | None) -> list[dict[str, Any]]:
        """`workload.stages`: each with its part of a block, and so many requests more in the first blocks."""
        loads: list[dict[str, Any]] = [{"rate": rate} for rate in self.rates]
        loads += [{"concurrency": concurrency} for concurrency in self.concurrencies]
        if not loads:
            assert trace is not None
            part = trace.model_dump(mode="json", exclude_defaults=True)
            loads = [{"trace": {**part, "speed": self.speed}, "warmup": "0s"}]
        return [
            {**load, **self._size(trace), **({"think": self.think} if self.think else {})}
            for load in loads
        ]

    def _size(self, trace: Recording | None) -> dict[str, Any]:
        blocks = self.block_count(trace)
        replayed = trace is not None and not self.rates and not self.concurrencies
        if replayed:  # each block replays the recording from its beginning
            if self.duration is not None:
                return {"duration": self.duration}
            assert trace is not None
            return {
                "requests": self.requests or min(REQUESTS, _replayable(resolved(trace, Path.cwd())))
            }
        if self.duration is not None:
            return {"duration": format_seconds(seconds_of("--duration", self.duration) / blocks)}
        requests, more = divmod(self.requests or REQUESTS, blocks)
        return {"requests": requests, "one_more_in": more}

    def block_count(self, trace: Recording | None) -> int:
        """As many as are asked for, else `BLOCKS`, or fewer where their parts would be too short to measure in."""
        if self.blocks:
            return self.blocks
        if trace is not None and not self.rates and not self.concurrencies:
            return 1
        if self.duration is not None:
            parts = seconds_of("--duration", self.duration) // BLOCK_S
        else:
            least = WAVES * max(self.concurrencies) if self.concurrencies else ARRIVALS
            parts = (self.requests or REQUESTS) // least
        return int(min(BLOCKS, max(1, parts)))


def _replayable(recording: Recording) -> int:
    """Arrivals with an end of their window: the last is that end, unless `length` ends it later."""
    times = arrival_seconds(recording)
    if count := len(times) - int(recorded_seconds(recording) <= times[-1]):
        return count
    raise BadInput(
        f"--trace: {recording.file}: one arrival; a replay needs a second one, which ends it"
    )


def plan_in_words(experiment: Experiment) -> str:
    """What is measured, in how many blocks, and what comes on top."""
    workload = experiment.workload
    stage = workload.stages[0]
    blocks = "one block" if workload.blocks == 1 else f"{workload.blocks} blocks"
    if stage.requests is None:
        assert stage.duration is not None
        size = f"{stage.duration * workload.blocks:g} s"
    else:
        size = f"{stage.requests * workload.blocks + stage.one_more_in:,} requests"
    each = "each load" if len(workload.stages) > 1 else "the load"
    warmup = workload.warmup if stage.warmup is None else stage.warmup
    words = [f"{size} of {each} are measured, in {blocks}"]
    words += [f"a warm-up of {warmup:g} s before each block comes on top"] if warmup else []
    words += (
        ["dyno compare needs several blocks (--blocks) to tell two runs apart"]
        if workload.blocks == 1
        else []
    )
    return "; ".join(words)
