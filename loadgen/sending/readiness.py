"""Readiness of an API that somebody else runs: it must generate one token for the load's own
client.

The request has the form of the load's requests. Step by step it finds what the address lacks, where
it redirects to and which fields the server refuses. Each step becomes a note of the endpoint. The
load then sends only what was tried here.
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
from foundation.http.connections import TOKEN_TIMEOUT_S, proxy_of
from foundation.http.endpoint import Endpoint, read_address
from loadgen.config import WorkloadConfig
from loadgen.prompts.questions import Question
from loadgen.protocol.openai import PATHS, RequestFormat, request_fields
from loadgen.protocol.refusal import change_for
from loadgen.protocol.reply import Reply
from loadgen.sending.fetch import Response, extended_form, fetch
from loadgen.transport import open_transport

# The pauses before a busy server gets the next request, in seconds.
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_BUSY = frozenset({429, 502, 503, 504})
_NO_SUCH_PATH = frozenset({404, 405})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The most changes of the form and redirects. A server that still refuses then refuses something
# else.
_MAX_STEPS = 12
_VERSION = re.compile(r"/v\d+[a-z]*\d*$")
_EXCERPT = 300
_CHOICE = re.compile(rb'"choices":\s*\[\s*\{')
# In glibc's words, with or without the name of the exception around them.
_NO_NAME = re.compile(
    r"gaierror|DNSError|Name or service not known|name resolution|No address associated"
)


@dataclass(frozen=True)
class _Attempt:
    """The fields of a request and the response to it."""

    fields: Mapping[str, Any]
    response: Response


async def reach(
    endpoint: Endpoint, workload: WorkloadConfig, log: Callable[[str], None]
) -> Endpoint:
    """The endpoint in the form that its server takes, after each replica has generated a token.

    `log` gets a line for each wait. Raises SystemFailed with the server's own words, BadInput for a
    client that can't reach it.
    """
    if not endpoint.others:
        return await _reached(endpoint, workload, log)
    reached = []
    for number, replica in enumerate(endpoint.replicas, start=1):
        try:
            reached.append(await _reached(replica, workload, log))
        except SystemFailed as refusal:
            where = f"replica {number}, {replica.base_url}"
            raise SystemFailed(f"{refusal} ({where})", refusal.detail) from None
    first, *others = reached
    if any(other.form != first.form for other in others):
        raise SystemFailed(
            f"{endpoint.variant}: its replicas take requests of different forms, so they are no "
            "replicas; name servers of one kind",
            "\n".join(f"{each.base_url}: {'; '.join(each.notes)}" for each in reached),
        )
    notes = dict.fromkeys(note for each in reached for note in each.notes)
    return replace(first, others=tuple(others), notes=tuple(notes))


async def _reached(
    endpoint: Endpoint, workload: WorkloadConfig, log: Callable[[str], None]
) -> Endpoint:
    """One replica, in the form that it takes."""
    problems = []
    for candidate in _candidates(
        replace(endpoint, notes=(*endpoint.notes, *_form_notes(endpoint)))
    ):
        try:
            ready = await _negotiated(candidate, workload, log)
        except _NoApi as problem:
            problems.append(str(problem))
        else:
            notes = (*ready.notes, *_route_notes(ready))
            return replace(ready, notes=tuple(map(ready.redacted, notes)))
    raise SystemFailed(f"{endpoint.variant}: no token could be generated", "\n".join(problems))


class _NoApi(Exception):
    """The server has no API at this path."""


def _candidates(endpoint: Endpoint) -> list[Endpoint]:
    """The addresses that may be meant. Most APIs are at `/v1`, and people often leave that out."""
    base = endpoint.base_url
    path = urlsplit(base).path
    if _VERSION.search(path):
        return [endpoint]
    note = f"the API is at {base}/v1, which the address left out"
    versioned = replace(endpoint, base_url=f"{base}/v1", notes=(*endpoint.notes, note))
    return [endpoint, versioned] if path else [versioned, endpoint]


def _form_notes(endpoint: Endpoint) -> list[str]:
    """What a person wrote about the form of the requests."""
    form, notes = endpoint.form, []
    if form.omit:
        notes.append(f"requests leave out {', '.join(form.omit)}")
    notes += [f"{name} is sent as {other}" for name, other in form.rename.items()]
    if form.extra:
        notes.append(f"requests also hold {msgspec.json.encode(form.extra).decode()}")
    return notes


def _route_notes(endpoint: Endpoint) -> list[str]:
    """How requests reach the server, where that is not direct and checked."""
    notes = ["the server's certificate is not checked"] if endpoint.insecure else []
    if proxy := proxy_of(endpoint):
        notes.append(f"requests go through the proxy {proxy.url} ({proxy.variable})")
    return notes


async def _negotiated(
    endpoint: Endpoint, workload: WorkloadConfig, log: Callable[[str], None]
) -> Endpoint:
    """Sends requests, each changed as the response to the last one demands, until one succeeds."""
    path, pauses = PATHS[workload.api], list(PAUSES_S)
    for _ in range(_MAX_STEPS + len(pauses)):
        attempt = await _attempt(endpoint, workload)
        response = attempt.response
        if response.status == 200 and _generated(response.body):
            return endpoint
        if response.status in _BUSY and pauses:
            log(
                f"{endpoint.variant}: busy (HTTP {response.status}); asked again in {pauses[0]:g} s"
            )
            await asyncio.sleep(pauses.pop(0))
        elif response.status in _REDIRECTS and response.location:
            endpoint = _redirected(endpoint, path, response.location)
        elif change := change_for(response.status, response.body, attempt.fields, endpoint.form):
            endpoint = replace(endpoint, form=change.form, notes=(*endpoint.notes, change.note))
        elif response.status in _NO_SUCH_PATH or (
            response.status == 200 and not _CHOICE.search(response.body)
        ):
            raise _NoApi(_in_words(endpoint, path, response))
        else:
            break
    hint = endpoint.redacted(_hint(endpoint, response))
    raise SystemFailed(
        f"{endpoint.variant}: no token could be generated{hint}",
        _in_words(endpoint, path, response),
    )


async def _attempt(endpoint: Endpoint, workload: WorkloadConfig) -> _Attempt:
    """Requests one token, in the form that the load will use."""
    exact = workload.dataset is not None and workload.dataset.synthetic is not None
    question = Question(
        "ready", [{"role": "user", "content": "Hello"}], output_tokens=1 if exact else None
    )
    sampling = workload.sampling.model_copy(update={"max_tokens": 1})
    salt = "ready" if isinstance(workload.cache_salt, str) else None
    async with open_transport(endpoint, workload.transport) as transport:
        extended = await extended_form(transport, workload.deadlines.connect)
        format_ = RequestFormat(
            endpoint.model, workload.api, sampling, extended, salt, endpoint.form
        )
        fields = request_fields(question, format_)
        patience = max(TOKEN_TIMEOUT_S, workload.deadlines.first)
        return _Attempt(
            fields,
            await fetch(transport, PATHS[workload.api], msgspec.json.encode(fields), patience),
        )


def _generated(body: bytes) -> bool:
    """Whether a stream brought a token, or ended one answer without any."""
    reply = Reply()
    reply.feed([body], [0], [0])
    return bool(reply.chunk_at_ns) or reply.finish_reason is not None


def _redirected(endpoint: Endpoint, path: str, location: str) -> Endpoint:
    """The endpoint at the target of a redirect.

    Raises SystemFailed where the key would go to another host, or the target is no API.
    """
    redacted = endpoint.redacted
    try:
        to = urljoin(endpoint.url(endpoint.target(path)), location)
        new = read_address(to)
        is_api = urlsplit(to).path.endswith(path)
        address = new.base_url
    except ValueError:
        is_api, address = False, "no address"
    if not is_api:
        raise SystemFailed(
            f"{endpoint.variant}: {endpoint.base_url}{path} redirects to {redacted(address)}, "
            f"which is no {path}; write the API's own url"
        )
    if endpoint.headers and not _same_host(endpoint.base_url, new.base_url):
        raise SystemFailed(
            f"{endpoint.variant}: {endpoint.base_url} redirects to another host, "
            "which is not sent the key or headers; "
            f"if that is right, write url: {redacted(new.base_url)}"
        )
    note = f"{endpoint.base_url} redirects to {new.base_url}, which is asked instead"
    return replace(endpoint, base_url=new.base_url, query=new.query, notes=(*endpoint.notes, note))


def _same_host(one: str, other: str) -> bool:
    """Whether both addresses have the same host and port, or the second is the first host's TLS."""
    before, after = urlsplit(one), urlsplit(other)
    if before.hostname != after.hostname:
        return False
    upgraded = before.scheme == "http" and after.scheme == "https"
    return upgraded or (before.scheme, before.port or 0) == (after.scheme, after.port or 0)


