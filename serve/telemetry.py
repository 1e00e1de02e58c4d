"""Samples a server once a second while it is measured: its own metrics, its memory and its CPU.

Samples carry the journals' clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import aiohttp
import msgspec
import psutil

from foundation.http.aiohttp_session import address
from foundation.http.endpoint import Endpoint
from foundation.run.records import TelemetrySample
from foundation.run.telemetry import write_samples
from serve.readiness import session
from serve.vllm.metrics import read_metrics

PERIOD_S = 1.0
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_MOST_TIMEOUTS = 3
"""After so many timeouts in a row telemetry stops asking a server for its metrics."""
_LONGEST_BYTES = 4 << 20
"""vLLM's metrics take some 50 KB; a longer answer is something else."""


class Telemetry:
    """`async with Telemetry(endpoints, pid, folder)` samples one server while it is open.

    `endpoints`: those of the server. On exit each gets a file `folder/VARIANT.parquet`.
    `pid`: the root of the server's process tree; None if somebody else runs the server. Such a
    server without vLLM's metrics gets no samples.
    `trouble`: what is missing or damaged, in words. Telemetry never costs a run.
    """

    def __init__(self, endpoints: Sequence[Endpoint], pid: int | None, folder: Path) -> None:
        self._endpoints = endpoints
        self._pid = pid
        self._folder = folder
        self._endpoint = endpoints[0]
        self._samples: list[TelemetrySample] = []
        self._processes: list[psutil.Process] = []
        self._timeouts = 0
        self._over = asyncio.Event()
        self.trouble: str | None = None

    async def __aenter__(self) -> Telemetry:
        if self._pid is not None:
            # A server that dies at this moment is its watcher's business.
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(self._pid)
                self._processes = [root, *root.children(recursive=True)]
        self._web = session(self._endpoint)
        self._sampling = asyncio.create_task(self._sample_until_over())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sampling
        await self._web.close()
        for endpoint in self._endpoints if self._samples else ():
            file = self._folder / f"{endpoint.variant}.parquet"
            try:
                self.trouble = write_samples(self._samples, file) or self.trouble
            except OSError as problem:
                reason = problem.strerror or problem
                self.trouble = f"{endpoint.variant}: its samples can't be written ({reason})"

    async def _sample_until_over(self) -> None:
        """Sample until `_over` is set, or the task is cancelled.

        `_over` is needed: aiohttp mistakes a cancellation for its own timeout if both coincide.
        """
        due = time.monotonic()
        while not self._over.is_set() and await self.sample():
            due = max(due + PERIOD_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def sample(self) -> bool:
        """Take a sample now. False if this server has nothing to sample, now or later."""
        if self._sampling.done():
            return False
        began_ns = time.monotonic_ns()
        metrics = read_metrics(await self._metrics_text())
        if not metrics and not self._processes and not self._samples:
            return False
        rss, cpu = _usage(self._processes) if self._processes else (None, None)
        clocks = {"monotonic_ns": began_ns, "unix_ns": time.time_ns()}
        fields = {**clocks, "rss_bytes": rss, "cpu_s": cpu, **metrics}
        self._samples.append(msgspec.convert(fields, TelemetrySample))
        return True

    async def _metrics_text(self) -> str:
        """The text of `/metrics`; empty if it does not come in time or is too long for vLLM's."""
        if self._timeouts >= _MOST_TIMEOUTS:
            return ""
        url = address(self._endpoint, self._endpoint.beside("/metrics"))
        try:
            async with self._web.get(url, timeout=_TIMEOUT, allow_redirects=False) as answer:
                text = bytearray()
                async for piece in answer.content.iter_any():
                    text += piece
                    if len(text) > _LONGEST_BYTES:
                        raise TimeoutError
        except (aiohttp.ClientError, TimeoutError) as error:
            self._timeouts += isinstance(error, TimeoutError)
            if self._timeouts == _MOST_TIMEOUTS:
                self.trouble = (
                    f"{self._endpoint.variant}: its /metrics did not end in time, "
                    "so its own numbers are missing"
                )
            return ""
        self._timeouts = 0
        return text.decode(errors="replace")


def _usage(processes: Iterable[psutil.Process]) -> tuple[int, float]:
    """Resident bytes and CPU seconds of the processes that still exist."""
    rss, cpu = 0, 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            rss += process.memory_info().rss
            times = process.cpu_times()
            cpu += times.user + times.system
    return rss, cpu
