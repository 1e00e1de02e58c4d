"""How an API elsewhere is asked: its address, key, headers and form, with what is secret kept out of every file.

`${NAME}` in a url, a header or an extra field stands for the environment's NAME. What was written
out instead is kept in no run directory: a reference takes its place there, such as
`${DYNO_URL_PASSWORD}`, so that the run can be resumed once that is exported.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from pydantic import Field, field_validator

from foundation.errors import BadInput
from foundation.http.connections import proxy_of
from foundation.http.endpoint import Endpoint, Form, read_address
from foundation.path_fields import File
from foundation.secrets import SHORTEST, looks_like_key, names_a_secret, remember
from foundation.section import Section

if TYPE_CHECKING:
    from dyno.experiment.schema import VariantConfig

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FRAMING = ("content-length", "transfer-encoding", "connection", "expect", "content-encoding")
_SECRET_QUERY = re.compile(r"key|token|secret|sig|code|auth|pass|cred", re.IGNORECASE)
# Headers that say nothing secret: an answer may hold "application/json" by itself.
_PLAIN_HEADER = re.compile(r"accept|content-|user-agent$|referer$|origin$|cache-control$|pragma$|date$", re.IGNORECASE)
# A variable as people name them. A key that was written in its place may not be printed.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]{0,15}(?:_[A-Z0-9]{0,15})*")
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
        return {str(name): str(text) if isinstance(text, int | float) else text for name, text in value.items()}

    @field_validator("headers")
    @classmethod
    def _header_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no header's name; write it like api-key: ${{AZURE_KEY}}")
            if name.lower() in _FRAMING:
                raise ValueError(f"{name} says where a request ends, which the client knows; leave it out")
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
        raise ValueError("write the name of the variable that holds the key, such as PROD_KEY, and not the key itself")
    return name


def endpoint_of(variant: VariantConfig, api: Literal["chat", "completions"]) -> Endpoint:
    """The endpoint of a variant with a `url`. Raises BadInput for what the environment lacks or no client can send."""
    assert variant.url is not None and variant.model is not None
    where, request = f"variants.{variant.name}", variant.request or RequestConfig()
    secrets: dict[str, str] = {}
    url = _filled(variant.url, f"{where}.url", secrets, within="://" in variant.url)
    try:
        address = read_address(url)
    except ValueError as error:
        raise BadInput(f"{where}.url: {shown_url(variant.url)}: {error}") from None
    if address.api is not None and address.api != api:
        raise BadInput(f"{where}.url: it is the address of {address.api}, and workload.api says {api}; write api: {address.api}")
    host = urlsplit(address.base_url)
    for public in (host.netloc, host.hostname, str(host.port)):  # where it is asked is no secret, and stands in answers
        secrets.pop(public or "", None)
    key = None
    if variant.api_key_env:
        key = _text(_environment(variant.api_key_env, f"{where}.api_key_env"), f"{where}.api_key_env")
        secrets[key] = f"${{{variant.api_key_env}}}"
    headers = _headers(request.headers, f"{where}.request.headers", secrets)
    if address.user is not None:
        user, password = unquote(address.user), unquote(address.password or "")
        if key or any(name.lower() == "authorization" for name in headers):
            raise BadInput(f"{where}.url: user and password in it, and a key beside it; a request has one Authorization")
        headers["Authorization"] = f"Basic {_basic(user, password, secrets)}"
    secrets |= {value: "***" for name, value in parse_qsl(address.query) if _SECRET_QUERY.search(name)}

    def fill(template: str, path: str) -> str:
        value = _filled(template, f"{where}.request.extra.{path}", secrets)
        if _is_secret(path, template):
            secrets[value] = "***"
        return value

    extra = _with_texts(request.extra, fill)
    endpoint = Endpoint(
        variant=variant.name,
        base_url=address.base_url,
        model=variant.model,
        api_key=key,
        query=address.query,
        more_headers=headers,
        insecure=request.insecure,
        ca_file=request.ca_file,
        form=Form(request.omit, request.rename, extra),
    )
    if (proxy := proxy_of(endpoint)) and proxy.password:
        _basic(proxy.user or "", proxy.password, secrets)
    kept = {secret: shown for secret, shown in secrets.items() if len(secret) >= SHORTEST}
    remember(kept)
    return replace(endpoint, secrets=kept)


def _headers(written: Mapping[str, str], where: str, secrets: dict[str, str]) -> dict[str, str]:
    """The headers with the environment's values in them. What is written out is secret too."""
    headers = {}
    for name, template in written.items():
        headers[name] = _text(_filled(template, f"{where}.{name}", secrets), f"{where}.{name}")
        if not _REFERENCE.search(template) and not _PLAIN_HEADER.match(name):
            secrets |= dict.fromkeys((headers[name], headers[name].rpartition(" ")[2]), "***")
    return headers


