"""The engine record: one line for each request and each step of a vLLM server's engine.

vLLM loads `serve.vllm.stat_logger` in the process of its API server. It calls `record` on its event
loop after each step. Nothing happens unless an environment variable names the record's file. vLLM
does not promise to keep what `record` gets. So the record stops at the first surprise, with one
line in the server's log, and serving goes on.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from foundation.files.appended_lines import AppendedLines
from foundation.run.engine_record import (
    ENGINE_SCHEMA_VERSION,
    EngineLimits,
    EngineRequest,
    EngineStart,
    EngineStep,
)
from serve.vllm.wall_clock import WallClock

VARIABLE = "TUNEDYNO_ENGINE_RECORD"
"""The environment variable that names the file."""
PLUGIN = "tunedyno"
"""The plugin's name, as in the entry points of `pyproject.toml`."""
OPTION = "--enable-logging-iteration-details"
"""Without this option of vLLM the record has no steps."""

# vLLM's id of a request is its API's prefix, the client's X-Request-Id, and for a completion the
# number of its prompt. The zero tells a `request_key` from a random UUID in hexadecimal digits.
_ID = re.compile(r"(?:chatcmpl-|cmpl-)([0-9a-f]{16}0[0-9a-f]{15})(?:-0)?")


class FinishedRequest(Protocol):
    """What the record reads of vLLM's `FinishedRequestStats`; times in seconds."""

    request_id: str | None
    e2e_latency: float
    queued_time: float
    prefill_time: float
    decode_time: float
    num_prompt_tokens: int
    num_generation_tokens: int
    num_cached_tokens: int


class IterationDetails(Protocol):
    """What the record reads of vLLM's `SchedulerIterationDetails`."""

    num_ctx_requests: int
    num_ctx_tokens: int
    num_generation_requests: int
    num_generation_tokens: int
    elapsed_ms: float
    is_dummy: bool


class SchedulerStats(Protocol):
    """What the record reads of vLLM's class of this name; requests after a step."""

    num_running_reqs: int
    num_waiting_reqs: int
    num_skipped_waiting_reqs: int

    @property
    def iteration_details(self) -> IterationDetails | None:
        """The step, if vLLM runs with `OPTION`."""


class IterationStats(Protocol):
    """What the record reads of vLLM's class of this name. `iteration_timestamp`: wall clock."""

    iteration_timestamp: float

    @property
    def finished_requests(self) -> Sequence[FinishedRequest]:
        """The requests that ended with this step."""


class SchedulerConfig(Protocol):
    """What the record reads of vLLM's class of this name."""

    async_scheduling: bool | None


class ParallelConfig(Protocol):
    """What the record reads of vLLM's class of this name."""

    distributed_executor_backend: object
    pipeline_parallel_size: int


class VllmConfig(Protocol):
    """What the record reads of vLLM's class of this name."""

    @property
    def scheduler_config(self) -> SchedulerConfig:
        """How steps are planned."""

    @property
    def parallel_config(self) -> ParallelConfig:
        """Where the model runs."""


