"""The headers that name a request, so that a server's records of it can be joined with ours.

`X-Request-Id` becomes part of vLLM's own request id. `traceparent` makes the key the trace id of
the server's spans (W3C Trace Context, https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

from foundation.http.endpoint import Endpoint

KEY = "{key}"
REQUEST_ID = "X-Request-Id"
TRACE_PARENT = "traceparent"
# Version, trace id, parent span, and the flag that says the trace is recorded. One parent serves
# all requests, because spans need to differ only within a trace.
_TRACE = f"00-{KEY}-0000000000000001-01"


def key_headers(endpoint: Endpoint) -> dict[str, str]:
    """The headers that name a request to `endpoint`. `KEY` in them stands for its key.

    The endpoint's own header of the same name replaces one, so records can't be joined by it.
    """
    named = {REQUEST_ID: KEY} | ({TRACE_PARENT: _TRACE} if endpoint.traced else {})
    own = {name.lower() for name in endpoint.headers}
    return {name: value for name, value in named.items() if name.lower() not in own}
