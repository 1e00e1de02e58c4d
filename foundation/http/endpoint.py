"""A variant's API: its address, model name, headers and secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from foundation.secrets import Mask

ADDRESS = r"^(https?|http\+unix)://"
"""Begins an API's address; the percent-encoded path of a socket follows `http+unix://`."""

# Characters that stay in a path or query; "%" too, since an address is percent-encoded already.
_AS_IT_IS = "/%:@!$&'()*+,;=~?{}"
Api = Literal["chat", "completions"]
"""An OpenAI-compatible API: the path below `/v1` that takes a prompt."""

_ENDS: dict[str, Api | None] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/models": None,
}
_OTHER_APIS = ("/responses", "/embeddings", "/messages", "/generate", "/api/chat")


@dataclass(frozen=True)
class Form:
    """How an API's request bodies differ from the usual: fields to omit, to rename, and to add.

    A dot leads into a field: "stream_options.include_usage".
    """

    omit: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body in this form. Added fields replace existing ones."""
        changed = dict(body)
        if self == USUAL:
            return changed
        for name in self.omit:
            outer, _, inner = name.partition(".")
            if not inner:
                changed.pop(outer, None)
            elif isinstance(fields := changed.get(outer), Mapping):
                changed[outer] = {key: value for key, value in fields.items() if key != inner}
        renamed = {self.rename.get(name, name): value for name, value in changed.items()}
        return {**renamed, **self.extra}


USUAL = Form()
"""The form without changes."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API that serves one variant, with everything a client needs.

    `base_url`: without a slash at its end, user or query; the API's paths follow it.
    `model`: the server's name for the variant.
    `query` ("api-version=1") and `more_headers` go with every request.
    `ca_file`: certificates that sign the server's own. `insecure`: don't check its certificate.
    `form`: how request bodies differ from the usual.
    `secrets`: maps each secret to the text that replaces it.
    `notes`: how requests to this API differ from others.
    `traced`: requests carry a `traceparent`, so that the server reports its spans of them.
    `others`: further replicas of the server; requests go to it and them in turns.
    `routed`: the replicas among which a router at `base_url` divides requests; none without one.
    `repr` shows nothing that may be secret.
    """

    variant: str
    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    query: str = field(default="", repr=False)
    more_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    ca_file: Path | None = None
    form: Form = field(default=USUAL, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    traced: bool = False
    others: tuple[Endpoint, ...] = field(default=(), repr=False)
    routed: tuple[Endpoint, ...] = field(default=(), repr=False)

    @cached_property
    def replicas(self) -> tuple[Endpoint, ...]:
        """Every address that requests go to, in the order of their turns."""
        return (replace(self, others=()), *self.others) if self.others else (self,)

    @property
    def servers(self) -> int:
        """How many replicas answer."""
        return len(self.routed or self.replicas)

    @property
    def first(self) -> Endpoint:
        """The first replica, without a router."""
        return self.routed[0] if self.routed else self.replicas[0]

    @property
    def headers(self) -> dict[str, str]:
        """The header with the key, and `more_headers`, which may replace it."""
        return merged_headers(
            {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}, self.more_headers
        )

    # Cached: every request needs them.
    @cached_property
    def _path(self) -> str:
        return urlsplit(self.base_url).path

    @cached_property
    def _query(self) -> str:
        return f"?{self.query}" if self.query else ""

    @property
    def unix_socket(self) -> str | None:
        """The socket's path in an `http+unix://` address; None for other addresses."""
        url = urlsplit(self.base_url)
        return unquote(url.netloc) if url.scheme == "http+unix" else None

    def target(self, path: str) -> str:
        """The target in the request line for an API path: "/v1/models?api-version=1"."""
        return self._path + path + self._query

    def beside(self, path: str) -> str:
        """The target for a path outside the API, such as "/metrics"."""
        return re.sub(r"/v1$", "", self._path) + path + self._query

    def url(self, target: str) -> str:
        """The whole address of a target; a unix socket's host is "localhost"."""
        url = urlsplit(self.base_url)
        return (
            f"http://localhost{target}"
            if self.unix_socket
            else f"{url.scheme}://{url.netloc}{target}"
        )

    @property
    def is_keyed(self) -> bool:
        """Whether requests carry secrets, so that the server's answers are confidential."""
        return bool(self.headers or self.secrets)

    @cached_property
    def redacted(self) -> Mask:
        """Removes the secrets from a text, such as a server's error about a wrong key."""
        return Mask(self.secrets)

    @cached_property
    def redacted_answer(self) -> Mask:
        """Removes the secrets from a model's answer; words and numbers stay for the scorer."""
        return Mask(self.secrets, whole=True)


def merged_headers(*parts: Mapping[str, str]) -> dict[str, str]:
    """All headers; later ones replace earlier ones of the same name in any case."""
    by_name = {name.lower(): (name, value) for part in parts for name, value in part.items()}
    return dict(by_name.values())


@dataclass(frozen=True)
class Address:
    """The parts of an address.

    `user` and `password` are percent-encoded.
    `api`: the API if the address was a whole endpoint (".../chat/completions").
    """

    base_url: str
    query: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    api: Api | None = None


def read_address(url: str) -> Address:
    """The parts of a base address or of a whole endpoint. Raises ValueError."""
    if not re.match(ADDRESS, url):
        raise ValueError("write the API's address, such as http://127.0.0.1:8000/v1")
    try:
        parts = urlsplit(url.strip())
        credentials, at, host = parts.netloc.rpartition("@")
        good = bool(host) and (
            parts.scheme == "http+unix" or (bool(parts.hostname) and parts.port != 0)
        )
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            "no host and port that could be asked; write it as http://127.0.0.1:8000/v1"
        )
    path = parts.path.rstrip("/")
    for end in _OTHER_APIS:
        if path.endswith(end):
            raise ValueError(
                f"{end} is another API; dyno asks /chat/completions or /completions: "
                "write the address before it"
            )
    end = next((end for end in _ENDS if path.endswith(end)), "")
    user, colon, password = credentials.partition(":")
    return Address(
        base_url=urlunsplit((parts.scheme, host, quote(path.removesuffix(end), _AS_IT_IS), "", "")),
        query=quote(parts.query, _AS_IT_IS),
        user=user if at else None,
        password=password if colon else None,
        api=_ENDS.get(end),
    )
