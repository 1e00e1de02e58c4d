"""How an API elsewhere is asked: its address, key, headers and form, with what is secret kept out of every file.

`${NAME}` in a url, a header or an extra field stands for the environment's NAME. What was written
out instead is kept in no run directory: a reference takes its place there, such as
`${DYNO_URL_PASSWORD}`, so that the run can be resumed once that is exported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, field_validator

from foundation.path_fields import File
from foundation.secrets import looks_like_key, names_a_secret
from foundation.section import Section

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FRAMING = ("content-length", "transfer-encoding", "connection", "expect", "content-encoding")
SECRET_QUERY = re.compile(r"key|token|secret|sig|code|auth|pass|cred", re.IGNORECASE)
# Headers that say nothing secret: an answer may hold "application/json" by itself.
PLAIN_HEADER = re.compile(
    r"accept|content-|user-agent$|referer$|origin$|cache-control$|pragma$|date$", re.IGNORECASE
)
_OURS = {
    "model": "the variant's model says it",
    "messages": "the data say it",
    "prompt": "the data say it",
    "stream": "times are measured on a stream",
    "n": "one answer is measured a request",
}


class RequestConfig(Section):
    """How requests to a `url` differ: fields of the body to `omit` (a dot leads into one), `rename` and add (`extra`), further
    `headers`, and whose certificates to trust (`ca_file`; `insecure`: any)."""

    omit: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    ca_file: File | None = None
    insecure: bool = False

    @field_validator("headers", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {
            str(name): str(text) if isinstance(text, int | float) else text
            for name, text in value.items()
        }

    @field_validator("headers")
    @classmethod
    def _header_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no header's name; write it like api-key: ${{AZURE_KEY}}"
                )
            if name.lower() in _FRAMING:
                raise ValueError(
                    f"{name} says where a request ends, which the client knows; leave it out"
                )
        return value

    @field_validator("omit", "rename", "extra")
    @classmethod
    def _not_ours(cls, value: Any) -> Any:
        for name in value:
            if name in _OURS and name != "n":
                raise ValueError(f"{name} stays as it is: {_OURS[name]}")
        if isinstance(value, Mapping) and value.get("n", 1) != 1:
            raise ValueError(f"n stays 1: {_OURS['n']}")
        return value


def check_variable(name: str) -> str:
    """The name of an environment variable. Raises ValueError, which does not repeat it, for what can only be a key."""
    if not _NAME.fullmatch(name) or looks_like_key(name):
        raise ValueError(
            "write the name of the variable that holds the key, such as PROD_KEY, and not the key itself"
        )
    return name


def is_secret(path: str, value: str) -> bool:
    """Whether the field of an extra body holds a key that was written out."""
    return (
        bool(value)
        and not REFERENCE.search(value)
        and (names_a_secret(path) or looks_like_key(value))
    )


def with_texts(fields: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """The fields of an extra body with each text changed; `change` gets the text and its place, such as "user.token"."""

    def changed(value: Any, path: str) -> Any:
        if isinstance(value, str):
            return change(value, path)
        if isinstance(value, Mapping):
            return {name: changed(inner, f"{path}.{name}") for name, inner in value.items()}
        return (
            [changed(inner, path) for inner in value] if isinstance(value, list | tuple) else value
        )

    return {name: changed(value, name) for name, value in fields.items()}


def without_secrets(url: str, request: RequestConfig | None) -> tuple[str, RequestConfig | None]:
    """Both as a run directory keeps them: references in place of user, password, headers, and keys in query and body."""
    if request:
        headers = {
            name: text
            if REFERENCE.search(text) or PLAIN_HEADER.match(name)
            else f"${{DYNO_HEADER_{_variable(name)}}}"
            for name, text in request.headers.items()
        }
        extra = with_texts(
            request.extra,
            lambda text, path: (
                f"${{DYNO_EXTRA_{_variable(path)}}}" if is_secret(path, text) else text
            ),
        )
        request = request.model_copy(update={"headers": headers, "extra": extra})
    return _public(url), request


def shown_url(url: str) -> str:
    """The address as people may see it: no user, no password, no key."""
    try:
        parts = urlsplit(_public(url))
    except ValueError:  # brackets that do not match: nobody knows what is what in it
        return f"{url.partition('://')[0]}://..."
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":  # a password with a slash of its own
        return f"{parts.scheme}://..."
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _public(url: str) -> str:
    """The address with references in place of what is secret in it."""
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    user = user if not at or REFERENCE.search(user) else "${DYNO_URL_USER}"
    password = password if not colon or REFERENCE.search(password) else "${DYNO_URL_PASSWORD}"
    return urlunsplit(
        parts._replace(
            netloc=f"{user}{colon}{password}{at}{host}", query=_public_query(parts.query)
        )
    )


def _public_query(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&")]
    return "&".join(
        f"{name}=${{DYNO_QUERY_{_variable(name)}}}"
        if value and SECRET_QUERY.search(name) and not REFERENCE.search(value)
        else f"{name}{equals}{value}"
        for name, equals, value in pairs
    )


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()
