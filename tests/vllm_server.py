"""A vLLM server of a model, started as anybody would start one, for the time of a test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serve.vllm.arguments import server_module

DEADLINE_S = 600
_OPTIONS = ("--host", "127.0.0.1", "--enforce-eager", "--max-model-len", "512")
_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@dataclass(frozen=True)
class StartedVllm:
    """A server that knows its model as "m". `url` ends in `/v1`."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Posts a body to a path below `url`, as soon as the server listens."""
        request = urllib.request.Request(
            f"{self.url}/{path}",
            json.dumps({"model": "m", **body}).encode(),
            {"Content-Type": "application/json"},
        )
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                    return dict(json.load(response))
            except urllib.error.HTTPError as error:
                pytest.fail(f"{error}: {error.read().decode()}\n{self._last_words()}")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        pytest.fail(f"no answer from the server:\n{self._last_words()}")

    def _last_words(self) -> str:
        return self.log.read_text()[-3000:]


@contextmanager
def vllm_server(model: Path, log: Path, *options: str, **settings: str) -> Iterator[StartedVllm]:
    """A server of a checkpoint with more options and environment variables, ended afterwards."""
    port = free_port()
    command = [sys.executable, "-m", server_module(), *_OPTIONS, "--port", str(port)]
    command += ["--model", str(model), "--served-model-name", "m", *options]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **_SETTINGS, **settings},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield StartedVllm(f"http://127.0.0.1:{port}/v1", log, process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
