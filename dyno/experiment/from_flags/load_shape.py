"""The shape of the load of `dyno load`: rates or concurrencies, in stages and blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dyno.experiment.from_flags.values import check_counts, parsed, seconds_of
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from foundation.path_fields import resolved
from foundation.units import format_seconds, parse_rate
from loadgen.dataset_config import Recording
from loadgen.schedule.traces import arrival_seconds, recorded_seconds

REQUESTS = 500

# From this many blocks, dyno compare sees how much a measurement varies.
BLOCKS = 5

# The least that a block holds: waves of a closed loop, arrivals of an open one, seconds.
WAVES = 2
ARRIVALS = 10
BLOCK_S = 5.0


@dataclass(frozen=True, kw_only=True)
class LoadShape:
    """The flags of `dyno load` about the load.

    Each of `rates` or `concurrencies` is a stage; without them, one stage replays a trace at
    `speed`. `requests` or `duration` count for a whole stage, divided among its blocks. Without
    both, a stage has 500 requests.
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
    machines: str | None = None

    def check(self, trace: Recording | None) -> None:
        """Raises BadInput for flags that do not go together, or measure nothing."""
        check_counts({"--requests": self.requests, "--blocks": self.blocks})
        check_counts({"--concurrency": min(self.concurrencies, default=None)})
        if self.rates and self.concurrencies:
            raise BadInput(
                "write --rate (open loop, requests/s) or --concurrency (closed loop), not both"
            )
        if trace is None and not self.rates and not self.concurrencies:
            raise BadInput("write --rate (open loop, requests/s) or --concurrency (closed loop)")
        rates = [parsed("--rate", parse_rate, rate) for rate in self.rates]
        loads = rates or list(self.concurrencies)
        if duplicates := [load for load in loads if loads.count(load) > 1]:
            flag = "--rate" if self.rates else "--concurrency"
            raise BadInput(f"{flag}: {duplicates[0]:g} is there twice; each load is measured once")
        if self.requests is not None and self.duration is not None:
            raise BadInput("write --requests or --duration, not both")
        if self.blocks and self.requests and self.blocks > self.requests:
            raise BadInput(
                f"--blocks: {self.blocks} blocks need {self.blocks} requests, "
                f"and --requests says {self.requests}"
            )
        if self.duration is not None and seconds_of("--duration", self.duration) == 0:
            raise BadInput(f"--duration: {self.duration} measures nothing; write such as 60s")

    def stages(self, trace: Recording | None) -> list[dict[str, object]]:
        """The section `workload.stages`, with the size of a stage within one block."""
        loads: list[dict[str, object]] = [{"rate": rate} for rate in self.rates]
        loads += [{"concurrency": concurrency} for concurrency in self.concurrencies]
        if not loads:
            assert trace is not None
            part = trace.model_dump(mode="json", exclude_defaults=True)
            loads = [{"trace": {**part, "speed": self.speed}, "warmup": "0s"}]
        think = {"think": self.think} if self.think else {}
        return [{**load, **self._block_size(trace), **think} for load in loads]

    def _block_size(self, trace: Recording | None) -> dict[str, object]:
        """The keys of a stage that say how long it is within one block."""
        blocks = self.block_count(trace)
        replayed = trace is not None and not self.rates and not self.concurrencies
        if replayed:  # each block replays the recording from its beginning
            if self.duration is not None:
                return {"duration": self.duration}
            assert trace is not None
            available = _replayable_requests(resolved(trace, Path.cwd()))
            return {"requests": self.requests or min(REQUESTS, available)}
        if self.duration is not None:
            return {"duration": format_seconds(seconds_of("--duration", self.duration) / blocks)}
        requests, one_more_in = divmod(self.requests or REQUESTS, blocks)
        return {"requests": requests, "one_more_in": one_more_in}

    def block_count(self, trace: Recording | None) -> int:
        """`blocks`, else `BLOCKS`, or fewer if they would be too short to measure."""
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


def _replayable_requests(recording: Recording) -> int:
    """The number of requests that a replay can measure.

    The last arrival ends the measurement and does not count, unless `length` ends it later.
    """
    times = arrival_seconds(recording)
    if count := len(times) - int(recorded_seconds(recording) <= times[-1]):
        return count
    raise BadInput(
        f"--trace: {recording.file}: one arrival; a replay needs a second one, which ends it"
    )


def planned_load(experiment: Experiment) -> str:
    """A sentence on how much is measured, in how many blocks, after which warm-up."""
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
    sentences = [f"{size} of {each} are measured, in {blocks}"]
    if warmup:
        sentences.append(f"a warm-up of {warmup:g} s before each block comes on top")
    if workload.blocks == 1:
        sentences.append("dyno compare needs several blocks (--blocks) to tell two runs apart")
    return "; ".join(sentences)
