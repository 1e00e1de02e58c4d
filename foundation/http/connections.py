"""How clients connect: directly or through a proxy, and how long they keep idle connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from foundation.errors import BadInput
from foundation.http.endpoint import Endpoint

LOOPBACK = ("localhost", "127.0.0.1", "::1")
KEEP_ALIVE_S = 3.0
"""The longest idle time of a reused connection.

uvicorn closes idle connections after 5 s, and a request that meets the close is lost.
"""
# A server that is ready generates one token within this time.
TOKEN_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Proxy:
    """A proxy from the environment variable `variable`; `url` lacks user and password."""

    variable: str
    url: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def proxy_of(endpoint: Endpoint) -> Proxy | None:
    """The proxy that HTTP_PROXY or HTTPS_PROXY names for an endpoint; None if NO_PROXY excepts it.

    This machine never gets a proxy. Raises BadInput for anything but an HTTP proxy.
    """
    url = urlsplit(endpoint.base_url)
    named = getproxies().get(url.scheme)
    if not named or not url.hostname or url.hostname in LOOPBACK or proxy_bypass(url.netloc):
        return None
    variable = f"{url.scheme.upper()}_PROXY"
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    credentials, at, host = proxy.netloc.rpartition("@")
    if proxy.scheme not in ("http", "https"):
        raise BadInput(
            f"{variable}: {proxy.scheme}://{host} is no HTTP proxy; "
            "write http://HOST:PORT, or add the API to NO_PROXY"
        )
    user, _, password = credentials.partition(":")
    login = (unquote(user), unquote(password)) if at else (None, None)
    return Proxy(variable, f"{proxy.scheme}://{host}", *login)
