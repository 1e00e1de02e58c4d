"""Experiments made from flags, for `dyno load` and `dyno baseline`: the same ring, no file to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dyno.experiment import Experiment
from foundation.errors import BadInput


def load_experiment_for(
    url: str,
    model: str,
    rate: str | None,
    concurrency: int | None,
    requests: int,
    prompt: str | None,
    data: Path | None,
    output_tokens: int,
    api: str,
    api_key_env: str | None,
    name: str,
) -> Experiment:
    """One URL under one load."""
    if (rate is None) == (concurrency is None):
        raise BadInput("write --rate (open loop, requests/s) or --concurrency (closed loop)")
    if (prompt is None) == (data is None):
        raise BadInput("write --prompt TEXT or --data FILE.jsonl")
    if not re.match(r"https?://", url):
        raise BadInput(f"--url: {url!r}: write the API's address up to /v1, such as http://127.0.0.1:8000/v1")
    stage = {"rate": rate} if rate is not None else {"concurrency": concurrency}
    return _experiment(
        {
            "name": name,
            "model": model,
            "data": {"prompt": prompt} if prompt is not None else {"eval": str(data)},
            "variants": [{"name": "url", "url": url, "model": model, **({"api_key_env": api_key_env} if api_key_env else {})}],
            "baseline": "url",
            "workload": {
                "api": api,
                "stages": [{**stage, "requests": requests}],
                "blocks": 1,
                "sampling": {"max_tokens": output_tokens},
            },
        }
    )


def baseline_experiment(
    model_or_url: str, prompt: str, requests: int, output_tokens: int, model: str | None, api_key_env: str | None, name: str
) -> Experiment:
    """One model or URL, asked one thing at a time."""
    is_url = re.match(r"https?://", model_or_url) is not None
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
        field = str(problem["loc"][-1]) if problem["loc"] else "name"
        raise BadInput(f"--{field}: {problem['msg'].removeprefix('Value error, ')}") from None
