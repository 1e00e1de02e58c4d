"""The line that is printed asks what dyno asks, when a shell has read it, and shows no secret."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from foundation.http.endpoint import Endpoint, Form
from serve import curl_line


def words(line: str, **environment: str) -> list[str]:
    """What a shell makes of the line."""
    printed = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], env=environment, capture_output=True, text=True,
        check=True
    )  # fmt: skip
    return printed.stdout.splitlines()


def test_the_shell_puts_the_secrets_in() -> None:
    endpoint = Endpoint(
        "v", "https://h/v1", "m", query="key=abcd1234",
        more_headers={"api-key": 'a"b$c`d\\e', "x": "plain"},
        ca_file=Path("/ca files/ca.pem"), insecure=True,
        form=Form(rename={"max_tokens": "max_completion_tokens"}),
        secrets={'a"b$c`d\\e': "${KEY}", "abcd1234": "${OTHER}"},
    )  # fmt: skip
    line = curl_line(endpoint, "It's")
    assert "abcd1234" not in line and "c`d" not in line
    arguments = words(line, KEY='a"b$c`d\\e', OTHER="abcd1234")
    assert arguments[:6] == [
        "curl",
        "-s",
        "--insecure",
        "--cacert",
        "/ca files/ca.pem",
        "https://h/v1/chat/completions?key=abcd1234",
    ]
    assert 'api-key: a"b$c`d\\e' in arguments and "x: plain" in arguments
    body = json.loads(arguments[arguments.index("-d") + 1])
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "It's"}],
        "max_completion_tokens": 64,
    }


def test_a_key_of_our_own_server_and_a_unix_socket() -> None:
    arguments = words(curl_line(Endpoint("v", "http+unix://%2Frun%2Fllm.sock/v1", "m", "own-key")))
    assert arguments[2:5] == [
        "--unix-socket",
        "/run/llm.sock",
        "http://localhost/v1/chat/completions",
    ]
    assert "Authorization: Bearer own-key" in arguments
