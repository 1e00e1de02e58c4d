"""What a server was doing while it was measured: its own metrics, its memory and CPU, once a second on the journals' clock."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
import psutil

from foundation.files.atomic_write import whole_file
from foundation.http.aiohttp_session import address
from foundation.http.endpoint import Endpoint
from foundation.run.records import TelemetrySample
from serve.readiness import session

PERIOD_S = 1.0
_PATIENCE = aiohttp.ClientTimeout(total=5)
# A server whose metrics are late so often is not asked for them again.
_MISSES = 3
# vLLM's metrics take some 50 KB; what is longer is none of them.
_MOST_BYTES = 4 << 20
_MOST = 2**63 - 1
# Field of a sample: vLLM's metric, and its type.
_METRICS: dict[str, tuple[str, type[int] | type[float]]] = {
    "running": ("vllm:num_requests_running", int),
    "waiting": ("vllm:num_requests_waiting", int),
    "kv_cache_usage": ("vllm:kv_cache_usage_perc", float),
    "prefix_cache_queries": ("vllm:prefix_cache_queries_total", int),
    "prefix_cache_hits": ("vllm:prefix_cache_hits_total", int),
    "preemptions": ("vllm:num_preemptions_total", int),
    "prompt_tokens": ("vllm:prompt_tokens_total", int),
    "generation_tokens": ("vllm:generation_tokens_total", int),
}
_LINE = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}\n]*\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?$", re.MULTILINE)


class Telemetry:
    """`async with Telemetry(endpoints, pid, folder)`: samples while it is open, then writes `folder/VARIANT.parquet` for each.

    The endpoints are those of one server. One that somebody else runs has no `pid`; if it shows no metrics of vLLM's either, it
    is left alone. `trouble`: what is missing or was damaged; telemetry never costs a run.
    """

    def __init__(self, endpoints: Sequence[Endpoint], pid: int | None, folder: Path) -> None:
        self._endpoints = endpoints
        self._pid = pid
        self._folder = folder
        self._endpoint = endpoints[0]
        self._samples: list[TelemetrySample] = []
        self._processes: list[psutil.Process] = []
        self._misses = 0
        self._over = asyncio.Event()
        self.trouble: str | None = None

    async def __aenter__(self) -> Telemetry:
        if self._pid is not None:
            with contextlib.suppress(
                psutil.Error
            ):  # it died at this moment: who watches the server says so
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
            try:
                self.trouble = (
                    write_samples(self._samples, self._folder / f"{endpoint.variant}.parquet")
                    or self.trouble
                )
            except OSError as problem:
                self.trouble = f"{endpoint.variant}: its samples can't be written ({problem.strerror or problem})"

    async def _sample_until_over(self) -> None:
        """Until it is cancelled, or `_over`: aiohttp takes a cancellation for its own timeout where both come at once."""
        due = time.monotonic()
        while not self._over.is_set() and await self.sample():
            due = max(due + PERIOD_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    async def sample(self) -> bool:
        """Take a sample now. False where there is nothing to be seen, and never will be."""
        if self._sampling.done():
            return False
        began_ns = time.monotonic_ns()
        metrics = read_metrics(await self._metrics_text())
        if not metrics and not self._processes and not self._samples:
            return False
        rss, cpu = _usage(self._processes) if self._processes else (None, None)
        self._samples.append(
            TelemetrySample(
                monotonic_ns=began_ns, unix_ns=time.time_ns(), rss_bytes=rss, cpu_s=cpu, **metrics
            )
        )
        return True

    async def _metrics_text(self) -> str:
        """What `/metrics` says, as far as that can be metrics of vLLM's; empty where it says nothing in time."""
        if self._misses >= _MISSES:
            return ""
        metrics_at = address(self._endpoint, self._endpoint.beside("/metrics"))
        try:
            async with self._web.get(
                metrics_at, timeout=_PATIENCE, allow_redirects=False
            ) as answer:
                text = bytearray()
                async for piece in answer.content.iter_any():
                    text += piece
                    if len(text) > _MOST_BYTES:
                        raise TimeoutError
        except (aiohttp.ClientError, TimeoutError) as error:
            self._misses += isinstance(error, TimeoutError)
            if self._misses == _MISSES:
                self.trouble = f"{self._endpoint.variant}: its /metrics did not end in time, so its own numbers are missing"
            return ""
        self._misses = 0
        return text.decode(errors="replace")


def read_metrics(text: str) -> dict[str, Any]:
    """The fields of a sample that a Prometheus text exposition holds, summed over its label sets (one for each engine).

    A metric that is no number, negative, or larger than a file can hold is left out.
    """
    totals: defaultdict[str, float] = defaultdict(float)
    for name, value in _LINE.findall(text):
        try:
            totals[name] += float(value)
        except ValueError:
            totals[name] = math.nan
    return {
        field: kind(totals[name])
        for field, (name, kind) in _METRICS.items()
        if 0 <= totals.get(name, -1) <= _MOST // 2
    }


def _usage(processes: Iterable[psutil.Process]) -> tuple[int, float]:
    """Resident bytes and CPU seconds of the processes that are still there."""
    rss, cpu = 0, 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            rss += process.memory_info().rss
            times = process.cpu_times()
            cpu += times.user + times.system
    return rss, cpu


def write_samples(samples: Sequence[TelemetrySample], file: Path) -> str | None:
    """Write samples as Parquet, after those that an earlier session of the run left in the file.

    A file that can't be read is put aside; the sentence that says so.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"cpu_s": pa.float64(), "kv_cache_usage": pa.float64()}
    schema = pa.schema(
        [(field, kinds.get(field, pa.int64())) for field in TelemetrySample.__struct_fields__]
    )
    table = pa.Table.from_pylist(
        [msgspec.structs.asdict(sample) for sample in samples], schema=schema
    )
    said = None
    if file.exists():
        try:
            # An open file, since pyarrow takes a path that holds "=" or "?" for more than a path.
            with file.open("rb") as earlier:
                table = pa.concat_tables([pq.read_table(earlier, schema=schema), table])
        except (OSError, pa.ArrowException, ValueError) as error:
            aside = file.with_suffix(".parquet.damaged")
            file.replace(aside)
            said = f"{file.name} of an earlier session can't be read ({str(error).splitlines()[0]}); it is {aside.name} now"
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as place:
        pq.write_table(table, place)
    return said
