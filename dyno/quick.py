"""Experiments made from flags, for `dyno load` and `dyno baseline`: the same ring, no file to write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dyno.experiment import Experiment
from foundation.endpoint import ADDRESS
from foundation.errors import BadInput
from loadgen.config import RATE_KINDS
from loadgen.traces import read_trace

REQUESTS = 500


@dataclass(frozen=True)
class Asked:
    """What `dyno load` asks: exactly one of the first five. The others go with `synthetic`, `turns` with `sharegpt` too."""

    prompt: str | None
    data: Path | None
    synthetic: bool
    sharegpt: Path | None
    trace: Path | None
    input_tokens: str | None
    output_tokens: str
    cache_hit: str | None
    prefixes: int | None
    turns: str | None

    def check(self) -> None:
        """Raises BadInput for what does not go together."""
        ways = [self.prompt is not None, self.data is not None, self.synthetic, self.sharegpt is not None, self.trace is not None]
        if sum(ways) != 1:
            raise BadInput("write one of --prompt TEXT, --data FILE.jsonl, --synthetic, --sharegpt FILE, --trace FILE")
        if self.synthetic and self.input_tokens is None:
            raise BadInput("--synthetic: write --input-tokens, such as 512 or lognormal:512:0.5")
        given = {"--input-tokens": self.input_tokens, "--cache-hit": self.cache_hit, "--prefixes": self.prefixes}
        for flag, value in given.items() if not self.synthetic else ():
            if value is not None:
                raise BadInput(f"{flag} goes with --synthetic")
        if self.turns is not None and not self.synthetic and self.sharegpt is None:
            raise BadInput("--turns goes with --synthetic or --sharegpt")
        if not self.synthetic and not self.output_tokens.isdigit():
            raise BadInput("--output-tokens: write a whole number; distributions go with --synthetic")

    def data_section(self) -> dict[str, Any]:
        if self.prompt is not None:
            return {"prompt": self.prompt}
        return {"eval": str(self.data)} if self.data is not None else {}

    def dataset(self) -> dict[str, Any] | None:
        """`workload.dataset`."""
        if self.synthetic:
            more = {"cache_hit": self.cache_hit, "prefixes": self.prefixes, "turns": self.turns}
            given = {key: value for key, value in more.items() if value is not None}
            return {"synthetic": {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens, **given}}
        if self.sharegpt is not None:
            return {"sharegpt": {"file": str(self.sharegpt), **({"turns": self.turns} if self.turns else {})}}
        return {"trace": str(self.trace)} if self.trace is not None else None


def load_experiment_for(
    url: str,
    model: str,
    rate: str | None,
    concurrency: int | None,
    requests: int | None,
    asked: Asked,
    speed: float,
    think: str | None,
    tokenizer: str | None,
    api: str,
    api_key_env: str | None,
    name: str,
) -> Experiment:
    """One URL under one load. A trace without `rate` and `concurrency` is replayed at its own times."""
    asked.check()
    if asked.trace is None and (rate is None) == (concurrency is None):
        raise BadInput("write --rate (open loop, requests/s) or --concurrency (closed loop)")
    if not re.match(ADDRESS, url):
        raise BadInput(f"--url: {url!r}: write the API's address up to /v1, such as http://127.0.0.1:8000/v1")
    stage: dict[str, Any] = {"requests": requests or REQUESTS}
    if rate is not None or concurrency is not None:
        stage |= {"rate": rate} if rate is not None else {"concurrency": concurrency}
    else:
        assert asked.trace is not None
        some = requests or min(REQUESTS, len(read_trace(asked.trace.absolute())) - 1)  # the last arrival ends the window
        stage |= {"trace": {"file": str(asked.trace), "speed": speed}, "warmup": "0s", "requests": some}
    if think is not None:
        stage["think"] = think
    return _experiment(
        {
            "name": name,
            "model": model,
            "data": asked.data_section(),
            "variants": [{"name": "url", "url": url, "model": model, **({"api_key_env": api_key_env} if api_key_env else {})}],
            "baseline": "url",
            "workload": {
                "api": api,
                "dataset": asked.dataset() or "eval",
                "tokenizer": tokenizer,
                "stages": [stage],
                "blocks": 1,
                **({"sampling": {"max_tokens": asked.output_tokens}} if not asked.synthetic else {}),
            },
        }
    )


def baseline_experiment(
    model_or_url: str, prompt: str, requests: int, output_tokens: int, model: str | None, api_key_env: str | None, name: str
) -> Experiment:
    """One model or URL, asked one thing at a time."""
    is_url = re.match(ADDRESS, model_or_url) is not None
    if is_url and model is None:
        raise BadInput("with a URL, write --model: the name its server knows the model by")
    if not is_url and (model or api_key_env):
        raise BadInput("--model and --api-key-env go with a URL")
    variant: dict[str, Any] = {"name": "baseline"}
    if is_url:
        variant |= {"url": model_or_url, "model": model}
    if api_key_env:
        variant["api_key_env"] = api_key_env
    return _experiment(
        {
            "name": name,
            "model": model or model_or_url,
            "data": {"prompt": prompt},
            "variants": [variant],
            "baseline": "baseline",
            # The one prompt must be read anew each time, as a user's first question would be.
            "serve": {"engine": {"enable-prefix-caching": False}},
            "workload": {
                "stages": [{"name": "one-at-a-time", "concurrency": 1, "requests": requests, "warmup": "0s"}],
                "blocks": 1,
                "sampling": {"max_tokens": output_tokens},
            },
        }
    )


def _experiment(fields: dict[str, Any]) -> Experiment:
    try:
        return Experiment.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        named = [part for part in problem["loc"] if isinstance(part, str) and part not in RATE_KINDS]
        field = named[-1].replace("_", "-") if named else "name"
        raise BadInput(f"--{field}: {problem['msg'].removeprefix('Value error, ')}") from None
