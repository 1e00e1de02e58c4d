"""`python -m benchmarks.measuring_path.emulator_alone`: events/s of the emulator with no parser."""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from loadgen.emulator.process import emulator, read_truth

STREAMS, SECONDS = 800, 4
RATES = (40_000, 75_000, 100_000, 150_000, 800_000)


def main() -> None:
    """Overdue events share one write: more than one event a write means that it did not keep up."""
    for rate in RATES:
        tokens = min(SECONDS * rate, 800_000) // STREAMS
        with tempfile.TemporaryDirectory() as folder:
            truth = Path(folder) / "truth.jsonl"
            step = f"{STREAMS / rate * 1e3:.6f}ms"
            with emulator(
                "--lockstep", step, "--tokens", str(tokens), "--ttft", "1s", truth=truth, core=1
            ) as endpoint:
                os.sched_setaffinity(0, {0})
                server = max(psutil.Process().children(), key=psutil.Process.create_time)
                cpu_s = _drain(server, urlsplit(endpoint.base_url).port or 0, tokens)
            stamps = [row["event_ns"] for row in read_truth(truth)]
        took_s = (max(row[-1] for row in stamps) - min(row[0] for row in stamps)) / 1e9
        events, writes = STREAMS * tokens, sum(len(set(row)) for row in stamps)
        print(
            f"{rate:,} events/s asked: {events / took_s:,.0f} sent in {writes / took_s:,.0f} "
            "writes/s, "
            f"{cpu_s / events * 1e6:.1f} µs of CPU an event",
            flush=True,
        )


def _drain(server: psutil.Process, port: int, tokens: int) -> float:
    """Ask for all streams and throw the bytes away: the server's CPU seconds meanwhile."""
    poll = select.epoll()
    open_: dict[int, socket.socket] = {}
    for number in range(STREAMS):
        body = json.dumps(
            {"model": "m", "prompt": f"stream {number}", "max_tokens": tokens}
        ).encode()
        stream = socket.create_connection(("127.0.0.1", port))
        stream.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        open_[stream.fileno()] = stream
        poll.register(stream, select.EPOLLIN)
    time.sleep(0.5)
    before = server.cpu_times()
    while open_:
        for handle, _ in poll.poll():
            if open_[handle].recv(1 << 16).endswith(b"0\r\n\r\n"):
                poll.unregister(handle)
                open_.pop(handle).close()
    after = server.cpu_times()
    return after.user + after.system - before.user - before.system


if __name__ == "__main__":
    main()
