"""Checks that a server generates a token: a healthy server can still die at its first request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from foundation.errors import SystemFailed
from foundation.http.aiohttp_session import address, open_session
from foundation.http.connections import TOKEN_TIMEOUT_S
from foundation.http.endpoint import Api, Endpoint

if TYPE_CHECKING:
    import aiohttp

_BODIES: dict[Api, tuple[str, dict[str, object]]] = {
    "chat": ("chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
    "completions": ("completions", {"prompt": "Hello"}),
}
_CHOICE = re.compile(r'"choices":\s*\[\s*\{')


async def is_healthy(session: aiohttp.ClientSession, endpoint: Endpoint) -> bool:
    """Whether vLLM's `/health` answers with 200."""
    import aiohttp

    try:
        async with session.get(address(endpoint, endpoint.beside("/health"))) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def generate_token(
    session: aiohttp.ClientSession, endpoint: Endpoint, api: Api = "completions"
) -> None:
    """Have the variant generate one token through the API that the load will use.

    Raises SystemFailed with the server's answer.
    """
    import aiohttp

    path, body = _BODIES[api]
    request = {"model": endpoint.model, "max_tokens": 1, "temperature": 0, **body}
    try:
        async with session.post(
            address(endpoint, endpoint.target(f"/{path}")), json=request, allow_redirects=False
        ) as answer:
            text = await answer.text(errors="replace")
            # A whole answer, or a stream from an API that knows nothing else.
            if answer.status == 200 and _CHOICE.search(text):
                return
            problem = f"HTTP {answer.status} from /{path}: {text[:300]}"
    except (aiohttp.ClientError, TimeoutError) as error:
        problem = f"{endpoint.base_url}/{path}: {error or type(error).__name__}"
    raise SystemFailed(
        f"{endpoint.variant}: no token could be generated", endpoint.redacted(problem)
    )


def session(endpoint: Endpoint) -> aiohttp.ClientSession:
    """A session for readiness and telemetry, not for measuring."""
    import aiohttp

    return open_session(endpoint, aiohttp.ClientTimeout(total=TOKEN_TIMEOUT_S))
