"""A command to paste into a terminal."""

from __future__ import annotations

import json
import re
import shlex

from foundation.http.endpoint import Endpoint


def curl_line(endpoint: Endpoint, prompt: str = "Hello") -> str:
    """A curl command that asks the endpoint one chat question, as it wants to be asked; secrets stand by their variables."""
    asked = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 64,
    }
    body = endpoint.redacted(json.dumps(endpoint.form.of(asked)))
    words = [
        "curl",
        "-s",
        *_way(endpoint),
        endpoint.redacted(endpoint.url(endpoint.target("/chat/completions"))),
    ]
    words += ["-H", "Content-Type: application/json"]
    for name, value in endpoint.headers.items():
        words += ["-H", f"{name}: {endpoint.redacted(value)}"]
    return " ".join(map(_quoted, [*words, "-d", body]))


def _way(endpoint: Endpoint) -> list[str]:
    way = ["--unix-socket", endpoint.unix_socket] if endpoint.unix_socket else []
    if endpoint.insecure:
        way.append("--insecure")
    return [*way, "--cacert", str(endpoint.ca_file)] if endpoint.ca_file else way


def _quoted(word: str) -> str:
    """In double quotes where a variable of the environment stands for a secret, so that the shell puts it in."""
    if "${" not in word:
        return shlex.quote(word)
    return '"' + re.sub(r'(["`\\]|\$(?!\{))', r"\\\1", word) + '"'
