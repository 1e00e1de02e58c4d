"""Variants in, live endpoints out: starts, watches and stops vLLM servers.

In: `variant.ServedVariant`s and the section `serve`.
Out: `foundation.http.endpoint.Endpoint`s that have each generated a token.
Start at `plan` (which variants share a server, which servers are up together). Then read
`hosting` (a round of servers) and `server` (one process tree).
"""

from serve.curl import curl_line
from serve.hosting import Hosting, ServerFolders
from serve.plan import ServePlan, ServerPlan, check
from serve.telemetry import Telemetry
from serve.variant import PlannedWeights, ServedVariant
from serve.vllm.failures import ServerFailed, TakenOver

__all__ = [
    "Hosting",
    "PlannedWeights",
    "ServePlan",
    "ServedVariant",
    "ServerFailed",
    "ServerFolders",
    "ServerPlan",
    "TakenOver",
    "Telemetry",
    "check",
    "curl_line",
]
