"""What is written, vLLM serves: one server after the other, each really answering."""

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
from pathlib import Path

import pytest

from foundation.model import ModelRef
from foundation.progress import Silent
from quantize import merge, quantize
from quantize.config import QuantizeConfig

DEADLINE_S = 240


@pytest.mark.slow
@pytest.mark.timeout(2 * DEADLINE_S)
@pytest.mark.parametrize("method", ["w8a8-int8", "w4a16", "bnb-nf4"])
def test_served(method: str, base: ModelRef, adapter: Path, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    merged = merge(base, adapter, tmp_path / "merged", Silent())
    model = quantize(merged, QuantizeConfig(method=method), tmp_path / "quantized", Silent())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model.path), "--served-model-name", "m"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "512"]
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True)
    try:
        answer = ask(port, server, tmp_path / "log")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
    assert answer["usage"]["completion_tokens"] == 8


def ask(port: int, server: subprocess.Popen[bytes], log: Path) -> dict[str, dict[str, int]]:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "ignore_eos": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                return dict(json.load(response))
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(f"no answer from the server:\n{log.read_text()[-3000:]}")
