"""The token by which a Ray cluster knows its users, after Ray 2.60's `token-auth`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_MODE, _TOKENS = "RAY_AUTH_MODE", {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}


def token_mode(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """The variable that has Ray show this user's token to a cluster; empty without a token.

    It must be set before Ray is imported. Ray shows a token by itself for the address `auto` alone.
    Nodes that want none may refuse to start an actor of who shows one.
    """
    has_token = bool(environment.keys() & _TOKENS) or (home / ".ray" / "auth_token").is_file()
    return {_MODE: "token"} if has_token and _MODE not in environment else {}