def _in_words(endpoint: Endpoint, path: str, response: Response) -> str:
    """The server's response, in one line."""
    if response.status is None:
        return endpoint.redacted(f"{endpoint.base_url}{path}: {response.problem}")
    text = " ".join(response.body[:_EXCERPT].decode("utf-8", "replace").split())
    return endpoint.redacted(
        f"HTTP {response.status} from {endpoint.base_url}{path}: {text or response.problem}"
    )


def _hint(endpoint: Endpoint, response: Response) -> str:
    """What to do about a failure, if that is known."""
    if "ConnectionRefusedError" in response.problem:
        return f": nothing listens at {endpoint.base_url}; start the server, or write its own url"
    if _NO_NAME.search(response.problem):
        return f": no host has the name in {endpoint.base_url}; write the server's own url"
    if "CERTIFICATE_VERIFY_FAILED" in response.problem:
        return ": its certificate is not trusted; name who signed it (ca_file), or write insecure"
    if "ssl:default [None]" in response.problem or "WRONG_VERSION_NUMBER" in response.problem:
        return f": no TLS at {endpoint.base_url}; a server without it has an http:// url"
    if response.status in (401, 403):
        return ": the server wants a key it knows; name its variable (api_key_env), or a header"
    if response.status == 200:
        return ": answers come whole, and dyno measures streams"
    return ""
