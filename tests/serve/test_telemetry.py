"""Telemetry never costs a run: garbage and damaged files are bounded, left out, and named."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow.parquet as pq

from foundation.http.endpoint import Endpoint
from foundation.run.records import TelemetrySample
from serve import telemetry
from serve.telemetry import Telemetry


def sample(at: int) -> TelemetrySample:
    return TelemetrySample(monotonic_ns=at, unix_ns=at, rss_bytes=None, cpu_s=None, running=1)


@asynccontextmanager
async def answering(body: bytes, ends: bool) -> AsyncIterator[Endpoint]:
    """A server whose every answer is `body`, again and again where it does not end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                length = b"Content-Length: %d\r\n" % len(body) if ends else b"Connection: close\r\n"
                writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body)
                while not ends:
                    writer.write(body)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield Endpoint("a", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", "m")


async def test_garbage_from_a_server_is_no_sample_and_no_error(tmp_path: Path):
    body = (
        b"\xff\xfe\x00 vllm:num_requests_running NaN\nvllm:num_requests_running{\n"
        b"vllm:num_requests_waiting 4\n"
    )
    async with (
        answering(body, ends=True) as endpoint,
        Telemetry([endpoint], None, tmp_path) as taking,
    ):
        assert await taking.sample()
    assert taking.trouble is None
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert {(row["running"], row["waiting"]) for row in rows} == {(None, 4)}


async def test_metrics_without_end_are_cut_off_and_not_asked_for_again(tmp_path: Path):
    async with (
        answering(b"x" * (1 << 16), ends=False) as endpoint,
        Telemetry([endpoint], None, tmp_path) as taking,
    ):
        taking._samples.append(sample(1))  # as if it had answered before
        for _ in range(telemetry._MOST_TIMEOUTS + 1):
            await taking.sample()
    assert taking.trouble is not None and "/metrics" in taking.trouble


async def test_telemetry_ends_where_its_cancellation_was_taken_for_a_timeout(tmp_path: Path):
    class Swallowing(Telemetry):
        async def sample(self) -> bool:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)
            return True

    async with asyncio.timeout(20):
        async with Swallowing([Endpoint("a", "http://127.0.0.1:9/v1", "m")], None, tmp_path):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
