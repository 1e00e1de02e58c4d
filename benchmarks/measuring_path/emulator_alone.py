"""`python -m benchmarks.measuring_path.emulator_alone`: how many events/s the emulator sends when nobody parses them."""

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

STREAMS, TOKENS = 800, 250


def main() -> None:
    """Steps of a millisecond are far more than it can do one by one, so that it sends what is overdue in one write."""
    for step, words in (("1ms", "as many as it can"), ("20ms", "40,000/s asked, an event a write")):
        with tempfile.TemporaryDirectory() as folder:
            truth = Path(folder) / "truth.jsonl"
            with emulator("--lockstep", step, "--tokens", str(TOKENS), "--ttft", "1s", truth=truth, core=1) as endpoint:
                os.sched_setaffinity(0, {0})
                server = max(psutil.Process().children(), key=psutil.Process.create_time)
                cpu_s, reads = _drain(server, urlsplit(endpoint.base_url).port or 0)
            stamps = [row["event_ns"] for row in read_truth(truth)]
        took_s = (max(row[-1] for row in stamps) - min(row[0] for row in stamps)) / 1e9
        events = STREAMS * TOKENS
        print(f"{words}: {events / took_s:,.0f} events/s, {cpu_s / events * 1e6:.1f} µs of CPU an event, {reads:,} reads")


def _drain(server: psutil.Process, port: int) -> tuple[float, int]:
    """Ask for all streams and throw the bytes away: the server's CPU seconds meanwhile, and how often there was something."""
    poll, reads = select.epoll(), 0
    open_: dict[int, socket.socket] = {}
    for number in range(STREAMS):
        body = json.dumps({"model": "m", "prompt": f"stream {number}", "max_tokens": TOKENS}).encode()
        stream = socket.create_connection(("127.0.0.1", port))
        stream.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        open_[stream.fileno()] = stream
        poll.register(stream, select.EPOLLIN)
    time.sleep(0.5)
    before = server.cpu_times()
    while open_:
        for handle, _ in poll.poll():
            reads += 1
            if open_[handle].recv(1 << 16).endswith(b"0\r\n\r\n"):
                poll.unregister(handle)
                open_.pop(handle).close()
    after = server.cpu_times()
    return after.user + after.system - before.user - before.system, reads


if __name__ == "__main__":
    main()
