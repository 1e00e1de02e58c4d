"""Opens aiohttp sessions with an endpoint's headers, certificates, unix socket and proxy.

Sessions never follow redirects by themselves: `loadgen.sending.readiness` decides what another
host may receive.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from yarl import URL

from foundation.errors import BadInput
from foundation.http.connections import KEEP_ALIVE_S, proxy_of
from foundation.http.endpoint import Endpoint, merged_headers

if TYPE_CHECKING:
    import aiohttp

# A long header that nobody needs must not fail an answer. Answers must come uncompressed: pieces of
# a compressed stream can't be stamped.
_LONGEST_HEADER = 64 * 1024
_OURS = {"User-Agent": "tunedyno", "Accept-Encoding": "identity"}


def open_session(
    endpoint: Endpoint,
    timeout: aiohttp.ClientTimeout,
    accept: str = "*/*",
    trace: Sequence[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """A session for one endpoint without a limit on connections; send requests to `address`."""
    import aiohttp  # it takes a fifth of a second, and most commands send nothing

    proxy, socket = proxy_of(endpoint), endpoint.unix_socket
    connector = (
        aiohttp.UnixConnector(socket, limit=0, keepalive_timeout=KEEP_ALIVE_S)
        if socket
        else aiohttp.TCPConnector(
            limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=None, ssl=_tls(endpoint)
        )
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=merged_headers(_OURS, {"Accept": accept}, endpoint.headers),
        trace_configs=list(trace),
        auto_decompress=False,
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
        proxy=URL(proxy.url).with_user(proxy.user).with_password(proxy.password) if proxy else None,
    )


def address(endpoint: Endpoint, target: str) -> URL:
    """A target of the endpoint for aiohttp, marked as encoded: aiohttp must not change it."""
    return URL(endpoint.url(target), encoded=True)


def _tls(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """The TLS setting of a connector. Raises BadInput if `ca_file` can't be read."""
    if endpoint.insecure:
        return False
    if endpoint.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=endpoint.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise BadInput(
            f"{endpoint.ca_file}: no file of PEM certificates ({error.strerror or error})"
        ) from None
