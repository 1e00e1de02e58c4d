"""Where a variant answers and how it is asked: what `serve` hands out and `loadgen` sends to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from foundation.secrets import Mask

ADDRESS = r"^(https?|http\+unix)://"
"""How the address of an API begins; behind `http+unix://` stands the socket's path, percent-encoded."""

# What may stand in a path or query as it is; "%" too, since an address is percent-encoded already.
_AS_IT_IS = "/%:@!$&'()*+,;=~?{}"
_ENDS: dict[str, Literal["chat", "completions"] | None] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/models": None,
}
_OTHER_APIS = ("/responses", "/embeddings", "/messages", "/generate", "/api/chat")


@dataclass(frozen=True)
class Form:
    """How an API's request bodies differ from the usual ones: fields to leave out, to rename, and to add.

    A dot leads into a field: "stream_options.include_usage".
    """

    omit: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def of(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body in this form. What is added replaces what was there."""
        made = dict(body)
        if self == USUAL:
            return made
        for name in self.omit:
            outer, _, inner = name.partition(".")
            if not inner:
                made.pop(outer, None)
            elif isinstance(fields := made.get(outer), Mapping):
                made[outer] = {key: value for key, value in fields.items() if key != inner}
        return {self.rename.get(name, name): value for name, value in made.items()} | dict(
            self.extra
        )


USUAL = Form()
"""Nothing left out, renamed or added."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API that serves one variant, and everything that a client must know to ask it.

    `base_url` has no slash at its end, no user and no query; the paths of the API follow it. `model` is the name the server
    knows the variant by. `query` goes with every request ("api-version=1"), `more_headers` too. `ca_file`: the certificates
    that sign the server's own; `insecure`: its certificate is not checked. `secrets` maps what nobody may read to what stands in
    its place; `is_keyed` says that requests carry one. `notes` say how this API is asked otherwise than the others. What may be
    secret is not in `repr`.
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

    @property
    def headers(self) -> dict[str, str]:
        """The key's header and the others, which may replace it."""
        return merged_headers(
            {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}, self.more_headers
        )

    # Needed for every request.
    @cached_property
    def _path(self) -> str:
        return urlsplit(self.base_url).path

    @cached_property
    def _query(self) -> str:
        return f"?{self.query}" if self.query else ""

    @property
    def unix_socket(self) -> str | None:
        """The path of the socket behind `http+unix://`."""
        url = urlsplit(self.base_url)
        return unquote(url.netloc) if url.scheme == "http+unix" else None

    def target(self, path: str) -> str:
        """What stands in the request line for a path below the base: "/v1/models?api-version=1"."""
        return self._path + path + self._query

    def beside(self, path: str) -> str:
        """The same for a path of the server that is not the API's, such as "/metrics"."""
        return re.sub(r"/v1$", "", self._path) + path + self._query

    def url(self, target: str) -> str:
        """The whole address of a target, for a client that takes those; a unix socket's host is "localhost"."""
        url = urlsplit(self.base_url)
        return (
            f"http://localhost{target}"
            if self.unix_socket
            else f"{url.scheme}://{url.netloc}{target}"
        )

    @property
    def is_keyed(self) -> bool:
        """Whether its server lets in only those who know something: its answers are nobody else's business."""
        return bool(self.headers or self.secrets)

    @cached_property
    def redacted(self) -> Mask:
        """Takes the secrets out of a text, such as what a server says of a wrong key."""
        return Mask(self.secrets)

    @cached_property
    def redacted_answer(self) -> Mask:
        """The same for what a model says, which is scored: words and numbers stay."""
        return Mask(self.secrets, whole=True)


def merged_headers(*parts: Mapping[str, str]) -> dict[str, str]:
    """Headers of which later ones replace earlier ones, whatever the case of their names."""
    by_name = {name.lower(): (name, value) for part in parts for name, value in part.items()}
    return dict(by_name.values())


@dataclass(frozen=True)
class Address:
    """What an address says; user and password are still percent-encoded. `api` is the one whose whole endpoint it named."""

    base_url: str
    query: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    api: Literal["chat", "completions"] | None = None


def read_address(url: str) -> Address:
    """Take an address apart: its base, or a whole endpoint below it, a slash at its end or not. Raises ValueError."""
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
                f"{end} is another API; dyno asks /chat/completions or /completions: write the address before it"
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
