"""The section `request`: how requests to an API elsewhere differ, and what in them is secret.

`${NAME}` in a url, a header or an extra field stands for the environment's NAME. A secret that is
written out stays out of run directories. There a reference replaces it, such as
`${DYNO_URL_PASSWORD}`; who exports that variable can resume the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, field_validator, model_validator

from foundation.path_fields import File
from foundation.secrets import looks_like_key, names_a_secret
from foundation.section import Section

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FRAMING = ("content-length", "transfer-encoding", "connection", "expect", "content-encoding")
SECRET_QUERY = re.compile(r"key|token|secret|sig|code|auth|pass|cred", re.IGNORECASE)
# Headers without secrets. An answer may well hold their values, such as "application/json".
PLAIN_HEADER = re.compile(
    r"accept|content-|user-agent$|referer$|origin$|cache-control$|pragma$|date$", re.IGNORECASE
)
# Fields of the body that dyno writes, each with its reason.
_FIXED_FIELDS = {
    "model": "the variant's model says it",
    "messages": "the data say it",
    "prompt": "the data say it",
    "stream": "times are measured on a stream",
    "n": "one answer is measured a request",
}

_Fields = TypeVar("_Fields", tuple[str, ...], dict[str, str], dict[str, Any])


class RequestConfig(Section):
    """How requests to a `url` differ from the usual ones.

    `omit` and `rename`: fields of the body; a dot leads into one. `extra`: fields to add.
    `headers`: further headers. `ca_file`: the certificates to trust; with `insecure`, any.
    `traces`: the port of this machine that the server sends its traces to.
    """

    omit: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    ca_file: File | None = None
    insecure: bool = False
    traces: int | None = Field(default=None, ge=0, le=65535)

    @model_validator(mode="after")
    def _one_trace_parent(self) -> RequestConfig:
        if self.traces is not None and any(name.lower() == "traceparent" for name in self.headers):
            raise ValueError("traces are found by a traceparent of dyno's own; leave out yours")
        return self

    @field_validator("headers", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
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
    def _changeable(cls, value: _Fields) -> _Fields:
        for name in value:
            if name in _FIXED_FIELDS and name != "n":
                raise ValueError(f"{name} stays as it is: {_FIXED_FIELDS[name]}")
        if isinstance(value, Mapping) and value.get("n", 1) != 1:
            raise ValueError(f"n stays 1: {_FIXED_FIELDS['n']}")
        return value


def is_secret(path: str, value: str) -> bool:
    """Whether a field of an extra body holds a key that was written out."""
    if not value or REFERENCE.search(value):
        return False
    return names_a_secret(path) or looks_like_key(value)


def with_texts(fields: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """The fields of an extra body with each text changed.

    `change` gets the text and its path, such as "user.token".
    """

    def changed(value: Any, path: str) -> Any:
        if isinstance(value, str):
            return change(value, path)
        if isinstance(value, Mapping):
            return {name: changed(inner, f"{path}.{name}") for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [changed(inner, path) for inner in value]
        return value

    return {name: changed(value, name) for name, value in fields.items()}


def without_secrets(
    urls: Sequence[str], request: RequestConfig | None
) -> tuple[list[str], RequestConfig | None]:
    """Urls and a request as a run directory keeps them.

    References replace user, password, headers, and keys in query and body.
    """
    if request:
        headers = {name: _public_header(name, text) for name, text in request.headers.items()}
        extra = with_texts(request.extra, _public_text)
        request = request.model_copy(update={"headers": headers, "extra": extra})
    return [_public_url(url) for url in urls], request


def shown_url(url: str) -> str:
    """A url as people may see it: without user, password and keys."""
    try:
        parts = urlsplit(_public_url(url))
    except ValueError:  # with unmatched brackets, its parts are not known
        return f"{url.partition('://')[0]}://..."
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":  # a password with a slash of its own
        return f"{parts.scheme}://..."
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _public_header(name: str, text: str) -> str:
    if REFERENCE.search(text) or PLAIN_HEADER.match(name):
        return text
    return f"${{DYNO_HEADER_{_variable(name)}}}"


def _public_text(text: str, path: str) -> str:
    return f"${{DYNO_EXTRA_{_variable(path)}}}" if is_secret(path, text) else text


def _public_url(url: str) -> str:
    """A url with references in place of its secrets."""
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
