"""A command to paste into a terminal."""

from __future__ import annotations

import json
import re
import shlex

from foundation.http.endpoint import Endpoint


def curl_line(endpoint: Endpoint, prompt: str = "Hello") -> str:
    """A curl command that sends the endpoint one chat request; variables stand for its secrets."""
    request = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 64,
    }
    body = endpoint.redacted(json.dumps(endpoint.form.of(request)))
    words = [
        "curl",
        "-s",
        *_connection_options(endpoint),
        endpoint.redacted(endpoint.url(endpoint.target("/chat/completions"))),
    ]
    words += ["-H", "Content-Type: application/json"]
    for name, value in endpoint.headers.items():
        words += ["-H", f"{name}: {endpoint.redacted(value)}"]
    return " ".join(map(_quoted, [*words, "-d", body]))


def _connection_options(endpoint: Endpoint) -> list[str]:
    options = ["--unix-socket", endpoint.unix_socket] if endpoint.unix_socket else []
    if endpoint.insecure:
        options.append("--insecure")
    return [*options, "--cacert", str(endpoint.ca_file)] if endpoint.ca_file else options


def _quoted(word: str) -> str:
    """The word in double quotes if it holds a variable, so that the shell fills in the secret."""
    if "${" not in word:
        return shlex.quote(word)
    return '"' + re.sub(r'(["`\\]|\$(?!\{))', r"\\\1", word) + '"'
