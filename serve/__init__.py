"""Variants in, live endpoints out: vLLM servers started, watched and stopped.

In: `variant.ServedVariant`s and the section `serve`. Out: `foundation.endpoint.Endpoint`s that have each generated a token.
Start at `plan` (which variants share a server, which servers are up together), then `hosting` and `server` (one process tree).
"""

from serve.curl import curl_line
from serve.failure import ServerFailed, TakenOver
from serve.hosting import Hosting
from serve.plan import ServePlan, ServerPlan, check
from serve.telemetry import Telemetry
from serve.variant import ServedVariant

__all__ = ["Hosting", "ServePlan", "ServedVariant", "ServerFailed", "ServerPlan", "TakenOver", "Telemetry", "check", "curl_line"]
