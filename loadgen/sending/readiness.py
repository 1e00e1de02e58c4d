"""Readiness of an API that somebody else runs: one token, asked for as the load will ask, by the load's own client.

What the address lacks, where it redirects to and what the server refuses is found here, one step at a time; each step
becomes a note of the endpoint. The load then sends nothing that was not tried here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from foundation.errors import SystemFailed
from foundation.http.connections import proxy_of
from foundation.http.endpoint import Endpoint, read_address
from loadgen.config import WorkloadConfig
from loadgen.prompts.questions import Question
from loadgen.protocol.openai import PATHS, request_fields
from loadgen.protocol.refusal import change_for
from loadgen.protocol.reply import Reply
from loadgen.sending.fetch import Answer, extended_form, fetch
from loadgen.transport import open_transport

TOKEN_TIMEOUT_S = 120.0
# A server that is busy is asked again after so many seconds.
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_BUSY = frozenset({429, 502, 503, 504})
_ELSEWHERE = frozenset({404, 405})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Changes of the form and redirects, at most: a server that still refuses then refuses something else.
_STEPS = 12
_VERSION = re.compile(r"/v\d+[a-z]*\d*$")
_EXCERPT = 300
_CHOICE = re.compile(rb'"choices":\s*\[\s*\{')


@dataclass(frozen=True)
class _Asked:
    """A body and what came of it."""

    fields: Mapping[str, Any]
    answer: Answer


async def reach(
    endpoint: Endpoint, workload: WorkloadConfig, log: Callable[[str], None]
) -> Endpoint:
    """The endpoint as its server wants to be asked, once it has generated a token.

    `log` hears of waiting. Raises SystemFailed with the server's own words, BadInput for a client that can't ask there.
    """
    misses = []
    for candidate in _candidates(replace(endpoint, notes=(*endpoint.notes, *_wishes(endpoint)))):
        try:
            settled = await _settled(candidate, workload, log)
        except _NothingThere as miss:
            misses.append(str(miss))
        else:
            notes = (*settled.notes, *_way(settled))
            return replace(settled, notes=tuple(map(settled.redacted, notes)))
    raise SystemFailed(f"{endpoint.variant}: no token could be generated", "\n".join(misses))


class _NothingThere(Exception):
    """The server has no API at this path."""


def _candidates(endpoint: Endpoint) -> list[Endpoint]:
    """The addresses that may be meant: an API is mostly at `/v1`, and not everybody writes it."""
    base = endpoint.base_url
    path = urlsplit(base).path
    if _VERSION.search(path):
        return [endpoint]
    note = f"the API is at {base}/v1, which the address left out"
    versioned = replace(endpoint, base_url=f"{base}/v1", notes=(*endpoint.notes, note))
    return [endpoint, versioned] if path else [versioned, endpoint]


def _wishes(endpoint: Endpoint) -> list[str]:
    """What a person wrote of the requests' form."""
    form, notes = endpoint.form, []
    if form.omit:
        notes.append(f"requests leave out {', '.join(form.omit)}")
    notes += [f"{name} is sent as {other}" for name, other in form.rename.items()]
    if form.extra:
        notes.append(f"requests also hold {msgspec.json.encode(form.extra).decode()}")
    return notes


def _way(endpoint: Endpoint) -> list[str]:
    """How requests get there, where that is not straight and checked."""
    notes = ["the server's certificate is not checked"] if endpoint.insecure else []
    if proxy := proxy_of(endpoint):
        notes.append(f"requests go through the proxy {proxy.url} ({proxy.variable})")
    return notes


async def _settled(
    endpoint: Endpoint, workload: WorkloadConfig, log: Callable[[str], None]
) -> Endpoint:
    """Ask, change what the answer says, and ask again."""
    path, pauses = PATHS[workload.api], list(PAUSES_S)
    for _ in range(_STEPS + len(pauses)):
        asked = await _ask(endpoint, workload)
        answer = asked.answer
        if answer.status == 200 and _generated(answer.body):
            return endpoint
        if answer.status in _BUSY and pauses:
            log(f"{endpoint.variant}: busy (HTTP {answer.status}); asked again in {pauses[0]:g} s")
            await asyncio.sleep(pauses.pop(0))
        elif answer.status in _REDIRECTS and answer.location:
            endpoint = _moved(endpoint, path, answer.location)
        elif change := change_for(answer.status, answer.body, asked.fields, endpoint.form):
            endpoint = replace(endpoint, form=change.form, notes=(*endpoint.notes, change.note))
        elif answer.status in _ELSEWHERE or (
            answer.status == 200 and not _CHOICE.search(answer.body)
        ):
            raise _NothingThere(_words(endpoint, path, answer))
        else:
            break
    raise SystemFailed(
        f"{endpoint.variant}: no token could be generated{_hint(answer)}",
        _words(endpoint, path, answer),
    )


