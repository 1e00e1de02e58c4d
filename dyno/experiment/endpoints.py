"""The endpoint of a variant that is served elsewhere, with the environment's values in it.

Every value that is secret is remembered, so that it is masked wherever it comes back."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from dyno.experiment.request import (
    PLAIN_HEADER,
    REFERENCE,
    SECRET_QUERY,
    RequestConfig,
    is_secret,
    shown_url,
    with_texts,
)
from dyno.experiment.schema import VariantConfig
from foundation.errors import BadInput
from foundation.http.connections import proxy_of
from foundation.http.endpoint import Endpoint, Form, read_address
from foundation.secrets import SHORTEST, remember


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
        raise BadInput(
            f"{where}.url: it is the address of {address.api}, and workload.api says {api}; write api: {address.api}"
        )
    host = urlsplit(address.base_url)
    for public in (
        host.netloc,
        host.hostname,
        str(host.port),
    ):  # where it is asked is no secret, and stands in answers
        secrets.pop(public or "", None)
    key = None
    if variant.api_key_env:
        key = _text(
            _environment(variant.api_key_env, f"{where}.api_key_env"), f"{where}.api_key_env"
        )
        secrets[key] = f"${{{variant.api_key_env}}}"
    headers = _headers(request.headers, f"{where}.request.headers", secrets)
    if address.user is not None:
        user, password = unquote(address.user), unquote(address.password or "")
        if key or any(name.lower() == "authorization" for name in headers):
            raise BadInput(
                f"{where}.url: user and password in it, and a key beside it; a request has one Authorization"
            )
        headers["Authorization"] = f"Basic {_basic(user, password, secrets)}"
    secrets |= {
        value: "***" for name, value in parse_qsl(address.query) if SECRET_QUERY.search(name)
    }

    def fill(template: str, path: str) -> str:
        value = _filled(template, f"{where}.request.extra.{path}", secrets)
        if is_secret(path, template):
            secrets[value] = "***"
        return value

    extra = with_texts(request.extra, fill)
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
        if not REFERENCE.search(template) and not PLAIN_HEADER.match(name):
            secrets |= dict.fromkeys((headers[name], headers[name].rpartition(" ")[2]), "***")
    return headers


def _basic(user: str, password: str, secrets: dict[str, str]) -> str:
    """User and password as a header says them."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    secrets |= dict.fromkeys((basic, password, user), "***")
    return basic


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

    return REFERENCE.sub(value_of, template)


def _text(value: str, where: str) -> str:
    """A header's value, its ends trimmed. Raises BadInput for one that would not stay on its line."""
    value = value.strip()
    if not value.isprintable() or not value.isascii():
        raise BadInput(
            f"{where}: its value holds a character that no header can; it must be printable ASCII"
        )
    return value


# A variable as people name them. A key that was written in its place may not be printed.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]{0,15}(?:_[A-Z0-9]{0,15})*")
