"""What is written, vLLM serves: the demo's model, quantized every way that the CPU backend has kernels for, one server a way.

Two things are held: vLLM reads a checkpoint's numbers as transformers does (the log-probability of held-out text), and answers
stay near those of the unquantized model.
"""

from __future__ import annotations

import json
import math
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
from pathlib import Path
from typing import Any

import pytest

from foundation.examples import Example, PromptStyle, read_examples, sample
from foundation.model import ModelRef
from foundation.progress import Silent
from quantize import measure_recovery, quantize
from quantize.config import QuantizeConfig
from quantize.recovery import MAX_TEXTS, MAX_TOKENS, Recovery
from quantize.texts import tokenize

DEADLINE_S = 600
QUESTIONS = 16
STYLE = PromptStyle("Topic of this news story (acq, crude, earn, grain, interest, money-fx, ship or trade):\n\n{input}")
EIGHT_BITS, FOUR_BITS = 0.6, 0.15
"""The least share of answers that begin as the unquantized model's. It is not tuned for these: its first words are near ties."""
WAYS = [
    ("w8a8-int8", "rtn", EIGHT_BITS), ("w8a8-int8", "gptq", EIGHT_BITS), ("w8a8-int8", "smoothquant", EIGHT_BITS),
    ("w4a16", "rtn", FOUR_BITS), ("w4a16", "gptq", FOUR_BITS), ("w4a16", "awq", FOUR_BITS),
    ("bnb-nf4", "rtn", FOUR_BITS), ("bnb-int8", "rtn", EIGHT_BITS),
]  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * DEADLINE_S)]


@pytest.fixture(scope="module")
def model() -> ModelRef:
    pytest.importorskip("vllm")
    from dyno.assets import bundled_model

    return bundled_model("smollm2-135m-instruct", Silent())


@pytest.fixture(scope="module")
def examples() -> dict[str, list[Example]]:
    from dyno.assets import bundled_file

    return {split: read_examples(bundled_file(f"news-topics/{split}.jsonl", Silent())) for split in ("train", "heldout")}


@pytest.fixture(scope="module")
def unquantized(model: ModelRef, examples: dict[str, list[Example]], tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    with served(model, tmp_path_factory.mktemp("unquantized") / "log") as ask:
        return answers(ask, examples["heldout"])


@pytest.mark.parametrize(("method", "algorithm", "least"), WAYS)
def test_served(
    method: str, algorithm: str, least: float, model: ModelRef, examples: dict[str, list[Example]], unquantized: list[list[str]],
    tmp_path: Path,
) -> None:  # fmt: skip
    config = QuantizeConfig(method=method, algorithm=algorithm, calibration=64)
    made = quantize(model, config, tmp_path / "quantized", Silent(), examples["train"], STYLE)
    recovery = measure_recovery(model, made, examples["heldout"], STYLE, Silent())
    with served(made, tmp_path / "log") as ask:
        perplexity = perplexity_served(ask, model, examples["heldout"], recovery)
        given = answers(ask, examples["heldout"])
    print(f"{method} {algorithm}: {recovery}; served perplexity {perplexity:.2f}")
    assert perplexity == pytest.approx(recovery.all_text.perplexity.quantized, rel=0.05)
    same = sum(ours[0] == theirs[0] for ours, theirs in zip(given, unquantized, strict=True))
    print(f"first tokens as unquantized: {same} of {QUESTIONS}")
    assert same >= least * QUESTIONS


def answers(ask: Any, heldout: list[Example]) -> list[list[str]]:
    """The greedy answers' tokens."""
    found = []
    for example in heldout[:QUESTIONS]:
        body = {"messages": STYLE.render(example), "max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 1}
        choice = ask("chat/completions", body)["choices"][0]
        found.append([token["token"] for token in choice["logprobs"]["content"]])
    return found


def perplexity_served(ask: Any, model: ModelRef, heldout: list[Example], recovery: Recovery) -> float:
    """Of the very texts that the recovery report read."""
    texts = tokenize(model, sample(heldout, MAX_TEXTS), STYLE, MAX_TOKENS)[: recovery.texts]
    logs: list[float] = []
    for text in texts:
        reply = ask("completions", {"prompt": text.ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0})
        per_place = reply["choices"][0]["prompt_logprobs"][1:]
        logs += [place[str(token)]["logprob"] for place, token in zip(per_place, text.ids[1:], strict=True)]
    assert len(logs) == recovery.all_text.tokens
    return math.exp(-sum(logs) / len(logs))


@contextmanager
def served(model: ModelRef, log_file: Path) -> Iterator[Any]:
    """A server of the checkpoint, ended afterwards; yields `ask(path, body)`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model.path), "--served-model-name", "m"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--max-model-len", "512"]
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with log_file.open("w") as log:
        server = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True)
    try:
        yield lambda path, body: _ask(f"http://127.0.0.1:{port}/v1/{path}", body, server, log_file)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _ask(url: str, body: dict[str, Any], server: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps({"model": "m", **body}).encode(), {"Content-Type": "application/json"})
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            pytest.fail(f"{error}: {error.read().decode()}\n{log.read_text()[-3000:]}")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(f"no answer from the server:\n{log.read_text()[-3000:]}")