async def _ask(endpoint: Endpoint, workload: WorkloadConfig) -> _Asked:
    """Ask for one token, in the form that the load will use."""
    exact = workload.dataset is not None and workload.dataset.synthetic is not None
    question = Question(
        "ready", [{"role": "user", "content": "Hello"}], output_tokens=1 if exact else None
    )
    sampling = workload.sampling.model_copy(update={"max_tokens": 1})
    salt = "ready" if isinstance(workload.cache_salt, str) else None
    async with open_transport(endpoint, workload.transport) as transport:
        extended = await extended_form(transport, workload.deadlines.connect)
        fields = request_fields(
            question, endpoint.model, workload.api, sampling, extended, salt, endpoint.form
        )
        patience = max(TOKEN_TIMEOUT_S, workload.deadlines.first)
        return _Asked(
            fields,
            await fetch(transport, PATHS[workload.api], msgspec.json.encode(fields), patience),
        )


def _generated(body: bytes) -> bool:
    """Whether a stream brought a token, or ended one answer without any."""
    reply = Reply()
    reply.feed([body], [0], [0])
    return bool(reply.chunk_at_ns) or reply.finish_reason is not None


def _moved(endpoint: Endpoint, path: str, location: str) -> Endpoint:
    """The endpoint that a redirect leads to.

    Raises SystemFailed where the key would go to another host, or the address is none of an API.
    """
    hidden = endpoint.redacted
    try:
        to = urljoin(endpoint.url(endpoint.target(path)), location)
        new = read_address(to)
        good = urlsplit(to).path.endswith(path)
        shown = new.base_url
    except ValueError:
        good, shown = False, "no address"
    if not good:
        raise SystemFailed(
            f"{endpoint.variant}: {endpoint.base_url}{path} redirects to {hidden(shown)}, which is no {path}; "
            "write the API's own url"
        )
    if endpoint.headers and not _same_host(endpoint.base_url, new.base_url):
        raise SystemFailed(
            f"{endpoint.variant}: {endpoint.base_url} redirects to another host, which is not sent the key or headers; "
            f"if that is right, write url: {hidden(new.base_url)}"
        )
    note = f"{endpoint.base_url} redirects to {new.base_url}, which is asked instead"
    return replace(endpoint, base_url=new.base_url, query=new.query, notes=(*endpoint.notes, note))


def _same_host(one: str, other: str) -> bool:
    """The same host and port, or the same host's TLS."""
    before, after = urlsplit(one), urlsplit(other)
    if before.hostname != after.hostname:
        return False
    upgraded = before.scheme == "http" and after.scheme == "https"
    return upgraded or (before.scheme, before.port or 0) == (after.scheme, after.port or 0)


def _words(endpoint: Endpoint, path: str, answer: Answer) -> str:
    """What the server said, in one line."""
    if answer.status is None:
        return endpoint.redacted(f"{endpoint.base_url}{path}: {answer.problem}")
    text = " ".join(answer.body[:_EXCERPT].decode("utf-8", "replace").split())
    return endpoint.redacted(
        f"HTTP {answer.status} from {endpoint.base_url}{path}: {text or answer.problem}"
    )


def _hint(answer: Answer) -> str:
    """What to do about it, where that is known."""
    if "CERTIFICATE_VERIFY_FAILED" in answer.problem:
        return ": its certificate is not trusted; name who signed it (ca_file), or write insecure"
    if answer.status in (401, 403):
        return ": the server wants a key it knows; name its variable (api_key_env), or a header"
    if answer.status == 200:
        return ": answers come whole, and dyno measures streams"
    return ""
