"""A command to paste into a terminal."""

from __future__ import annotations

import json
import shlex

from foundation.endpoint import Endpoint


def curl_line(endpoint: Endpoint, prompt: str = "Hello") -> str:
    """A curl command that asks the endpoint one chat question."""
    body = json.dumps({"model": endpoint.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64})
    words = ["curl", "-s", f"{endpoint.base_url}/chat/completions", "-H", "Content-Type: application/json"]
    for name, value in endpoint.headers.items():
        words += ["-H", f"{name}: {value}"]
    return shlex.join([*words, "-d", body])
