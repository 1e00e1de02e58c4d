"""The key that a server's requests must carry."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from foundation.errors import BadInput
from foundation.secrets import remember


@dataclass(frozen=True)
class ServerKey:
    """A key, and what replaces it in output, by the key."""

    value: str = field(repr=False)
    masks: Mapping[str, str] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(variable: str | None) -> ServerKey:
        """The key in an environment variable; a random one where none is named. Raises BadInput."""
        if variable is None:
            return ServerKey(secrets.token_urlsafe(24))
        if not (value := os.environ.get(variable, "").strip()):
            raise BadInput(f"serve.api_key_env: the environment has no {variable}; export it")
        if not value.isascii() or not value.isprintable():
            raise BadInput(
                f"serve.api_key_env: {variable} holds a character that no header can; "
                "it must be printable ASCII"
            )
        masks = {value: f"${{{variable}}}"}
        remember(masks)
        return ServerKey(value, masks)