class EngineRecord:
    """Writes the engine record of one API server, of all its engines.

    `source` is the server's name and version, which `serve.vllm.stat_logger` fills in.
    """

    source: ClassVar[str] = "vLLM"

    def __init__(self, vllm_config: VllmConfig, engine_indexes: Sequence[int] = ()) -> None:
        self._lines: AppendedLines | None = None
        if file := os.environ.get(VARIABLE):
            try:
                self._begin(vllm_config, Path(file), len(engine_indexes))
            except Exception as error:  # whatever happens here, the server must start
                self._stop(error)

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        *args: object,
        **kwargs: object,
    ) -> None:
        """Take what vLLM counted in a step of an engine; never raises."""
        if self._lines is None:
            return
        try:
            self._record(self._lines, scheduler_stats, iteration_stats)
        except Exception as error:  # whatever happens here, serving must go on
            self._stop(error)

    def log_engine_initialized(self) -> None:
        """Part of vLLM's interface; there is nothing to do."""

    def _begin(self, config: VllmConfig, file: Path, engines: int) -> None:
        _keep_steps_out_of_the_log()
        self._clock = WallClock()
        # Else vLLM times only the part of a step in which its engine waits for the outcome.
        parallel = config.parallel_config
        self._whole_steps = (
            not config.scheduler_config.async_scheduling
            and parallel.pipeline_parallel_size == 1  # more stages have a step each under way
            and parallel.distributed_executor_backend in ("mp", "ray")
        )
        self._lines = AppendedLines(file, self._stop)
        now = self._clock.read()
        self._began_ns = now.monotonic_ns
        self._lines.add(
            EngineStart(
                schema_version=ENGINE_SCHEMA_VERSION,
                source=self.source,
                monotonic_ns=now.monotonic_ns,
                unix_ns=now.unix_ns,
                limits=_limits(config, engines),
            )
        )

    def _record(
        self,
        lines: AppendedLines,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
    ) -> None:
        now = self._clock.read()
        if now.jump_ns:
            _log.warning("the wall clock was set by %.3f s", now.jump_ns / 1e9)
        outcome_ns = None
        if iteration_stats is not None:
            outcome_ns = now.moment_ns(iteration_stats.iteration_timestamp)
            for finished in iteration_stats.finished_requests:
                row = self._request(finished, outcome_ns, now.monotonic_ns - self._began_ns)
                if row is not None:
                    lines.add(row)
        if scheduler_stats is None or (details := scheduler_stats.iteration_details) is None:
            return
        if not details.is_dummy:
            ended_ns = now.monotonic_ns if outcome_ns is None else outcome_ns
            lines.add(self._step(scheduler_stats, details, ended_ns))

    def _request(
        self, finished: FinishedRequest, finished_ns: int | None, uptime_ns: int
    ) -> EngineRequest | None:
        """The line of a request; None for a request of others, and for one without a token."""
        if (match := _ID.fullmatch(finished.request_id or "")) is None:
            return None
        queued_ns, prefill_ns = _ns(finished.queued_time), _ns(finished.prefill_time)
        decode_ns, in_server_ns = _ns(finished.decode_time), _ns(finished.e2e_latency)
        in_engine_ns = queued_ns + prefill_ns + decode_ns
        # A stamp that the engine did not take is 0, so its durations are negative or too long.
        if min(queued_ns, prefill_ns, decode_ns) < 0 or in_engine_ns > uptime_ns:
            return None
        is_known = (
            finished_ns is not None
            and in_server_ns >= in_engine_ns
            and self._clock.held_since(finished_ns - in_server_ns)
        )
        return EngineRequest(
            key=match[1],
            finished_ns=finished_ns,
            in_server_ns=in_server_ns if is_known else None,
            queued_ns=queued_ns,
            prefill_ns=prefill_ns,
            decode_ns=decode_ns,
            input_tokens=finished.num_prompt_tokens,
            output_tokens=finished.num_generation_tokens,
            cached_tokens=finished.num_cached_tokens,
            preemptions=_preemptions(finished),
        )

    def _step(self, stats: SchedulerStats, details: IterationDetails, ended_ns: int) -> EngineStep:
        return EngineStep(
            ended_ns=ended_ns,
            elapsed_ns=round(details.elapsed_ms * 1e6) if self._whole_steps else None,
            context_requests=details.num_ctx_requests,
            context_tokens=details.num_ctx_tokens,
            generation_requests=details.num_generation_requests,
            generation_tokens=details.num_generation_tokens,
            running=stats.num_running_reqs,
            waiting=stats.num_waiting_reqs + stats.num_skipped_waiting_reqs,
        )

    def _stop(self, error: Exception) -> None:
        """Record nothing more, with one line in the server's log."""
        self._lines = None
        # Without the file's name: `failures` looks for missing files in this log.
        words = error.strerror if isinstance(error, OSError) and error.strerror else error
        _log.warning("the engine record stops: %s: %s", type(error).__name__, words)


_log = logging.getLogger("vllm.tunedyno")


def environment(file: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables with which a server writes its engine record to `file`.

    The user's own choice of plugins stays; without one vLLM loads all that are installed.
    """
    variables = {VARIABLE: str(file.absolute())}
    if (plugins := inherited.get("VLLM_PLUGINS")) is not None:
        variables["VLLM_PLUGINS"] = ",".join(filter(None, (plugins, PLUGIN)))
    return variables


def _limits(config: object, engines: int) -> EngineLimits:
    """What vLLM's scheduler keeps to; a limit that it calls otherwise, or does not have, is None.

    vLLM makes its loggers when the engine has its KV cache. It adds up the blocks of all engines.
    """
    scheduler, cache, lora = (
        getattr(config, name, None) for name in ("scheduler_config", "cache_config", "lora_config")
    )
    return EngineLimits(
        max_num_seqs=_count(scheduler, "max_num_seqs"),
        max_num_batched_tokens=_count(scheduler, "max_num_batched_tokens"),
        kv_blocks=_count(cache, "num_gpu_blocks") if engines <= 1 else None,
        block_size=_count(cache, "block_size"),
        chunked_prefill=_flag(scheduler, "enable_chunked_prefill"),
        prefix_caching=_flag(cache, "enable_prefix_caching"),
        max_loras=_count(lora, "max_loras"),
    )


def _count(config: object, name: str) -> int | None:
    """A whole number above 0 of vLLM's configuration; None for anything else."""
    value = getattr(config, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _flag(config: object, name: str) -> bool | None:
    value = getattr(config, name, None)
    return value if isinstance(value, bool) else None


def _preemptions(finished: object) -> int | None:
    """How often a request was put back; vLLM 0.26 does not say it for each."""
    value = getattr(finished, "num_preemptions", None)
    return value if isinstance(value, int) else None


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _keep_steps_out_of_the_log() -> None:
    """With `OPTION` vLLM would also print a line for each step."""
    logging.getLogger("vllm.v1.metrics.loggers").addFilter(
        lambda line: line.funcName != "_log_iteration_details"
    )
