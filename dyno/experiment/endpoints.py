"""The endpoint of a variant that is served elsewhere, with the environment's values filled in.

Every secret value is remembered, so that output never shows it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
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
from dyno.experiment.variants import VariantConfig
from foundation.errors import BadInput
from foundation.http.connections import proxy_of
from foundation.http.endpoint import Address, Api, Endpoint, Form, read_address
from foundation.secrets import SHORTEST, remember


def endpoint_of(variant: VariantConfig, api: Api) -> Endpoint:
    """The endpoint of a variant with a `url`.

    Raises BadInput for a variable that the environment lacks, and for an address or header that no
    client can send.
    """
    assert variant.url is not None and variant.model is not None
    where, request = f"variants.{variant.name}", variant.request or RequestConfig()
    secrets: dict[str, str] = {}
    address, *others = _addresses(variant.urls, f"{where}.url", api, secrets)
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
                f"{where}.url: user and password in it, and a key beside it; "
                "a request has one Authorization"
            )
        headers["Authorization"] = f"Basic {_basic(user, password, secrets)}"
    secrets |= {
        value: "***" for name, value in parse_qsl(address.query) if SECRET_QUERY.search(name)
    }
    extra = _extra(request.extra, f"{where}.request.extra", secrets)
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
        traced=request.traces is not None,
    )
    replicas = [replace(endpoint, base_url=each.base_url) for each in (address, *others)]
    for proxy in map(proxy_of, replicas):
        if proxy and proxy.password:
            _basic(proxy.user or "", proxy.password, secrets)
    masks = {secret: mask for secret, mask in secrets.items() if len(secret) >= SHORTEST}
    remember(masks)
    first, *rest = (replace(each, secrets=masks) for each in replicas)
    return replace(first, others=tuple(rest))


def _addresses(
    templates: Sequence[str], where: str, api: Api, secrets: dict[str, str]
) -> list[Address]:
    """The addresses of replicas, which differ in host and path only."""
    addresses = [_address(template, where, api, secrets) for template in templates]
    first = addresses[0]
    if any(replace(each, base_url=first.base_url) != first for each in addresses):
        raise BadInput(
            f"{where}: its addresses differ in user, password, query or API; "
            "write replicas that take the same requests"
        )
    if len({each.base_url for each in addresses}) < len(addresses):
        raise BadInput(f"{where}: an address stands there twice; write each replica once")
    return addresses


def _address(template: str, where: str, api: Api, secrets: dict[str, str]) -> Address:
    """The address of a url with the environment's values; adds its secrets to `secrets`."""
    url = _filled(template, where, secrets, in_url="://" in template)
    try:
        address = read_address(url)
    except ValueError as error:
        raise BadInput(f"{where}: {shown_url(template)}: {error}") from None
    if address.api is not None and address.api != api:
        raise BadInput(
            f"{where}: it is the address of {address.api}, and workload.api says {api}; "
            f"write api: {address.api}"
        )
    host = urlsplit(address.base_url)
    # The host is no secret, and answers may hold it.
    for public in (host.netloc, host.hostname, str(host.port)):
        secrets.pop(public or "", None)
    return address


def _extra(fields: Mapping[str, Any], where: str, secrets: dict[str, str]) -> dict[str, Any]:
    """The extra fields of a body with the environment's values; adds its secrets to `secrets`."""

    def fill(template: str, path: str) -> str:
        value = _filled(template, f"{where}.{path}", secrets)
        if is_secret(path, template):
            secrets[value] = "***"
        return value

    return with_texts(fields, fill)


def _headers(templates: Mapping[str, str], where: str, secrets: dict[str, str]) -> dict[str, str]:
    """The headers with the environment's values; a value that is written out is secret too."""
    headers = {}
    for name, template in templates.items():
        headers[name] = _text(_filled(template, f"{where}.{name}", secrets), f"{where}.{name}")
        if not REFERENCE.search(template) and not PLAIN_HEADER.match(name):
            secrets |= dict.fromkeys((headers[name], headers[name].rpartition(" ")[2]), "***")
    return headers


def _basic(user: str, password: str, secrets: dict[str, str]) -> str:
    """User and password in the form of an Authorization header."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    secrets |= dict.fromkeys((basic, password, user), "***")
    return basic


def _environment(name: str, where: str) -> str:
    if not (value := os.environ.get(name)):
        variable = name if _VARIABLE.fullmatch(name) else "variable of this name"
        raise BadInput(f"{where}: the environment has no {variable}; export it")
    return value


def _filled(template: str, where: str, secrets: dict[str, str], in_url: bool = False) -> str:
    """A text with the environment's values filled in, which are added to `secrets`.

    With `in_url`, the values are percent-encoded.
    """

    def value_of(match: re.Match[str]) -> str:
        value = _environment(match[1], where).strip()
        secrets[value] = match[0]
        return quote(value, safe="") if in_url else value

    return REFERENCE.sub(value_of, template)


def _text(value: str, where: str) -> str:
    """A header's value, its ends trimmed. Raises BadInput for a line break and the like."""
    value = value.strip()
    if not value.isprintable() or not value.isascii():
        raise BadInput(
            f"{where}: its value holds a character that no header can; it must be printable ASCII"
        )
    return value


# The usual form of a variable's name. Other texts may be keys, which must not be printed.
_VARIABLE = re.compile(r"[A-Z][A-Z0-9]{0,15}(?:_[A-Z0-9]{0,15})*")