def _basic(user: str, password: str, secrets: dict[str, str]) -> str:
    """User and password as a header says them."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    secrets |= dict.fromkeys((basic, password, user), "***")
    return basic


def _is_secret(path: str, value: str) -> bool:
    """Whether the field of an extra body holds a key that was written out."""
    return bool(value) and not _REFERENCE.search(value) and (names_a_secret(path) or looks_like_key(value))


def _with_texts(fields: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """The fields of an extra body with each text changed; `change` gets the text and its place, such as "user.token"."""

    def changed(value: Any, path: str) -> Any:
        if isinstance(value, str):
            return change(value, path)
        if isinstance(value, Mapping):
            return {name: changed(inner, f"{path}.{name}") for name, inner in value.items()}
        return [changed(inner, path) for inner in value] if isinstance(value, list | tuple) else value

    return {name: changed(value, name) for name, value in fields.items()}


def _environment(name: str, where: str) -> str:
    if not (value := os.environ.get(name)):
        shown = name if _VARIABLE.fullmatch(name) else "variable of this name"
        raise BadInput(f"{where}: the environment has no {shown}; export it")
    return value


def _filled(template: str, where: str, secrets: dict[str, str], within: bool = False) -> str:
    """The text with the environment's values in it, which are secret; `within` a url they are percent-encoded."""

    def value_of(match: re.Match[str]) -> str:
        value = _environment(match[1], where).strip()
        secrets[value] = match[0]
        return quote(value, safe="") if within else value

    return _REFERENCE.sub(value_of, template)


def _text(value: str, where: str) -> str:
    """A header's value, its ends trimmed. Raises BadInput for one that would not stay on its line."""
    value = value.strip()
    if not value.isprintable() or not value.isascii():
        raise BadInput(f"{where}: its value holds a character that no header can; it must be printable ASCII")
    return value


def without_secrets(variant: VariantConfig) -> VariantConfig:
    """The variant as a run directory keeps it: references in place of user, password, headers, and keys in query and body."""
    if variant.url is None:
        return variant
    request = variant.request
    if request:
        headers = {
            name: text if _REFERENCE.search(text) or _PLAIN_HEADER.match(name) else f"${{DYNO_HEADER_{_variable(name)}}}"
            for name, text in request.headers.items()
        }
        extra = _with_texts(
            request.extra, lambda text, path: f"${{DYNO_EXTRA_{_variable(path)}}}" if _is_secret(path, text) else text
        )
        request = request.model_copy(update={"headers": headers, "extra": extra})
    return variant.model_copy(update={"url": _public(variant.url), "request": request})


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
    user = user if not at or _REFERENCE.search(user) else "${DYNO_URL_USER}"
    password = password if not colon or _REFERENCE.search(password) else "${DYNO_URL_PASSWORD}"
    return urlunsplit(parts._replace(netloc=f"{user}{colon}{password}{at}{host}", query=_public_query(parts.query)))


def _public_query(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&")]
    return "&".join(
        f"{name}=${{DYNO_QUERY_{_variable(name)}}}"
        if value and _SECRET_QUERY.search(name) and not _REFERENCE.search(value)
        else f"{name}{equals}{value}"
        for name, equals, value in pairs
    )


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()
